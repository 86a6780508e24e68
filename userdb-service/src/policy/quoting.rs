//! Text from outside, fit to stand in a sentence, on a terminal and in a log.
//! What the sentences say is in `sentences` and `shortfalls`.

use crate::invisible::is_invisible;

/// Longest quotation in a sentence, in characters.
const MAX_QUOTED: usize = 64;

/// The same of what a program says of a failure: an error of the system's with the path it is about is longer than a name.
const MAX_CAUSE: usize = 256;

/// `text` with whatever a terminal or a log would act upon escaped. Ordinary text stays as it is.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// `text` between quotation marks, with whatever a terminal or a log would act upon escaped, and cut
/// where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    quoted_up_to(MAX_QUOTED, text)
}

/// [`quoted`] for why something failed.
pub(crate) fn quoted_cause(text: &str) -> String {
    quoted_up_to(MAX_CAUSE, text)
}

fn quoted_up_to(most: usize, text: &str) -> String {
    let mut quoted = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == most {
            quoted.push_str("...");
            break;
        }
        if is_invisible(c) || matches!(c, '"' | '\\') {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('"');
    quoted
}

/// Several quotations; only a few of many.
pub(super) fn list(words: &[&str]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = words.iter().take(MOST).map(|word| quoted(word)).collect();
    let more = words.len().saturating_sub(MOST);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_whole_where_a_name_would_be_cut_and_is_bounded_all_the_same() {
        let why = "cannot connect to /run/teleport-userdb/lookup: No such file or directory";
        assert_eq!(quoted_cause(why), format!("\"{why}\""));
        assert!(quoted(why).ends_with("...\""));
        let long = quoted_cause(&"x".repeat(10_000));
        assert_eq!(long, format!("\"{}...\"", "x".repeat(256)));
        assert_eq!(quoted_cause("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
    }

    #[test]
    fn what_a_log_would_act_upon_is_escaped_and_everything_else_is_left() {
        assert_eq!(
            escaped("maria@example.com Jürgen"),
            "maria@example.com Jürgen"
        );
        assert_eq!(
            escaped("eve\n<6>root: session opened\u{1b}[2J\u{202e}"),
            "eve\\n<6>root: session opened\\u{1b}[2J\\u{202e}"
        );
    }
}

//! Text from outside, fit to stand in a sentence, on a terminal and in a log.
//! What the sentences say is in `sentences` and `shortfalls`.

use crate::invisible::is_invisible;

/// Longest quotation in a sentence, in characters.
const MAX_QUOTED: usize = 64;

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
    let mut quoted = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == MAX_QUOTED {
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

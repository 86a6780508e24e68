//! Texts fit for a terminal and a log line: nothing in them moves a cursor or ends the line.
//! No wording in here.

use std::fmt::Write;

use session_protocol::invisible::is_invisible;

/// Longest text a conversation has to take (PAM_MAX_MSG_SIZE, less its NUL), in bytes.
const CONVERSATION: usize = 511;

/// The text with what cannot be seen of it written out as `\u{1b}`.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) {
            // Writing to a String does not fail.
            let _ = write!(printable, "{}", c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// A printable text that a conversation can take: cut, with an ellipsis, where it is too long.
pub(crate) fn sayable(text: &str) -> String {
    let mut text = printable(text);
    if text.len() > CONVERSATION {
        let mut end = CONVERSATION - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{CONVERSATION, printable, sayable};

    #[test]
    fn what_cannot_be_seen_is_written_out_and_letters_stay() {
        assert_eq!(printable("Zoë \"ok\"\\"), "Zoë \"ok\"\\");
        assert_eq!(
            printable("a\x1b[2J\nb\0\u{9b}c\u{202e}"),
            r"a\u{1b}[2J\u{a}b\u{0}\u{9b}c\u{202e}"
        );
        assert_eq!(printable("al\u{200b}ice"), r"al\u{200b}ice");
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let cut = sayable(&"ë".repeat(400));
        assert!(cut.len() <= CONVERSATION);
        assert!(cut.ends_with("ë..."));
        assert_eq!(sayable("short"), "short");
    }
}

//! Texts fit for a terminal and a log line: nothing in them moves a cursor or ends the line.
//! No wording in here.

use std::fmt::Write;

/// Longest text a conversation has to take (PAM_MAX_MSG_SIZE, less its NUL), in bytes.
const CONVERSATION: usize = 511;

/// The text with control and direction-changing characters written out as `\u{1b}`.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_the_line(c) {
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

/// Line separators, and the marks that make a terminal show text in another order than it has.
fn turns_the_line(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{CONVERSATION, printable, sayable};

    #[test]
    fn control_characters_are_written_out_and_letters_stay() {
        assert_eq!(printable("Zoë \"ok\"\\"), "Zoë \"ok\"\\");
        assert_eq!(
            printable("a\x1b[2J\nb\0\u{9b}c\u{202e}"),
            r"a\u{1b}[2J\u{a}b\u{0}\u{9b}c\u{202e}"
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let cut = sayable(&"ë".repeat(400));
        assert!(cut.len() <= CONVERSATION);
        assert!(cut.ends_with("ë..."));
        assert_eq!(sayable("short"), "short");
    }
}

//! Characters of which nothing is to be seen: what a terminal or a log acts upon instead of showing it.
//! Whether a text with one is refused, or the character spelled out, is for those who ask.

/// Control and format characters, fillers and variation selectors: what a terminal or a log acts upon
/// instead of showing it, or shows as nothing at all.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_seen_is_left_to_be_seen() {
        for shown in [
            "maria@example.com",
            "Jürgen",
            "李",
            "a b",
            "e\u{301}",
            "→",
            "\u{1f600}",
        ] {
            assert!(!shown.contains(is_invisible), "{shown:?}");
        }
        for hidden in [
            "\n",
            "\u{1b}",
            "\u{7f}",
            "\u{9b}",
            "\u{200e}",
            "\u{202e}",
            "\u{2069}",
            "\u{e0041}",
            "\u{fe0f}",
        ] {
            assert!(hidden.contains(is_invisible), "{hidden:?}");
        }
    }
}

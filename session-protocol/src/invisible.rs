//! Characters of which nothing is to be seen: what a terminal or a log acts upon instead of showing it.
//! Whether a text with one is refused, or the character spelled out, is for those who ask.

/// Control and format characters, fillers and variation selectors: what a terminal or a log acts upon
/// instead of showing it, or shows as nothing at all. All that Unicode calls default ignorable is among
/// them, assigned or not; the format characters that have a shape, such as Arabic's number sign, are not.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
            "\u{600}",
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
            "\u{17b5}",
            "\u{fff8}",
            "\u{13430}",
            "\u{1bca0}",
            "\u{e01f0}",
            "\u{e0fff}",
        ] {
            assert!(hidden.contains(is_invisible), "{hidden:?}");
        }
    }
}

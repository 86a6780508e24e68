//! Whom doas.conf names: users, groups and those they run commands as. Finds names, does not judge rules.
//!
//! `permit [options] IDENTITY [as USER] [cmd COMMAND [args …]]`, one on a line. Quotes and backslashes
//! as in doas, in which a comment ends with its line and a backslash joins any other.

use super::Parsed;

const OPTIONS: [&[u8]; 8] = [
    b"permit", b"deny", b"nopass", b"nolog", b"persist", b"keepenv", b"setenv", b"as",
];

/// Reads a text.
pub(super) fn parse(text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut words = Words { text, at: 0 };
    // In the command, which names nobody; in the braces of `setenv`.
    let (mut command, mut braces) = (false, false);
    while let Some(word) = words.next() {
        match word {
            Word::LineEnd => (command, braces) = (false, false),
            Word::Plain(word) if word == b"{" || word == b"}" => braces = word == b"{",
            Word::Plain(word) if word == b"cmd" => command = true,
            Word::Plain(word) if OPTIONS.contains(&&*word) => {}
            Word::Plain(word) | Word::Quoted(word) if !command && !braces => {
                let name = word.strip_prefix(b":").unwrap_or(&word);
                parsed.add_word(name);
                if name.iter().all(u8::is_ascii_digit) {
                    parsed.add_word(&[b"#", name].concat());
                }
            }
            Word::Plain(_) | Word::Quoted(_) => {}
        }
    }
    parsed
}

enum Word {
    Plain(Vec<u8>),
    /// With a quote or a backslash, and so no keyword.
    Quoted(Vec<u8>),
    LineEnd,
}

struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<Word> {
        let (mut word, mut quoted, mut open) = (Vec::new(), false, false);
        while let Some(&c) = self.text.get(self.at) {
            let apart = !open && b" \t\n{}#".contains(&c);
            if apart && (quoted || !word.is_empty()) {
                break;
            }
            self.at += 1;
            match c {
                b'\n' if open => return Some(Word::Quoted(word)), // an error to doas
                b'\n' => return Some(Word::LineEnd),
                b'#' if !open => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len());
                }
                b'{' | b'}' if !open => return Some(Word::Plain(vec![c])),
                b' ' | b'\t' if !open => {}
                b'"' => (open, quoted) = (!open, true),
                b'\\' => {
                    match self.text.get(self.at) {
                        Some(b'\n') | None => {}
                        Some(next) => {
                            word.push(*next);
                            quoted = true;
                        }
                    }
                    self.at += 1;
                }
                c => word.push(c),
            }
        }
        match (word.is_empty(), quoted) {
            (true, false) => None,
            (_, true) => Some(Word::Quoted(word)),
            (_, false) => Some(Word::Plain(word)),
        }
    }
}

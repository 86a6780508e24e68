//! The states of sudo's lexer inside something: options, arguments of a command, the path of an include.
//! What may begin a statement or stand in a list is in [`super::lexer`].

use super::lengths::{blanks, escaped_run, id_length, run, undone, value_length};
use super::lexer::{Lexer, State, Token};

impl Lexer<'_> {
    pub(super) fn in_options(&mut self) -> bool {
        let rest = self.rest();
        let blanks = blanks(rest);
        if blanks > 0 {
            self.at += blanks;
            return false;
        }
        match rest[0] {
            b'#' if id_length(rest) == 0 => return self.hash(),
            b'!' => self.negation(),
            b',' if self.state == State::Value => {
                self.state = State::Option;
                self.push(Token::Other, 1);
            }
            b'=' if self.state == State::Value => self.push(Token::Mark(b'='), 1),
            b'"' if self.state == State::Value => self.string(),
            c if self.state == State::Option && (c.is_ascii_lowercase() || c == b'_') => {
                let length = run(rest, |c| c.is_ascii_lowercase() || c == b'_');
                let text = rest[..length].to_vec();
                self.state = State::Value;
                self.push(Token::Word { text, plain: true }, length);
            }
            _ if self.state == State::Value => match value_length(rest) {
                0 => self.odd(1),
                length => {
                    let text = undone(&rest[..length]);
                    self.push(Token::Word { text, plain: true }, length);
                }
            },
            _ => self.odd(1),
        }
        false
    }

    pub(super) fn in_arguments(&mut self, first: bool) {
        let rest = self.rest();
        let blanks = blanks(rest);
        if blanks > 0 {
            self.at += blanks;
            return;
        }
        let argument = run(rest, |c| !b"#\\:, \t\r\n\0".contains(&c));
        match rest {
            [b'\\', c, ..] if b"*?[]!^:\\,= \t#".contains(c) => {
                self.state = State::Arguments { first: false };
                self.at += 2;
            }
            [b'^', ..] if first => self.state = State::Regex,
            [b'#' | b':' | b',' | b'\r', ..] => self.state = State::Initial,
            [b'=', ..] if argument == 1 => self.state = State::Initial,
            _ if argument > 0 => {
                self.state = State::Arguments { first: false };
                self.at += argument;
            }
            _ => self.odd(1),
        }
    }

    pub(super) fn in_regex(&mut self) {
        match self.rest() {
            [b'\\', c, ..] if !b"\r\n".contains(c) => self.at += 2,
            [b'#' | b'\r', ..] => {
                self.statement.odd = true;
                self.state = State::Initial;
            }
            [b'$', ..] => {
                self.state = State::Initial;
                self.at += 1;
            }
            [b'\\', ..] => self.odd(1),
            rest => self.at += run(rest, |c| !b"#\\\r\n$\0".contains(&c)).max(1),
        }
    }

    /// The path of an include has rules of its own: it ends at white space only.
    pub(super) fn in_include(&mut self) {
        let rest = self.rest();
        let blanks = blanks(rest);
        if blanks > 0 {
            self.at += blanks;
            return;
        }
        self.state = State::Initial;
        if rest[0] == b'"' {
            return self.string();
        }
        let length = escaped_run(
            rest,
            |c| !c.is_ascii_whitespace() && c != 0x0b,
            |c| b" \t".contains(&c),
        );
        match length {
            0 => self.odd(1),
            _ => {
                let text = undone(&rest[..length]);
                self.push(Token::Word { text, plain: true }, length);
            }
        }
    }
}

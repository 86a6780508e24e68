//! Sudoers as sudo's own lexer splits it: statements, and in them words and marks. Bytes, because sudo
//! reads bytes. No meaning is given to a word in here.
//!
//! What ends a statement depends on what the lexer is in: a backslash continues a line, but not in a
//! comment and not behind another backslash; a `#` begins a comment, but not in quotes. So this is the
//! same machine, state by state, with longest match first. [`Statement::odd`] says where sudo's would
//! have stopped with an error.

use std::ops::Range;

use super::lengths::{
    blanks, continuation, id_length, line_end, path_length, regex_length, run, undone, word_length,
};

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word with its quotes and escapes undone. `plain`: it had none.
    Word { text: Vec<u8>, plain: bool },
    /// One of `, : = ( ) !`.
    Mark(u8),
    /// A command, a digest, an option: nobody's name.
    Other,
}

/// How a statement begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rule,
    /// `Defaults`, with the mark of its scope: one of `: > @ !`.
    Defaults(Option<u8>),
    /// `User_Alias` and `Runas_Alias`.
    AliasOfUsers,
    /// `Host_Alias` and `Cmnd_Alias`.
    AliasOfOthers,
    Include,
    IncludeFolder,
}

/// What stands between two line ends that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) kind: Kind,
    pub(super) tokens: Vec<Token>,
    /// The bytes that it was read from, comment included.
    pub(super) source: Range<usize>,
    /// sudo's lexer does not take it, or not as it stands.
    pub(super) odd: bool,
}

/// The states of the lexer that make a difference here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Initial,
    /// In the list of users, hosts or commands of a `Defaults`.
    Scope,
    /// Before the name of an option.
    Option,
    /// Behind it.
    Value,
    /// In the arguments of a command.
    Arguments {
        first: bool,
    },
    /// In arguments that are a regular expression.
    Regex,
    /// Behind `sha256` and such.
    Digest,
    /// Behind `CWD` and `CHROOT`.
    Path,
    /// Before the path of an include.
    Include,
}

/// Splits `text` into statements. `joining`: whether a line may go on in the next one.
pub(super) fn statements(text: &[u8], joining: bool) -> impl Iterator<Item = Statement> {
    let mut lexer = Lexer {
        text,
        at: 0,
        joining,
        state: State::Initial,
        line_begins: true,
        continued: false,
        statement: blank(0),
    };
    std::iter::from_fn(move || lexer.next_statement())
}

fn blank(from: usize) -> Statement {
    Statement {
        kind: Kind::Rule,
        tokens: Vec::new(),
        source: from..from,
        odd: false,
    }
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    pub(super) at: usize,
    joining: bool,
    pub(super) state: State,
    /// Nothing of this physical line has been read.
    line_begins: bool,
    /// The statement has gone over a line end.
    continued: bool,
    pub(super) statement: Statement,
}

impl<'a> Lexer<'a> {
    fn next_statement(&mut self) -> Option<Statement> {
        if self.at >= self.text.len() {
            return None;
        }
        self.state = State::Initial;
        (self.line_begins, self.continued) = (true, false);
        self.statement = blank(self.at);
        while self.at < self.text.len() {
            let before = self.at;
            if self.step() {
                self.statement.source.end = self.at;
                return Some(std::mem::replace(&mut self.statement, blank(self.at)));
            }
            if self.at > before {
                self.line_begins = self.text[self.at - 1] == b'\n';
            }
        }
        // sudo adds the missing newline. Behind a continuation it would go on in another file.
        self.statement.odd |= self.line_begins;
        self.statement.source.end = self.at;
        Some(std::mem::replace(&mut self.statement, blank(self.at)))
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub(super) fn push(&mut self, token: Token, length: usize) {
        self.statement.tokens.push(token);
        self.at += length;
    }

    /// What sudo's lexer has no token for.
    pub(super) fn odd(&mut self, length: usize) {
        self.statement.odd = true;
        self.at += length;
    }

    /// Reads one token, or says that the statement has ended.
    fn step(&mut self) -> bool {
        let rest = self.rest();
        if let Some(length) = line_end(rest) {
            self.at += length;
            return true;
        }
        // To sudo a line ends at a NUL. What is behind counts here, as it does for who does not.
        if rest[0] == 0 {
            self.odd(1);
            return false;
        }
        let continuation = continuation(rest);
        if let Some(length) = continuation
            && self.joining
        {
            self.at += length;
            self.continued = true;
            return false;
        }
        match self.state {
            State::Arguments { first } => self.in_arguments(first),
            State::Regex => self.in_regex(),
            State::Option | State::Value => return self.in_options(),
            State::Include => self.in_include(),
            State::Initial | State::Scope | State::Digest | State::Path => {
                return self.in_general();
            }
        }
        false
    }

    fn in_general(&mut self) -> bool {
        let rest = self.rest();
        let c = rest[0];
        if self.state == State::Initial && self.line_begins && self.directive() {
            return false;
        }
        let blanks = blanks(rest);
        if self.state == State::Scope {
            let comma = rest.get(blanks) == Some(&b',');
            if comma {
                let length = blanks + 1;
                let more = self::blanks(&rest[length..]);
                self.push(Token::Mark(b','), length + more);
                return false;
            }
            if blanks > 0 {
                self.state = State::Option;
            }
        }
        if blanks > 0 {
            self.at += blanks;
            return false;
        }
        match c {
            b'"' if matches!(self.state, State::Initial | State::Scope) => self.string(),
            b'!' => self.negation(),
            b'(' | b')' | b',' | b'=' | b':' => self.push(Token::Mark(c), 1),
            b'#' => return self.hash(),
            _ => self.word_or_command(),
        }
        false
    }

    /// `Defaults`, `…_Alias` and `#include`, which sudo knows at the beginning of a line only.
    fn directive(&mut self) -> bool {
        let rest = self.rest();
        let blanks = blanks(rest);
        let word = &rest[blanks..];
        let (kind, length) = if let Some(path) = word.strip_prefix(b"#include") {
            let (kind, path) = match path.strip_prefix(b"dir") {
                Some(path) => (Kind::IncludeFolder, path),
                None => (Kind::Include, path),
            };
            if self::blanks(path) == 0 {
                return false;
            }
            (kind, word.len() - path.len())
        } else if let Some(scope) = word.strip_prefix(b"Defaults") {
            let kind = match scope.first() {
                Some(c @ (b':' | b'@' | b'>' | b'!')) => Kind::Defaults(Some(*c)),
                _ => Kind::Defaults(None),
            };
            let mark = usize::from(kind != Kind::Defaults(None));
            let skipped = mark + self::blanks(&scope[mark..]) * mark;
            (kind, "Defaults".len() + skipped)
        } else {
            let users: [&[u8]; 2] = [b"User_Alias", b"Runas_Alias"];
            let others: [&[u8]; 3] = [b"Host_Alias", b"Cmnd_Alias", b"Cmd_Alias"];
            let of = |names: &[&[u8]]| {
                let found = names.iter().find(|name| word.starts_with(name));
                found.map(|name| name.len())
            };
            match (of(&users), of(&others)) {
                (Some(length), _) => (Kind::AliasOfUsers, length),
                (None, Some(length)) => (Kind::AliasOfOthers, length),
                (None, None) => return false,
            }
        };
        // Without a blank in front a longer word is just a word.
        let scoped = matches!(kind, Kind::Defaults(Some(_)));
        let include = matches!(kind, Kind::Include | Kind::IncludeFolder);
        if blanks == 0 && !scoped && !include && word_length(word) > length {
            return false;
        }
        self.begin(kind);
        self.at += blanks + length;
        self.state = match kind {
            Kind::Defaults(_) => State::Scope,
            Kind::Include | Kind::IncludeFolder => State::Include,
            _ => State::Initial,
        };
        true
    }

    /// In the middle of a statement this is an error to sudo, to an old one a new beginning.
    fn begin(&mut self, kind: Kind) {
        self.statement.odd |= self.continued || !self.statement.tokens.is_empty();
        self.statement.kind = kind;
        self.statement.tokens.clear();
    }

    pub(super) fn negation(&mut self) {
        let length = run(self.rest(), |c| c == b'!');
        match length % 2 {
            0 => self.at += length,
            _ => self.push(Token::Mark(b'!'), length),
        }
    }

    /// `#1000`, or a comment, which ends the statement with its line whatever it ends in.
    pub(super) fn hash(&mut self) -> bool {
        let id = id_length(self.rest());
        if id > 0 {
            let text = self.rest()[..id].to_vec();
            self.push(Token::Word { text, plain: true }, id);
            return false;
        }
        if !matches!(self.state, State::Initial | State::Option | State::Value) {
            self.odd(1);
            return false;
        }
        // A comment may begin with anything but a carriage return.
        self.statement.odd |=
            self.rest().get(1) == Some(&b'\r') && self.rest().get(2) != Some(&b'\n');
        let length = run(self.rest(), |c| c != b'\n');
        self.at = (self.at + length + 1).min(self.text.len());
        true
    }

    fn word_or_command(&mut self) {
        let rest = self.rest();
        let word = word_length(rest);
        let path = path_length(rest);
        let regex = regex_length(rest);
        if self.state == State::Digest {
            let digest = run(rest, |c| c.is_ascii_alphanumeric() || b"+/=".contains(&c));
            if digest > 0 && digest >= word.max(path) {
                self.state = State::Initial;
                return self.push(Token::Other, digest);
            }
        }
        if self.state == State::Path && word.max(path) > 0 {
            self.state = State::Initial;
            return self.push(Token::Other, word.max(path));
        }
        let command = path.max(regex);
        if command > 0 && command >= word {
            if self.state != State::Scope && rest[command - 1] != b'/' {
                self.state = State::Arguments { first: true };
            }
            return self.push(Token::Other, command);
        }
        // The signs of groups and netgroups are part of their words.
        let sign = match rest {
            [b'%', b':', ..] => 2,
            [b'%', ..] => 1,
            _ => 0,
        };
        let behind = &rest[sign..];
        let marked = match word_length(behind).max(id_length(behind)) {
            0 => 0,
            length => sign + length,
        };
        let length = word.max(marked);
        if length == 0 || matches!(&rest[..length], b"%" | b"+") {
            return self.odd(1);
        }
        let raw = &rest[..length];
        let outside = self.state == State::Initial;
        match raw {
            b"sudoedit" => self.state = State::Arguments { first: true },
            b"sha224" | b"sha256" | b"sha384" | b"sha512" => self.state = State::Digest,
            b"CWD" | b"CHROOT" if outside => self.state = State::Path,
            b"@include" | b"@includedir" if outside => {
                self.begin(match raw {
                    b"@include" => Kind::Include,
                    _ => Kind::IncludeFolder,
                });
                self.state = State::Include;
                self.at += length;
                return;
            }
            _ => {}
        }
        let token = Token::Word {
            text: undone(raw),
            plain: !raw.contains(&b'\\'),
        };
        self.push(token, length);
    }

    /// A text in quotes. A line end in it ends the statement, with an error.
    pub(super) fn string(&mut self) {
        let mut text = Vec::new();
        self.at += 1;
        while let Some(&c) = self.text.get(self.at) {
            if let Some(length) = continuation(self.rest())
                && self.joining
            {
                self.at += length + blanks(&self.text[self.at + length..]);
                self.continued = true;
                continue;
            }
            match c {
                b'"' => {
                    self.statement.odd |= text.is_empty();
                    let plain = false;
                    return self.push(Token::Word { text, plain }, 1);
                }
                b'\n' => break,
                b'\\' if self.rest().get(1) == Some(&b'"') => {
                    text.push(b'"');
                    self.at += 2;
                }
                b'\r' | 0 => self.odd(1),
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
        self.statement.odd = true;
        self.push(Token::Word { text, plain: false }, 0);
    }
}

//! Whom a sudoers text names, and which files it includes. Finds names, does not judge rules; reads no
//! file by itself.
//!
//! A statement as sudo writes them names exactly the users of its list, those it runs commands as, and
//! the members of its aliases. Of a statement that is not as expected every word counts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::lexer::{Kind, Statement, Token, statements};
use super::{Include, Parsed};

/// Reads a text.
pub(super) fn parse(text: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut joined = false;
    for statement in statements(text, true) {
        joined |= is_of_lines(&text[statement.source.clone()]);
        parsed.add(&statement, text);
    }
    // sudo-rs and older versions of sudo join fewer lines: what is a rule by itself may be one.
    if joined {
        for line in statements(text, false) {
            parsed.add_expected(&line);
        }
    }
    parsed
}

/// Does a line end before the last one?
fn is_of_lines(source: &[u8]) -> bool {
    let text = source.strip_suffix(b"\n").unwrap_or(source);
    text.contains(&b'\n')
}

/// `USERS HOSTS = (RUNAS : GROUPS) TAGS: COMMANDS`.
struct Rule<'a> {
    users: &'a [Token],
    /// From the first `=` on.
    commands: &'a [Token],
}

impl Rule<'_> {
    /// Nothing if the tokens are not those of a rule.
    fn of(tokens: &[Token]) -> Option<Rule<'_>> {
        let users = list(tokens)?;
        let (users, behind) = tokens.split_at(users);
        let hosts = list(behind)?;
        let commands = &behind[hosts..];
        (commands.first() == Some(&Token::Mark(b'='))).then_some(Rule { users, commands })
    }
}

/// How many tokens a list of words takes: `!A, B`. Two words without a comma between are two lists.
fn list(tokens: &[Token]) -> Option<usize> {
    let mut at = 0;
    loop {
        while tokens.get(at) == Some(&Token::Mark(b'!')) {
            at += 1;
        }
        let Some(Token::Word { .. }) = tokens.get(at) else {
            return None;
        };
        at += 1;
        if tokens.get(at) != Some(&Token::Mark(b',')) {
            return Some(at);
        }
        at += 1;
    }
}

impl Parsed {
    fn add(&mut self, statement: &Statement, text: &[u8]) {
        let tokens = &statement.tokens;
        let as_expected = match statement.kind {
            Kind::Include | Kind::IncludeFolder => tokens.len() == 1,
            Kind::Rule => tokens.is_empty() || Rule::of(tokens).is_some(),
            Kind::Defaults(_) | Kind::AliasOfUsers | Kind::AliasOfOthers => true,
        };
        if as_expected && !statement.odd {
            self.add_expected(statement);
        } else {
            self.add_include(statement);
            self.add_tokens(tokens);
            self.add_every_word(&text[statement.source.clone()]);
        }
    }

    fn add_expected(&mut self, statement: &Statement) {
        let tokens = &statement.tokens;
        match statement.kind {
            Kind::Rule => {
                if let Some(rule) = Rule::of(tokens) {
                    self.add_tokens(rule.users);
                    self.add_in_brackets(rule.commands);
                }
            }
            Kind::AliasOfUsers => self.add_tokens(tokens),
            Kind::Defaults(Some(b':' | b'>')) => {
                self.add_tokens(&tokens[..list(tokens).unwrap_or(tokens.len())]);
                self.add_exempt(tokens);
            }
            Kind::Defaults(_) => self.add_exempt(tokens),
            Kind::Include | Kind::IncludeFolder => self.add_include(statement),
            Kind::AliasOfOthers => {}
        }
    }

    fn add_tokens(&mut self, tokens: &[Token]) {
        for token in tokens {
            if let Token::Word { text, plain } = token
                && !(*plain && text == b"ALL")
            {
                self.add_word(text);
            }
        }
    }

    fn add_in_brackets(&mut self, tokens: &[Token]) {
        let mut inside = false;
        for token in tokens {
            match token {
                Token::Mark(b'(') => inside = true,
                Token::Mark(b')') => inside = false,
                token if inside => self.add_tokens(std::slice::from_ref(token)),
                _ => {}
            }
        }
    }

    /// `exempt_group = NAME`: whose members need no password.
    fn add_exempt(&mut self, tokens: &[Token]) {
        for window in tokens.windows(3) {
            if let [Token::Word { text, .. }, Token::Mark(b'='), group] = window
                && text == b"exempt_group"
            {
                self.add_tokens(std::slice::from_ref(group));
            }
        }
    }

    /// Whoever is meant, it is one of these.
    fn add_every_word(&mut self, source: &[u8]) {
        for word in source.split(|c| b" \t\r\n\0,:=()!\"\\>;".contains(c)) {
            // A number may have a word around it that only ends where the number begins.
            let mut parts = word.split(|c| *c == b'#');
            let first = parts.next().unwrap_or_default();
            if first != b"ALL" && !first.contains(&b'/') {
                self.add_word(first);
            }
            for part in parts {
                let digits = part.iter().take_while(|c| c.is_ascii_digit()).count();
                self.add_word(&[b"#", &part[..digits]].concat());
                if !part.contains(&b'/') {
                    self.add_word(&part[digits..]);
                }
            }
        }
    }

    fn add_include(&mut self, statement: &Statement) {
        let Some(Token::Word { text, .. }) = statement.tokens.first() else {
            return;
        };
        let path = OsString::from_vec(text.clone());
        let include = match statement.kind {
            Kind::Include => Include::File(path),
            Kind::IncludeFolder => Include::Folder(path),
            _ => return,
        };
        if !self.includes.contains(&include) {
            self.includes.push(include);
        }
    }
}

//! Patterns over names: `*` for any run of characters, `?` for one, everything else for itself.
//! Nothing more, so that what an administrator reads is what is matched.

use std::fmt;

/// A pattern. Matching takes time in proportion to pattern times text at worst, never more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// The pattern of this text.
    pub fn new(pattern: impl Into<String>) -> Glob {
        Glob(pattern.into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does the whole of `text` match?
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.0, text)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Does this character of a pattern stand for others?
pub(crate) fn is_wild(c: char) -> bool {
    matches!(c, '*' | '?')
}

/// Can `pattern` match anything but itself?
pub(crate) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(is_wild)
}

/// Does the whole of `text` match `pattern`?
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    // Most are told apart by how they begin.
    let (begins, found) = (pattern.bytes().next(), text.bytes().next());
    if begins != found && !matches!(begins, Some(b'*' | b'?')) {
        return false;
    }
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on after a mismatch: behind the last star, which then eats one character more.
    let mut retry = None;
    loop {
        let here = pattern.clone();
        match (pattern.next(), text.clone().next()) {
            (Some('*'), _) => retry = Some((here, text.clone())),
            (Some('?'), Some(_)) => {
                text.next();
            }
            (Some(want), Some(have)) if want == have => {
                text.next();
            }
            (None, None) => return true,
            _ => {
                let Some((star, mut eaten)) = retry.take() else {
                    return false;
                };
                if eaten.next().is_none() {
                    return false;
                }
                (pattern, text) = (star, eaten);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_and_nothing_else_is_special() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "x"),
            ("", ""),
            ("dev-*", "dev-"),
            ("dev-*", "dev-ops"),
            ("*-dev", "a-b-dev"),
            ("a*b*c", "aXbXbXc"),
            ("d?v", "dév"),
            ("**", "x"),
            ("[a]", "[a]"),
            ("a.b", "a.b"),
            ("*a*a*", "aa"),
        ] {
            assert!(matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("?", ""),
            ("dev-*", "dev"),
            ("dev", "Dev"),
            ("a*b", "ab-"),
            ("[a]", "a"),
            ("a.b", "axb"),
            ("*a*a*", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = "*a".repeat(1000);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(20_000))));
    }
}

//! How a login that is not a valid name becomes one, as RFD 57 asks: what is invalid is removed.
//! Whether it may, and what more a repaired name must prove, is decided in `evaluate`.

use super::names::{Login, NameError, check_given, is_first, is_inner};

/// Folds ASCII upper case, removes from the left what may not stand where it stands, then the dots at
/// the end. Fails on what no repair gets around, where nothing is left, or where too much is.
///
/// A valid name is left as it is.
pub fn repair(given: &str) -> Result<Login, NameError> {
    check_given(given)?;
    let mut name = String::with_capacity(given.len());
    for c in given.chars().map(|c| c.to_ascii_lowercase()) {
        let fits = if name.is_empty() {
            is_first(c)
        } else {
            is_inner(c)
        };
        if fits {
            name.push(c);
        }
    }
    name.truncate(name.trim_end_matches('.').len());
    Login::try_from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invalid_is_removed_from_the_left_until_the_rule_holds() {
        for (given, name) in [
            ("alice", "alice"),
            ("Bob", "bob"),
            ("bob@example.com", "bobexample.com"),
            ("1bob", "bob"),
            ("-.9bob", "bob"),
            ("Jürgen", "jrgen"),
            ("a.b..", "a.b"),
            ("%sudo", "sudo"),
            ("_9", "_9"),
        ] {
            assert_eq!(
                repair(given).map(String::from),
                Ok(name.to_owned()),
                "{given}"
            );
        }
    }

    #[test]
    fn some_logins_are_beyond_repair() {
        assert_eq!(repair(""), Err(NameError::Empty));
        assert_eq!(repair("1001"), Err(NameError::Empty));
        assert_eq!(repair("日本"), Err(NameError::Empty));
        assert_eq!(repair(&"A".repeat(32)), Err(NameError::TooLong(31)));
        assert_eq!(repair(&"%".repeat(256)), Err(NameError::TooLong(255)));
        for c in [
            '\0', '\n', '\r', '\t', ' ', ':', '/', '\\', '"', '\'', '`', '\u{7f}', '\u{85}',
            '\u{a0}', '\u{202e}',
        ] {
            assert_eq!(repair(&format!("bo{c}b")), Err(NameError::Forbidden(c)));
        }
    }
}

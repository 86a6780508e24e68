//! The names that may leave the policy: logins, group names, aliases. A value of one of these types
//! has passed its rule; text that has not must not reach a file, a table or a reply.

use std::borrow::Borrow;
use std::fmt;

use crate::invisible::is_invisible;

use serde::{Deserialize, Serialize};

use super::text::Text;

/// Longest login or group name, in bytes (utmp has room for 31 and a NUL).
pub const MAX_NAME: usize = 31;

/// Longest login that is looked at at all, in bytes.
pub const MAX_GIVEN: usize = 255;

/// Why a text is not a name of the wanted type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Empty, or nothing left of it.
    Empty,
    /// Longer than the type allows, which is this many bytes.
    TooLong(usize),
    /// Holds a character that no name may hold, repaired or not.
    Forbidden(char),
    /// Does not follow `[a-z_][a-z0-9_.-]{0,30}` without a dot at the end.
    Malformed,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("it is empty"),
            NameError::TooLong(most) => write!(f, "it has more than {most} bytes"),
            NameError::Forbidden(c) if is_invisible(*c) => {
                write!(f, "it holds the invisible character U+{:04X}", *c as u32)
            }
            NameError::Forbidden(c) => write!(f, "it holds the character {c:?}"),
            NameError::Malformed => f.write_str(
                "a name is 1 to 31 of a-z, 0-9, '_', '-' and '.', begins with a letter or '_' and does not end in '.'",
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// May `c` begin a name?
pub(crate) fn is_first(c: char) -> bool {
    c.is_ascii_lowercase() || c == '_'
}

/// May `c` stand inside a name?
pub(crate) fn is_inner(c: char) -> bool {
    is_first(c) || c.is_ascii_digit() || c == '.' || c == '-'
}

/// Characters that refuse a login outright: in some file or tool they end a field, a line or a word.
fn is_forbidden(c: char) -> bool {
    is_invisible(c) || c.is_whitespace() || matches!(c, ':' | '/' | '\\' | '"' | '\'' | '`')
}

/// The checks that no repair gets around.
pub(crate) fn check_given(given: &str) -> Result<(), NameError> {
    if given.is_empty() {
        return Err(NameError::Empty);
    }
    if given.len() > MAX_GIVEN {
        return Err(NameError::TooLong(MAX_GIVEN));
    }
    match given.chars().find(|c| is_forbidden(*c)) {
        Some(c) => Err(NameError::Forbidden(c)),
        None => Ok(()),
    }
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(MAX_NAME));
    }
    check_given(text)?;
    let well_formed =
        text.starts_with(is_first) && text.chars().all(is_inner) && !text.ends_with('.');
    if well_formed {
        Ok(())
    } else {
        Err(NameError::Malformed)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Text);

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::try_from(text.as_str())
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// A login that may be published, named in sudoers and used as a file name:
    /// `[a-z_][a-z0-9_.-]{0,30}`, not ending in a dot.
    ///
    /// Lower case only, because sudo compares user names without case: a file for `Alice` would
    /// serve a local `alice`.
    Login, check_name
}

name_type! {
    /// The name of a group that may be synthesized or granted; the rule of [`Login`].
    GroupName, check_name
}

name_type! {
    /// The original spelling of a repaired login. Lookups answer to it, nothing else uses it: it has
    /// passed only the checks that no repair gets around (no control character, white space, colon,
    /// slash, backslash or quote; at most 255 bytes).
    Alias, check_given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_follows_the_rule() {
        for good in [
            "a",
            "_",
            "alice",
            "ec2-user",
            "a.b",
            "a..b",
            "x_9",
            &"a".repeat(31),
        ] {
            assert!(Login::try_from(good).is_ok(), "{good}");
        }
        for bad in [
            "", "A", "Alice", "1001", "0day", "-a", ".a", "a.", "a b", "a:b", "a/b", "ä", "a~",
            "%a", "#1", "a\n",
        ] {
            assert!(Login::try_from(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Login::try_from("a".repeat(32)), Err(NameError::TooLong(31)));
        let long = NameError::TooLong(31).to_string();
        assert_eq!(long, "it has more than 31 bytes");
    }

    #[test]
    fn an_alias_keeps_the_spelling_but_never_what_ends_a_field_or_a_line() {
        for good in ["Bob", "bob@example.com", "Jürgen", "1bob", "%x"] {
            assert!(Alias::try_from(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a:b",
            "a/b",
            "a\\b",
            "a b",
            "a\u{a0}b",
            "a\0b",
            "a\nb",
            "a\"",
            "a'",
            "a`",
            "a\u{202e}b",
            &"a".repeat(256),
        ] {
            assert!(Alias::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_read_back_from_a_file_is_checked_again() {
        assert!(serde_json::from_str::<Login>("\"alice\"").is_ok());
        assert!(serde_json::from_str::<Login>("\"ALL\"").is_err());
        assert!(serde_json::from_str::<GroupName>("\"a b\"").is_err());
    }
}

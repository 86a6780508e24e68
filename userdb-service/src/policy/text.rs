//! A short text that lies where it is used: names are kept for as long as the machine is up, and each in a piece of memory of
//! its own, among what comes and goes in a burst of logins, would keep a page of it from being given back.
//!
//! What a text may say is for the types around it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Longest text, in bytes, that needs no memory elsewhere: `group:` and the longest name fit.
const INSIDE: usize = 38;

/// A text, compared, ordered and hashed as one.
#[derive(Clone)]
pub struct Text(Place);

#[derive(Clone)]
enum Place {
    Inside { length: u8, bytes: [u8; INSIDE] },
    Elsewhere(Box<str>),
}

impl Text {
    /// What it says.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // It was text when it came in, and is whole.
            Place::Inside { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Place::Elsewhere(text) => text,
        }
    }

    /// The same as bytes, which compare as the text does and are there without being looked through.
    fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Inside { length, bytes } => &bytes[..usize::from(*length)],
            Place::Elsewhere(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        let mut bytes = [0; INSIDE];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(inside), Ok(length)) => {
                inside.copy_from_slice(text.as_bytes());
                Text(Place::Inside { length, bytes })
            }
            _ => Text(Place::Elsewhere(text.into())),
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.as_str().to_owned()
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_says_what_it_was_made_of_and_is_ordered_as_that() {
        let texts = [
            "",
            "a",
            "b",
            "jürgen",
            &"x".repeat(INSIDE),
            &"x".repeat(INSIDE + 1),
            &"é".repeat(127),
        ];
        for one in texts {
            assert_eq!(Text::from(one).as_str(), one);
            assert_eq!(String::from(Text::from(one.to_owned())), one);
            assert_eq!(format!("{:?}", Text::from(one)), format!("{one:?}"));
            for other in texts {
                assert_eq!(Text::from(one) == Text::from(other), one == other);
                assert_eq!(Text::from(one).cmp(&Text::from(other)), one.cmp(other));
            }
        }
    }

    #[test]
    fn names_and_what_ids_are_remembered_by_lie_inside() {
        let longest = format!("group:{}", "n".repeat(crate::policy::names::MAX_NAME));
        assert!(matches!(Text::from(longest).0, Place::Inside { .. }));
    }
}

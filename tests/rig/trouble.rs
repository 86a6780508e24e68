//! What keeps the rig from doing its work, told as a sentence that says what to do about it.
//! What a test finds wrong in the product is a panic of the test, never one of these.

use std::fmt;

/// Result of everything the rig does by itself.
pub type Result<T> = std::result::Result<T, Trouble>;

/// Why the rig cannot go on.
pub enum Trouble {
    /// The machine that runs the tests lacks something; `remedy` says how to get it.
    Missing {
        /// What is not there.
        what: String,
        /// What the person at the keyboard does next.
        remedy: String,
    },
    /// A program of the rig failed.
    Failed {
        /// What was being done.
        doing: String,
        /// What was seen.
        seen: String,
    },
}

impl Trouble {
    pub(crate) fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Trouble::Missing {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn failed(doing: impl Into<String>, seen: impl fmt::Display) -> Self {
        Trouble::Failed {
            doing: doing.into(),
            seen: seen.to_string(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Missing { what, remedy } => write!(f, "{what}: {remedy}"),
            Trouble::Failed { doing, seen } => write!(f, "{doing} failed: {seen}"),
        }
    }
}

/// The sentence itself, so that `unwrap` in a test prints it as it is meant to be read.
impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Trouble {}

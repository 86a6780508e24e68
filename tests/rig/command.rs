//! What a command inside a machine left behind, and how a test insists on it.
//! Running commands is of the machine; here is only what came of it.

use std::fmt;
use std::time::Duration;

/// A command that has ended.
#[derive(Clone)]
pub struct Ran {
    /// As a person would type it.
    pub command: String,
    /// Exit status, or 128 + signal.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Wall-clock time, the way into the container (about 10 ms) included.
    pub elapsed: Duration,
}

impl Ran {
    /// Whether the status is 0.
    pub fn succeeded(&self) -> bool {
        self.status == 0
    }

    /// Panics with everything that was seen unless the status is 0; gives the output without its last line end.
    #[track_caller]
    pub fn must(&self) -> &str {
        assert!(self.succeeded(), "{self}");
        self.stdout.trim_end()
    }

    /// Panics with everything that was seen unless the status is `status`.
    #[track_caller]
    pub fn must_end_with(&self, status: i32) -> &Self {
        assert!(self.status == status, "expected status {status}: {self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with {} after {:.2?}\n{}{}",
            self.command, self.status, self.elapsed, self.stdout, self.stderr
        )
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

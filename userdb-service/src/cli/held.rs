//! Whether teleport-sessiond goes by the configuration that is in the files, as far as it has told systemd in its status.
//! What is in the files is judged elsewhere.

use serde::Serialize;

use super::findings::{Finding, Verdict};
use super::node::Seen;
use crate::control::configuration::{HOLDS_NONE, HOLDS_OLDER};

/// What a daemon holds that found something wrong when it last read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// No configuration: every login is refused.
    Nothing,
    /// The last one that was right.
    Older,
}

impl Held {
    /// As its status line says.
    pub(super) fn of(status: &str) -> Option<Held> {
        match status {
            HOLDS_NONE => Some(Held::Nothing),
            older if older.starts_with(HOLDS_OLDER) => Some(Held::Older),
            _ => None,
        }
    }

    /// Silent while the files are wrong: they have to be put right first, as is said of them.
    pub(super) fn finding(self, files: &Seen<()>) -> Option<Finding> {
        let holds = match self {
            Held::Nothing => "has no configuration and refuses every login",
            Held::Older => "goes on by an older configuration",
        };
        let message = format!(
            "Teleport-sessiond {holds}: what it read last was wrong, and it was not told to read the files since; `systemctl reload teleport-sessiond` tells it."
        );
        (!matches!(files, Seen::Failed(_))).then(|| Finding::new("in use", Verdict::Wrong, message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::{good, wrong};
    use super::*;

    #[test]
    fn a_daemon_that_was_not_told_of_the_mended_files_is_wrong() {
        for (status, word) in [
            (HOLDS_NONE.to_owned(), "refuses every login"),
            (
                format!("{HOLDS_OLDER}the new one is wrong."),
                "an older configuration",
            ),
        ] {
            let mut node = good();
            node.held = Held::of(&status);
            let (check, told) = wrong(&node);
            assert_eq!(check, "in use");
            assert!(
                told.contains(word) && told.contains("`systemctl reload teleport-sessiond`"),
                "{told}"
            );
            node.configuration = Seen::Failed("x.toml:1: no such key".to_owned());
            assert_eq!(wrong(&node).0, "configuration");
        }
        assert_eq!(
            Held::of("Sessions are kept and their users published."),
            None
        );
    }
}

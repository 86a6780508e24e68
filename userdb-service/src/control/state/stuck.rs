//! Sudo rights of earlier sessions that cannot be taken away, each with the reason: while one stands, nobody comes in under its login.
//! Written down for `check` and `explain` alone; a start finds out anew.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::StateDir;
use crate::control::daemon::Daemon;
use crate::policy::Login;

const RIGHTS: &str = "rights";

/// A login with such a right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StuckRight {
    /// The login.
    pub login: Login,
    /// Why, with the file and what to do.
    pub why: String,
}

impl StateDir {
    /// Those that the daemon has written down below `root`, for who only looks.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn stuck_rights(root: &Path) -> io::Result<Vec<StuckRight>> {
        match StateDir::at(root).read_folder(RIGHTS) {
            // One that cannot be read may just be going.
            Ok((mut rights, _)) => {
                rights.sort();
                Ok(rights)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn save_stuck_right(&self, right: &StuckRight) -> io::Result<()> {
        self.make(RIGHTS)?;
        self.write(RIGHTS, right.login.as_ref(), right)
    }

    fn forget_stuck_right(&self, login: &Login) -> io::Result<()> {
        self.remove(RIGHTS, login.as_ref())
    }

    fn forget_stuck_rights(&self) -> io::Result<()> {
        self.empty(RIGHTS)
    }
}

impl Daemon {
    /// The login's right cannot be taken away, for now.
    pub(in crate::control) fn right_is_stuck(&self, login: &Login, why: &str) {
        let right = StuckRight {
            login: login.clone(),
            why: why.to_owned(),
        };
        self.rights.borrow_mut().stuck.insert(login.clone());
        if let Err(error) = self.state.save_stuck_right(&right) {
            warn!("that rights of {login} cannot be taken away is not written down: {error}");
        }
    }

    /// It has been, or stands in nobody's way.
    pub(in crate::control) fn right_is_gone(&self, login: &Login) {
        if let Err(error) = self.state.forget_stuck_right(login) {
            warn!("that rights of {login} could not be taken away stays written down: {error}");
        }
    }

    /// Those of the daemon before.
    pub(in crate::control) fn forget_stuck_rights(&self) {
        if let Err(error) = self.state.forget_stuck_rights() {
            warn!(
                "which rights could not be taken away before the start stays written down: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_told_until_it_is_gone_or_the_daemon_starts_anew() {
        let root = std::env::temp_dir().join(format!("stuck-{}", std::process::id()));
        assert_eq!(StateDir::stuck_rights(&root).expect("nothing"), []);
        let state = StateDir::open(&root).expect("made");
        assert_eq!(StateDir::stuck_rights(&root).expect("nothing"), []);
        state.forget_stuck_rights().expect("nothing to forget");
        let right = |login: &str, why: &str| StuckRight {
            login: Login::try_from(login).expect("a login"),
            why: why.to_owned(),
        };
        for (login, why) in [("zed", "first"), ("ann", "read-only"), ("zed", "disowned")] {
            state.save_stuck_right(&right(login, why)).expect("written");
        }
        let both = [right("ann", "read-only"), right("zed", "disowned")];
        assert_eq!(StateDir::stuck_rights(&root).expect("read"), both);
        state.forget_stuck_right(&both[0].login).expect("removed");
        assert_eq!(StateDir::stuck_rights(&root).expect("read"), both[1..]);
        // A start reads of it nothing that lives.
        let loaded = state.load().expect("read");
        assert!(loaded.damaged.is_empty() && loaded.standings.is_empty());
        state.forget_stuck_rights().expect("removed");
        assert_eq!(StateDir::stuck_rights(&root).expect("nothing"), []);
        std::fs::remove_dir_all(root).expect("removed");
    }
}

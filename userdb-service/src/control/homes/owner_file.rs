//! Whose a kept home is, in a file beside it that root alone can read.
//! The folder of ephemeral homes does not outlive the boot, and so neither does what is written here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde_derive::{Deserialize, Serialize};

use crate::control::host::clock::Boottime;
use crate::policy::Config;
use crate::policy::ids::{Gid, Uid};

const FILE: &str = "owner";

#[derive(Serialize, Deserialize)]
pub(super) struct OwnerFile {
    pub(super) teleport_user: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// Time asleep counts and the wall clock does not.
    #[serde(rename = "parked_usec")]
    pub(super) since: Boottime,
    /// How long it is kept: what its user came under, whatever is configured by now. A daemon of before
    /// wrote nothing down.
    #[serde(default = "default_keep")]
    pub(super) keep: Duration,
}

fn default_keep() -> Duration {
    Config::default().home.keep
}

impl OwnerFile {
    pub(super) fn write(&self, folder: &OwnedFd) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        File::from(file).write_all(&serde_json::to_vec(self)?)
    }

    /// `None` if there is none, or not a whole one.
    pub(super) fn read(folder: &OwnedFd) -> Option<OwnerFile> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, FILE, flags, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// How long it is kept from now on.
    pub(super) fn rest(&self) -> Duration {
        let waited = Boottime::now().since(self.since);
        self.keep.saturating_sub(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_of_before_has_written_is_read_and_written_the_same_way() {
        let text = r#"{"teleport_user":"ann","uid":1879048705,"gid":1879048705,"parked_usec":0,"keep":{"secs":600,"nanos":0}}"#;
        let owner: OwnerFile = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&owner).unwrap(), text);
        let waited = Boottime::now().since(Boottime::from_usec(0));
        assert!(owner.rest() <= owner.keep.saturating_sub(waited));
        let since = Boottime::now();
        let rest = OwnerFile { since, ..owner }.rest();
        assert!(rest > Duration::from_secs(590), "{rest:?}");
        let older = text.replace(r#","keep":{"secs":600,"nanos":0}"#, "");
        let older: OwnerFile = serde_json::from_str(&older).unwrap();
        assert_eq!(older.keep, default_keep());
    }
}

//! Whose a parked home is, in a file beside it that root alone can read.
//! The folder of ephemeral homes does not outlive the boot, and so neither does what is written here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use serde_derive::{Deserialize, Serialize};

use crate::policy::Config;
use crate::policy::ids::{Gid, Uid};

const FILE: &str = "owner";

#[derive(Serialize, Deserialize)]
pub(super) struct OwnerFile {
    pub(super) teleport_user: String,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// CLOCK_BOOTTIME, so that time asleep counts and the wall clock does not.
    pub(super) parked_usec: u64,
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
        let waited = Duration::from_micros(boot_usec().saturating_sub(self.parked_usec));
        self.keep.saturating_sub(waited)
    }
}

pub(super) fn boot_usec() -> u64 {
    // The clock exists on every kernel that we run on.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        Duration::from(time)
            .as_micros()
            .try_into()
            .unwrap_or(u64::MAX)
    })
}

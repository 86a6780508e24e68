//! Whether the file of a login still grants what was written into it, and if not, what has become of it. Only looks.

use std::fs::Metadata;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::sys::statvfs::{Statvfs, fstatvfs};
use rustix::fs::{IFlags, ioctl_getflags};
use serde::Serialize;

use super::whose::Found;
use super::{SudoersError, SudoersFiles};
use crate::policy::names::Login;
use crate::policy::sudoers::{SudoersSpec, file_name, render};

/// Why a file grants nothing, or something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amiss {
    /// It is not there.
    Absent,
    /// A folder, a link or a pipe has its name.
    NoFile,
    /// It is not root's.
    Owner,
    /// Its owner cannot read it, and neither can we.
    Closed,
    /// Nothing is in it.
    Empty,
    /// It lacks our header line.
    Headless,
    /// It has other names.
    Linked,
    /// It lacks a rule.
    Rule,
    /// Others than root can write to it, as sudo sees it.
    Mode,
    /// It is not there, and its file system has no room for it.
    NoRoom,
    /// It is not there, and the folder is immutable.
    Immutable,
}

impl SudoersFiles {
    /// Whether there is a folder.
    ///
    /// # Errors
    /// It cannot be opened, or is not root's alone to write to: sudo ignores what is in such a one.
    pub fn is_there(&self) -> Result<bool, SudoersError> {
        Ok(self.open_if_present()?.is_some())
    }

    /// What is wrong with the file that grants `specs` to `login`. Nothing, whatever is in it beside.
    ///
    /// # Errors
    /// The folder or the file cannot be looked at.
    pub fn amiss(
        &self,
        login: &Login,
        specs: &[SudoersSpec],
    ) -> Result<Option<Amiss>, SudoersError> {
        let Some(folder) = self.open_if_present()? else {
            return Ok(Some(Amiss::Absent));
        };
        let name = file_name(login);
        let seen = match fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(seen) => seen,
            Err(Errno::ENOENT) => return Ok(Some(absence(&folder))),
            Err(error) => return Err(self.io("looking at", &name, error)),
        };
        if let Some(amiss) = unfit(&seen) {
            return Ok(Some(amiss));
        }
        Ok(match self.inspect(&folder, &name)? {
            Found::Absent => Some(Amiss::Absent),
            Found::Linked { .. } => Some(Amiss::Linked),
            Found::Closed => Some(Amiss::Closed),
            Found::Ours(text) if lacks_a_line(&text, &render(login, specs)) => Some(Amiss::Rule),
            Found::Foreign(_) if seen.st_size == 0 => Some(Amiss::Empty),
            Found::Foreign(_) => Some(Amiss::Headless),
            Found::Ours(_) | Found::Untouched => {
                is_writable(seen.st_gid, seen.st_mode).then_some(Amiss::Mode)
            }
        })
    }
}

/// What keeps the daemon from reading it.
fn unfit(seen: &FileStat) -> Option<Amiss> {
    let kind = SFlag::from_bits_truncate(seen.st_mode & SFlag::S_IFMT.bits());
    match (kind, seen.st_uid) {
        (SFlag::S_IFREG, 0) => (seen.st_mode & 0o400 == 0).then_some(Amiss::Closed),
        (SFlag::S_IFREG, _) => Some(Amiss::Owner),
        _ => Some(Amiss::NoFile),
    }
}

/// What keeps a file from being made in the folder now, as far as that can be seen without making one.
fn absence(folder: &OwnedFd) -> Amiss {
    if ioctl_getflags(folder).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)) {
        return Amiss::Immutable;
    }
    // Some file systems do not count files, and have none left.
    let is_full =
        |seen: Statvfs| seen.blocks_free() == 0 || (seen.files() > 0 && seen.files_free() == 0);
    match fstatvfs(folder).is_ok_and(is_full) {
        true => Amiss::NoRoom,
        false => Amiss::Absent,
    }
}

/// For others than root: sudo and sudo-rs ignore such a file or folder. To the group of root they let it be writable.
fn is_writable(gid: u32, mode: u32) -> bool {
    mode & 0o002 != 0 || (gid != 0 && mode & 0o020 != 0)
}

/// Whether sudo and sudo-rs ignore a file or folder for its owner or mode.
pub(crate) fn is_ignored(seen: &Metadata) -> bool {
    seen.uid() != 0 || is_writable(seen.gid(), seen.mode())
}

fn lacks_a_line(text: &str, written: &str) -> bool {
    written
        .lines()
        .any(|line| text.lines().all(|found| found != line))
}

#[cfg(test)]
#[path = "amiss_tests.rs"]
mod tests;

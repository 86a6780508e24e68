//! Whether the file of a login still grants what was written into it, and if not, what has become of it. Only looks.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
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
    /// Others than root can write to it.
    Mode,
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
            Err(Errno::ENOENT) => return Ok(Some(Amiss::Absent)),
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
            Found::Ours(_) | Found::Untouched => is_writable(&seen).then_some(Amiss::Mode),
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

/// For others than its owner: sudo ignores such a file.
fn is_writable(seen: &FileStat) -> bool {
    seen.st_mode & 0o022 != 0
}

fn lacks_a_line(text: &str, written: &str) -> bool {
    written
        .lines()
        .any(|line| text.lines().all(|found| found != line))
}

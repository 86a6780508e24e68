//! Whose a file in sudoers.d is: by its kind, its owner, its links and its first line.
//! Only looks; opens nothing but regular files of root.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::{PREFIX, SudoersError, SudoersFiles};
use crate::policy::sudoers::HEADER;

/// Longest file of ours that is read back.
const LONGEST: u64 = 1 << 20;

/// Which file something is, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode(u64, u64);

impl Inode {
    pub(super) fn of(stat: &FileStat) -> Inode {
        Inode(stat.st_dev, stat.st_ino)
    }
}

/// A file as we have left it. The kernel notes when anything of a file changes, so with the same fingerprint it has the same text. (Who
/// changes it within the tick of the clock in which we wrote it, to the same length, is not seen.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) inode: Inode,
    changed: (i64, i64),
    size: i64,
    /// Before Linux 6.13 a second name given within the same tick is seen by this alone.
    links: libc::nlink_t,
}

impl Fingerprint {
    pub(super) fn of(stat: &FileStat) -> Fingerprint {
        Fingerprint {
            inode: Inode::of(stat),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            size: stat.st_size,
            links: stat.st_nlink,
        }
    }
}

/// What has a name.
pub(super) enum Found {
    Absent,
    /// It has the fingerprint that was looked for.
    Untouched,
    /// With its text.
    Ours(String),
    /// Root's, with our header line, and with more names than ours have.
    Linked {
        inode: Inode,
        links: libc::nlink_t,
    },
    /// Root's, and closed to root without capabilities: whose it is cannot be read.
    Closed,
    /// Anything else; which file, if it is a regular one of root's.
    Foreign(Option<Inode>),
}

impl SudoersFiles {
    /// Whose file this is, of which that is known.
    pub(super) fn inspect_if_changed(
        &self,
        folder: &OwnedFd,
        name: &str,
        fingerprint: Fingerprint,
    ) -> Result<Found, SudoersError> {
        match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if Fingerprint::of(&stat) == fingerprint => Ok(Found::Untouched),
            Err(Errno::ENOENT) => Ok(Found::Absent),
            _ => self.inspect(folder, name),
        }
    }

    /// Whose file this is. Opens nothing but a regular file of root: a FIFO would block, and opening
    /// a device has effects.
    pub(super) fn inspect(&self, folder: &OwnedFd, name: &str) -> Result<Found, SudoersError> {
        let failed = |e| self.io("looking at", name, e);
        let seen = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(Found::Absent),
            Err(e) => return Err(failed(e)),
        };
        if !is_a_file_of_root(&seen) {
            return Ok(Found::Foreign(None));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(Found::Absent),
            Err(Errno::ELOOP) => return Ok(Found::Foreign(None)),
            Err(Errno::EACCES) => return Ok(Found::Closed),
            Err(e) => return Err(failed(e)),
        };
        let opened = fstat(&file).map_err(failed)?;
        let inode = Inode::of(&opened);
        if !is_a_file_of_root(&opened) || inode != Inode::of(&seen) {
            return Ok(Found::Foreign(None));
        }
        // No longer than it is, so that nobody has to be asked for its end.
        let size = u64::try_from(opened.st_size).unwrap_or_default();
        let mut reader = BufReader::new(File::from(file).take(LONGEST.min(size)));
        let mut text = Vec::new();
        reader
            .read_until(b'\n', &mut text)
            .map_err(|e| self.io("reading", name, e))?;
        let first_line = text.strip_suffix(b"\n").unwrap_or(&text);
        // Under its unfinished name a file of ours may have been cut off by a crash.
        let cut_off = name.starts_with('.') && HEADER.as_bytes().starts_with(first_line);
        if first_line != HEADER.as_bytes() && !cut_off {
            return Ok(Found::Foreign(Some(inode)));
        }
        // One that was removed while it was looked at has none.
        if opened.st_nlink > 1 {
            let links = opened.st_nlink;
            return Ok(Found::Linked { inode, links });
        }
        reader
            .read_to_end(&mut text)
            .map_err(|e| self.io("reading", name, e))?;
        Ok(Found::Ours(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn is_a_file_of_root(stat: &FileStat) -> bool {
    is_regular_and_of_root(stat.st_mode, stat.st_uid)
}

fn is_regular_and_of_root(mode: u32, uid: u32) -> bool {
    let kind = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits());
    kind == SFlag::S_IFREG && uid == 0
}

/// Would an entry of sudoers.d with this name and text be ours to remove? Any other is the administrator's,
/// whatever its first line is.
pub(crate) fn is_ours(name: &[u8], entry: &Metadata, text: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
        && is_regular_and_of_root(entry.mode(), entry.uid())
        && entry.nlink() <= 1
        && text.split(|c| *c == b'\n').next() == Some(HEADER.as_bytes())
}

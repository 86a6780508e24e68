//! The files of ours in sudoers.d: never half a file, never a file of somebody else.
//! What stands in them is decided by the policy; who has one by the registry.
//!
//! Every call blocks on fsync of file and folder. Nothing is kept between calls: the folder is opened
//! anew each time, because packages and administrators replace it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};

use crate::policy::names::Login;
use crate::policy::sudoers::{HEADER, SudoersSpec, file_name, render};

/// How sudo wants its files.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IRGRP);
/// What names of our files begin with, finished and unfinished; sudo skips names with a dot.
const PREFIX: &str = "teleport-";
const UNFINISHED: &str = ".new";

/// Why a grant could not be written or taken away.
#[derive(Debug)]
pub enum SudoersError {
    /// Something that is not ours has the name. It was left alone; the login goes without sudo.
    NotOurs(PathBuf),
    /// The folder or the file system would not keep the file as sudo needs it: `why` says what.
    Unsuitable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused: full, read-only, absent. Retry later; nothing half is left.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The refusal.
        error: io::Error,
    },
}

impl fmt::Display for SudoersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SudoersError::NotOurs(path) => write!(
                f,
                "{} exists and is not ours (a regular file of root with our header line): left alone",
                path.display()
            ),
            SudoersError::Unsuitable { path, why } => write!(f, "{} {why}", path.display()),
            SudoersError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for SudoersError {}

/// What became of a file that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, and stays gone after a power cut.
    Removed,
    /// There was none.
    Absent,
    /// Something that is not ours has the name, and keeps it.
    NotOurs,
}

/// A sudoers.d folder.
#[derive(Clone, Debug)]
pub struct SudoersFiles {
    path: PathBuf,
}

impl Default for SudoersFiles {
    fn default() -> SudoersFiles {
        SudoersFiles::new("/etc/sudoers.d")
    }
}

impl SudoersFiles {
    /// The folder at `path`; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> SudoersFiles {
        SudoersFiles { path: path.into() }
    }

    /// Grants `specs` to `login`, in place of what it was granted before.
    ///
    /// # Errors
    /// On any error what was granted before still is, and nothing else.
    pub fn write(&self, login: &Login, specs: &[SudoersSpec]) -> Result<(), SudoersError> {
        let name = file_name(login);
        let text = render(login, specs);
        let folder = self.open()?;
        match self.inspect(&folder, &name)? {
            // A new name that a power cut takes away is a grant less, and the boot ends every grant anyway.
            Found::Absent => return self.create(&folder, &name, &text),
            Found::Ours(present) if present == text => return Ok(()),
            Found::Ours(_) => self.replace(&folder, &name, &text)?,
            Found::Foreign => return Err(SudoersError::NotOurs(self.path.join(name))),
        }
        self.sync(&folder)
    }

    /// Whether there is a file of ours for `login`. One that cannot be looked at counts as none.
    pub fn has(&self, login: &Login) -> bool {
        let found = self
            .open_if_present()
            .ok()
            .flatten()
            .map(|folder| self.inspect(&folder, &file_name(login)));
        matches!(found, Some(Ok(Found::Ours(_))))
    }

    /// Number of the files that sudo reads, ours and others'. A folder that cannot be read counts as full.
    pub fn read_by_sudo(&self) -> usize {
        let names = match self.open_if_present() {
            Ok(Some(folder)) => self.names(&folder),
            Ok(None) => return 0,
            Err(error) => Err(error),
        };
        names.map_or(usize::MAX, |names| {
            let read = |name: &&String| !name.contains('.') && !name.ends_with('~');
            names.iter().filter(read).count()
        })
    }

    /// Takes away whatever was granted to `login`.
    ///
    /// # Errors
    /// The grant may still stand: try again.
    pub fn remove(&self, login: &Login) -> Result<Removal, SudoersError> {
        let Some(folder) = self.open_if_present()? else {
            return Ok(Removal::Absent);
        };
        let removal = self.remove_name(&folder, &file_name(login))?;
        if removal == Removal::Removed {
            self.sync(&folder)?;
        }
        Ok(removal)
    }

    /// Removes every file of ours but those of the logins in `keep`; unfinished ones always. Returns
    /// the names of what it removed.
    ///
    /// # Errors
    /// The first one; the other files have been tried all the same.
    pub fn sweep(&self, keep: &BTreeSet<Login>) -> Result<Vec<String>, SudoersError> {
        let Some(folder) = self.open_if_present()? else {
            return Ok(Vec::new());
        };
        let keep: BTreeSet<String> = keep.iter().map(file_name).collect();
        let (mut removed, mut first_error) = (Vec::new(), None);
        for name in self.names(&folder)? {
            let unfinished = name.starts_with('.') && name.ends_with(UNFINISHED);
            let ours = name
                .strip_prefix('.')
                .filter(|_| unfinished)
                .unwrap_or(&name);
            if !ours.starts_with(PREFIX) || keep.contains(&name) {
                continue;
            }
            match self.remove_name(&folder, &name) {
                Ok(Removal::Removed) => removed.push(name),
                Ok(_) => {}
                Err(e) => drop(first_error.get_or_insert(e)),
            }
        }
        if !removed.is_empty() {
            self.sync(&folder)?;
        }
        first_error.map_or(Ok(removed), Err)
    }

    /// Names of our files, finished ones, and the number of other files that sudo reads.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<(Vec<String>, usize), SudoersError> {
        let (mut ours, mut others) = (Vec::new(), 0);
        let Some(folder) = self.open_if_present()? else {
            return Ok((ours, others));
        };
        for name in self.names(&folder)? {
            if name.contains('.') || name.ends_with('~') {
                continue;
            }
            match self.inspect(&folder, &name)? {
                Found::Ours(_) if name.starts_with(PREFIX) => ours.push(name),
                Found::Absent => {}
                Found::Ours(_) | Found::Foreign => others += 1,
            }
        }
        ours.sort();
        Ok((ours, others))
    }

    fn create(&self, folder: &OwnedFd, name: &str, text: &str) -> Result<(), SudoersError> {
        match self.nameless(folder, text)? {
            Some(file) => self.link(folder, &file, name),
            // A file system without nameless files: finish it under a name that sudo skips.
            None => {
                let unfinished = self.unfinished(folder, name, text)?;
                let flags = RenameFlags::RENAME_NOREPLACE;
                renameat2(folder, unfinished.as_str(), folder, name, flags)
                    .map_err(|e| self.cleaned_up(folder, &unfinished, name, e))
            }
        }
    }

    fn replace(&self, folder: &OwnedFd, name: &str, text: &str) -> Result<(), SudoersError> {
        let unfinished = match self.nameless(folder, text)? {
            Some(file) => {
                let unfinished = format!(".{name}{UNFINISHED}");
                self.remove_name(folder, &unfinished)?;
                self.link(folder, &file, &unfinished)?;
                unfinished
            }
            None => self.unfinished(folder, name, text)?,
        };
        renameat(folder, unfinished.as_str(), folder, name)
            .map_err(|e| self.cleaned_up(folder, &unfinished, name, e))
    }

    /// A finished file without a name, which vanishes by itself if we die before it gets one.
    fn nameless(&self, folder: &OwnedFd, text: &str) -> Result<Option<OwnedFd>, SudoersError> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(folder, ".", flags, MODE) {
            Ok(file) => self.fill(file, text).map(Some),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => Ok(None),
            Err(e) => Err(self.io("making a file in", ".", e)),
        }
    }

    fn unfinished(&self, folder: &OwnedFd, name: &str, text: &str) -> Result<String, SudoersError> {
        let unfinished = format!(".{name}{UNFINISHED}");
        self.remove_name(folder, &unfinished)?;
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(folder, unfinished.as_str(), flags, MODE)
            .map_err(|e| self.io("making", &unfinished, e))?;
        match self.fill(file, text) {
            Ok(_) => Ok(unfinished),
            Err(e) => {
                let _ = unlinkat(folder, unfinished.as_str(), UnlinkatFlags::NoRemoveDir);
                Err(e)
            }
        }
    }

    fn fill(&self, file: OwnedFd, text: &str) -> Result<OwnedFd, SudoersError> {
        let mut file = File::from(file);
        file.write_all(text.as_bytes())
            .map_err(|e| self.io("writing in", ".", e))?;
        // The umask has had its say when the file was made.
        fchmod(&file, MODE).map_err(|e| self.io("setting the mode in", ".", e))?;
        fsync(&file).map_err(|e| self.io("syncing in", ".", e))?;
        let stat = fstat(&file).map_err(|e| self.io("looking at a file in", ".", e))?;
        if (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) != (0, 0, MODE.bits()) {
            return Err(SudoersError::Unsuitable {
                path: self.path.clone(),
                why: "does not let files be root:root 0440 (is it set-group-ID?)",
            });
        }
        Ok(file.into())
    }

    fn link(&self, folder: &OwnedFd, file: &OwnedFd, name: &str) -> Result<(), SudoersError> {
        let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(
            AT_FDCWD,
            nameless.as_str(),
            folder,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
        .map_err(|e| match e {
            Errno::EEXIST => SudoersError::NotOurs(self.path.join(name)),
            e => self.io("naming", name, e),
        })
    }

    fn cleaned_up(
        &self,
        folder: &OwnedFd,
        unfinished: &str,
        name: &str,
        error: Errno,
    ) -> SudoersError {
        let _ = unlinkat(folder, unfinished, UnlinkatFlags::NoRemoveDir);
        match error {
            Errno::EEXIST => SudoersError::NotOurs(self.path.join(name)),
            e => self.io("renaming to", name, e),
        }
    }

    fn remove_name(&self, folder: &OwnedFd, name: &str) -> Result<Removal, SudoersError> {
        match self.inspect(folder, name)? {
            Found::Absent => Ok(Removal::Absent),
            Found::Foreign => Ok(Removal::NotOurs),
            Found::Ours(_) => match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) => Ok(Removal::Removed),
                Err(Errno::ENOENT) => Ok(Removal::Absent),
                Err(e) => Err(self.io("removing", name, e)),
            },
        }
    }

    /// Whose file this is. Opens nothing but a regular file of root: a FIFO would block, and opening
    /// a device has effects.
    fn inspect(&self, folder: &OwnedFd, name: &str) -> Result<Found, SudoersError> {
        let failed = |e| self.io("looking at", name, e);
        let seen = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(Found::Absent),
            Err(e) => return Err(failed(e)),
        };
        if !could_be_ours(&seen) {
            return Ok(Found::Foreign);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(Found::Absent),
            Err(Errno::ELOOP) => return Ok(Found::Foreign),
            Err(e) => return Err(failed(e)),
        };
        let opened = fstat(&file).map_err(failed)?;
        if !could_be_ours(&opened) || (opened.st_dev, opened.st_ino) != (seen.st_dev, seen.st_ino) {
            return Ok(Found::Foreign);
        }
        let mut reader = BufReader::new(File::from(file).take(LONGEST));
        let mut text = Vec::new();
        reader
            .read_until(b'\n', &mut text)
            .map_err(|e| self.io("reading", name, e))?;
        let first_line = text.strip_suffix(b"\n").unwrap_or(&text);
        // Under its unfinished name a file of ours may have been cut off by a crash.
        let cut_off = name.starts_with('.') && HEADER.as_bytes().starts_with(first_line);
        if first_line != HEADER.as_bytes() && !cut_off {
            return Ok(Found::Foreign);
        }
        reader
            .read_to_end(&mut text)
            .map_err(|e| self.io("reading", name, e))?;
        Ok(Found::Ours(String::from_utf8_lossy(&text).into_owned()))
    }

    fn names(&self, folder: &OwnedFd) -> Result<Vec<String>, SudoersError> {
        let mut listing = Dir::openat(
            folder,
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| self.io("listing", ".", e))?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(|e| self.io("listing", ".", e))?;
            // Ours are UTF-8; of others the spelling does not matter.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open_if_present(&self) -> Result<Option<OwnedFd>, SudoersError> {
        match self.open() {
            Ok(folder) => Ok(Some(folder)),
            Err(SudoersError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn open(&self) -> Result<OwnedFd, SudoersError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder =
            open(&self.path, flags, Mode::empty()).map_err(|e| self.io("opening", ".", e))?;
        let stat = fstat(&folder).map_err(|e| self.io("looking at", ".", e))?;
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            return Err(SudoersError::Unsuitable {
                path: self.path.clone(),
                why: "must belong to root and be writable by nobody else",
            });
        }
        Ok(folder)
    }

    fn sync(&self, folder: &OwnedFd) -> Result<(), SudoersError> {
        fsync(folder).map_err(|e| self.io("syncing", ".", e))
    }

    fn io(&self, doing: &str, name: &str, error: impl Into<io::Error>) -> SudoersError {
        let path = if name == "." {
            self.path.clone()
        } else {
            self.path.join(name)
        };
        SudoersError::Io {
            what: format!("{doing} {}", path.display()),
            error: error.into(),
        }
    }
}

/// Longest file of ours that is read back.
const LONGEST: u64 = 1 << 20;

enum Found {
    Absent,
    /// With its text.
    Ours(String),
    Foreign,
}

fn could_be_ours(stat: &FileStat) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    kind == SFlag::S_IFREG && stat.st_uid == 0 && stat.st_nlink == 1
}

/// The folder is a path, for messages.
impl AsRef<Path> for SudoersFiles {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
#[path = "sudoers_files_tests.rs"]
mod tests;

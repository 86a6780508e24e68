//! The files of ours in sudoers.d: never half a file, never a file of somebody else.
//! What stands in them is decided by the policy; who has one by the registry.
//!
//! Every call that changes something blocks on fsync, but `remove_from`, which leaves that to its caller. The folder is
//! opened anew each time, because packages and administrators replace it, or by who has just looked which one it is; what is
//! kept is only which files we have written.

mod amiss;
mod error;
mod prepared;
mod reach;
mod removal;
#[cfg(test)]
mod tests;
mod whose;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};
use tracing::warn;

pub use self::amiss::Amiss;
pub(crate) use self::amiss::is_ignored;
pub use self::error::SudoersError;
pub use self::prepared::Prepared;
pub use self::removal::{Folder, Removal};
pub(crate) use self::whose::is_ours;
use self::whose::{Fingerprint, Found};
use crate::control::host::descriptors::magic_link;
use crate::policy::names::Login;
use crate::policy::sudoers::{SUDOERS_D, SudoersSpec, file_name, render};

/// How sudo wants its files.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IRGRP);
/// What names of our files begin with, finished and unfinished; sudo skips names with a dot.
const PREFIX: &str = "teleport-";
const UNFINISHED: &str = ".new";

/// What a sweep has done.
#[derive(Debug, Default)]
pub struct Swept {
    /// Names of files that were removed.
    pub removed: Vec<String>,
    /// Files that may be ours and were left alone, each with what to do about it.
    pub doubtful: Vec<SudoersError>,
    /// Logins that were to keep their file and have one.
    pub kept: BTreeSet<Login>,
    /// Names of the files that sudo reads by now, if that can be seen.
    pub read: Option<Vec<String>>,
}

/// A sudoers.d folder.
#[derive(Clone, Debug)]
pub struct SudoersFiles {
    path: PathBuf,
    /// What we have written, by its name: ours whatever becomes of it.
    written: RefCell<BTreeMap<String, Fingerprint>>,
    /// The folder that the settings of our unit close to us, if that is so: a new start would meet it as it is.
    withheld: OnceCell<Option<FolderId>>,
}

/// Which folder something is, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId(u64, u64);

impl Default for SudoersFiles {
    fn default() -> SudoersFiles {
        SudoersFiles::new(SUDOERS_D)
    }
}

impl SudoersFiles {
    /// The folder at `path`; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> SudoersFiles {
        SudoersFiles {
            path: path.into(),
            written: RefCell::default(),
            withheld: OnceCell::new(),
        }
    }

    /// The folder that is there now, if there is one.
    pub fn folder(&self) -> Option<FolderId> {
        let seen = std::fs::metadata(&self.path).ok()?;
        Some(FolderId(seen.dev(), seen.ino()))
    }

    /// The same, opened for what is to be done in it.
    pub fn enter(&self, folder: &mut Folder) -> Option<FolderId> {
        match self.open() {
            Ok((open, id)) => {
                *folder = Folder::of(open);
                Some(id)
            }
            // It may be there all the same.
            Err(_) => self.folder(),
        }
    }

    /// Whether the folder has come after our sandbox was made, so that only a new start can write to it. First to be asked at our
    /// start: a folder that we cannot write to then, though it is older than we are, is never taken for a new one.
    pub fn is_beside_the_sandbox(&self) -> bool {
        let is_beside = reach::is_beside_the_sandbox(&self.path).unwrap_or_default();
        let withheld = self.withheld.get_or_init(|| {
            let is_withheld = is_beside && reach::was_there_before_us(&self.path);
            let folder = self.folder().filter(|_| is_withheld)?;
            warn!(
                "{} is read-only in the sandbox of teleport-sessiond by a setting of its unit, so nobody gets sudo by a file and nothing \
                 can be taken away: `systemctl cat teleport-sessiond.service` shows which (ReadOnlyPaths=, ReadWritePaths=, ProtectSystem=)",
                self.path.display()
            );
            Some(folder)
        });
        is_beside && (withheld.is_none() || self.folder() != *withheld)
    }

    /// Whether something has the name of the login's file. Looks at the name alone.
    pub fn is_taken(&self, login: &Login) -> bool {
        std::fs::symlink_metadata(self.path.join(file_name(login))).is_ok()
    }

    /// Whether nothing has that name. What cannot be looked at may be there.
    pub fn is_gone(&self, login: &Login) -> bool {
        let seen = std::fs::symlink_metadata(self.path.join(file_name(login)));
        seen.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Grants `specs` to `login`, in place of what it was granted before.
    ///
    /// # Errors
    /// On any error what was granted before still is, and nothing else.
    pub fn write(&self, login: &Login, specs: &[SudoersSpec]) -> Result<(), SudoersError> {
        self.write_in(&mut Folder::default(), login, specs, None)
    }

    /// The same in a folder that may be open already, by a file that may have been prepared.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub fn write_in(
        &self,
        folder: &mut Folder,
        login: &Login,
        specs: &[SudoersSpec],
        prepared: Option<Prepared>,
    ) -> Result<(), SudoersError> {
        let name = file_name(login);
        let text = render(login, specs);
        let folder = folder.opened(self)?;
        match self.inspect(folder, &name)? {
            // A new name that a power cut takes away is a grant less, and the boot ends every grant anyway.
            Found::Absent => {
                if !self.is_named(folder, prepared, &name, &text) {
                    self.create(folder, &name, &text)?;
                }
                self.remember(folder, &name);
                return Ok(());
            }
            // With another mode or group sudo may ignore it, whatever it says.
            Found::Ours(present) if present == text && is_fit_at(folder, &name) => {
                self.remember(folder, &name);
                return Ok(());
            }
            Found::Untouched | Found::Ours(_) => self.replace(folder, &name, &text)?,
            Found::Linked { links, .. } => {
                let path = self.path.join(name);
                return Err(SudoersError::Linked { path, links });
            }
            Found::Closed => return Err(SudoersError::Closed(self.path.join(name))),
            Found::Foreign(_) => return Err(SudoersError::NotOurs(self.path.join(name))),
        }
        self.remember(folder, &name);
        self.sync(folder)
    }

    /// Whether there is a file of ours for `login`. One that cannot be looked at counts as none.
    pub fn has(&self, login: &Login) -> bool {
        if !self.is_taken(login) {
            return false;
        }
        let found = self
            .open_if_present()
            .ok()
            .flatten()
            .map(|folder| self.inspect(&folder, &file_name(login)));
        matches!(found, Some(Ok(Found::Ours(_))))
    }

    /// What keeps a file for `login` from being written, if something of somebody else's has its name.
    pub fn in_the_way(&self, login: &Login) -> Option<SudoersError> {
        let in_the_way = self.is_taken(login) && !self.has(login);
        in_the_way.then(|| SudoersError::NotOurs(self.path.join(file_name(login))))
    }

    /// Names of the files that sudo reads.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read_by_sudo(&self) -> Result<Vec<String>, SudoersError> {
        let Some(folder) = self.open_if_present()? else {
            return Ok(Vec::new());
        };
        let mut names = self.names(&folder)?;
        names.retain(|name| !name.contains('.') && !name.ends_with('~'));
        Ok(names)
    }

    /// Removes every file of ours but those of the logins in `keep`; unfinished ones always. Returns
    /// the names of what it removed, and what it left alone though it looks like ours.
    ///
    /// # Errors
    /// The first one; the other files have been tried all the same.
    pub fn sweep(&self, keep: &BTreeSet<Login>) -> Result<Swept, SudoersError> {
        let mut swept = Swept::default();
        let Some(folder) = self.open_if_present()? else {
            swept.read = Some(Vec::new());
            return Ok(swept);
        };
        let kept = keep.iter().filter(|login| self.is_taken(login));
        swept.kept.extend(kept.cloned());
        let keep: BTreeSet<String> = keep.iter().map(file_name).collect();
        let mut first_error = None;
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
                Ok(Removal::Removed) => swept.removed.push(name),
                Ok(_) => {}
                Err(
                    e @ (SudoersError::Linked { .. }
                    | SudoersError::Disowned(_)
                    | SudoersError::Closed(_)),
                ) => swept.doubtful.push(e),
                Err(e) => drop(first_error.get_or_insert(e)),
            }
        }
        if !swept.removed.is_empty() {
            self.sync(&folder)?;
        }
        swept.read = self.read_by_sudo().ok();
        first_error.map_or(Ok(swept), Err)
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
                Found::Untouched
                | Found::Ours(_)
                | Found::Linked { .. }
                | Found::Closed
                | Found::Foreign(_) => others += 1,
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
        let file = self.unsynced(folder, text)?;
        file.map(|file| self.synced(file)).transpose()
    }

    /// The same before it is synced.
    fn unsynced(&self, folder: &OwnedFd, text: &str) -> Result<Option<OwnedFd>, SudoersError> {
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
        match self.fill(file, text).and_then(|file| self.synced(file)) {
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
        let stat = fstat(&file).map_err(|e| self.io("looking at a file in", ".", e))?;
        if !is_fit(&stat) {
            return Err(SudoersError::Unsuitable {
                path: self.path.clone(),
                why: "does not let files be root:root 0440 (is it set-group-ID?)",
            });
        }
        Ok(file.into())
    }

    fn synced(&self, file: OwnedFd) -> Result<OwnedFd, SudoersError> {
        fsync(&file).map_err(|e| self.io("syncing in", ".", e))?;
        Ok(file)
    }

    fn link(&self, folder: &OwnedFd, file: &OwnedFd, name: &str) -> Result<(), SudoersError> {
        let nameless = magic_link(file);
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

    fn remember(&self, folder: &OwnedFd, name: &str) {
        if let Ok(stat) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            self.written
                .borrow_mut()
                .insert(name.to_owned(), Fingerprint::of(&stat));
        }
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
        present(self.open().map(|(folder, _)| folder))
    }

    fn open(&self) -> Result<(OwnedFd, FolderId), SudoersError> {
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
        Ok((folder, FolderId(stat.st_dev, stat.st_ino)))
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

/// Whether a file is as we make them.
fn is_fit(seen: &FileStat) -> bool {
    (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (0, 0, MODE.bits())
}

fn is_fit_at(folder: &OwnedFd, name: &str) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|seen| is_fit(&seen))
}

/// `None`: there is no such folder, or a file in its place, in which nothing of ours can be.
fn present<T>(opened: Result<T, SudoersError>) -> Result<Option<T>, SudoersError> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match opened {
        Ok(folder) => Ok(Some(folder)),
        Err(SudoersError::Io { error, .. }) if matches!(error.kind(), NotFound | NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The folder is a path, for messages.
impl AsRef<Path> for SudoersFiles {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

//! Taking files of ours away: only what is ours, and so that nothing is left of it under any name.
//! Which ones is decided elsewhere.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{UnlinkatFlags, fsync, ftruncate, unlinkat};

use super::whose::Found;
use super::{MODE, SudoersError, SudoersFiles, present};
use crate::policy::names::Login;
use crate::policy::sudoers::file_name;

/// What became of a file that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone. Once the folder is synced it stays gone after a power cut, too; until then the sweep at boot, before
    /// anybody can log in, is what takes it away.
    Removed,
    /// There was none.
    Absent,
    /// Something that is not ours has the name, and keeps it.
    NotOurs,
}

/// The folder while something is done in it, opened for the first of that.
#[derive(Debug, Default)]
pub struct Folder {
    open: Option<OwnedFd>,
    has_changed: bool,
    /// What was removed, held until those who wait for its removal have been told, by [`SudoersFiles::keep_removed`]: to free it on
    /// the disk takes longer than to take its name away.
    removed: Vec<OwnedFd>,
}

impl Folder {
    pub(super) fn of(open: OwnedFd) -> Folder {
        Folder {
            open: Some(open),
            ..Folder::default()
        }
    }

    pub(super) fn opened(&mut self, files: &SudoersFiles) -> Result<&OwnedFd, SudoersError> {
        match &mut self.open {
            Some(open) => Ok(open),
            none => Ok(none.insert(files.open()?.0)),
        }
    }
}

impl SudoersFiles {
    /// Takes away whatever was granted to `login`. A file that we have written and that somebody has
    /// given a second name since loses its text, so that it grants nothing under that name either.
    ///
    /// # Errors
    /// The grant may still stand: try again.
    pub fn remove(&self, login: &Login) -> Result<Removal, SudoersError> {
        let mut folder = Folder::default();
        let removal = self.remove_from(&mut folder, login)?;
        self.keep_removed(&mut folder)?;
        Ok(removal)
    }

    /// The same for one of many, which does not wait for the disk: all of them are to be followed by
    /// [`Self::keep_removed`].
    ///
    /// # Errors
    /// Those of [`Self::remove`].
    pub fn remove_from(&self, folder: &mut Folder, login: &Login) -> Result<Removal, SudoersError> {
        let Some(open) = present(folder.opened(self))? else {
            return Ok(Removal::Absent);
        };
        let name = file_name(login);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let held = openat(open, name.as_str(), flags, Mode::empty());
        let removal = self.remove_name(open, &name)?;
        if removal == Removal::Removed {
            folder.has_changed = true;
            folder.removed.extend(held);
        }
        Ok(removal)
    }

    /// Waits until nothing that was removed from it can come back, whatever happens to the machine.
    ///
    /// # Errors
    /// It may come back after a power cut.
    pub fn keep_removed(&self, folder: &mut Folder) -> Result<(), SudoersError> {
        folder.removed.clear();
        match &folder.open {
            Some(open) if std::mem::take(&mut folder.has_changed) => self.sync(open),
            _ => Ok(()),
        }
    }

    pub(super) fn remove_name(
        &self,
        folder: &OwnedFd,
        name: &str,
    ) -> Result<Removal, SudoersError> {
        let written = self.written.borrow().get(name).copied();
        let found = match written {
            Some(fingerprint) => self.inspect_if_changed(folder, name, fingerprint)?,
            None => self.inspect(folder, name)?,
        };
        let written = written.map(|fingerprint| fingerprint.inode);
        match found {
            Found::Absent => {
                self.written.borrow_mut().remove(name);
                return Ok(Removal::Absent);
            }
            Found::Foreign(Some(inode)) if written == Some(inode) => {
                return Err(SudoersError::Disowned(self.path.join(name)));
            }
            Found::Closed => return Err(SudoersError::Closed(self.path.join(name))),
            Found::Foreign(_) => return Ok(Removal::NotOurs),
            Found::Linked { inode, .. } if written == Some(inode) => self.empty(folder, name)?,
            Found::Linked { links, .. } => {
                let path = self.path.join(name);
                return Err(SudoersError::Linked { path, links });
            }
            Found::Untouched | Found::Ours(_) => {}
        }
        let removal = match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Removal::Removed,
            Err(Errno::ENOENT) => Removal::Absent,
            Err(e) => return Err(self.io("removing", name, e)),
        };
        self.written.borrow_mut().remove(name);
        Ok(removal)
    }

    /// Takes the text out of a file that has other names: an empty one is valid and grants nothing.
    fn empty(&self, folder: &OwnedFd, name: &str) -> Result<(), SudoersError> {
        let failed = |e| self.io("emptying", name, e);
        // Root without capabilities may not write to a file of its own that is 0440.
        let writable = MODE | Mode::S_IWUSR;
        fchmodat(folder, name, writable, FchmodatFlags::FollowSymlink).map_err(failed)?;
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map_err(failed)?;
        ftruncate(&file, 0).map_err(failed)?;
        fchmod(&file, MODE).map_err(failed)?;
        fsync(&file).map_err(failed)
    }
}

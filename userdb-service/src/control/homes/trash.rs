//! What nobody will see again, in a folder that root alone can enter: the login may have gone to another
//! person meanwhile, who has the same UID and must not find it.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{HomeError, Homes};
use crate::policy::ids::{Gid, Uid};

const TRASH: &str = ".trash";

/// The trash of a folder of homes: its entries are numbered.
pub(super) struct Trash(Homes);

impl Homes {
    /// Empties and removes what was thrown away. Takes as long as the janitor needs.
    ///
    /// # Errors
    /// The first one; the others have been tried all the same. What is left is tried the next time.
    pub async fn empty_trash(&self) -> Result<(), HomeError> {
        let Trash(trash) = self.trash()?;
        let mut failure = None;
        for name in trash.names()? {
            if name.parse::<u64>().is_ok()
                && let Err(e) = trash.burn(&name).await
            {
                failure.get_or_insert(e);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Puts an entry where nobody reaches it, still under the UID that the janitor is to become.
    pub(super) fn throw_away(&self, name: &str) -> Result<(), HomeError> {
        let Some(seen) = self.stat(name)? else {
            return Ok(());
        };
        if seen.is_mount {
            return Err(HomeError::Mounted(self.path.join(name)));
        }
        let failed = |e| self.io("throwing away", name, e);
        if !seen.is_folder {
            return unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir).map_err(failed);
        }
        self.take(name)?;
        let (trash, number) = self.trash()?.receive(&self.folder, name).map_err(failed)?;
        self.has_thrown_away.set(true);
        trash.give(&number, seen.uid, seen.gid).map(drop)
    }

    pub(super) fn trash(&self) -> Result<Trash, HomeError> {
        let failed = |e| self.io("opening", TRASH, e);
        match mkdirat(&self.folder, TRASH, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(failed(e)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&self.folder, TRASH, flags, Mode::empty()).map_err(failed)?;
        let trash = Homes {
            path: self.path.join(TRASH),
            folder,
            janitor: self.janitor.clone(),
            has_thrown_away: Cell::default(),
        };
        trash.must_be_roots().map(|()| Trash(trash))
    }

    /// A folder of ours inside of ours, that nobody else may enter.
    pub(super) fn must_be_roots(&self) -> Result<(), HomeError> {
        let stat = fstat(&self.folder).map_err(|e| self.io("looking at", ".", e))?;
        match stat.st_uid == 0 && stat.st_mode & 0o077 == 0 {
            true => Ok(()),
            false => Err(HomeError::Unsafe(self.path.clone())),
        }
    }

    async fn burn(&self, name: &str) -> Result<(), HomeError> {
        let Some(seen) = self.stat(name)? else {
            return Ok(());
        };
        let remove = |flags| unlinkat(&self.folder, name, flags);
        if !seen.is_folder {
            return remove(UnlinkatFlags::NoRemoveDir).map_err(|e| self.io("removing", name, e));
        }
        if remove(UnlinkatFlags::RemoveDir).is_ok() {
            return Ok(());
        }
        let inner = self.enter(name)?;
        if let (Ok(uid), Ok(gid)) = (Uid::try_from(seen.uid), Gid::try_from(seen.gid)) {
            // What it leaves is not the user's to remove; then root does it.
            let _ = self.janitor.wipe(uid, gid, inner.as_fd()).await;
        }
        if remove(UnlinkatFlags::RemoveDir).is_ok() {
            return Ok(());
        }
        let wiped = self.janitor.wipe_as_root(inner.as_fd()).await;
        wiped.map_err(|e| self.io("emptying", name, std::io::Error::other(e)))?;
        remove(UnlinkatFlags::RemoveDir).map_err(|e| self.io("removing", name, e))
    }
}

impl Trash {
    /// Takes `name` out of `from`; where it is now.
    pub(super) fn receive(self, from: &OwnedFd, name: &str) -> Result<(Homes, String), Errno> {
        let Trash(trash) = self;
        for number in 0_u64.. {
            let number = number.to_string();
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(from, name, &trash.folder, number.as_str(), flags) {
                Ok(()) => return Ok((trash, number)),
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Errno::EEXIST)
    }
}

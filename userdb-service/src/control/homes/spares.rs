//! What keeps the file system of ephemeral homes usable when one user fills it: folders kept for those who come next (a folder
//! takes no room on tmpfs but an inode, and those run out as well), and the word that there is no room for homes of nobody.

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::fstatvfs;

use super::{HomeError, Homes};

/// For how many logins one that has filled everything leaves room.
const SPARES: u32 = 256;
/// There is room as long as this part of the file system is free: an eighth.
const FREE: u64 = 8;

impl Homes {
    /// Makes those that are missing, as far as there is room.
    pub fn keep_spares(&self) {
        if self.has_spares() {
            return;
        }
        for number in 0..SPARES {
            match mkdirat(&self.folder, spare(number).as_str(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether [`Homes::empty_trash`] or [`Homes::keep_spares`] has something to do because of what was done here.
    pub fn is_untidy(&self) -> bool {
        self.has_thrown_away.get() || !self.has_spares()
    }

    /// They are made from the first and taken from the last: with the last, all are there.
    fn has_spares(&self) -> bool {
        matches!(self.stat(&spare(SPARES - 1)), Ok(Some(_)))
    }

    /// A new folder of root's; a spare one, if there is no room for a new one.
    pub(super) fn make_folder(&self, name: &str) -> Result<(), HomeError> {
        match mkdirat(&self.folder, name, Mode::S_IRWXU) {
            Err(Errno::ENOSPC | Errno::EDQUOT) => {}
            outcome => return outcome.map_err(|e| self.io("making", name, e)),
        }
        for number in (0..SPARES).rev() {
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(
                &self.folder,
                spare(number).as_str(),
                &self.folder,
                name,
                flags,
            ) {
                Err(Errno::ENOENT) => {}
                outcome => return outcome.map_err(|e| self.io("making", name, e)),
            }
        }
        Err(self.io("making", name, Errno::ENOSPC))
    }

    /// Whether there is room for homes that nobody is in.
    pub fn has_room(&self) -> bool {
        let plenty = |free: u64, all: u64| free >= all / FREE;
        fstatvfs(&self.folder).is_ok_and(|told| {
            plenty(told.blocks_available(), told.blocks())
                && plenty(told.files_available(), told.files())
        })
    }
}

fn spare(number: u32) -> String {
    format!(".spare-{number}")
}

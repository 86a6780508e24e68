//! Empty folders kept for the day on which somebody has filled the file system of ephemeral homes: a folder takes no
//! room on tmpfs but an inode, and those run out as well.

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};

use super::{HomeError, Homes};

/// How many logins one that has filled everything leaves room for.
const SPARES: u32 = 16;

impl Homes {
    /// Makes those that are missing, as far as there is room.
    pub fn keep_spares(&self) {
        for number in 0..SPARES {
            match mkdirat(&self.folder, spare(number).as_str(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(_) => return,
            }
        }
    }

    /// A new folder of root's; a spare one, if there is no room for a new one.
    pub(super) fn make_folder(&self, name: &str) -> Result<(), HomeError> {
        match mkdirat(&self.folder, name, Mode::S_IRWXU) {
            Err(Errno::ENOSPC | Errno::EDQUOT) => {}
            outcome => return outcome.map_err(|e| self.io("making", name, e)),
        }
        for number in 0..SPARES {
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
}

fn spare(number: u32) -> String {
    format!(".spare-{number}")
}

//! A file that is finished before it is granted: written and synced, without a name, so that it grants nothing.
//! To name it takes a tenth of what it takes to write it, and no disk. It vanishes by itself if it is not named.

use std::os::fd::OwnedFd;

use super::removal::Folder;
use super::{SudoersError, SudoersFiles};
use crate::policy::names::Login;
use crate::policy::sudoers::{SudoersSpec, render};

/// A file without a name.
#[derive(Debug)]
pub struct Prepared {
    pub(super) file: OwnedFd,
    text: String,
}

impl SudoersFiles {
    /// Writes what would grant `specs` to `login`. `None`: the file system has no files without names.
    ///
    /// # Errors
    /// It could not be granted now either.
    pub fn prepare(
        &self,
        folder: &mut Folder,
        login: &Login,
        specs: &[SudoersSpec],
    ) -> Result<Option<Prepared>, SudoersError> {
        let text = render(login, specs);
        let file = self.nameless(folder.opened(self)?, &text)?;
        Ok(file.map(|file| Prepared { file, text }))
    }

    /// Whether `prepared` says `text` and has the name now. Why it has not is found out by writing another.
    pub(super) fn is_named(
        &self,
        folder: &OwnedFd,
        prepared: Option<Prepared>,
        name: &str,
        text: &str,
    ) -> bool {
        prepared.is_some_and(|Prepared { file, text: its }| {
            its == text && self.link(folder, &file, name).is_ok()
        })
    }
}

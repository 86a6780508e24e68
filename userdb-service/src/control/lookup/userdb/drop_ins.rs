//! Records and memberships that are dropped into folders as files: which there are.
//! What is in them is not read here.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use super::super::stamp::Stamp;
use crate::policy::decide::Question;

/// The names of the files in a folder, listed again when it changes.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    seen: Option<Stamp>,
    files: BTreeSet<String>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder {
            path,
            seen: None,
            files: BTreeSet::new(),
        }
    }

    /// Lists it, if it has changed.
    ///
    /// # Errors
    /// It is there and cannot be listed. What it has is not known then.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let stamp = Stamp::of(&self.path);
        if self.seen != Some(stamp) {
            let seen = stamp.settled();
            self.files = match std::fs::read_dir(&self.path) {
                Ok(entries) => entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect::<io::Result<_>>()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
                Err(error) => return Err(error),
            };
            self.seen = seen;
        }
        Ok(())
    }

    /// Whether a file of those listed says something about what is asked for.
    pub(super) fn has(&self, question: &Question) -> bool {
        let files = &self.files;
        if files.is_empty() {
            return false;
        }
        match question {
            Question::User(name) => files.contains(&format!("{name}.user")),
            Question::UserId(uid) => files.contains(&format!("{uid}.user")),
            Question::Group(name) => files.contains(&format!("{name}.group")),
            Question::GroupId(gid) => files.contains(&format!("{gid}.group")),
            Question::GroupsOf(name) => {
                let of = format!("{name}:");
                let mut from = files.range(of.clone()..);
                from.next().is_some_and(|file| file.starts_with(&of))
            }
        }
    }
}

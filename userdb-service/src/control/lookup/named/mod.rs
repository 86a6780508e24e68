//! Every name and number that sudoers or doas.conf gives a meaning to outside our own files: who logs in
//! under one would get what the administrator meant for somebody else. Finds them, does not judge rules.
//!
//! Finds too many rather than too few: whatever stands where a user, a group, a run-as user or an alias
//! can stand counts, whatever its case (sudo compares users regardless of case), and every word of what
//! sudo would not read as it stands.

mod doas;
mod inside;
mod lengths;
mod lexer;
mod own;
mod sudoers;
mod survey;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use crate::policy::sudoers::SUDOERS_D;
use own::Own;
pub use survey::{includes_ours, unread_by_workers};
pub use walk::Unread;
use walk::{Files, Syntax, Walk};

/// Names and includes of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Parsed {
    names: BTreeSet<String>,
    /// `#UID` and `%#GID`.
    ids: BTreeSet<u32>,
    netgroups: BTreeSet<String>,
    includes: Vec<Include>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Include {
    File(OsString),
    Folder(OsString),
}

impl Parsed {
    /// A word with its mark: `%` and `%:` of groups, `+` of netgroups, `#` of numbers.
    fn add_word(&mut self, word: &[u8]) {
        if let Some(netgroup) = word.strip_prefix(b"+") {
            self.netgroups
                .insert(String::from_utf8_lossy(netgroup).into_owned());
            return;
        }
        let name = word.strip_prefix(b"%").unwrap_or(word);
        let name = name.strip_prefix(b":").unwrap_or(name);
        // What is not UTF-8 is no login of ours in any spelling.
        let text = String::from_utf8_lossy(name);
        match text.strip_prefix('#').map(str::parse) {
            Some(Ok(id)) => drop(self.ids.insert(id)),
            _ if text.is_empty() => {}
            _ => drop(self.names.insert(text.to_lowercase())),
        }
    }
}

/// What these files name at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The same as long as no file says anything else.
    pub version: u64,
    /// Users, groups and members of aliases, in lower case.
    pub names: BTreeSet<String>,
    /// UIDs and GIDs.
    pub ids: BTreeSet<u32>,
    /// Netgroups, without their `+`. Who is in them is for others to say.
    pub netgroups: BTreeSet<String>,
}

impl Named {
    /// What the sudoers file `path` names, and what it includes.
    ///
    /// # Errors
    /// A file that sudo may be able to read and this process is not, by its name.
    pub fn in_sudoers_file(path: &Path) -> io::Result<Named> {
        let root = (Syntax::Sudoers, path.to_owned());
        Scanner::at(vec![root], SUDOERS_D).read().cloned()
    }

    fn add(&mut self, parsed: &Parsed) {
        self.names.extend(parsed.names.iter().cloned());
        self.ids.extend(&parsed.ids);
        self.netgroups.extend(parsed.netgroups.iter().cloned());
    }
}

const SUDOERS: &str = "/etc/sudoers";
/// sudo-rs reads this one instead, where there is one.
const SUDOERS_OF_SUDO_RS: &str = "/etc/sudoers-rs";
/// On openSUSE sudo reads it where there is no other.
const SUDOERS_OF_THE_VENDOR: &str = "/usr/etc/sudoers";

/// Where reading begins.
fn roots() -> Vec<(Syntax, PathBuf)> {
    let roots = [
        (Syntax::Sudoers, SUDOERS),
        (Syntax::Sudoers, SUDOERS_OF_SUDO_RS),
        (Syntax::Sudoers, SUDOERS_OF_THE_VENDOR),
        (Syntax::Doas, "/etc/doas.conf"),
    ];
    roots
        .map(|(syntax, path)| (syntax, PathBuf::from(path)))
        .to_vec()
}

/// Remembers each file by its version; only what changed is read again.
#[derive(Debug)]
pub(super) struct Scanner {
    roots: Vec<(Syntax, PathBuf)>,
    /// Where our own files are, which do not count.
    own: Own,
    files: Files,
    named: Named,
}

impl Scanner {
    pub(super) fn new() -> Scanner {
        Scanner::at(roots(), SUDOERS_D)
    }

    fn at(roots: Vec<(Syntax, PathBuf)>, ours: impl Into<PathBuf>) -> Scanner {
        Scanner {
            roots,
            own: Own::in_folder(ours.into()),
            files: Files::new(),
            named: Named::default(),
        }
    }

    /// The netgroups that were named when it was read last.
    pub(super) fn netgroups(&self) -> &BTreeSet<String> {
        &self.named.netgroups
    }

    /// Reads what has changed.
    ///
    /// # Errors
    /// A file that sudo may be able to read and this process is not, by its name.
    pub(super) fn read(&mut self) -> io::Result<&Named> {
        self.own.begin();
        let mut walk = Walk::new(&mut self.own, &self.files);
        for (syntax, root) in &self.roots {
            walk.file(*syntax, root)?;
        }
        let files = walk.files();
        self.own.end();
        // What they say and not when they were changed: two changes may fall into one tick of the file system's clock.
        let mut telling: Vec<(&PathBuf, &Parsed)> = files
            .iter()
            // Those that say nothing may come and go.
            .map(|(path, (_, parsed))| (path, parsed))
            .filter(|(_, parsed)| **parsed != Parsed::default())
            .collect();
        telling.sort_unstable_by_key(|(path, _)| *path);
        let mut hasher = DefaultHasher::new(); // fixed keys: equal in every worker of one daemon
        telling.hash(&mut hasher);
        let version = hasher.finish();
        self.files = files;
        if self.named.version != version {
            self.named = Named {
                version,
                ..Named::default()
            };
            for (_, parsed) in self.files.values() {
                self.named.add(parsed);
            }
        }
        Ok(&self.named)
    }
}

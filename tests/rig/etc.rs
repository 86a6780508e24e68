//! The whole of a machine's /etc as it is on disk, to show that a login leaves it bit-identical.
//! Contents are read as bytes and never interpreted; symbolic links are never followed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Machine;

/// Every entry under /etc: kind, mode, owner, group, time of the last change of content, and the content.
#[derive(Debug)]
pub struct Etc(BTreeMap<PathBuf, Entry>);

#[derive(Debug, PartialEq)]
struct Entry {
    mode: u32,
    uid: u32,
    gid: u32,
    modified_ns: i128,
    content: u64,
}

impl Etc {
    /// Reads /etc of `machine`.
    #[track_caller]
    pub fn of(machine: &Machine) -> Etc {
        let root = machine.root();
        let mut entries = BTreeMap::new();
        if let Err(error) = read(&root, Path::new("etc"), &mut entries) {
            panic!("reading /etc of the machine failed: {error}");
        }
        Etc(entries)
    }

    /// Every path that is new, gone or different in `later`, with what is different; empty if bit-identical.
    pub fn changes(&self, later: &Etc) -> Vec<String> {
        let mut changes = Vec::new();
        for (path, entry) in &self.0 {
            match later.0.get(path) {
                None => changes.push(format!("/{} is gone", path.display())),
                Some(now) if now != entry => {
                    changes.push(format!("/{}: {entry:?} became {now:?}", path.display()))
                }
                Some(_) => {}
            }
        }
        let new = later.0.keys().filter(|path| !self.0.contains_key(*path));
        changes.extend(new.map(|path| format!("/{} is new", path.display())));
        changes
    }

    /// The same without the times of the last changes: what a reader of the files can tell apart.
    #[must_use]
    pub fn without_times(mut self) -> Etc {
        for entry in self.0.values_mut() {
            entry.modified_ns = 0;
        }
        self
    }

    /// The same without the entry `path` (absolute) and everything below it.
    #[must_use]
    pub fn without(mut self, path: &str) -> Etc {
        let left_out = Path::new(path.trim_start_matches('/'));
        self.0.retain(|path, _| !path.starts_with(left_out));
        self
    }

    /// Panics with what changed unless `later` is bit-identical.
    #[track_caller]
    pub fn must_equal(&self, later: &Etc) {
        let changes = self.changes(later);
        assert!(changes.is_empty(), "/etc changed:\n{}", changes.join("\n"));
    }
}

fn read(root: &Path, path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full)?;
    let mut content = DefaultHasher::new();
    if metadata.is_symlink() {
        fs::read_link(&full)?
            .as_os_str()
            .as_bytes()
            .hash(&mut content);
    } else if metadata.is_file() {
        fs::read(&full)?.hash(&mut content);
    }
    let entry = Entry {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000
            + i128::from(metadata.mtime_nsec()),
        content: content.finish(),
    };
    entries.insert(path.to_owned(), entry);
    if metadata.is_dir() {
        for child in fs::read_dir(&full)? {
            read(root, &path.join(child?.file_name()), entries)?;
        }
    }
    Ok(())
}

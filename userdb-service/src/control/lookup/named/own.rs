//! Which files in sudoers.d are known to be ours, so that neither all of them are listed nor each is looked at for each login.
//! The kernel tells which have changed since; what stands in the others is read elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::Stamp;

/// How long the kernel's silence is believed. It says nothing of what changes by a second name outside the folder, by
/// a mount, or on a server.
const BELIEVED: Duration = Duration::from_secs(60);

/// Our own files, as far as they are known.
#[derive(Debug)]
pub(super) struct Own {
    folder: PathBuf,
    watch: Option<Watch>,
    /// By name: the version that was found to be ours, if it can be told from the next.
    files: HashMap<OsString, Option<Stamp>>,
    /// Those of them that may have changed.
    doubtful: BTreeMap<OsString, Option<Stamp>>,
    /// All other entries of the folder, once it was listed while it was watched.
    others: Option<BTreeSet<OsString>>,
}

/// A folder whose changes the kernel notes down.
#[derive(Debug)]
struct Watch {
    notes: OwnedFd,
    folder: (u64, u64),
    since: Instant,
}

impl Own {
    pub(super) fn in_folder(folder: PathBuf) -> Own {
        Own {
            folder,
            watch: None,
            files: HashMap::new(),
            doubtful: BTreeMap::new(),
            others: None,
        }
    }

    /// Before a walk: doubts what has changed since the last one.
    pub(super) fn begin(&mut self) {
        if self.doubt_changed().is_none() {
            self.doubtful.extend(self.files.drain());
            self.others = None;
            // Before anything is looked at, so that nothing changes unnoticed after it.
            self.watch = Watch::of(&self.folder);
        }
    }

    /// After a walk: what was not found again is gone.
    pub(super) fn end(&mut self) {
        self.doubtful.clear();
    }

    /// The entries of `folder` that are not known to be ours, where it need not be listed for that.
    pub(super) fn others(&self, folder: &Path) -> Option<Vec<OsString>> {
        let others = self.others.as_ref().filter(|_| folder == self.folder)?;
        Some(others.iter().cloned().collect())
    }

    /// These are all entries of `folder`. Which of them are not known to be ours.
    pub(super) fn listed(&mut self, folder: &Path, mut entries: Vec<OsString>) -> Vec<OsString> {
        if folder == self.folder {
            entries.retain(|name| !self.files.contains_key(name));
            // Unwatched it is listed the next time, too.
            self.others = self
                .watch
                .as_ref()
                .map(|_| entries.iter().cloned().collect());
        }
        entries
    }

    /// Whether what has been looked at is a version that is known to be ours.
    pub(super) fn recognises(&mut self, path: &Path, stamp: Stamp) -> bool {
        let Some(name) = self.name(path) else {
            return false;
        };
        let stamp = Some(stamp);
        if self.files.get(name) == Some(&stamp) {
            return true;
        }
        let is_the_same = self.doubtful.get(name) == Some(&stamp);
        if is_the_same {
            self.add(path, stamp);
        }
        is_the_same
    }

    /// This version is ours.
    pub(super) fn add(&mut self, path: &Path, stamp: Option<Stamp>) {
        if let Some(name) = self.name(path) {
            self.files.insert(name.to_owned(), stamp);
            if let Some(others) = &mut self.others {
                others.remove(name);
            }
        }
    }

    /// The name of a file in our folder.
    pub(super) fn name<'p>(&self, path: &'p Path) -> Option<&'p OsStr> {
        path.file_name()
            .filter(|_| path.parent() == Some(&self.folder))
    }

    /// `None`: anything may have.
    fn doubt_changed(&mut self) -> Option<()> {
        let watch = self.watch.as_ref()?;
        if watch.since.elapsed() >= BELIEVED || identity(&self.folder)? != watch.folder {
            return None;
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut notes = Reader::new(&watch.notes, &mut buffer);
        let mut changed = BTreeSet::new();
        loop {
            let note = match notes.next() {
                Ok(note) => note,
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return None,
            };
            let all = ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::UNMOUNT;
            if note.events().intersects(all) {
                return None;
            }
            // Without a name it is the folder itself: its mode, its place.
            if let Some(name) = note.file_name() {
                changed.insert(OsStr::from_bytes(name.to_bytes()).to_owned());
            }
        }
        for name in changed {
            if let Some((name, stamp)) = self.files.remove_entry(&name) {
                self.doubtful.insert(name, stamp);
            }
            let Some(others) = &mut self.others else {
                continue;
            };
            // Whatever is not surely gone is looked at. What comes or goes from here on is told of the next time.
            match self.folder.join(&name).symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => others.remove(&name),
                _ => others.insert(name),
            };
        }
        Some(())
    }
}

impl Watch {
    /// `None`: it cannot be watched. Then each file is looked at each time.
    fn of(folder: &Path) -> Option<Watch> {
        let changes = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ONLYDIR;
        let before = identity(folder)?;
        let notes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        inotify::add_watch(&notes, folder, changes).ok()?;
        // It may have been replaced in between.
        (identity(folder)? == before).then(|| Watch {
            notes,
            folder: before,
            since: Instant::now(),
        })
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    let seen = std::fs::metadata(folder).ok()?;
    Some((seen.dev(), seen.ino()))
}

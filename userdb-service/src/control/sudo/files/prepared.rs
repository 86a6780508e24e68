//! Files that are finished before they are granted: written and synced, without a name, so that they grant nothing.
//! To name one takes a tenth of what it takes to write it, and no disk. It vanishes by itself if it is not named.

use std::iter::once;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::fsync;

use super::removal::Folder;
use super::{SudoersError, SudoersFiles};
use crate::policy::names::Login;
use crate::policy::sudoers::{SudoersSpec, render};

/// Of a thread that does nothing but sync.
const STACK: usize = 64 << 10;

/// A file without a name.
#[derive(Debug)]
pub struct Prepared {
    pub(super) file: OwnedFd,
    text: String,
}

impl SudoersFiles {
    /// Writes what would grant each of these, in a thread for each, so not too many: the disk takes hardly longer for several than
    /// for one. `None`: it could not be granted now either, or the file system has no files without names. And how long one sync took.
    pub fn prepare(
        &self,
        folder: &mut Folder,
        wanted: &[(Login, Vec<SudoersSpec>)],
    ) -> (Vec<Option<Prepared>>, Option<Duration>) {
        let written = wanted.iter().map(|(login, specs)| {
            let text = render(login, specs);
            let file = self.unsynced(folder.opened(self)?, &text)?;
            Ok(file.map(|file| Prepared { file, text }))
        });
        let written: Vec<Option<Prepared>> = written
            .map(|written: Result<_, SudoersError>| written.ok().flatten())
            .collect();
        let files: Vec<&OwnedFd> = written.iter().flatten().map(|one| &one.file).collect();
        let (synced, took) = sync(&files);
        let mut synced = synced.into_iter();
        let mut is_synced = |_: &Prepared| synced.next().is_some_and(|synced| synced.is_ok());
        let finished = written.into_iter().map(|one| one.filter(&mut is_synced));
        (finished.collect(), took)
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

/// Syncs all of them at the same time: the file system makes them last by one commit, where it would make one for each.
/// How long the first took is of the disk, what the others took of the threads, too.
fn sync(files: &[&OwnedFd]) -> (Vec<nix::Result<()>>, Option<Duration>) {
    let Some((first, others)) = files.split_first() else {
        return (Vec::new(), None);
    };
    thread::scope(|scope| {
        let others = others.iter().copied();
        let started = others.clone().map(|file| {
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, move || fsync(file))
        });
        let started: Vec<_> = started.collect();
        let began = Instant::now();
        let first = fsync(first);
        let took = began.elapsed();
        let others = started.into_iter().zip(others).map(|(thread, file)| {
            // There may be no more threads; then one after the other.
            thread.map_or_else(
                |_| fsync(file),
                |thread| thread.join().unwrap_or(Err(Errno::EIO)),
            )
        });
        (once(first).chain(others).collect(), Some(took))
    })
}

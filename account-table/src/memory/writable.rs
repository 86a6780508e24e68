//! A table file mapped for writing: made, and stored to.
//! In which order stores are made is the writer's.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{Mapping, Unopened};
use crate::atomic::{AtomicU64, Ordering, fence};
use crate::layout::Geometry;

/// Makes a call of the C library again that a signal has ended: a daemon has some, of each child that ends for one, and most
/// kernels let any of them end fallocate() on a tmpfs.
pub(super) fn called_until_done(mut call: impl FnMut() -> libc::c_int) -> io::Result<()> {
    while call() != 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

/// A table file mapped for writing. Every store of the writer goes through here, so tests can let it die before any of them.
#[derive(Debug)]
pub(crate) struct WritableMapping(Mapping);

impl WritableMapping {
    /// Reserves the whole of a new, empty file and maps it. A hole in it would later be a SIGBUS in some reader, when the
    /// file system has become full.
    pub(crate) fn of_new_file(file: &File, geometry: Geometry) -> io::Result<WritableMapping> {
        let size = libc::off_t::try_from(geometry.file_size()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open; only the file is changed.
        called_until_done(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) })?;
        match Mapping::map(
            file.as_raw_fd(),
            geometry,
            libc::PROT_READ | libc::PROT_WRITE,
        ) {
            Ok(mapping) => Ok(WritableMapping(mapping)),
            Err(_) => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
        }
    }

    /// Maps an existing file for writing, if it passes the checks every reader makes and is seen to be the owner's.
    pub(crate) fn of_existing_file(file: &File, owner: u32) -> Result<WritableMapping, Unopened> {
        // The writer knows whom it runs as: what cannot be told apart is not taken over.
        let is_owned = |found| {
            if found == owner {
                Ok(())
            } else {
                Err(Unopened::Absent)
            }
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Mapping::of_descriptor(file.as_raw_fd(), is_owned, protection).map(WritableMapping)
    }

    #[cfg(all(test, loom))]
    pub(crate) fn modelled(mapping: Mapping) -> WritableMapping {
        WritableMapping(mapping)
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    pub(crate) fn cells(&self) -> &[AtomicU64] {
        self.0.cells()
    }

    pub(crate) fn load(&self, word: usize) -> u64 {
        self.cells()
            .get(word)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Stores one word; readers that see it see everything stored before.
    pub(crate) fn store(&self, word: usize, value: u64) {
        #[cfg(test)]
        crate::writer::death::step();
        if let Some(cell) = self.cells().get(word) {
            cell.store(value, Ordering::Release);
        }
    }

    /// Fills a free block. Before its first word changes, every reader still copying what the block held can see that the
    /// head it came from has changed: that is what the fence is for.
    pub(crate) fn fill(&self, first: usize, words: &[u64]) {
        fence(Ordering::Release);
        for (word, &value) in (first..).zip(words) {
            #[cfg(test)]
            crate::writer::death::step();
            if let Some(cell) = self.cells().get(word) {
                cell.store(value, Ordering::Relaxed);
            }
        }
    }
}

/// A random word from the kernel.
pub(crate) fn random() -> io::Result<u64> {
    let mut word = 0u64;
    // SAFETY: eight writable bytes; requests of up to 256 bytes are never cut short.
    let got = unsafe { libc::getrandom((&raw mut word).cast(), 8, 0) };
    if got == 8 {
        Ok(word)
    } else {
        Err(io::Error::last_os_error())
    }
}

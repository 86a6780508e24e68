//! All unsafe code of this crate: opening and mapping table files, the process-wide mapping, the private copy of a record.
//! No meaning of a word beyond the header's shape is known here; outside of this file and its folder `memory/` the crate has no
//! `unsafe`.

use core::ffi::CStr;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicUsize;

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::layout::{
    Geometry, LINE_WORDS, MAGIC, MAX_LINES, MAX_RECORD_WORDS, PAGE, VERSION, WORD, header,
};

// Elsewhere a load of 64 bits may be made by a store, which ends the process where the memory is read-only.
#[cfg(not(any(target_pointer_width = "64", loom)))]
compile_error!(
    "the account table needs a 64-bit target: readers load words of 64 bits from memory that is mapped read-only, \
     and std::sync::atomic promises that this works for as many bits as a pointer has only"
);

/// Loads a word and everything its writer did before storing it. A relaxed load and a fence, because only relaxed loads are
/// promised to work on memory that is mapped read-only.
#[inline]
pub(crate) fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// Lets whoever holds the processor, possibly the writer, go on.
pub(crate) fn yield_now() {
    #[cfg(loom)]
    return loom::thread::yield_now();
    #[cfg(not(loom))]
    // SAFETY: no arguments, no effect on memory.
    unsafe {
        libc::sched_yield()
    };
}

/// Restores the caller's errno when dropped: loaded into other people's processes, we leave theirs alone. The modules that are
/// loaded with this crate do the same around what they ask the kernel.
#[derive(Debug)]
pub struct KeepErrno(libc::c_int);

impl KeepErrno {
    /// Takes note of errno as it is.
    pub fn of_the_caller() -> KeepErrno {
        // SAFETY: __errno_location always returns the calling thread's valid errno.
        KeepErrno(unsafe { *libc::__errno_location() })
    }

    fn current() -> libc::c_int {
        // SAFETY: as in `of_the_caller`.
        unsafe { *libc::__errno_location() }
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: as in `of_the_caller`.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// Why there is no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// There is no table, or not one to trust.
    Absent,
    /// That was not to be found out: this process is short of descriptors or memory, or the kernel could not say.
    Busy,
}

impl Unopened {
    fn from_errno() -> Unopened {
        match KeepErrno::current() {
            // Nothing is there, or a link, a socket or a device; or a sandbox keeps it from this process.
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ELOOP
            | libc::ENXIO
            | libc::ENODEV
            | libc::EACCES
            | libc::EPERM
            | libc::ENOSYS => Unopened::Absent,
            _ => Unopened::Busy,
        }
    }
}

/// A table file mapped into this process, unmapped when dropped unless it was given to the process for good. One word: the
/// page-aligned address, and below it k and a flag. No mapping at all is 0 and an empty table.
pub(crate) struct Mapping {
    bits: usize,
}

const K_MASK: usize = 31;
const FOR_GOOD: usize = 32;

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("geometry", &self.geometry())
            .finish_non_exhaustive()
    }
}

impl Mapping {
    /// Maps the table at `path` for reading, if it is a regular file of `owner` that nobody else can write and its header is sound.
    pub(crate) fn open(path: &CStr, owner: u32) -> Result<Mapping, Unopened> {
        let _errno = KeepErrno::of_the_caller();
        let flags =
            libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
        // Through syscall(), which unlike open() and close() is no cancellation point: a thread cancelled in here would be
        // unwound through Rust frames.
        // SAFETY: the path is NUL-terminated and lives through the call.
        let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }
            as libc::c_int;
        if fd < 0 {
            return Err(Unopened::from_errno());
        }
        let is_owned = |found| namespace::is_owned(found, owner, path);
        let mapping = Mapping::of_descriptor(fd, is_owned, libc::PROT_READ);
        // SAFETY: fd was opened above and is used no more.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        mapping
    }

    fn of_descriptor(
        fd: libc::c_int,
        is_owned: impl FnOnce(u32) -> Result<(), Unopened>,
        protection: libc::c_int,
    ) -> Result<Mapping, Unopened> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: stat points to room for one struct stat.
        if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
            return Err(Unopened::from_errno());
        }
        // SAFETY: fstat succeeded and has filled it.
        let stat = unsafe { stat.assume_init() };
        let writable_by_others = stat.st_mode & (libc::S_IWGRP | libc::S_IWOTH) != 0;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || writable_by_others {
            return Err(Unopened::Absent);
        }
        is_owned(stat.st_uid)?;
        // Only the sizes some k implies are ever mapped, so the header page is always there to be read.
        let size = usize::try_from(stat.st_size).map_err(|_| Unopened::Absent)?;
        let geometry = (0..=crate::layout::K_MAX)
            .filter_map(Geometry::new)
            .find(|geometry| geometry.file_size() == size)
            .ok_or(Unopened::Absent)?;
        let mapping = Mapping::map(fd, geometry, protection)?;
        if mapping.has_sound_header() {
            Ok(mapping)
        } else {
            Err(Unopened::Absent)
        }
    }

    fn map(
        fd: libc::c_int,
        geometry: Geometry,
        protection: libc::c_int,
    ) -> Result<Mapping, Unopened> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing existing is touched.
        let base = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                geometry.file_size(),
                protection,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Unopened::from_errno());
        }
        Ok(Mapping {
            bits: base as usize | geometry.k() as usize,
        })
    }

    fn has_sound_header(&self) -> bool {
        let word = |i: usize| {
            self.cells()
                .get(i)
                .map_or(0, |word| word.load(Ordering::Relaxed))
        };
        word(header::MAGIC) == MAGIC
            && word(header::SHAPE) == (VERSION << 32 | u64::from(self.geometry().k()))
            && word(header::SIZE) == self.geometry().file_size() as u64
    }

    /// What stands for a table that may be there but could not be mapped.
    pub(crate) const fn none() -> Mapping {
        Mapping { bits: 0 }
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.bits == 0
    }

    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry::of_k((self.bits & K_MASK) as u32)
    }

    #[inline]
    fn base(&self) -> *const AtomicU64 {
        (self.bits & !(PAGE - 1)) as *const AtomicU64
    }

    /// All words of the file.
    #[inline]
    pub(crate) fn cells(&self) -> &[AtomicU64] {
        if self.is_none() {
            return &[];
        }
        // SAFETY: base is that of a page-aligned mapping `total_words` long, which stays until self is dropped, or for good if it
        // was leaked. Other processes change the words only as atomics; nobody truncates the file (only its owner could, and the
        // writer only ever replaces it by rename).
        unsafe { core::slice::from_raw_parts(self.base(), self.geometry().total_words()) }
    }

    /// Gives the mapping to the process, for good.
    fn leak(mut self) -> Shared {
        self.bits |= FOR_GOOD;
        Shared { bits: self.bits }
    }
}

impl Drop for Mapping {
    #[inline]
    fn drop(&mut self) {
        if self.bits & FOR_GOOD == 0 && !self.is_none() {
            self.unmap();
        }
    }
}

impl Mapping {
    #[cold]
    fn unmap(&mut self) {
        let _errno = KeepErrno::of_the_caller();
        let (base, size) = (self.base().cast_mut().cast(), self.geometry().file_size());
        // SAFETY: base and size are those of our own mapping, and no borrow of it outlives self.
        unsafe { libc::munmap(base, size) };
    }
}

/// A mapping that stays until the process ends, FOR_GOOD set in its word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared {
    bits: usize,
}

impl Shared {
    /// The mapping itself, never to be unmapped.
    #[inline]
    pub(crate) fn mapping(self) -> Mapping {
        Mapping { bits: self.bits }
    }
}

/// The place where a process keeps its mapping: one word, so it needs no lock and no allocation and survives fork at any point.
#[derive(Debug)]
pub(crate) struct SharedCell {
    bits: AtomicUsize,
}

impl SharedCell {
    pub(crate) const fn new() -> SharedCell {
        SharedCell {
            bits: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> Option<Shared> {
        match self.bits.load(Ordering::Acquire) {
            0 => None,
            bits => Some(Shared { bits }),
        }
    }

    /// Puts `fresh` in the place of `seen`. If another thread was faster, its mapping is the answer and ours goes away. What is
    /// replaced stays mapped: somebody may be reading it, and files replace each other only as they grow.
    pub(crate) fn replace(&self, seen: Option<Shared>, fresh: Mapping) -> Shared {
        let seen = seen.map_or(0, |shared| shared.bits);
        match self.bits.compare_exchange(
            seen,
            fresh.bits | FOR_GOOD,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => fresh.leak(),
            Err(bits) => Shared { bits },
        }
    }
}

/// A private copy of one record: what has been checked here, nobody changes any more. 4 KiB, and only the filled part is ever
/// initialised.
pub(crate) struct Buffer {
    words: MaybeUninit<[u64; MAX_RECORD_WORDS]>,
    /// How many words from the start are initialised.
    filled: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn new() -> Buffer {
        let mut buffer = MaybeUninit::<Buffer>::uninit();
        // Field by field: built as one value, the compiler would fill all of it with zeros, at every lookup.
        // SAFETY: the words need no initialisation and `filled` gets one.
        unsafe {
            (&raw mut (*buffer.as_mut_ptr()).filled).write(0);
            buffer.assume_init()
        }
    }

    /// Copies whole lines that the writer may be changing meanwhile; the caller finds out afterwards whether it did.
    #[inline]
    pub(crate) fn fill(&mut self, source: &[AtomicU64]) {
        let count = source.len().min(MAX_RECORD_WORDS) / LINE_WORDS * LINE_WORDS;
        let words = self.words.as_mut_ptr().cast::<u64>();
        // Line by line, for the compiler to unroll: records are copied in whole lines.
        let lines = source.chunks_exact(LINE_WORDS);
        for (line, cells) in lines.take(MAX_LINES as usize).enumerate() {
            for (index, from) in cells.iter().enumerate() {
                // SAFETY: line < MAX_LINES and index < LINE_WORDS, so the word is within the array.
                unsafe {
                    words
                        .add(LINE_WORDS * line + index)
                        .write(from.load(Ordering::Relaxed));
                }
            }
        }
        self.filled = count;
    }

    /// Keeps the first `words` words; false if there are fewer.
    #[inline]
    pub(crate) fn truncate(&mut self, words: usize) -> bool {
        let enough = words <= self.filled;
        self.filled = self.filled.min(words);
        enough
    }

    #[inline]
    pub(crate) fn words(&self) -> &[u64] {
        // SAFETY: the first `filled` words are initialised and within the array.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), self.filled) }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the same words seen as bytes; u8 has no alignment and no invalid values.
        unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast(), self.filled * WORD) }
    }
}

mod copy_out;
#[cfg(all(test, loom))]
pub(crate) mod modelled;
mod namespace;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(feature = "writer")]
mod writable;

#[cfg(all(test, not(loom)))]
pub(crate) use copy_out::STEP;
#[cfg(test)]
pub(crate) use copy_out::as_room;
pub(crate) use copy_out::copy_out;
#[cfg(feature = "writer")]
pub(crate) use writable::{WritableMapping, random};

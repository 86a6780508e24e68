//! All unsafe code of this crate: opening and mapping table files, the process-wide mapping, the private copy of a record.
//! No meaning of a word beyond the header's shape is known here; no other file of the crate may contain `unsafe` (but
//! `memory/modelled.rs`, for the model checker alone).

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

/// Restores the caller's errno when dropped: loaded into other people's processes, we leave theirs alone.
struct KeepErrno(libc::c_int);

impl KeepErrno {
    fn new() -> KeepErrno {
        // SAFETY: __errno_location always returns the calling thread's valid errno.
        KeepErrno(unsafe { *libc::__errno_location() })
    }

    fn current() -> libc::c_int {
        // SAFETY: as in `new`.
        unsafe { *libc::__errno_location() }
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
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
        let _errno = KeepErrno::new();
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
        let mapping = Mapping::of_descriptor(fd, owner, libc::PROT_READ);
        // SAFETY: fd was opened above and is used no more.
        unsafe { libc::syscall(libc::SYS_close, fd) };
        mapping
    }

    fn of_descriptor(
        fd: libc::c_int,
        owner: u32,
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
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG
            || stat.st_uid != owner
            || writable_by_others
        {
            return Err(Unopened::Absent);
        }
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
        let _errno = KeepErrno::new();
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

#[cfg(all(test, loom))]
pub(crate) mod modelled;
#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(test, not(loom)))]
pub(crate) use copy_out::STEP;
#[cfg(test)]
pub(crate) use copy_out::as_room;
pub(crate) use copy_out::copy_out;
#[cfg(feature = "writer")]
pub(crate) use writable::{WritableMapping, random};

#[cfg(feature = "writer")]
mod writable {
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

        /// Maps an existing file for writing, if it passes the checks every reader makes.
        pub(crate) fn of_existing_file(
            file: &File,
            owner: u32,
        ) -> Result<WritableMapping, Unopened> {
            Mapping::of_descriptor(file.as_raw_fd(), owner, libc::PROT_READ | libc::PROT_WRITE)
                .map(WritableMapping)
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
}

/// Copying from the table straight into the caller's buffer, and counting letters on the way.
mod copy_out {
    use core::mem::MaybeUninit;

    use crate::atomic::AtomicU64;
    use crate::layout::WORD;

    /// Bytes are copied so many at a time; the room has to be a multiple.
    pub(crate) const STEP: usize = 16;
    /// So many at most: a byte counts the letters of a column. A record's strings are shorter than a record.
    const MOST: usize = 255 * STEP;

    /// What [`copy_out`] has written.
    pub(crate) struct CopiedOut<'a> {
        pub(crate) bytes: &'a [u8],
        /// How many of them are ASCII and not 0.
        pub(crate) letters: usize,
    }

    /// Copies the first `length` bytes of `source`, each loaded once, and writes zeros up to the next multiple of [`STEP`]. None if
    /// there are not so many bytes, no such room, or more than strings of a record can be. The writer may be changing them; the caller finds
    /// out afterwards.
    ///
    /// What has just been written in words must not be read again in larger pieces: the processor would wait until all of them have
    /// left for memory, which takes as long as the rest of a lookup. So everything is decided on the way.
    #[inline(always)]
    pub(crate) fn copy_out<'a>(
        source: &[AtomicU64],
        length: usize,
        room: &'a mut [MaybeUninit<u8>],
    ) -> Option<CopiedOut<'a>> {
        if length == 0 || length > MOST {
            return None;
        }
        let steps = length.div_ceil(STEP);
        let room = room.get_mut(..steps * STEP)?;
        let source = source.get(..steps * (STEP / WORD))?;
        let letters = copy(source, length, room);
        // SAFETY: every byte of room has been written, and length is no more than they are.
        let bytes = unsafe { core::slice::from_raw_parts(room.as_ptr().cast::<u8>(), length) };
        Some(CopiedOut { bytes, letters })
    }

    /// Other processors' way. `source` and `room` are as long as the steps that `length` takes.
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fn copy(source: &[AtomicU64], length: usize, room: &mut [MaybeUninit<u8>]) -> usize {
        let (mut letters, mut left) = (0, length);
        let (words, _) = room.as_chunks_mut::<WORD>();
        for (to, from) in words.iter_mut().zip(source) {
            let word = from.load(crate::atomic::Ordering::Relaxed).to_ne_bytes();
            for (to, from) in to.iter_mut().zip(word) {
                let from = if left > 0 { from } else { 0 };
                to.write(from);
                letters += usize::from(from != 0 && from.is_ascii());
                left = left.saturating_sub(1);
            }
        }
        letters
    }

    #[cfg(all(target_arch = "x86_64", not(loom)))]
    use wide::copy;

    /// Sixteen bytes at a time, by what every x86-64 processor has.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    mod wide {
        use core::arch::asm;
        use core::arch::x86_64::{
            __m128i, _mm_and_si128, _mm_cmpgt_epi8, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_set1_epi8,
            _mm_setr_epi8, _mm_setzero_si128, _mm_storeu_si128, _mm_sub_epi8, _mm_unpackhi_epi64,
        };
        use core::mem::MaybeUninit;

        use super::STEP;
        use crate::atomic::AtomicU64;

        /// Loads the sixteen bytes at `from + at + MORE` that another process may be storing. In assembly, because to the compiler
        /// a plain load would be one that races. To the processor it is one or two of aligned words, in the order of the program,
        /// as every load is.
        ///
        /// # Safety
        /// The sixteen bytes must be mapped.
        #[inline(always)]
        unsafe fn load<const MORE: usize>(from: *const u8, at: usize) -> __m128i {
            let value;
            // SAFETY: reads what the caller vouches for and nothing else. Not `pure`, not `nomem`: it stays where it stands among
            // loads of heads and fences.
            unsafe {
                asm!("movdqu {}, [{} + {} + {}]", out(xmm_reg) value, in(reg) from, in(reg) at, const MORE,
                    options(nostack, preserves_flags, readonly));
            }
            value
        }

        /// `length` is at least 1; `source` and `room` are as long as the steps that it takes, 255 at most.
        #[inline(always)]
        pub(super) fn copy(
            source: &[AtomicU64],
            length: usize,
            room: &mut [MaybeUninit<u8>],
        ) -> usize {
            let last = (length - 1) / STEP * STEP;
            debug_assert!(source.len() * 8 == last + STEP && room.len() == last + STEP);
            let (from, to) = (source.as_ptr().cast::<u8>(), room.as_mut_ptr().cast::<u8>());
            // SAFETY: SSE2 is part of x86-64. Steps begin at multiples of 16 up to `last`, and source and room are 16 longer than
            // that: all loads are within source, all stores within room.
            unsafe {
                // To a signed comparison what is not ASCII is less than 0, as what is 0 is not more.
                let letters_of = |bytes| _mm_cmpgt_epi8(bytes, _mm_setzero_si128());
                let mut letters = _mm_setzero_si128();
                let mut at = 0;
                while at + STEP < last {
                    let (one, two) = (load::<0>(from, at), load::<STEP>(from, at));
                    _mm_storeu_si128(to.add(at).cast(), one);
                    _mm_storeu_si128(to.add(at + STEP).cast(), two);
                    letters = _mm_sub_epi8(letters, letters_of(one));
                    letters = _mm_sub_epi8(letters, letters_of(two));
                    at += 2 * STEP;
                }
                if at < last {
                    let bytes = load::<0>(from, at);
                    _mm_storeu_si128(to.add(at).cast(), bytes);
                    letters = _mm_sub_epi8(letters, letters_of(bytes));
                }
                // Of the last step, what lies behind the end is written as 0.
                let place = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let ours = _mm_cmpgt_epi8(_mm_set1_epi8((length - last) as i8), place);
                let bytes = _mm_and_si128(load::<0>(from, last), ours);
                _mm_storeu_si128(to.add(last).cast(), bytes);
                letters = _mm_sub_epi8(letters, letters_of(bytes));
                let sums = _mm_sad_epu8(letters, _mm_setzero_si128());
                let both =
                    _mm_cvtsi128_si64(sums) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums));
                both as usize
            }
        }
    }

    /// Bytes as the room a caller would have, so that a test can look at them afterwards.
    #[cfg(test)]
    pub(crate) fn as_room(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
        // SAFETY: u8 and MaybeUninit<u8> have one layout, and lookups write nothing but bytes that have a value.
        unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
    }
}

//! The buffer a caller of NSS provides for the strings and arrays of an answer.
//! Knows nothing of users and groups.

use core::ffi::c_char;
use core::mem::MaybeUninit;

/// One caller's buffer: strings are taken from its end downwards, the one array of pointers from its start upwards, so a single
/// pass fills it without knowing the number of members beforehand. `None` from any method: it is too small.
pub(crate) struct Room {
    base: *mut u8,
    /// End of the array, which starts pointer-aligned.
    low: usize,
    /// Start of the strings.
    high: usize,
}

const POINTER: usize = size_of::<*mut c_char>();

impl Room {
    /// # Safety
    /// `buffer` must be writable for `length` bytes, by us alone, for as long as the room is used.
    pub(crate) unsafe fn new(buffer: *mut c_char, length: usize) -> Self {
        let base = buffer.cast::<u8>();
        let high = if base.is_null() { 0 } else { length };
        Room { base, low: 0, high }
    }

    /// Copies a string and adds its NUL.
    pub(crate) fn string(&mut self, text: &[u8]) -> Option<*mut c_char> {
        self.bytes(b"\0")?;
        self.bytes(text)
    }

    /// Copies bytes as they are: strings that bring their NULs along.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<*mut c_char> {
        let start = self
            .high
            .checked_sub(bytes.len())
            .filter(|&start| start >= self.low)?;
        // SAFETY: start .. start + len lies between low and high, inside the caller's buffer, and nothing else was put there;
        // bytes are elsewhere, for the buffer is only reachable through self.
        let copy = unsafe {
            let to = self.base.add(start);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            to
        };
        self.high = start;
        Some(copy.cast())
    }

    /// What is left, for strings that are written in place; behind a started array, leaving room for its closing null.
    pub(crate) fn free(&mut self, array: Option<&Array>) -> &mut [MaybeUninit<u8>] {
        let low = self.low + if array.is_some() { POINTER } else { 0 };
        let Some(length) = self.high.checked_sub(low).filter(|&length| length > 0) else {
            return &mut [];
        };
        // SAFETY: low .. high lies inside the caller's buffer, ours alone and borrowed through self; nothing is said of its content.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(low).cast(), length) }
    }

    /// Starts the array, at the first address that is aligned for pointers whatever the buffer's own is.
    pub(crate) fn array(&mut self) -> Option<Array> {
        let start = (self.base as usize).wrapping_neg() % POINTER;
        self.low = start;
        (start + POINTER <= self.high).then_some(Array { start })
    }

    /// Adds a pointer to the array, which always has room left for its closing null.
    pub(crate) fn push(&mut self, pointer: *mut c_char) -> Option<()> {
        let end = self.low + POINTER;
        if end + POINTER > self.high {
            return None;
        }
        // SAFETY: low .. low + POINTER is inside the buffer, below the strings, and aligned since the array's start is.
        unsafe { self.base.add(self.low).cast::<*mut c_char>().write(pointer) };
        self.low = end;
        Some(())
    }

    /// Closes the array with a null pointer.
    pub(crate) fn finish(&mut self, array: Array) -> Option<*mut *mut c_char> {
        if self.low + POINTER > self.high {
            return None;
        }
        // SAFETY: as in push; start lies in the buffer because array() found room there.
        unsafe {
            self.base
                .add(self.low)
                .cast::<*mut c_char>()
                .write(core::ptr::null_mut());
            Some(self.base.add(array.start).cast())
        }
    }
}

/// An array under construction.
pub(crate) struct Array {
    start: usize,
}

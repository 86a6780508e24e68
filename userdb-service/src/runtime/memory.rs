//! Giving memory back to the kernel that a burst has needed.
//! When there is any to give is the caller's to know.
//! One unsafe block: the call of glibc's that does it.

use nix::libc;

/// Gives free pages of the heap back, also those between what is in use. Takes milliseconds where there is much.
pub fn give_back() {
    // SAFETY: malloc_trim takes a number, and only touches memory that malloc holds as free.
    unsafe { libc::malloc_trim(0) };
}

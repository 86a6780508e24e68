//! Whether an error says that there is not enough of something now: descriptors, memory. It says nothing of what was asked for, and
//! may be over the next time.

use std::io;

use nix::errno::Errno;

/// Descriptors of ours, those of the whole machine, memory, or what the kernel does not name.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR)
    )
}

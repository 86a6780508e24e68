//! Descriptors that the event loop watches for one thing only: something to read, or room to write.
//! tokio's own sockets are watched for both, and then each reply that a client takes wakes us for nothing.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor under watch, closed when dropped.
pub(super) type Watched = AsyncFd<OwnedFd>;

/// Watches `descriptor` for `interest`. It must be non-blocking, or only be used by calls that do not wait.
///
/// # Errors
/// The event loop cannot take it: memory, or the limit on watches.
pub(super) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an OwnedFd is one open descriptor until it is dropped, and `Watched` gives no way to
    // put another in its place: it is only ever used by shared reference.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

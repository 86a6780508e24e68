//! Descriptors that the event loop watches for one thing only: something to read, or room to write.
//! tokio's own sockets are watched for both, and then each reply that a client takes wakes us for nothing.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor under watch.
pub(crate) type Watched = AsyncFd<Rc<OwnedFd>>;

/// Watches `descriptor` for `interest`. It must be non-blocking, or only be used by calls that do not wait.
///
/// # Errors
/// The event loop cannot take it: memory, or the limit on watches.
pub(crate) fn watch(descriptor: Rc<OwnedFd>, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an OwnedFd is one open descriptor until it is dropped, which the Rc inside `Watched` puts off, and
    // `Watched` gives no way to put another in its place: it is only ever used by shared reference.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// A descriptor that is watched from the first time somebody has to wait for it, closed when dropped. Who connects has
/// mostly asked by then, and is answered before the event loop is told.
#[derive(Debug)]
pub(super) struct Lazy {
    descriptor: Rc<OwnedFd>,
    watched: RefCell<Option<Rc<Watched>>>,
}

impl Lazy {
    pub(super) fn new(descriptor: OwnedFd) -> Lazy {
        Lazy {
            descriptor: Rc::new(descriptor),
            watched: RefCell::default(),
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Begins to watch if that has not begun yet, for what was asked first.
    ///
    /// # Errors
    /// As for [`watch`].
    pub(super) fn watched(&self, interest: Interest) -> io::Result<Rc<Watched>> {
        if let Some(watched) = &*self.watched.borrow() {
            return Ok(watched.clone());
        }
        let watched = Rc::new(watch(Rc::clone(&self.descriptor), interest)?);
        *self.watched.borrow_mut() = Some(watched.clone());
        Ok(watched)
    }

    /// Watches no longer, until somebody has to wait again.
    pub(super) fn unwatch(&self) {
        self.watched.take();
    }
}

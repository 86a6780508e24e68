//! A journal that takes no more: the first line waits for it, those after it hardly, and what is lost is counted.
//! What a line says, and when it is told, is not of this place.
//!
//! The socket is the library's, which does not give it out: it is borrowed by its number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long a line waits for room, in milliseconds. Then it is lost: rights are taken away meanwhile, on the thread that tells.
const PATIENCE: i64 = 100;
/// The same after one that has waited in vain.
const IN_A_JAM: i64 = 10;

/// Of the socket that this process's lines go over.
static JAM: OnceLock<Jam> = OnceLock::new();

/// What becomes of lines that go over a socket.
#[derive(Debug)]
struct Jam {
    socket: BorrowedFd<'static>,
    /// Lines that have waited in vain since one did not.
    lost: AtomicUsize,
    /// Those of jams that are over, until somebody has asked.
    untold: AtomicUsize,
}

/// What `connect` returns, with the number of the socket that it makes, on which nobody waits longer than [`PATIENCE`] from now on. Trap:
/// it is to be had by its number alone, the lowest that is free, so nobody else may open anything meanwhile.
pub(super) fn with_patience<L>(
    connect: impl FnOnce() -> io::Result<L>,
) -> io::Result<(L, Option<RawFd>)> {
    let lowest = std::fs::File::open("/dev/null")?.as_raw_fd();
    let connected = connect()?;
    // SAFETY: it is not owned, only asked and told something for as long as this line, and nobody closes what `connected` holds.
    let socket = unsafe { BorrowedFd::borrow_raw(lowest) };
    // Another one than expected is left as it is.
    if getsockopt(&socket, sockopt::SockType) != Ok(SockType::Datagram) {
        return Ok((connected, None));
    }
    have_patience(socket, PATIENCE);
    Ok((connected, Some(lowest)))
}

/// From here on this is the socket that lines go over.
pub(super) fn watch(socket: BorrowedFd<'static>) {
    let _ = JAM.set(Jam::of(socket));
}

/// Tells a line, which is lost if there is no room for it in time.
pub(super) fn in_time(tell: impl FnOnce()) {
    match JAM.get() {
        Some(jam) => jam.in_time(tell),
        None => tell(),
    }
}

/// About how many lines jams have cost that are over and have not been told of.
pub(super) fn untold() -> Option<usize> {
    JAM.get()?.untold()
}

impl Jam {
    fn of(socket: BorrowedFd<'static>) -> Self {
        Self {
            socket,
            lost: AtomicUsize::new(0),
            untold: AtomicUsize::new(0),
        }
    }

    fn in_time(&self, tell: impl FnOnce()) {
        let lost = self.lost.load(Ordering::Relaxed);
        let patience = if lost == 0 { PATIENCE } else { IN_A_JAM };
        let began = Instant::now();
        tell();
        // Half of it: ticks of the kernel are coarse. Whoever has waited for a processor only is found out by the next line.
        let in_vain = began.elapsed() >= Duration::from_millis(patience.unsigned_abs()) / 2;
        if in_vain {
            self.lost.store(lost + 1, Ordering::Relaxed);
        } else if lost > 0 {
            self.lost.store(0, Ordering::Relaxed);
            self.untold.fetch_add(lost, Ordering::Relaxed);
        }
        match (lost, in_vain) {
            (0, true) => have_patience(self.socket, IN_A_JAM),
            (1.., false) => have_patience(self.socket, PATIENCE),
            _ => {}
        }
    }

    fn untold(&self) -> Option<usize> {
        Some(self.untold.swap(0, Ordering::Relaxed)).filter(|lost| *lost > 0)
    }
}

fn have_patience(socket: BorrowedFd<'_>, milliseconds: i64) {
    let _ = setsockopt(
        &socket,
        sockopt::SendTimeout,
        &TimeVal::milliseconds(milliseconds),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn one_line_waits_for_a_journal_that_hangs_and_those_after_it_hardly() {
        let path = std::env::temp_dir().join(format!("jam-{}", std::process::id()));
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let sender: &UnixDatagram = Box::leak(Box::new(UnixDatagram::unbound().unwrap()));
        setsockopt(&sender, sockopt::SndBuf, &65536).unwrap();
        have_patience(sender.as_fd(), PATIENCE);
        let jam = Jam::of(sender.as_fd());
        let tell = || jam.in_time(|| drop(sender.send_to(&[b'x'; 10_000], &path)));
        let read = || std::iter::from_fn(|| journal.recv(&mut [0; 1]).ok()).count();
        let began = Instant::now();
        (0..40).for_each(|_| tell());
        let took = began.elapsed();
        let lost = 40 - read();
        assert!(lost > 20, "{lost}");
        assert!(took < Duration::from_secs(2), "each has waited: {took:?}");
        assert_eq!(jam.untold(), None, "it may still hang");
        // Who has only waited for a processor is counted as well.
        let until = Instant::now() + Duration::from_secs(30);
        let told = std::iter::repeat_with(|| {
            tell();
            assert!(read() == 1 && Instant::now() < until);
            jam.untold()
        });
        let told = told.flatten().next();
        assert!(told.is_some_and(|told| told >= lost), "{told:?} of {lost}");
        assert_eq!(jam.untold(), None);
        let _ = std::fs::remove_file(path);
    }
}

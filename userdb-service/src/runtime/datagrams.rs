//! Datagrams to somebody who may hang, be flooded by others, or be away for a while: the journal, systemd. Nobody who sends one waits.
//! What there is no room for is kept by whoever sends it; here is found out when to try again.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram as Watched;
use tokio::time::{sleep, timeout};

/// Then whoever listens has so long to read what was sent, or each that he reads would wake us for one.
pub(super) const NAP: Duration = Duration::from_millis(2);

/// A socket to one path.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// There is one from the first attempt on for which there was a descriptor.
    socket: OnceLock<UnixDatagram>,
    address: SocketAddrUnix,
}

/// What has come of an attempt to send what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is kept any more.
    Done,
    Some,
    /// There is no room.
    None,
    /// Nobody is there.
    Away,
}

impl Datagrams {
    /// Fails for a path that is none of a socket.
    pub(super) fn to(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {
            socket: OnceLock::new(),
            address: SocketAddrUnix::new(path.as_ref())?,
        })
    }

    /// Sends it now or not at all: `EAGAIN` is for want of room.
    pub(super) fn send(&self, datagram: &[u8]) -> Result<(), Errno> {
        let socket = self.socket()?;
        match send_on(socket, datagram) {
            sent @ (Ok(()) | Err(Errno::AGAIN | Errno::MSGSIZE)) => sent,
            // Not connected yet, or to one that is gone. Trap: who is not connected is not woken when there is room.
            Err(_) => {
                connect(socket, &self.address)?;
                send_on(socket, datagram)
            }
        }
    }

    /// Makes attempts until nothing is kept: as there is room for it, and unasked after a while, twice as long each time that not one
    /// was taken, up to `longest`. Trap: a sender whose own buffer is full is woken only once three quarters of it are free.
    pub(super) async fn send_in_time(
        &self,
        longest: Duration,
        mut attempt: impl FnMut() -> Progress,
    ) {
        // Not watched for longer: each datagram that is read would wake us.
        let watched = self.watched().ok();
        let mut wait = NAP;
        let mut is_away = false;
        loop {
            sleep(NAP).await;
            let room = async {
                match &watched {
                    // Trap: who is connected to nobody has room after each attempt.
                    Some(socket) if !is_away => drop(socket.writable().await),
                    _ => std::future::pending().await,
                }
            };
            let _ = timeout(wait, room).await;
            let progress = attempt();
            is_away = progress == Progress::Away;
            match progress {
                Progress::Done => return,
                Progress::Some => wait = NAP,
                Progress::None | Progress::Away => wait = (wait * 2).min(longest),
            }
            if let Some(socket) = &watched {
                // What was room is none any more.
                let full = || Err::<(), _>(ErrorKind::WouldBlock.into());
                let _ = socket.try_io(Interest::WRITABLE, full);
            }
        }
    }

    /// The socket, to be waited for; needs an event loop.
    fn watched(&self) -> io::Result<Watched> {
        let same = self.socket()?.try_clone()?;
        same.set_nonblocking(true)?;
        Watched::from_std(same)
    }

    fn socket(&self) -> Result<&UnixDatagram, Errno> {
        if let Some(socket) = self.socket.get() {
            return Ok(socket);
        }
        let flags = SocketFlags::CLOEXEC;
        let made = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(self.socket.get_or_init(|| made.into()))
    }
}

#[cfg(test)]
impl std::os::fd::AsFd for Datagrams {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket().unwrap().as_fd()
    }
}

fn send_on(socket: &UnixDatagram, datagram: &[u8]) -> Result<(), Errno> {
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(socket, datagram, flags) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop),
        }
    }
}

//! One connection to the registry under one deadline, for code that runs in other people's processes.
//! No varlink in here, and no way to keep a connection for a second call.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The socket is not there, refuses or is not root's: nobody answers, now or later in this call.
    Unreachable(String),
    /// The deadline has passed.
    TimedOut,
    /// The other side has hung up before it has answered, or in the middle of its answer.
    HungUp,
    /// The answer is longer than it may be.
    TooLong,
}

/// What most answers have room in.
const FIRST: usize = 1 << 10;

#[derive(Debug)]
struct Stream {
    socket: OwnedFd,
    deadline: Instant,
}

/// Sends `message` to the socket at `path`, which has to be root's, and gives what is answered before the next NUL, which is
/// looked for in `limit` bytes. Never with SIGPIPE.
pub(crate) fn exchange(
    path: &Path,
    deadline: Instant,
    message: &[u8],
    limit: usize,
) -> Result<Vec<u8>, Broken> {
    let stream = dial(path, deadline)?;
    stream.send_all(message)?;
    stream.receive(limit)
}

/// Connects to the socket at `path`, which has to be root's.
fn dial(path: &Path, deadline: Instant) -> Result<Stream, Broken> {
    let unreachable = |why: io::Error| Broken::Unreachable(format!("{}: {why}", path.display()));
    let address = SocketAddrUnix::new(path).map_err(|e| unreachable(e.into()))?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| unreachable(e.into()))?;
    loop {
        // A full queue makes connect() wait for as long as SO_SNDTIMEO says; without the option it
        // would wait for ever, and a non-blocking one could only be tried again and again.
        let Some(left) = remaining(deadline) else {
            return Err(Broken::TimedOut);
        };
        set_socket_timeout(&socket, Timeout::Send, Some(left))
            .map_err(|e| unreachable(e.into()))?;
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(unreachable(error.into())),
        }
    }
    // Not by rustix: its PIDs cannot be 0, which is what the kernel says of a PID namespace that is not ours.
    let peer = getsockopt(&socket, PeerCredentials).map_err(|e| unreachable(e.into()))?;
    if peer.uid() != 0 {
        return Err(Broken::Unreachable(format!(
            "{} is served by uid {}, not by root",
            path.display(),
            peer.uid()
        )));
    }
    Ok(Stream { socket, deadline })
}

impl Stream {
    fn send_all(&self, message: &[u8]) -> Result<(), Broken> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut rest = message;
        while !rest.is_empty() {
            match send(&self.socket, rest, flags) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                // The other side has hung up; what it has said before can still be read, and says why.
                Err(Errno::PIPE) => return Ok(()),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(error) => failed(error)?,
            }
        }
        Ok(())
    }

    fn receive(&self, limit: usize) -> Result<Vec<u8>, Broken> {
        let mut answer = Vec::with_capacity(FIRST.min(limit));
        // An answer takes longer than it takes to ask for it.
        self.wait(PollFlags::IN)?;
        loop {
            let seen = answer.len();
            if seen == limit {
                return Err(Broken::TooLong);
            }
            if seen == answer.capacity() {
                answer.reserve_exact(seen.min(limit - seen));
            }
            let room = spare_capacity(&mut answer);
            match recv(&self.socket, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Broken::HungUp),
                Ok(_) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(error) => failed(error)?,
            }
            if let Some(end) = answer[seen..].iter().position(|byte| *byte == 0) {
                answer.truncate(seen + end);
                return Ok(answer);
            }
        }
    }

    /// Waits until the socket is ready, or was interrupted.
    fn wait(&self, readiness: PollFlags) -> Result<(), Broken> {
        let left = remaining(self.deadline).ok_or(Broken::TimedOut)?;
        let mut wait = [PollFd::new(&self.socket, readiness)];
        match poll(&mut wait, Some(&timespec(left))) {
            Ok(_) => Ok(()),
            Err(error) => failed(error),
        }
    }
}

fn failed(error: Errno) -> Result<(), Broken> {
    match error {
        Errno::INTR => Ok(()),
        Errno::CONNRESET | Errno::PIPE => Err(Broken::HungUp),
        error => Err(Broken::Unreachable(io::Error::from(error).to_string())),
    }
}

/// Time until the deadline, at least a microsecond (zero means "for ever" to SO_SNDTIMEO), or None.
fn remaining(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.max(Duration::from_micros(1)))
}

fn timespec(left: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

//! One connection to the registry under one deadline, for code that runs in other people's processes.
//! No varlink in here, and no way to keep a connection for a second call.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// The socket is not there, refuses or is not root's: nobody answers, now or later in this call.
    Unreachable(String),
    /// The queue of the socket stayed full until the deadline.
    TimedOut,
}

/// The read half: fails with `TimedOut` at the deadline and with `InvalidData` beyond its limit.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Arc<Stream>,
    /// Bytes that may still be read.
    left: usize,
}

/// The write half: fails with `TimedOut` at the deadline, never with SIGPIPE.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    socket: OwnedFd,
    deadline: Instant,
}

/// Connects to the socket at `path`, which has to be root's, and gives both halves; at most `limit`
/// bytes can be read.
pub(crate) fn dial(
    path: &Path,
    deadline: Instant,
    limit: usize,
) -> Result<(Reader, Writer), NoConnection> {
    let unreachable =
        |why: io::Error| NoConnection::Unreachable(format!("{}: {why}", path.display()));
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
            return Err(NoConnection::TimedOut);
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
        return Err(NoConnection::Unreachable(format!(
            "{} is served by uid {}, not by root",
            path.display(),
            peer.uid()
        )));
    }
    let stream = Arc::new(Stream { socket, deadline });
    let reader = Reader {
        stream: Arc::clone(&stream),
        left: limit,
    };
    Ok((reader, Writer(stream)))
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(self.left);
        if room == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.stream.retry(PollFlags::IN, || {
            recv(
                &self.stream.socket,
                &mut buffer[..room],
                RecvFlags::DONTWAIT,
            )
            .map(|(count, _)| count)
        })?;
        self.left -= count;
        Ok(count)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = self
            .0
            .retry(PollFlags::OUT, || send(&self.0.socket, bytes, flags));
        match sent {
            // The other side has hung up; what it has said before can still be read, and says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            sent => sent,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Does `transfer` until it neither would block nor was interrupted, or the deadline has passed.
    fn retry(
        &self,
        readiness: PollFlags,
        mut transfer: impl FnMut() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match transfer() {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = remaining(self.deadline).ok_or(io::ErrorKind::TimedOut)?;
                    let mut wait = [PollFd::new(&self.socket, readiness)];
                    match poll(&mut wait, Some(&timespec(left))) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
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

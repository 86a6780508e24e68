//! Who is at the other end of a connection, by the kernel's word alone.
//! What a message claims about its sender never enters here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The process that called `connect()`, as the kernel noted it then.
#[derive(Debug)]
pub struct Peer {
    /// Its effective UID, translated into our user namespace.
    pub uid: u32,
    /// Its effective GID, translated likewise.
    pub gid: u32,
    /// Its PID in our PID namespace; `None` if it has none there.
    pub pid: Option<i32>,
    /// A descriptor of that very process, if the caller asked for it and it still lived.
    pub pidfd: Option<Arc<OwnedFd>>,
}

impl Peer {
    /// Asks the kernel who connected `socket`; `pidfd` says whether a descriptor of it is wanted.
    ///
    /// A peer that has ended by now has no pidfd; that is not an error.
    ///
    /// # Errors
    /// The kernel does not say: not a connected unix socket.
    pub fn of(socket: impl AsFd, pidfd: bool) -> io::Result<Peer> {
        let credentials = getsockopt(&socket, PeerCredentials)?;
        let pid = Some(credentials.pid()).filter(|pid| *pid > 0);
        let pidfd = match pid {
            Some(pid) if pidfd => pidfd_of(&socket, pid)?.map(Arc::new),
            _ => None,
        };
        Ok(Peer {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid,
            pidfd,
        })
    }
}

fn pidfd_of(socket: &impl AsFd, pid: i32) -> io::Result<Option<OwnedFd>> {
    match getsockopt(socket, PeerPidfd) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // Kernels before 6.5 do not have the option.
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => pidfd_by_number(socket, pid),
        // The process is gone and reaped.
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens `pid` by number and believes the result only if the connection is still up afterwards: a
/// process that had ended, and whose number could have gone to another one, would have hung up.
/// (Unless it has left the connection to a child. Then the number alone is believed, of a caller that
/// was root: all that these kernels can say.)
fn pidfd_by_number(socket: &impl AsFd, pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // Older kernels call a number invalid that no process has any more, but a process group or a thread.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok((!hung_up(socket)?).then_some(pidfd))
}

fn hung_up(socket: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_none_or(|events| !events.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kernel_names_this_process_as_the_peer_of_its_own_pair() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours, true).unwrap();
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert!(peer.pidfd.is_some());
        drop(theirs);
    }

    #[test]
    fn no_pidfd_is_opened_for_who_does_not_ask() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(Peer::of(&ours, false).unwrap().pidfd.is_none());
    }

    #[test]
    fn by_number_a_connected_peer_is_believed_and_one_that_hung_up_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let me = std::process::id() as i32;
        assert!(pidfd_by_number(&ours, me).unwrap().is_some());
        drop(theirs);
        assert!(pidfd_by_number(&ours, me).unwrap().is_none());
    }

    #[test]
    fn by_number_a_process_that_is_gone_has_no_pidfd() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        // Beyond the largest number the kernel gives (PID_MAX_LIMIT).
        assert!(pidfd_by_number(&ours, (4 << 20) + 1).unwrap().is_none());
    }
}

//! The listening sockets systemd hands over, by the name their socket unit gives them.
//! Nothing is bound here: a restart must find the same queue of callers, so PID 1 keeps the sockets.

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

/// There is no such socket.
#[derive(Debug)]
pub enum ActivationError {
    /// The environment is not what systemd sets.
    Environment(io::Error),
    /// Sockets were passed, or none, but not this one.
    Missing {
        /// The name that was asked for.
        wanted: String,
        /// The names that were passed.
        passed: Vec<String>,
    },
    /// What was passed under the name is not a listening stream socket.
    NotListening {
        /// The name that was asked for.
        wanted: String,
    },
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActivationError::Environment(error) => {
                write!(
                    f,
                    "LISTEN_FDS, LISTEN_PID or LISTEN_FDNAMES is broken: {error}"
                )
            }
            ActivationError::Missing { wanted, passed } => write!(
                f,
                "systemd has passed no socket named {wanted:?}, only {passed:?}: start this through \
                 its socket unit, with FileDescriptorName={wanted}"
            ),
            ActivationError::NotListening { wanted } => write!(
                f,
                "the socket named {wanted:?} is not a listening stream socket: ListenStream= is \
                 needed, and Accept=no"
            ),
        }
    }
}

impl std::error::Error for ActivationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ActivationError::Environment(error) => Some(error),
            _ => None,
        }
    }
}

/// Descriptors that have found their owner: each may have one only.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over the socket that systemd passed under `wanted` (`FileDescriptorName=` of its unit).
/// A second call for the same one finds it missing.
///
/// # Errors
/// It was not passed, or is not a listening unix stream socket.
pub fn socket(wanted: &str) -> Result<UnixListener, ActivationError> {
    let mut taken = TAKEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let passed: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names()
        .map_err(ActivationError::Environment)?
        .filter(|(fd, _)| !taken.contains(fd))
        .collect();
    let Some((fd, _)) = passed.iter().find(|(_, name)| name == wanted) else {
        return Err(ActivationError::Missing {
            wanted: wanted.into(),
            passed: passed.into_iter().map(|(_, name)| name).collect(),
        });
    };
    taken.push(*fd);
    // SAFETY: LISTEN_PID says that systemd has passed this descriptor to this process to own, nothing
    // else here opens by number, and `taken` gives it out once only.
    let socket = unsafe { OwnedFd::from_raw_fd(*fd) };
    if socket_acceptconn(&socket) != Ok(true) || socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(ActivationError::NotListening {
            wanted: wanted.into(),
        });
    }
    Ok(socket.into())
}

//! Files that a peer sends along with its bytes (`SCM_RIGHTS`). Nobody here wants any, and to drop one may take as long as whoever sent it
//! likes: a TCP socket that is to linger is waited for, for hours, by the process that held it last. The bytes do not enter.
//!
//! Linux 6.16 and newer refuse them for us. Before, they are looked for ahead of each read, and dropped under a timer: a signal ends
//! that wait.

use std::io::{self, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionread, read};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, Shutdown, recvmsg, shutdown};
use tokio::signal::unix::{SignalKind, signal};

use crate::runtime::watched::Lazy;

/// Of the kernel's `asm-generic/socket.h`; libc has no name for it yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// How long a file that is dropped may hold us up, about.
const SOON: Duration = Duration::from_micros(50);

/// Whether files may come over the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Whoever sends one is told that it is not permitted.
    Refused,
    Possible,
}

impl Files {
    /// Has them refused over all connections that are made to `listener` from here on, if the kernel can: it hands this setting down.
    /// What it says holds for these. Over those that wait already some may come.
    ///
    /// # Errors
    /// A signal handler cannot be installed.
    pub(super) fn of_newcomers(listener: &impl AsFd) -> io::Result<Files> {
        // All that the signal has to do is to come. The handler stays.
        drop(signal(SignalKind::alarm())?);
        Ok(match is_refused_from_now_on(listener) {
            true => Files::Refused,
            false => Files::Possible,
        })
    }
}

/// The socket of a connection, by which no file gets in.
#[derive(Debug)]
pub(super) struct Socket {
    lazy: Lazy,
    files: Files,
}

impl Deref for Socket {
    type Target = Lazy;

    fn deref(&self) -> &Lazy {
        &self.lazy
    }
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd, files: Files) -> Socket {
        let lazy = Lazy::new(descriptor);
        Socket { lazy, files }
    }

    /// Reads what there is into the room that `input` has. A file that comes along is an error.
    pub(super) fn read(&self, input: &mut Vec<u8>) -> Result<usize, Errno> {
        if self.files == Files::Refused {
            return read(self.descriptor(), spare_capacity(input));
        }
        let before = input.len();
        input.resize(input.capacity(), 0);
        let read = self.read_bytes(&mut input[before..]);
        input.truncate(before + read.unwrap_or(0));
        read
    }

    fn read_bytes(&self, room: &mut [u8]) -> Result<usize, Errno> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let mut for_files = RecvAncillaryBuffer::default();
        let seen = recvmsg(
            self.descriptor(),
            &mut [IoSliceMut::new(room)],
            &mut for_files,
            flags,
        )?;
        if seen.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::ACCESS);
        }
        // No more than has been looked at: a file may have come since.
        read(self.descriptor(), &mut room[..seen.bytes])
    }
}

/// What has not been read may have files.
impl Drop for Socket {
    fn drop(&mut self) {
        if self.files == Files::Refused {
            return;
        }
        // Nothing more comes after this.
        let _ = shutdown(self.descriptor(), Shutdown::Both);
        if ioctl_fionread(self.descriptor()).is_ok_and(|unread| unread == 0) {
            return;
        }
        let Ok(_interrupting) = interrupting() else {
            return;
        };
        let mut rest = [0; 4096];
        while matches!(
            read(self.descriptor(), &mut rest),
            Ok(1..) | Err(Errno::INTR)
        ) {}
    }
}

fn is_refused_from_now_on(listener: &impl AsFd) -> bool {
    let no: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel reads as many bytes of `no` as it is told that there are.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const no).cast(),
            size_of_val(&no) as libc::socklen_t,
        )
    };
    result == 0
}

/// Has this thread interrupted again and again until it is dropped.
fn interrupting() -> nix::Result<Timer> {
    let event = SigEvent::new(SigevNotify::SigevThreadId {
        signal: Signal::SIGALRM,
        thread_id: gettid().as_raw(),
        si_value: 0,
    });
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event)?;
    let often = Expiration::Interval(SOON.into());
    timer.set(often, TimerSetTimeFlags::empty())?;
    Ok(timer)
}

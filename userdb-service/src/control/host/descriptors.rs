//! What the kernel shows of a descriptor under `/proc/self`: another way to what is behind it, on which mount that is, and of a pidfd
//! whose it is.
//! Opening and closing are of others.

use std::io;
use std::os::fd::AsRawFd;

use super::proc_files::{self, field};

/// `/proc/self/fd/N`: the way to change the mode of what was opened as a mere path, and to give a name to what has none.
pub(in crate::control) fn magic_link(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What the kernel shows of one of our descriptors, see proc_pid_fdinfo(5).
pub(in crate::control) fn fdinfo(fd: &impl AsRawFd) -> io::Result<String> {
    proc_files::read(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
}

/// Which mount a descriptor is on: a bind mount has the device of what is bound, but another ID.
pub(in crate::control) fn mount_id(fd: &impl AsRawFd) -> io::Result<u64> {
    field(&fdinfo(fd)?, "mnt_id:")
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mnt_id in fdinfo"))
}

/// The PID of a pidfd's process as its fdinfo says; -1 once it is reaped, 0 if our PID namespace does not show it.
///
/// # Errors
/// It is the fdinfo of something else.
pub(in crate::control) fn pid_in_fdinfo(fdinfo: &str) -> io::Result<i32> {
    field(fdinfo, "Pid:")
        .and_then(|pid| pid.trim().parse().ok())
        .ok_or_else(|| io::Error::other("a descriptor that is no pidfd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_of_a_pidfd_is_read_from_its_fdinfo() {
        let pid = |text: &str| pid_in_fdinfo(text).ok();
        assert_eq!(
            pid("pos:\t0\nflags:\t02000002\nPid:\t4711\nNSpid:\t4711\n"),
            Some(4711)
        );
        assert_eq!(pid("Pid:\t-1\n"), Some(-1));
        assert_eq!(pid("pos:\t0\n"), None);
    }
}

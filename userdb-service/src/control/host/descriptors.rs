//! What the kernel shows of a descriptor under `/proc/self`: another way to what is behind it, and on which mount that is.
//! Opening and closing are of others.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `/proc/self/fd/N`: the way to change the mode of what was opened as a mere path, and to give a name to what has none.
pub(in crate::control) fn magic_link(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Which mount a descriptor is on: a bind mount has the device of what is bound, but another ID.
pub(in crate::control) fn mount_id(fd: &impl AsRawFd) -> io::Result<u64> {
    let file = File::open(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    io::read_to_string(file)?
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mnt_id in fdinfo"))
}

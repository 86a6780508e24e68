//! A FUSE file system that is mounted and never answers: the worst that a user may mount on or in its home.
//! fusermount would do the mounting for the user; here root does it, before it becomes the user.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid};

use crate::tell;

/// Mounts on `point` for the user and serves nothing, until killed.
pub(crate) fn hang(point: &Path, uid: u32, closed: bool) -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let others = if closed { "" } else { ",allow_other" };
    let options = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={uid}{others}",
        device.as_raw_fd()
    );
    mount(
        Some("hanging"),
        point,
        Some("fuse"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?;
    crate::user::become_identity(Uid::from_raw(uid), Gid::from_raw(uid), &[])?;
    tell::reached("mounted", 0, &["mounted".to_owned()]);
    loop {
        std::thread::park();
    }
}

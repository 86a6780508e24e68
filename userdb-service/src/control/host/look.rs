//! What is at a name, without asking whoever serves a file system that a user may have mounted there: with
//! FUSE that is a process of the user's, which may never answer. Looking only: nothing is read or changed.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::path::Arg;

/// An entry of a folder. Of what is mounted on it, if something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Seen {
    /// Its owner and group; of a mount that does not let us look, nobody's.
    pub(in crate::control) uid: u32,
    pub(in crate::control) gid: u32,
    pub(in crate::control) is_folder: bool,
    /// A file system is mounted on it. (Kernels before 5.8 do not say.)
    pub(in crate::control) is_mount: bool,
}

/// The entry `name` of `folder`, not following a link; `None` if there is none.
pub(in crate::control) fn look(
    folder: impl AsFd,
    name: impl Arg + Copy,
) -> io::Result<Option<Seen>> {
    seen(folder, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// What is behind a descriptor, which may be a mere path.
pub(in crate::control) fn look_at(fd: impl AsFd) -> io::Result<Seen> {
    seen(fd, c"", AtFlags::EMPTY_PATH)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether anything is at an absolute path, not following a link. What cannot be found out may be there; but what we may not look at
/// is no business of ours, and would stay for ever.
pub(in crate::control) fn is_there(path: &Path) -> bool {
    match look(CWD, path) {
        Ok(seen) => seen.is_some(),
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

fn seen(folder: impl AsFd, name: impl Arg + Copy, how: AtFlags) -> io::Result<Option<Seen>> {
    // What the kernel remembers, even if that is old.
    let how = how | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    // Who asks for nothing is told at least of a mount, also by a FUSE file system that is closed to root.
    let asked = match statx(&folder, name, how, StatxFlags::empty()) {
        Ok(asked) => asked,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_mount = asked.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    let needed = StatxFlags::TYPE | StatxFlags::UID | StatxFlags::GID;
    // Most file systems tell all the same what they have in memory; one that is closed to root does not.
    let stat = match StatxFlags::from_bits_retain(asked.stx_mask).contains(needed) {
        true => Ok(asked),
        false => statx(&folder, name, how, StatxFlags::BASIC_STATS),
    };
    match stat {
        Ok(stat) => Ok(Some(Seen {
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            is_folder: is_folder(&stat),
            is_mount,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(_) if is_mount => Ok(Some(Seen {
            uid: u32::MAX,
            gid: u32::MAX,
            is_folder: false,
            is_mount,
        })),
        Err(error) => Err(error.into()),
    }
}

fn is_folder(stat: &Statx) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_links_mounts_and_nothing_are_told_apart() {
        let dir = std::env::temp_dir().join(format!("look-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("folder")).expect("made");
        std::os::unix::fs::symlink("/proc", dir.join("link")).expect("made");
        let folder = std::fs::File::open(&dir).expect("open");
        let at = |name: &str| look(&folder, name).expect("looked");
        assert_eq!(at("absent"), None);
        assert!(at("folder").is_some_and(|seen| seen.is_folder && !seen.is_mount));
        assert!(at("link").is_some_and(|seen| !seen.is_folder && !seen.is_mount));
        assert!(is_there(&dir.join("link")) && !is_there(&dir.join("absent")));
        assert!(!is_there(&dir.join("link/1/status/none")));
        // The name is too long for any file: that is no answer.
        assert!(is_there(&dir.join("x".repeat(300))));
        let proc = look(CWD, "/proc").expect("looked");
        assert!(proc.is_some_and(|seen| seen.is_folder && seen.is_mount && seen.uid == 0));
        assert!(look_at(&folder).is_ok_and(|seen| seen.is_folder));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}

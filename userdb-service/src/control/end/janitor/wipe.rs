//! Empties a folder whose contents an enemy arranged: deep, locked, linked, mounted upon.
//!
//! Descends one level only: what lies deeper is moved up and met again. So there is neither recursion
//! nor a descriptor per level to run out of, and every step is relative to a folder that is held
//! open: no link can lead a step elsewhere. Other mounts are never entered.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::child::names;
use crate::control::host::descriptors::{magic_link, mount_id};

/// Removes everything in `folder`. With `as_root` folders are taken from their owners first, which
/// needs CAP_CHOWN and no capability else.
pub(in crate::control) fn wipe(folder: &OwnedFd, as_root: bool) -> io::Result<()> {
    let mut wipe = Wipe {
        mount: mount_id(folder)?,
        as_root,
        moved: 0,
    };
    wipe.unlock(folder);
    loop {
        let (mut progress, mut left) = (false, None);
        for name in names(folder)? {
            match wipe.remove(folder, &name) {
                Ok(removed) => progress |= removed,
                Err(e) => left = Some((name, e)),
            }
        }
        match left {
            None if !progress => return Ok(()),
            Some((name, e)) if !progress => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("{}: {e}", name.to_string_lossy()),
                ));
            }
            _ => {}
        }
    }
}

struct Wipe {
    mount: u64,
    as_root: bool,
    moved: u64,
}

impl Wipe {
    /// Removes one entry, or brings it closer to being removable. Whether it did anything.
    fn remove(&mut self, folder: &OwnedFd, name: &CStr) -> io::Result<bool> {
        match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => return Ok(true),
            Err(Errno::ENOENT) => return Ok(false),
            // A folder. The second is what POSIX says and some file systems do.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(e) => return Err(e.into()),
        }
        match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => return Ok(true),
            Err(Errno::ENOENT) => return Ok(false),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let inner = self.enter(folder, name)?;
        let (mut progress, mut failure) = (false, None);
        for child in names(&inner)? {
            match self.lift(folder, &inner, &child) {
                Ok(()) => progress = true,
                Err(e) => failure = Some(e),
            }
        }
        match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => Ok(true),
            Err(_) if progress => Ok(true),
            Err(e) => Err(failure.unwrap_or(e.into())),
        }
    }

    /// Removes an entry of `inner`, or moves it up into `folder`.
    fn lift(&mut self, folder: &OwnedFd, inner: &OwnedFd, child: &CStr) -> io::Result<()> {
        match unlinkat(inner, child, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(e) => return Err(e.into()),
        }
        match unlinkat(inner, child, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        // To give a folder another parent one must be able to write to it.
        self.enter(inner, child)?;
        loop {
            self.moved += 1;
            let name = CString::new(format!(".wipe-{}", self.moved))?;
            match renameat2(
                inner,
                child,
                folder,
                name.as_c_str(),
                RenameFlags::RENAME_NOREPLACE,
            ) {
                Err(Errno::EEXIST) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn enter(&self, folder: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let inner = openat(folder, name, flags, Mode::empty())?;
        if mount_id(&inner)? != self.mount {
            return Err(io::Error::other("something is mounted there"));
        }
        self.unlock(&inner);
        Ok(inner)
    }

    /// Makes a folder ours to change. If that fails, so will what follows, with the better error.
    fn unlock(&self, folder: &OwnedFd) {
        if self.as_root {
            let (root, group) = (Some(Uid::from_raw(0)), Some(Gid::from_raw(0)));
            let _ = fchownat(folder, c"", root, group, AtFlags::AT_EMPTY_PATH);
        }
        let path = magic_link(folder);
        let _ = fchmodat(
            nix::fcntl::AT_FDCWD,
            path.as_str(),
            Mode::S_IRWXU,
            FchmodatFlags::FollowSymlink,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    fn bench(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("wipe-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("home")).unwrap();
        dir
    }

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn everything_goes_but_nothing_that_is_linked_to() {
        let dir = bench("links");
        let home = dir.join("home");
        std::fs::write(dir.join("precious"), "x").unwrap();
        std::fs::create_dir_all(home.join("a/b/c")).unwrap();
        std::fs::write(home.join("a/b/file"), "x").unwrap();
        std::fs::write(home.join(".wipe-1"), "in the way").unwrap();
        symlink(&dir, home.join("a/up")).unwrap();
        symlink(dir.join("precious"), home.join("link")).unwrap();
        std::fs::set_permissions(home.join("a/b"), PermissionsExt::from_mode(0o000)).unwrap();
        wipe(&open(&home), false).unwrap();
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        assert!(dir.join("precious").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let dir = bench("deep");
        let home = dir.join("home");
        let mut at = open(&home);
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "deeper", Mode::S_IRWXU).unwrap();
            at = openat(&at, "deeper", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        wipe(&open(&home), false).unwrap();
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_mounted_inside_is_neither_entered_nor_emptied() {
        let dir = bench("mount");
        let (home, other) = (dir.join("home"), dir.join("other"));
        std::fs::create_dir_all(home.join("x/mnt")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("precious"), "x").unwrap();
        std::fs::write(home.join("mine"), "x").unwrap();
        let mount = |arguments: &[&std::ffi::OsStr]| {
            let done = std::process::Command::new(arguments[0])
                .args(&arguments[1..])
                .status();
            assert!(done.unwrap().success(), "this test needs root to mount");
        };
        let inner = home.join("x/mnt");
        mount(&[
            "mount".as_ref(),
            "--bind".as_ref(),
            other.as_ref(),
            inner.as_ref(),
        ]);
        let outcome = wipe(&open(&home), true);
        mount(&["umount".as_ref(), inner.as_ref()]);
        assert!(outcome.is_err());
        assert!(other.join("precious").exists() && !home.join("mine").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

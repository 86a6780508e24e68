//! Copies the skeleton of a home, as root, into a folder of root's that nobody else can enter. What comes into it is its
//! owner's, all of it, or does not stay; the folder itself is for the caller to give away, when this is over.
//!
//! No capability but CAP_CHOWN is needed: each entry is root's until it is finished. Everything is made anew (O_EXCL), relative to
//! folders that are held, and no link is followed on either side. Root reads the skeleton, as with useradd: what only root
//! may read of it is copied, too. Owners, ACLs and extended attributes are not.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

use crate::control::end::janitor::wipe;
use crate::policy::ids::{Gid, Uid};

/// Deeper than any real skeleton.
const DEEPEST: usize = 32;
const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Copies folders, files and links with their modes; set-ID bits and everything else stay behind. Without a skeleton
/// there is nothing to do. Stops when it is not `wanted` any more.
///
/// # Errors
/// What the copy lacks first: each entry that fails is left out, and the others are copied all the same.
pub(super) fn copy(
    skeleton: &Path,
    home: &OwnedFd,
    (uid, gid): (Uid, Gid),
    wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    // An administrator may have made it a link.
    let flags = FOLDER.difference(OFlag::O_NOFOLLOW);
    let from = match Dir::open(skeleton, flags, Mode::empty()) {
        Ok(from) => from,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(lacking(skeleton, error.into())),
    };
    let mut copy = Copy {
        uid: nix::unistd::Uid::from_raw(uid.get()),
        gid: nix::unistd::Gid::from_raw(gid.get()),
        wanted,
        lacks: None,
        buffer: [0; 16 * 1024],
    };
    copy.fill(from, skeleton, home, 0);
    copy.lacks.map_or(Ok(()), Err)
}

struct Copy<'a> {
    uid: nix::unistd::Uid,
    gid: nix::unistd::Gid,
    wanted: &'a dyn Fn() -> bool,
    /// What went wrong first.
    lacks: Option<io::Error>,
    buffer: [u8; 16 * 1024],
}

impl Copy<'_> {
    fn fill(&mut self, mut from: Dir, path: &Path, to: &OwnedFd, depth: usize) {
        let entries = match from.iter().collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return self.lack(path, error.into()),
        };
        for entry in entries {
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            // Some file systems do not say what it is.
            let kind = entry.file_type().map_or_else(|| kind_of(&from, name), Ok);
            let copied = match kind {
                _ if !(self.wanted)() => Err(io::ErrorKind::TimedOut.into()),
                Ok(Type::Directory) => self.folder(&from, name, &path, to, depth + 1),
                Ok(Type::Symlink) => self.link(&from, name, to),
                Ok(Type::File) => self.file(&from, name, to),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                self.lack(&path, error);
            }
        }
    }

    fn lack(&mut self, path: &Path, error: io::Error) {
        self.lacks.get_or_insert_with(|| lacking(path, error));
    }

    fn folder(
        &mut self,
        from: &Dir,
        name: &CStr,
        path: &Path,
        to: &OwnedFd,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other("nested too deeply"));
        }
        let inner = Dir::openat(from, name, FOLDER, Mode::empty())?;
        let mode = Mode::from_bits_truncate(fstat(&inner)?.st_mode & 0o777);
        mkdirat(to, name, Mode::S_IRWXU)?;
        let remove = || remove(to, name, UnlinkatFlags::RemoveDir);
        let copy = openat(to, name, FOLDER, Mode::empty()).inspect_err(|_| remove())?;
        self.fill(inner, path, &copy, depth);
        self.give(&copy, mode).inspect_err(|_| {
            let _ = wipe(&copy, true);
            remove();
        })
    }

    fn link(&self, from: &Dir, name: &CStr, to: &OwnedFd) -> io::Result<()> {
        let target = readlinkat(from, name)?;
        symlinkat(target.as_os_str(), to, name)?;
        let (uid, gid) = (Some(self.uid), Some(self.gid));
        let given = fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW);
        Ok(given.inspect_err(|_| remove(to, name, UnlinkatFlags::NoRemoveDir))?)
    }

    fn file(&mut self, from: &Dir, name: &CStr, to: &OwnedFd) -> io::Result<()> {
        // Should it have become something else meanwhile, that is not waited for.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let source = File::from(openat(from, name, flags, Mode::empty())?);
        let found = source.metadata()?;
        if !found.is_file() {
            return Ok(());
        }
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(found.permissions().mode() & 0o777);
        let mut copy = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        self.content(source, found.len(), &mut copy)
            .and_then(|()| self.give(&copy, mode))
            .inspect_err(|_| remove(to, name, UnlinkatFlags::NoRemoveDir))
    }

    fn content(&mut self, mut source: File, length: u64, copy: &mut File) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if !(self.wanted)() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let most = self.buffer.len();
            let part =
                &mut self.buffer[..usize::try_from(left).map_or(most, |left| left.min(most))];
            source.read_exact(part)?;
            copy.write_all(part)?;
            left -= part.len() as u64;
        }
        Ok(())
    }

    /// The last step: from now on root may neither write to it nor change its mode.
    fn give(&self, copy: impl AsFd, mode: Mode) -> io::Result<()> {
        fchmod(&copy, mode)?;
        Ok(fchown(&copy, Some(self.uid), Some(self.gid))?)
    }
}

/// What came of an entry must not stay. Where that fails, too, it is root's and its home's owner may remove it.
fn remove(folder: &OwnedFd, name: &CStr, how: UnlinkatFlags) {
    let _ = unlinkat(folder, name, how);
}

fn kind_of(folder: &Dir, name: &CStr) -> io::Result<Type> {
    let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Type::Directory,
        libc::S_IFLNK => Type::Symlink,
        libc::S_IFREG => Type::File,
        _ => Type::Fifo,
    })
}

fn lacking(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;

    const OWNER: u32 = 0x7000_0204;

    /// A skeleton and a home, empty both.
    fn bench(name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let dir = std::env::temp_dir().join(format!("skeleton-{name}-{}", std::process::id()));
        let (skeleton, home) = (dir.join("skel"), dir.join("home"));
        std::fs::create_dir_all(&skeleton).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        (dir, skeleton, home)
    }

    fn copied(skeleton: &Path, home: &Path) -> io::Result<()> {
        let uid = Uid::try_from(OWNER).unwrap();
        let home = File::open(home).unwrap().into();
        copy(skeleton, &home, (uid, uid.into()), &|| true)
    }

    /// Owner, group and mode, of a link its own.
    fn seen(path: &Path) -> (u32, u32, u32) {
        let found = path.symlink_metadata().expect("it was copied");
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    #[test]
    fn folders_files_and_links_become_the_owners_with_their_modes() {
        let (dir, skeleton, home) = bench("modes");
        let set = |name: &str, mode: u32| {
            let mode = PermissionsExt::from_mode(mode);
            std::fs::set_permissions(skeleton.join(name), mode).unwrap();
        };
        std::fs::create_dir_all(skeleton.join(".config/locked/deep")).unwrap();
        std::fs::write(skeleton.join(".config/locked/deep/file"), "x").unwrap();
        std::fs::write(skeleton.join(".profile"), "umask 022\n").unwrap();
        let large: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(skeleton.join("large"), &large).unwrap();
        set(".profile", 0o4644);
        set("large", 0o600);
        set(".config", 0o1750);
        // As nobody could fill it who is not root for so long.
        set(".config/locked", 0o555);
        symlink("/etc/motd", skeleton.join("motd")).unwrap();
        nix::unistd::mkfifo(&skeleton.join("fifo"), Mode::S_IRWXU).unwrap();
        copied(&skeleton, &home).unwrap();
        let read = |name: &str| std::fs::read(home.join(name)).unwrap();
        assert_eq!(read(".profile"), b"umask 022\n");
        assert!(read("large") == large);
        for (name, mode) in [
            (".profile", 0o644),
            ("large", 0o600),
            (".config", 0o750),
            (".config/locked", 0o555),
            (".config/locked/deep/file", 0o644),
            ("motd", 0o777),
        ] {
            assert_eq!(
                seen(&home.join(name)),
                (OWNER, OWNER, mode),
                "{name}: this test needs root"
            );
        }
        let target = std::fs::read_link(home.join("motd")).unwrap();
        assert_eq!(target, Path::new("/etc/motd"));
        assert!(!home.join("fifo").exists());
        copied(&dir.join("absent"), &home).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_does_not_fit_or_is_there_already_is_left_out_whole_and_the_rest_is_copied() {
        let (dir, skeleton, home) = bench("full");
        let run = |command: &str| {
            let ran = std::process::Command::new("sh")
                .args(["-c", command])
                .status();
            assert!(ran.unwrap().success(), "this test needs root to mount");
        };
        for name in ["a", "b/c", "b/large", "d"] {
            let path = skeleton.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let size = if name == "b/large" { 50_000 } else { 10 };
            std::fs::write(path, vec![1; size]).unwrap();
        }
        run(&format!(
            "mount -t tmpfs -o size=32k tmpfs {}",
            home.display()
        ));
        std::fs::write(home.join("d"), "mine").unwrap();
        symlink(&skeleton, home.join("a")).unwrap();
        let lacks = copied(&skeleton, &home).map_err(|error| error.to_string());
        let there = [home.join("b"), home.join("b/c")].map(|path| seen(&path).0);
        let large = home.join("b/large").exists();
        let mine = std::fs::read(home.join("d"));
        let a = std::fs::read(skeleton.join("a")).map(|text| text.len());
        run(&format!("umount {}", home.display()));
        assert_eq!((there, large), ([OWNER; 2], false));
        assert_eq!((mine.unwrap(), a.unwrap()), (b"mine".to_vec(), 10));
        assert!(lacks.unwrap_err().starts_with(skeleton.to_str().unwrap()));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn it_stops_when_nobody_wants_it_any_more() {
        let (dir, skeleton, home) = bench("stop");
        for name in ["a", "b", "c"] {
            std::fs::write(skeleton.join(name), "x").unwrap();
        }
        let asked = std::cell::Cell::new(0);
        let wanted = || asked.replace(asked.get() + 1) < 2;
        let uid = Uid::try_from(OWNER).unwrap();
        let folder = File::open(&home).unwrap().into();
        assert!(copy(&skeleton, &folder, (uid, uid.into()), &wanted).is_err());
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

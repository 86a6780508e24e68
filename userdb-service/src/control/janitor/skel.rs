//! Copies the skeleton of a home. Runs as the user, into a folder that nobody else has seen yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::symlinkat;

/// Deeper than any real skeleton.
const DEEPEST: usize = 32;

/// Copies folders, files and links with their modes; set-ID bits and everything else stay behind.
/// Without a skeleton there is nothing to do.
pub(super) fn copy(skeleton: &Path, home: &OwnedFd) -> io::Result<()> {
    match std::fs::read_dir(skeleton) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => copy_folder(skeleton, home, 0),
    }
}

fn copy_folder(from: &Path, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!(
            "{} is nested too deeply",
            from.display()
        )));
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let copied = if kind.is_dir() {
            copy_one_folder(&entry, &name, to, depth)
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path())?;
            symlinkat(target.as_path(), to, name.as_os_str()).map_err(io::Error::from)
        } else if kind.is_file() {
            copy_file(&entry, &name, to)
        } else {
            Ok(())
        };
        copied.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", entry.path().display())))?;
    }
    Ok(())
}

fn copy_one_folder(
    entry: &std::fs::DirEntry,
    name: &OsStr,
    to: &OwnedFd,
    depth: usize,
) -> io::Result<()> {
    mkdirat(to, name, Mode::S_IRWXU)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let copy = openat(to, name, flags, Mode::empty())?;
    copy_folder(&entry.path(), &copy, depth + 1)?;
    fchmod(&copy, mode_of(entry)?)?;
    Ok(())
}

fn copy_file(entry: &std::fs::DirEntry, name: &OsStr, to: &OwnedFd) -> io::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let copy = openat(
        to,
        OsStr::from_bytes(name.as_bytes()),
        flags,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(entry.path())?, &mut copy)?;
    fchmod(&copy, mode_of(entry)?)?;
    Ok(())
}

fn mode_of(entry: &std::fs::DirEntry) -> io::Result<Mode> {
    Ok(Mode::from_bits_truncate(
        entry.metadata()?.permissions().mode() & 0o777,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_files_and_links_are_copied_with_their_modes() {
        let dir = std::env::temp_dir().join(format!("skel-{}", std::process::id()));
        let (skeleton, home) = (dir.join("skel"), dir.join("home"));
        std::fs::create_dir_all(skeleton.join(".config/deep")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(skeleton.join(".profile"), "umask 022\n").unwrap();
        std::fs::set_permissions(skeleton.join(".profile"), PermissionsExt::from_mode(0o4644))
            .unwrap();
        std::fs::set_permissions(skeleton.join(".config"), PermissionsExt::from_mode(0o750))
            .unwrap();
        std::os::unix::fs::symlink("/etc/motd", skeleton.join("motd")).unwrap();
        nix::unistd::mkfifo(&skeleton.join("fifo"), Mode::S_IRWXU).unwrap();
        copy(&skeleton, &File::open(&home).unwrap().into()).unwrap();
        let mode = |name: &str| home.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            std::fs::read_to_string(home.join(".profile")).unwrap(),
            "umask 022\n"
        );
        assert_eq!((mode(".profile"), mode(".config")), (0o644, 0o750));
        assert!(home.join(".config/deep").is_dir());
        assert_eq!(
            std::fs::read_link(home.join("motd")).unwrap(),
            Path::new("/etc/motd")
        );
        assert!(!home.join("fifo").exists());
        copy(&dir.join("absent"), &File::open(&home).unwrap().into()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! What an administrator should know of the files that sudo and doas read: which of them keep every login out, because a lookup worker
//! cannot read them, and whether our folder is among them. Reads them as a worker does; judges nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::own::Own;
use super::walk::{Files, Unread, Walk};
use super::{SUDOERS, SUDOERS_OF_SUDO_RS, SUDOERS_OF_THE_VENDOR, Syntax, roots};
use crate::control::host::plain_root::as_plain_root;
use crate::control::sudo::sudo_rs;
use crate::policy::sudoers::SUDOERS_D;

/// An include may be on a disk that hangs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Every file and folder that a lookup worker, which is root without any capability, cannot read.
///
/// # Errors
/// They cannot be read in time.
pub fn unread_by_workers() -> io::Result<Vec<Unread>> {
    let read = as_plain_root(PATIENCE, || survey(&roots(), Path::new(SUDOERS_D)))?;
    read.map_or_else(late, |(_, unread)| Ok(unread))
}

/// Whether sudo reads the files in our folder, by what its own file includes.
///
/// # Errors
/// They cannot be read in time, or one that would say cannot be read.
pub fn includes_ours() -> io::Result<bool> {
    let files = [SUDOERS, SUDOERS_OF_THE_VENDOR, SUDOERS_OF_SUDO_RS].map(Path::new);
    let roots = read_by_sudo(&files, sudo_rs::is_sudo());
    let read = as_plain_root(PATIENCE, move || includes(&roots, Path::new(SUDOERS_D)))?;
    read.unwrap_or_else(late)
}

fn late<T>() -> io::Result<T> {
    Err(io::Error::other(format!(
        "what {SUDOERS} includes cannot be read in {PATIENCE:?}"
    )))
}

/// The first of `sudo` and `vendor` that is there, and that of sudo-rs, which reads no other where there is one.
fn read_by_sudo(
    [sudo, vendor, sudo_rs]: &[&Path; 3],
    sudo_is_sudo_rs: bool,
) -> Vec<(Syntax, PathBuf)> {
    let first = [sudo, vendor].into_iter().find(|path| path.exists());
    let is_all = sudo_is_sudo_rs && sudo_rs.exists();
    let roots = first.into_iter().filter(|_| !is_all).chain([sudo_rs]);
    roots
        .map(|path| (Syntax::Sudoers, path.to_path_buf()))
        .collect()
}

fn includes(roots: &[(Syntax, PathBuf)], ours: &Path) -> io::Result<bool> {
    let (folders, unread) = survey(roots, ours);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_included = folders.iter().any(|folder| real(folder) == real(ours));
    match unread.first() {
        // It may be what includes it.
        Some(one) if !is_included => Err(io::Error::other(format!(
            "{}: {}",
            one.path.display(),
            one.why
        ))),
        _ => Ok(is_included),
    }
}

fn survey(roots: &[(Syntax, PathBuf)], ours: &Path) -> (BTreeSet<PathBuf>, Vec<Unread>) {
    let (mut own, before) = (Own::in_folder(ours.to_owned()), Files::new());
    let mut walk = Walk::new(&mut own, &before).going_on();
    for (syntax, root) in roots {
        // It goes on: nothing is an error.
        let _ = walk.file(*syntax, root);
    }
    walk.met()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("survey-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("sudoers.d")).expect("made");
        folder
    }

    fn root(folder: &Path, text: &str) -> Vec<(Syntax, PathBuf)> {
        fs::write(folder.join("sudoers"), text).expect("written");
        vec![(Syntax::Sudoers, folder.join("sudoers"))]
    }

    #[test]
    fn every_file_that_root_reads_by_its_capabilities_alone_is_found() {
        let tree = folder("closed");
        let roots = root(
            &tree,
            "@includedir sudoers.d\n@include closed/more\n@include open\n",
        );
        fs::create_dir(tree.join("closed")).expect("made");
        for (name, mode) in [
            ("sudoers.d/a", 0o000),
            ("sudoers.d/b", 0o400),
            ("closed/more", 0o440),
            ("open", 0o440),
        ] {
            fs::write(tree.join(name), "ann ALL=ALL\n").expect("written");
            fs::set_permissions(tree.join(name), Permissions::from_mode(mode)).expect("set");
        }
        fs::write(tree.join("sudoers.d/c"), "").expect("written");
        chown(tree.join("sudoers.d/c"), Some(12345), Some(12345)).expect("this test needs root");
        fs::set_permissions(tree.join("sudoers.d/c"), Permissions::from_mode(0o600)).expect("set");
        fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o000)).expect("set");
        let ours = tree.join("sudoers.d");
        let unread = as_plain_root(PATIENCE, move || survey(&roots, &ours).1);
        let unread = unread.expect("read").expect("in time");
        let mut found: Vec<_> = unread
            .iter()
            .map(|one| one.path.strip_prefix(&tree).expect("below").to_owned())
            .collect();
        found.sort();
        assert_eq!(
            found,
            ["closed/more", "sudoers.d/a", "sudoers.d/c"].map(PathBuf::from)
        );
        assert!(
            unread
                .iter()
                .all(|one| one.why.contains("Permission denied")),
            "{unread:?}"
        );
        fs::remove_dir_all(tree).expect("removed");
    }

    #[test]
    fn our_folder_is_included_by_whatever_is_included_and_by_either_spelling() {
        let tree = folder("includes");
        let ours = tree.join("sudoers.d");
        fs::write(tree.join("more"), "#includedir sudoers.d/../sudoers.d\n").expect("written");
        for (text, is_included) in [
            ("@includedir sudoers.d\n", true),
            ("#includedir sudoers.d # all of them\n", true),
            ("@include more\n", true),
            ("root ALL=ALL\n", false),
            ("# @includedir sudoers.d\n", false),
            ("@includedir elsewhere\n", false),
        ] {
            let found = includes(&root(&tree, text), &ours).expect("read");
            assert_eq!(found, is_included, "{text}");
        }
        // The one of the vendor counts where there is no other.
        let [one, other, none] = ["sudoers", "more", "none"].map(|name| tree.join(name));
        let first = |paths: [&Path; 3]| read_by_sudo(&paths, false).remove(0).1;
        assert_eq!(first([&one, &other, &none]), one);
        assert_eq!(first([&none, &other, &none]), other);
        // That of sudo-rs counts beside it, or alone where sudo is sudo-rs.
        for (sudo_rs, sudo_is_sudo_rs, read) in [
            (&other, false, vec![&one, &other]),
            (&other, true, vec![&other]),
            (&none, true, vec![&one, &none]),
        ] {
            let found = read_by_sudo(&[&one, &none, sudo_rs], sudo_is_sudo_rs);
            assert!(found.iter().map(|(_, path)| path).eq(read), "{found:?}");
        }
        fs::remove_dir_all(tree).expect("removed");
    }
}

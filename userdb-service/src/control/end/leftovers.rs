//! Files outside its home that an ended user leaves in folders of the system's, named after it or owned by it: they
//! would work for whoever gets the name or the UID next. Entries of the system's own folders only; unlinking
//! follows no link, and what is inside is never read. Runs in a janitor: a disk may be slow.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid as Id, seteuid, setgroups};

use crate::policy::ids::Uid;
use crate::policy::names::Login;

/// Folders with an entry named like the login: lingering, crontabs (Debian, SUSE, Fedora and Arch), sudo's time
/// stamps before 1.9.15 and whether it has lectured.
const BY_LOGIN: [&str; 7] = [
    "var/lib/systemd/linger",
    "var/spool/cron/crontabs",
    "var/spool/cron/tabs",
    "var/spool/cron",
    "run/sudo/ts",
    "var/lib/sudo/ts",
    LECTURED,
];
/// Folders with an entry named like the UID: time stamps of sudo since 1.9.15 and of sudo-rs.
const BY_UID: [&str; 3] = ["run/sudo/ts", "var/lib/sudo/ts", "run/sudo-rs/ts"];
/// Folders with entries owned by the UID: jobs of `at` and what they are writing (Debian, Fedora, SUSE, Arch). None is
/// inside of another user's: root without capabilities could not even tell whether it is there.
const OWNED: [&str; 6] = [
    "var/spool/cron/atjobs",
    "var/spool/cron/atspool",
    "var/spool/at",
    "var/spool/atjobs",
    "var/spool/atspool",
    "var/spool/atd",
];
/// Where PID 1 keeps what it was asked to change of units until the next boot: by logind, a user's resources.
const UNITS: &str = "run/systemd/system.control";
/// Works for nobody, so that it may stay where sudo was installed after we were started.
const LECTURED: &str = "var/lib/sudo/lectured";

/// What could not be removed, and why.
pub(in crate::control) type Left = Vec<(PathBuf, io::Error)>;

/// Removes them, as root without any capability but that to become others. Absent ones are no failure.
pub(in crate::control) fn remove(login: &Login, uid: Uid) -> Left {
    remove_below(Path::new("/"), login, uid)
}

fn remove_below(root: &Path, login: &Login, uid: Uid) -> Left {
    let mut left = Left::new();
    let by_login = BY_LOGIN
        .iter()
        .map(|folder| root.join(folder).join(login.as_ref()));
    let by_uid = BY_UID
        .iter()
        .map(|folder| root.join(folder).join(uid.to_string()));
    for path in by_login.chain(by_uid) {
        let failed = remove_named(&path, uid).err();
        left.extend(failed.map(|error| (path, error)));
    }
    left.retain(|(path, _)| !path.starts_with(root.join(LECTURED)));
    let limits = root.join(UNITS).join(format!("user-{uid}.slice.d"));
    let failed = remove_limits(&limits).err();
    left.extend(failed.map(|error| (limits, error)));
    for folder in OWNED {
        let folder = root.join(folder);
        let failed = remove_owned(&folder, uid).err();
        left.extend(failed.map(|error| (folder, error)));
    }
    left
}

/// What belongs to somebody else is of somebody who had the name before, in `/etc/passwd`: it works for nobody.
fn remove_named(path: &Path, uid: Uid) -> io::Result<()> {
    // Looked at first: unlinking what is absent fails on a read-only file system, and on no other.
    match path.symlink_metadata() {
        // /var/spool/cron is the parent of `crontabs` on some systems and holds files on others.
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if found.uid() != 0 && found.uid() != uid.get() => Ok(()),
        Ok(_) => present(std::fs::remove_file(path)),
        Err(error) => present(Err(error)),
    }
}

/// What the slice of a UID was limited to, or allowed: logind sets what the record of the next user says, and leaves what
/// it does not say. PID 1 reads the folder when it next loads the slice.
fn remove_limits(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return present(Err(error)),
    };
    for entry in entries {
        present(std::fs::remove_file(entry?.path()))?;
    }
    present(std::fs::remove_dir(folder))
}

/// Entries of a folder that belong to the UID. As the folder's owner: Debian's jobs are daemon's, and
/// root without capabilities may not enter there.
fn remove_owned(folder: &Path, uid: Uid) -> io::Result<()> {
    let owner = match folder.symlink_metadata() {
        Ok(found) if found.is_dir() => found.uid(),
        Ok(_) => return Ok(()),
        Err(error) => return present(Err(error)),
    };
    if owner == uid.get() {
        return Err(io::Error::other("the folder itself belongs to the user"));
    }
    // The real UID stays root's, so that processes of the owner cannot stop us.
    let ourselves = nix::unistd::geteuid();
    if owner != ourselves.as_raw() {
        setgroups(&[])?;
        seteuid(Id::from_raw(owner))?;
    }
    let removed = (|| {
        let mut failure = None;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let theirs = entry
                .metadata()
                .is_ok_and(|found| found.uid() == uid.get() && !found.is_dir());
            if theirs && let Err(error) = present(std::fs::remove_file(entry.path())) {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), Err)
    })();
    seteuid(ourselves)?;
    removed
}

/// What is gone already is as good as removed.
fn present(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn bench(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("leftovers-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
        root
    }

    fn zed() -> (Login, Uid) {
        (
            Login::try_from("zed").unwrap(),
            Uid::try_from(0x7000_0401).unwrap(),
        )
    }

    #[test]
    fn what_is_named_after_the_user_goes_and_nothing_else() {
        let root = bench("named");
        let (login, uid) = zed();
        let file = |folder: &str, name: &str| {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join(name), "").unwrap();
            root.join(folder).join(name)
        };
        let mine: Vec<PathBuf> = BY_LOGIN
            .iter()
            .map(|folder| file(folder, "zed"))
            .chain(BY_UID.iter().map(|folder| file(folder, &uid.to_string())))
            .collect();
        let slice = format!("{UNITS}/user-{uid}.slice.d");
        file(&slice, "50-TasksMax.conf");
        let others_slice = file(&format!("{UNITS}/user-{uid}1.slice.d"), "50-TasksMax.conf");
        let other = file("var/spool/cron/crontabs", "zeddy");
        assert!(remove_below(&root, &login, uid).is_empty());
        assert!(mine.iter().all(|path| !path.exists()) && other.exists());
        assert!(!root.join(slice).exists() && others_slice.exists());
        // Before it was ours somebody else had the name; cron passes over such a file.
        let earlier = file("var/spool/cron/crontabs", "zed");
        chown(&earlier, Some(1600), None).expect("this test needs root");
        assert!(remove_below(&root, &login, uid).is_empty() && earlier.exists());
        // A login named like a folder of the system's does not take it away.
        let crontabs = Login::try_from("crontabs").unwrap();
        assert!(remove_below(&root, &crontabs, uid).is_empty());
        assert!(other.exists());
        std::fs::remove_dir_all(&root).unwrap();
    }

    // That the folder may be another user's is tested on a booted machine: it takes a process of its own.
    #[test]
    fn jobs_go_by_whom_they_belong_to() {
        let root = bench("owned");
        let (login, uid) = zed();
        let other = 0x7000_0403;
        let folder = root.join(OWNED[0]);
        std::fs::create_dir_all(&folder).unwrap();
        let job = |name: &str, owner: u32| {
            std::fs::write(folder.join(name), "").unwrap();
            chown(folder.join(name), Some(owner), None).expect("this test needs root");
            folder.join(name)
        };
        let jobs = [job("a1", uid.get()), job("=b2", uid.get())];
        let others = job("a3", other);
        std::os::unix::fs::symlink(&others, folder.join("link")).unwrap();
        std::os::unix::fs::lchown(folder.join("link"), Some(uid.get()), None).unwrap();
        let left = remove_below(&root, &login, uid);
        assert!(left.is_empty(), "{left:?}");
        assert!(jobs.iter().all(|job| !job.exists()) && others.exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}

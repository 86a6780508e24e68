//! Files outside its home that an ended user leaves in folders of the system's, named after it: they
//! would work for whoever gets the name next. Entries of root's own folders only; unlinking follows
//! no link, and what is inside is never read.

use std::io;
use std::path::{Path, PathBuf};

use crate::policy::ids::Uid;
use crate::policy::names::Login;

/// Folders with an entry named like the login: lingering, crontabs (Debian, then others), sudo's time
/// stamps before 1.9.15 and whether it has lectured.
const BY_LOGIN: [&str; 6] = [
    "var/lib/systemd/linger",
    "var/spool/cron/crontabs",
    "var/spool/cron",
    "run/sudo/ts",
    "var/lib/sudo/ts",
    "var/lib/sudo/lectured",
];
/// Folders with an entry named like the UID: time stamps of sudo since 1.9.15 and of sudo-rs.
const BY_UID: [&str; 3] = ["run/sudo/ts", "var/lib/sudo/ts", "run/sudo-rs/ts"];

/// Removes them; returns what could not be removed, for the journal. Absent ones are no failure.
pub fn remove(login: &Login, uid: Uid) -> Vec<(PathBuf, io::Error)> {
    remove_below(Path::new("/"), login, uid)
}

fn remove_below(root: &Path, login: &Login, uid: Uid) -> Vec<(PathBuf, io::Error)> {
    let by_login = BY_LOGIN
        .iter()
        .map(|folder| root.join(folder).join(login.as_ref()));
    let by_uid = BY_UID
        .iter()
        .map(|folder| root.join(folder).join(uid.to_string()));
    by_login
        .chain(by_uid)
        .filter_map(|path| match std::fs::remove_file(&path) {
            Ok(()) => None,
            // /var/spool/cron is the parent of `crontabs` on some systems and holds files on others.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
                ) =>
            {
                None
            }
            Err(e) => Some((path, e)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_after_the_user_goes_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("leftovers-{}", std::process::id()));
        let uid = Uid::try_from(0x7000_0401).unwrap();
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
        let other = file("var/spool/cron/crontabs", "zeddy");
        let login = Login::try_from("zed").unwrap();
        assert!(remove_below(&root, &login, uid).is_empty());
        assert!(mine.iter().all(|path| !path.exists()) && other.exists());
        // A login named like a folder of the system's does not take it away.
        let crontabs = Login::try_from("crontabs").unwrap();
        assert!(remove_below(&root, &crontabs, uid).is_empty());
        assert!(other.exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}

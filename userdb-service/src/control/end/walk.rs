//! A walk through `/proc`: which of some users have processes that live. It costs some 10 µs for each process of the machine,
//! whoever's it is, so it is made for all of them together, and in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::ReadDir;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use crate::control::host::proc_files;

/// A walk that has come so far.
#[derive(Debug)]
pub(super) struct Walk {
    processes: ReadDir,
    /// Of whom nothing has been seen yet that lives; and whether a zombie has.
    sought: BTreeMap<u32, bool>,
}

impl Walk {
    /// Begins to walk for `uids` through `proc`.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub(super) fn begin(proc: &Path, uids: impl IntoIterator<Item = u32>) -> io::Result<Walk> {
        Ok(Walk {
            processes: std::fs::read_dir(proc)?,
            sought: uids.into_iter().map(|uid| (uid, false)).collect(),
        })
    }

    /// Goes past so many processes more. Once it has passed them all: who has zombies, and nothing that lives.
    pub(super) fn go_on(&mut self, processes: usize) -> Option<BTreeSet<u32>> {
        for _ in 0..processes {
            if self.sought.is_empty() {
                return Some(BTreeSet::new());
            }
            match self.processes.next() {
                Some(Ok(entry)) => self.pass(&entry.path()),
                // Who has not been passed may live.
                Some(Err(_)) => self.sought.clear(),
                None => return Some(self.have_zombies()),
            }
        }
        None
    }

    fn pass(&mut self, process: &Path) {
        let status = process.join("status");
        let Some(status) = status.to_str().map(proc_files::read) else {
            return;
        };
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                let raw = error.raw_os_error().map(Errno::from_raw);
                // It has ended, or is no process.
                if !matches!(raw, Some(Errno::ENOENT | Errno::ESRCH | Errno::ENOTDIR)) {
                    self.sought.clear();
                }
                return;
            }
        };
        let Some((uid, is_zombie)) = whose(&status) else {
            return;
        };
        if !is_zombie {
            self.sought.remove(&uid);
        } else if let Some(has_zombie) = self.sought.get_mut(&uid) {
            *has_zombie = true;
        }
    }

    /// Not those of whom nothing was seen at all: whoever hides it, they were sought because the kernel says that it is there.
    fn have_zombies(&self) -> BTreeSet<u32> {
        let have_one = self.sought.iter().filter(|(_, has_zombie)| **has_zombie);
        have_one.map(|(uid, _)| *uid).collect()
    }
}

/// Whose the process with this `/proc/PID/status` is, and whether it is a zombie. A process whose first thread has ended looks like
/// one, and lives on by its others.
fn whose(status: &str) -> Option<(u32, bool)> {
    let first = |name: &str| {
        let value = proc_files::field(status, name)?;
        value.split_ascii_whitespace().next()
    };
    let uid = first("Uid:")?.parse().ok()?;
    let is_dead = matches!(first("State:"), Some("Z" | "X"));
    Some((uid, is_dead && first("Threads:") == Some("1")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder with processes like `/proc`: of these users, and whether they live.
    pub(in crate::control::end) fn proc(name: &str, processes: &[(u32, bool)]) -> PathBuf {
        let proc = std::env::temp_dir().join(format!("proc-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&proc);
        std::fs::create_dir_all(proc.join("sys")).unwrap();
        for (pid, (uid, lives)) in processes.iter().enumerate() {
            let state = if *lives { "S (sleeping)" } else { "Z (zombie)" };
            let process = proc.join(pid.to_string());
            std::fs::create_dir(&process).unwrap();
            // Users name their processes as they like.
            let mut status = b"Name:\t\xff\n".to_vec();
            let rest = format!("State:\t{state}\nUid:\t{uid}\t0\t0\t0\nThreads:\t1\n");
            status.extend(rest.as_bytes());
            std::fs::write(process.join("status"), status).unwrap();
        }
        proc
    }

    #[test]
    fn one_walk_tells_of_all_users_who_has_nothing_but_zombies() {
        const LIVES: bool = true;
        let proc = proc(
            "users",
            &[
                (1, LIVES),
                (2, !LIVES),
                (3, !LIVES),
                (3, LIVES),
                (4, !LIVES),
            ],
        );
        let sought = [1, 2, 3, 4, 5];
        let mut walk = Walk::begin(&proc, sought).unwrap();
        assert_eq!(walk.go_on(usize::MAX), Some([2, 4].into()));
        let mut nobody = Walk::begin(&proc, []).unwrap();
        assert_eq!(nobody.go_on(1), Some([].into()));
        std::fs::remove_dir_all(&proc).unwrap();
        assert!(Walk::begin(&proc, sought).is_err());
    }

    #[test]
    fn a_walk_is_over_when_all_have_been_passed_and_not_before() {
        let proc = proc("parts", &[(2, false); 10]);
        let mut walk = Walk::begin(&proc, [2]).unwrap();
        // The folder that is of no process is passed, too.
        for _ in 0..11 {
            assert_eq!(walk.go_on(1), None);
        }
        assert_eq!(walk.go_on(1), Some([2].into()));
        std::fs::remove_dir_all(&proc).unwrap();
    }

    #[test]
    fn a_process_without_its_first_thread_is_no_zombie() {
        let status =
            |state, threads| format!("State:\t{state}\nUid:\t7\t8\t8\t8\nThreads:\t{threads}\n");
        assert_eq!(whose(&status("Z (zombie)", 1)), Some((7, true)));
        assert_eq!(whose(&status("X (dead)", 1)), Some((7, true)));
        assert_eq!(whose(&status("Z (zombie)", 2)), Some((7, false)));
        assert_eq!(whose(&status("S (sleeping)", 1)), Some((7, false)));
        assert_eq!(whose("State:\tZ (zombie)\n"), None);
    }
}

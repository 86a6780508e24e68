//! That one `teleport-sessiond` works at a time: a lock on a file beside its state, held for its life.
//! The kernel gives it back with the process, however that ends; nothing is written.
//!
//! A process that is killed while one of its threads waits for a disk that stalls keeps its locks until the disk answers, though
//! nobody works there any more: the thread dies before it does anything else. So whose main thread has ended is not waited for.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::{major, minor};
use nix::sys::stat::fstat;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;

use crate::control::host::proc_files;

const RETRY: Duration = Duration::from_millis(20);

const LOCK: &str = ".lock";

/// Keeps others from working, until it is dropped.
#[derive(Debug)]
pub(in crate::control) struct Alone {
    _lock: File,
}

/// Waits up to `patience` to be the only one. `None`: somebody else is at work.
///
/// # Errors
/// The folder cannot be opened; `NotFound` also means that nobody is at work.
pub(in crate::control) fn alone(folder: &Path, patience: Duration) -> io::Result<Option<Alone>> {
    let deadline = Instant::now() + patience;
    loop {
        // Locked while it is looked whose the lock is, so that it is taken from a dead one by one only.
        let folder = File::open(folder)?;
        if is_locked_by_us(&folder)?
            && let Some(lock) = take(folder)?
        {
            return Ok(Some(Alone { _lock: lock }));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(RETRY);
    }
}

fn is_locked_by_us(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The lock, if nobody who lives has it.
fn take(folder: File) -> io::Result<Option<File>> {
    let lock = match at(&folder, OFlags::empty()) {
        Ok(lock) => lock,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => match at(&folder, OFlags::CREATE) {
            Ok(lock) => lock,
            // Nobody has it, and where none can be made (a full /run) the folder's does as well.
            Err(_) => return Ok(Some(folder)),
        },
    };
    if is_locked_by_us(&lock)? {
        return Ok(Some(lock));
    }
    if !holders(&lock)?.into_iter().all(has_ended) {
        return Ok(None);
    }
    unlinkat(&folder, LOCK, AtFlags::empty())?;
    let lock = at(&folder, OFlags::CREATE | OFlags::EXCL)?;
    Ok(is_locked_by_us(&lock)?.then_some(lock))
}

fn at(folder: &File, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    let opened = openat(folder, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(opened))
}

/// Who has locked the file, by the kernel's list: `N: FLOCK ADVISORY WRITE PID MAJ:MIN:INODE START END`, with the device in
/// hexadecimal (proc_locks(5)). Nobody that is seen: then somebody who is not seen.
fn holders(lock: &File) -> io::Result<Vec<u32>> {
    let stat = fstat(lock)?;
    let (major, minor) = (major(stat.st_dev), minor(stat.st_dev));
    let place = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks")?;
    let of_it = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, at, ..] = fields[..] else {
            return None;
        };
        (at == place).then(|| pid.parse().unwrap_or(0))
    };
    let found: Vec<u32> = locks.lines().filter_map(of_it).collect();
    Ok(if found.is_empty() { vec![0] } else { found })
}

/// Whether the process does nothing any more: its main thread has ended, and with it, in a daemon, everything but what a thread waits for
/// in the kernel.
fn has_ended(pid: u32) -> bool {
    let status = proc_files::read(&format!("/proc/{pid}/status"));
    status.is_ok_and(|status| {
        proc_files::field(&status, "State:")
            .is_some_and(|state| state.trim_start().starts_with(['Z', 'X']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::host::stalled_disk::{StalledDisk, is_stuck, wait_until};
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::thread;

    const PLACES: [&str; 2] = ["TELEPORT_USERDB_TEST_LOCK", "TELEPORT_USERDB_TEST_DISK"];

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_at_a_time_and_the_next_when_it_is_over() {
        let folder = Folder::new("alone");
        let first = alone(&folder.0, Duration::ZERO).unwrap();
        assert!(first.is_some());
        assert!(alone(&folder.0, RETRY * 2).unwrap().is_none());
        drop(first);
        assert!(alone(&folder.0, Duration::ZERO).unwrap().is_some());
        let path = folder.0.clone();
        drop(folder);
        let absent = alone(&path, Duration::ZERO).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    /// Who takes the lock, and works on that disk.
    #[test]
    #[ignore = "a process of the test below"]
    fn works_on_a_disk() {
        let [folder, disk] = PLACES.map(|name| PathBuf::from(std::env::var_os(name).unwrap()));
        let lock = alone(&folder, Duration::ZERO).unwrap();
        assert!(lock.is_some());
        let worker = thread::Builder::new().name("worker".to_owned());
        let file = worker.spawn(move || File::create(disk.join("file"))?.sync_all());
        file.unwrap().join().unwrap().unwrap();
    }

    #[test]
    fn who_was_killed_is_not_waited_for_although_the_disk_still_holds_a_thread_of_it() {
        let folder = Folder::new("alone-dead");
        let disk = StalledDisk::new("alone-disk");
        disk.freeze();
        let mut works = Command::new(std::env::current_exe().unwrap());
        works.args([
            "--ignored",
            "--exact",
            "control::daemon::alone::tests::works_on_a_disk",
        ]);
        works.env(PLACES[0], &folder.0).env(PLACES[1], &disk.folder);
        let mut works = works.stdout(Stdio::null()).spawn().unwrap();
        wait_until("a thread that waits for the disk", || {
            is_stuck(works.id(), "worker")
        });
        assert!(alone(&folder.0, RETRY * 2).unwrap().is_none());
        works.kill().unwrap();
        let mut next = None;
        wait_until("its end", || {
            next = alone(&folder.0, Duration::ZERO).unwrap();
            next.is_some()
        });
        assert!(is_stuck(works.id(), "worker"));
        // One at a time, as ever; and when the disk has answered, too.
        assert!(alone(&folder.0, RETRY * 2).unwrap().is_none());
        disk.thaw();
        works.wait().unwrap();
        assert!(alone(&folder.0, RETRY * 2).unwrap().is_none());
        drop(next);
        assert!(alone(&folder.0, Duration::ZERO).unwrap().is_some());
    }
}

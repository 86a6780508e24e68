//! The lock that `lckpwdf` takes: held while it is checked that a name and an ID are free and until
//! they are published, so that useradd and we never hand out the same one.
//!
//! Logins that are being decided share one hold of it, but only with a young one: overlapping logins would
//! otherwise keep useradd out for ever.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tokio::time::{Instant, sleep};

/// How old a hold may be that another login joins.
const YOUNG: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

/// Where the lock is and whether it is held.
#[derive(Debug)]
pub(in crate::control) struct PasswdLock {
    path: PathBuf,
    held: RefCell<Weak<Hold>>,
}

/// Keeps the lock until the last clone is dropped.
#[derive(Debug)]
pub(in crate::control) struct Hold {
    since: Instant,
    file: Option<File>,
}

impl Hold {
    fn of(file: Option<File>) -> Self {
        Self {
            since: Instant::now(),
            file,
        }
    }
}

impl Drop for Hold {
    /// Trap: the lock is the open file's. To close it releases the lock only once nobody else has it open, such as a child
    /// that is about to become another program.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
        }
    }
}

impl PasswdLock {
    /// The lock at `path` (`/etc/.pwd.lock` but for tests).
    pub(in crate::control) fn new(path: PathBuf) -> Self {
        Self {
            path,
            held: RefCell::new(Weak::new()),
        }
    }

    /// Waits up to two seconds for another program to give the lock back, and for older logins as long as
    /// they take: they have limits of their own. A read-only `/etc`, or one without the file, cannot be
    /// written by useradd either: then there is nothing to lock out.
    pub(in crate::control) async fn hold(&self) -> io::Result<Rc<Hold>> {
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let held = self.held.borrow().upgrade();
            if let Some(hold) = held {
                if hold.since.elapsed() < YOUNG {
                    return Ok(hold);
                }
                drop(hold);
                // Not at once when it is given back: others have waited for that, too.
                sleep(RETRY).await;
                deadline = Instant::now() + PATIENCE;
                continue;
            }
            match self.try_lock() {
                Ok(hold) => {
                    let hold = Rc::new(hold);
                    *self.held.borrow_mut() = Rc::downgrade(&hold);
                    return Ok(hold);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if Instant::now() >= deadline => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!(
                            "{} is locked by another program for more than {} s",
                            self.path.display(),
                            PATIENCE.as_secs()
                        ),
                    ));
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn try_lock(&self) -> io::Result<Hold> {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EROFS | libc::ENOENT) => Ok(Hold::of(None)),
                    _ => Err(error),
                };
            }
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Hold::of(Some(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn whole_file(what: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: what as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pwdlock-{name}-{}", std::process::id()));
        File::create(&path).expect("made");
        path
    }

    #[tokio::test]
    async fn logins_share_one_hold_and_the_last_one_releases_it() {
        let path = scratch("share");
        let ours = PasswdLock::new(path.clone());
        let first = ours.hold().await.expect("free");
        let second = ours.hold().await.expect("shared");
        drop(first);
        let other = PasswdLock::new(path.clone());
        assert_eq!(
            other.try_lock().map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        drop(second);
        other.try_lock().expect("released");
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn a_hold_is_released_although_somebody_else_has_the_file_open() {
        let path = scratch("inherited");
        let hold = PasswdLock::new(path.clone()).hold().await.expect("free");
        let inherited = hold
            .file
            .as_ref()
            .map(|file| file.try_clone().expect("open"));
        drop(hold);
        PasswdLock::new(path.clone()).try_lock().expect("released");
        drop(inherited);
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn overlapping_logins_give_the_lock_back_between_them() {
        let path = scratch("overlap");
        let ours = PasswdLock::new(path.clone());
        let others = PasswdLock::new(path.clone());
        let old = ours.hold().await.expect("free");
        sleep(YOUNG).await;
        let mut next = Box::pin(ours.hold());
        let joined = tokio::time::timeout(RETRY * 5, &mut next).await;
        assert!(joined.is_err(), "an old hold was joined");
        drop(old);
        // Who has waited in the kernel, as useradd does, has it before the login that waits here.
        drop(others.try_lock().expect("given back"));
        let next = next.await.expect("free again");
        assert!(next.since.elapsed() < YOUNG);
        assert!(others.try_lock().is_err());
        std::fs::remove_file(path).expect("removed");
    }

    #[tokio::test]
    async fn a_missing_lock_file_locks_nobody_out() {
        let lock = PasswdLock::new(std::env::temp_dir().join("no-such-lock"));
        lock.hold().await.expect("tolerated");
    }

    #[tokio::test]
    async fn a_lock_that_stays_taken_is_given_up_with_a_sentence() {
        let path = scratch("taken");
        let other = PasswdLock::new(path.clone());
        let _held = other.hold().await.expect("free");
        let error = PasswdLock::new(path.clone())
            .hold()
            .await
            .expect_err("taken");
        assert!(error.to_string().contains("locked by another program"));
        std::fs::remove_file(path).expect("removed");
    }
}

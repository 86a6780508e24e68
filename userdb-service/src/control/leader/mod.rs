//! The leader of a session: the process that called libpam, held by a pidfd. Its end is the session's.
//! Who it is comes from the kernel only; what follows from its end is the registry's business.
//! One unsafe block: tokio asks for a promise about the descriptor that it watches.

pub(super) mod parents;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{FsType, fstatfs};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_derive::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::control::host::proc_files;

/// `PID_FS_MAGIC`: on this file system (kernel 6.9 and newer) the inode of a pidfd is never reused.
const PIDFS: FsType = FsType(0x5049_4446);

/// Which process, in a form that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaderId {
    /// PID in the daemon's PID namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// Inode of its pidfd where the kernel makes it unique.
    pub pidfd_inode: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id`: PIDs and start times of another boot mean nothing.
    pub boot_id: String,
}

/// Why a process cannot be a leader.
#[derive(Debug)]
pub enum LeaderError {
    /// It has ended (or its PID is another process's by now).
    Gone,
    /// The kernel did not say.
    Unknown(io::Error),
}

impl std::fmt::Display for LeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LeaderError::Gone => f.write_str("the leader has ended"),
            LeaderError::Unknown(e) => write!(f, "cannot identify the leader: {e}"),
        }
    }
}

impl std::error::Error for LeaderError {}

impl From<io::Error> for LeaderError {
    fn from(e: io::Error) -> LeaderError {
        match e.raw_os_error() {
            // ENOENT and ESRCH are what /proc and pidfds say of a process that is no more.
            Some(libc::ESRCH | libc::ENOENT) => LeaderError::Gone,
            _ => LeaderError::Unknown(e),
        }
    }
}

impl From<nix::Error> for LeaderError {
    fn from(e: nix::Error) -> LeaderError {
        io::Error::from(e).into()
    }
}

/// A process that was alive when it was identified, and whose end can be waited for.
#[derive(Clone, Debug)]
pub struct Leader {
    pidfd: Arc<OwnedFd>,
    id: LeaderId,
    /// The PID of its parent when it was identified.
    parent_then: i32,
}

impl Leader {
    /// The peer of a connection: by its pidfd, whose PID [`admit`](crate::control::calls::admission::admit) has compared with `pid`.
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if the peer has ended.
    pub fn of_peer(pid: i32, pidfd: Option<&Arc<OwnedFd>>) -> Result<Leader, LeaderError> {
        Leader::identified(pidfd.ok_or(LeaderError::Gone)?.clone(), pid)
    }

    /// The process that has this PID now.
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if there is none.
    pub fn from_pid(pid: i32) -> Result<Leader, LeaderError> {
        let raw = Pid::from_raw(pid).ok_or(LeaderError::Gone)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| match error {
            // What older kernels say of a number that is a thread's, or that only a process group still has.
            rustix::io::Errno::INVAL => LeaderError::Gone,
            error => io::Error::from(error).into(),
        })?;
        Leader::identified(Arc::new(pidfd), pid)
    }

    /// Finds the process again that was identified before a restart of the daemon.
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if it has ended, whoever has its PID now.
    pub fn reidentify(id: &LeaderId) -> Result<Leader, LeaderError> {
        let found = Leader::from_pid(id.pid)?;
        // A kernel with unique inodes may have replaced one without: then the start time decides.
        let same_inode = match (id.pidfd_inode, found.id.pidfd_inode) {
            (Some(then), Some(now)) => then == now,
            _ => true,
        };
        if found.id.start_time == id.start_time && found.id.boot_id == id.boot_id && same_inode {
            Ok(found)
        } else {
            Err(LeaderError::Gone)
        }
    }

    fn identified(pidfd: Arc<OwnedFd>, pid: i32) -> Result<Leader, LeaderError> {
        let stat = parse_stat(&proc_files::read(&format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))?;
        // Not to be found says nothing of the process.
        let boot_id = boot_id().map_err(LeaderError::Unknown)?;
        let pidfd_inode = match is_of_pidfs(&pidfd)? {
            true => Some(nix::sys::stat::fstat(&pidfd)?.st_ino),
            false => None,
        };
        // Only now: while the pidfd says "alive", the PID cannot have passed to another process, so
        // what was read above is this process's.
        if has_exited(pidfd.as_fd())? {
            return Err(LeaderError::Gone);
        }
        let id = LeaderId {
            pid,
            start_time: stat.start_time,
            pidfd_inode,
            boot_id: boot_id.to_owned(),
        };
        Ok(Leader {
            pidfd,
            id,
            parent_then: stat.parent,
        })
    }

    /// Who it is.
    pub fn id(&self) -> &LeaderId {
        &self.id
    }

    /// Whether this pidfd is of the very same process, which lives. What cannot be told is not.
    pub fn is_behind(&self, pidfd: &OwnedFd) -> bool {
        let inode = match is_of_pidfs(pidfd) {
            Ok(true) => nix::sys::stat::fstat(pidfd).ok().map(|stat| stat.st_ino),
            _ => None,
        };
        inode.is_some()
            && inode == self.id.pidfd_inode
            && matches!(has_exited(pidfd.as_fd()), Ok(false))
    }

    /// Whether it has ended, now and without waiting.
    ///
    /// # Errors
    /// Only if the kernel refuses to poll.
    pub fn has_exited(&self) -> io::Result<bool> {
        has_exited(self.pidfd.as_fd())
    }

    /// The PID of its parent when it was identified; `None` if that is init or nobody, who never ends.
    pub fn parent_then(&self) -> Option<i32> {
        Some(self.parent_then).filter(|pid| *pid > 1)
    }

    /// Something to wait on for its end. Each time another one: a process may lead several sessions.
    ///
    /// # Errors
    /// The descriptor cannot be watched (out of memory or of watches).
    pub fn watch(&self) -> io::Result<Exit> {
        match Exit::of(Arc::clone(&self.pidfd)) {
            // The kernel watches a descriptor once, but each copy of it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Exit::of(Arc::new(self.pidfd.try_clone()?))
            }
            watched => watched,
        }
    }

    /// Its parent, to be watched beside it; `None` if that is init or nobody, who never ends.
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if the leader has ended.
    pub fn parent(&self) -> Result<Option<Leader>, LeaderError> {
        // A parent that ends while we look hands the leader to somebody else: look again then. Who takes over is an
        // ancestor, and older: he did not have the first one's PID, so that the same PID is the same process.
        let mut before = self.parent_then;
        for _ in 0..8 {
            if before <= 1 {
                return Ok(None);
            }
            let found = Leader::from_pid(before);
            // Who has taken over the PID since it was looked at is younger than the leader. Who is older is the parent that was
            // seen then, and lives, so it still is the parent.
            if found.as_ref().is_ok_and(|found| found.is_older_than(self)) {
                return match self.has_exited()? {
                    true => Err(LeaderError::Gone),
                    false => found.map(Some),
                };
            }
            // Started in the same tick of the clock, or not there any more.
            let now = self.stat()?.parent;
            match found {
                Ok(parent) if now == before => return Ok(Some(parent)),
                Ok(_) | Err(LeaderError::Gone) => before = now,
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("its parent keeps changing").into())
    }

    /// Whether nobody but root may stop it. Once its real or saved UID is the user's, the user may, and its life says nothing about
    /// the session any more. The other two do not count: who looks at the user's files as the user lowers them for as long as that
    /// takes.
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if it has ended.
    pub fn is_root(&self) -> Result<bool, LeaderError> {
        let status = self.read("status")?;
        parse_uids(&status)
            .map(|[real, _, saved, _]| real == 0 && saved == 0)
            .ok_or_else(|| io::Error::other("its status has no UIDs").into())
    }

    /// Whether it has given root away for good: neither its real nor its effective nor its saved UID is
    /// root's. (A PAM module that looks at the user's files changes one or the other for a moment.)
    ///
    /// # Errors
    /// [`LeaderError::Gone`] if it has ended.
    pub fn has_given_root_away(&self) -> Result<bool, LeaderError> {
        let status = self.read("status")?;
        parse_uids(&status)
            .map(|[real, effective, saved, _]| real != 0 && effective != 0 && saved != 0)
            .ok_or_else(|| io::Error::other("its status has no UIDs").into())
    }

    /// Certainly: not in the same tick of the clock.
    fn is_older_than(&self, other: &Leader) -> bool {
        self.id.start_time < other.id.start_time
    }

    fn stat(&self) -> Result<Stat, LeaderError> {
        parse_stat(&self.read("stat")?)
            .ok_or_else(|| io::Error::other("its stat is not as expected").into())
    }

    /// A file of `/proc/PID` that is certainly this process's.
    fn read(&self, file: &str) -> Result<String, LeaderError> {
        let text = proc_files::read(&format!("/proc/{}/{file}", self.id.pid))?;
        if self.has_exited()? {
            Err(LeaderError::Gone)
        } else {
            Ok(text)
        }
    }
}

/// The end of a leader, to be awaited.
#[derive(Debug)]
pub struct Exit(AsyncFd<Arc<OwnedFd>>);

impl Exit {
    fn of(pidfd: Arc<OwnedFd>) -> io::Result<Exit> {
        // SAFETY: the descriptor is owned by an Arc that the AsyncFd keeps, and nothing takes it out:
        // it stays open, and the same, until the AsyncFd is dropped.
        unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }
            .map(Exit)
            .map_err(io::Error::from)
    }

    /// Whether the process has ended, now and without waiting.
    ///
    /// # Errors
    /// Only if the kernel refuses to poll.
    pub fn has_come(&self) -> io::Result<bool> {
        has_exited(self.0.get_ref().as_fd())
    }

    /// Returns when the process has ended, at once if it has already. Cancel-safe.
    ///
    /// # Errors
    /// Only if the kernel refuses to poll.
    pub async fn ended(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            if has_exited(self.0.get_ref().as_fd())? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// Whether the process of a pidfd has ended, reaped or not.
pub(in crate::control) fn has_exited(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(ready) => return Ok(ready > 0),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

struct Stat {
    parent: i32,
    start_time: u64,
}

/// `/proc/PID/stat`. The second field is the command in brackets and may hold anything, brackets
/// and blanks included, so the fields are counted from the last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start_time })
}

/// Which boot this is: it outlives this daemon.
fn boot_id() -> io::Result<&'static str> {
    static THIS: OnceLock<String> = OnceLock::new();
    if let Some(this) = THIS.get() {
        return Ok(this);
    }
    let text = proc_files::read("/proc/sys/kernel/random/boot_id")?;
    Ok(THIS.get_or_init(|| text.trim().to_owned()))
}

/// Whether inodes of pidfds are unique. Of one kernel all pidfds are of the same kind.
fn is_of_pidfs(pidfd: &OwnedFd) -> io::Result<bool> {
    static ALL: OnceLock<bool> = OnceLock::new();
    if let Some(all) = ALL.get() {
        return Ok(*all);
    }
    let this = fstatfs(pidfd)?.filesystem_type() == PIDFS;
    Ok(*ALL.get_or_init(|| this))
}

/// Real, effective, saved and file-system UID.
fn parse_uids(status: &str) -> Option<[u32; 4]> {
    let fields = proc_files::field(status, "Uid:")?;
    let uids: Vec<u32> = fields
        .split_ascii_whitespace()
        .flat_map(str::parse)
        .collect();
    uids.try_into().ok()
}

#[cfg(test)]
mod tests;

//! The janitor: children that become the ended user and touch what is the user's, so that root need
//! not. Here is the daemon's side; [`child`] is what runs in the child.
//!
//! A child is root until it has been executed and then gives its identity away itself. So the user's
//! processes can neither trace nor signal it, as they could had it been started under their UID.

mod child;
mod ipc;
mod wipe;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::policy::ids::{Gid, Uid};
use crate::policy::names::Login;

pub use child::run;
pub(in crate::control) use wipe::wipe;

/// The first argument with which our own binary is run again as a janitor.
pub const JANITOR_ARGUMENT: &str = "--janitor";

/// How many may be at work. However many users end at once: their janitors are tasks of our unit, whose threads those need who come in
/// meanwhile (`TasksMax=`).
const AT_ONCE: usize = 16;
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);
/// Those that empty folders take as long as there is something in them, and keep nobody's processes from being ended.
static TURNS_AT_FOLDERS: Semaphore = Semaphore::const_new(AT_ONCE);

/// What a janitor can do. Its name is its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Terminate,
    Kill,
    Ipc,
    Leftovers,
    Wipe,
    WipeAsRoot,
}

impl Task {
    const ALL: [Task; 6] = [
        Task::Terminate,
        Task::Kill,
        Task::Ipc,
        Task::Leftovers,
        Task::Wipe,
        Task::WipeAsRoot,
    ];

    fn name(self) -> &'static str {
        match self {
            Task::Terminate => "terminate",
            Task::Kill => "kill",
            Task::Ipc => "ipc",
            Task::Leftovers => "leftovers",
            Task::Wipe => "wipe",
            Task::WipeAsRoot => "wipe-as-root",
        }
    }

    /// How long one may take before it is killed.
    fn limit(self) -> Duration {
        let seconds = match self {
            Task::Terminate | Task::Kill | Task::Leftovers => 5,
            Task::Ipc => 10,
            Task::Wipe | Task::WipeAsRoot => 60,
        };
        Duration::from_secs(seconds)
    }

    fn turns(self) -> &'static Semaphore {
        match self {
            Task::Wipe | Task::WipeAsRoot => &TURNS_AT_FOLDERS,
            Task::Terminate | Task::Kill | Task::Ipc | Task::Leftovers => &TURNS,
        }
    }
}

/// Why a task is not done. What it was to end or remove may still be there.
#[derive(Debug)]
pub enum JanitorError {
    /// It could not be started.
    Start(io::Error),
    /// It was killed after its time.
    TimedOut(Duration),
    /// It ended without having done it; its own words.
    Failed(String),
}

impl fmt::Display for JanitorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JanitorError::Start(e) => write!(f, "cannot start a janitor: {e}"),
            JanitorError::TimedOut(limit) => write!(f, "the janitor was not done within {limit:?}"),
            JanitorError::Failed(why) => write!(f, "the janitor failed: {why}"),
        }
    }
}

impl std::error::Error for JanitorError {}

/// Runs janitors, a few at a time, each with a limit of its own that counts from its turn.
#[derive(Clone, Debug)]
pub struct Janitor {
    /// Our own binary, which is a janitor if its first argument is [`JANITOR_ARGUMENT`].
    pub program: PathBuf,
}

impl Default for Janitor {
    fn default() -> Janitor {
        // The running image itself, also while its package is being upgraded.
        Janitor {
            program: PathBuf::from("/proc/self/exe"),
        }
    }
}

impl Janitor {
    /// Sends SIGTERM to every process of `uid`, wherever it hides, and does not wait for what they do.
    ///
    /// # Errors
    /// None may have had it.
    pub async fn terminate(&self, uid: Uid) -> Result<(), JanitorError> {
        self.run(Task::Terminate, uid.get(), uid.get(), None).await
    }

    /// Sends SIGKILL to every process of `uid`, wherever it hides, until none is left.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn kill(&self, uid: Uid) -> Result<(), JanitorError> {
        self.run(Task::Kill, uid.get(), uid.get(), None).await
    }

    /// Removes the SysV and POSIX IPC objects of `uid`.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn remove_ipc(&self, uid: Uid, gid: Gid) -> Result<(), JanitorError> {
        self.run(Task::Ipc, uid.get(), gid.get(), None).await
    }

    /// Removes crontab, `at` jobs, linger file and sudo's time stamps of a user: still in a child, which works on
    /// folders of the system's as their owners.
    ///
    /// # Errors
    /// Some may be left.
    pub async fn remove_leftovers(&self, login: &Login, uid: Uid) -> Result<(), JanitorError> {
        let arguments = [&*uid.to_string(), login.as_ref()];
        let task = Task::Leftovers;
        self.start(task, &arguments, Stdio::null(), task.limit())
            .await
    }

    /// Removes everything in a folder that belongs to `uid`, but not the folder.
    ///
    /// # Errors
    /// Something may be left, for example what others put there.
    pub async fn wipe(
        &self,
        uid: Uid,
        gid: Gid,
        folder: BorrowedFd<'_>,
    ) -> Result<(), JanitorError> {
        self.run(Task::Wipe, uid.get(), gid.get(), Some(folder))
            .await
    }

    /// Removes what [`Janitor::wipe`] could not, such as root's own files: still in a child, and only
    /// for a folder that nobody can find any more. A process of another user may still stand in it and
    /// rearrange what it may write to; every step is relative to a folder that is held, so that this leads nowhere.
    ///
    /// # Errors
    /// Something may be left, for example a mount.
    pub async fn wipe_as_root(&self, folder: BorrowedFd<'_>) -> Result<(), JanitorError> {
        self.run(Task::WipeAsRoot, 0, 0, Some(folder)).await
    }

    async fn run(
        &self,
        task: Task,
        uid: u32,
        gid: u32,
        folder: Option<BorrowedFd<'_>>,
    ) -> Result<(), JanitorError> {
        let stdin = match folder {
            Some(folder) => Stdio::from(
                folder
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(JanitorError::Start)?,
            ),
            None => Stdio::null(),
        };
        let arguments = [&*uid.to_string(), &gid.to_string()];
        self.start(task, &arguments, stdin, task.limit()).await
    }

    async fn start(
        &self,
        task: Task,
        arguments: &[&str],
        stdin: Stdio,
        limit: Duration,
    ) -> Result<(), JanitorError> {
        // Never closed, so it comes: whoever has one gives it back after his limit.
        let _turn = task.turns().acquire().await;
        let mut child = Command::new(&self.program)
            .arg0("teleport-sessiond-janitor")
            .args([JANITOR_ARGUMENT, task.name()])
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(JanitorError::Start)?;
        let stderr = child.stderr.take();
        let work = async {
            let mut words = Vec::new();
            if let Some(stderr) = stderr {
                // Bounded: file names of the user are in these words.
                let _ = stderr.take(1024).read_to_end(&mut words).await;
            }
            (
                child.wait().await,
                String::from_utf8_lossy(&words).escape_debug().to_string(),
            )
        };
        let outcome = timeout(limit, work).await;
        match outcome {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((Ok(status), words)) => Err(JanitorError::Failed(format!("{status}: {words}"))),
            Ok((Err(e), _)) => Err(JanitorError::Failed(e.to_string())),
            Err(_) => {
                // Not only dropped: when this returns, nothing works on the folder any more, but for a child that the kernel
                // holds up (on a disk that does not answer), for which nobody can wait.
                let _ = timeout(Duration::from_secs(1), child.kill()).await;
                Err(JanitorError::TimedOut(limit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// In the place of a janitor: writes down how many are at work, and takes half a second.
    const WORK: &str = r#"#!/bin/sh
cd "${0%/*}" && : > "at-work/$$" && set -- at-work/* && echo $# >> together
sleep 0.5
rm "at-work/$$"
"#;

    #[tokio::test]
    async fn of_however_many_a_few_work_at_a_time_and_each_has_its_time_from_its_turn() {
        let folder = std::env::temp_dir().join(format!("janitors-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("at-work")).unwrap();
        let program = folder.join("janitor");
        std::fs::write(&program, WORK).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let janitor = Janitor { program };
        let together = folder.join("together");
        for task in [Task::Kill, Task::Wipe] {
            let mut working = tokio::task::JoinSet::new();
            for _ in 0..4 * AT_ONCE {
                let janitor = janitor.clone();
                let limit = Duration::from_millis(1700);
                working.spawn(async move { janitor.start(task, &[], Stdio::null(), limit).await });
            }
            for done in working.join_all().await {
                done.unwrap();
            }
            let counts = std::fs::read_to_string(&together).unwrap();
            let counts: Vec<usize> = counts.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(counts.len(), 4 * AT_ONCE);
            let most = *counts.iter().max().unwrap();
            assert!((2..=AT_ONCE).contains(&most), "{most} at a time");
            std::fs::remove_file(&together).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! A janitor child: becomes the user, for good, and does one task.
//! Nothing of the user's is touched before the change of identity has been verified.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{
    Gid, Pid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid,
};

use super::{Task, ipc, wipe};
use crate::control::end::leftovers;
use crate::control::end::remains::{has_living_processes, has_processes};
use crate::policy::ids::is_usable;
use crate::policy::names::Login;

/// Real and saved UID of a janitor, whose effective UID is the user's: this plus its PID.
///
/// A process may signal another only if a UID of its own is the other's real or saved one. So the user
/// cannot stop the janitor, while the janitor can stop the user; and since no two janitors share such
/// a UID, kill(-1) of one does not end another. Nobody has UIDs above 2^31.
const NOBODYS_UIDS: u32 = 0x8100_0000;

/// Does the task that the arguments (after [`super::JANITOR_ARGUMENT`]) name: `TASK UID GID`, with
/// the folder to work in, if the task has one, as file descriptor 0.
///
/// # Errors
/// What could not be done, for the daemon's journal.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let mut next = || {
        arguments
            .next()
            .and_then(|argument| argument.into_string().ok())
    };
    let name = next().unwrap_or_default();
    if name == Task::Leftovers.name() {
        return leave_nothing(next(), next());
    }
    let task = Task::ALL.into_iter().find(|task| task.name() == name);
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u32>().ok());
    let (Some(task), Some(uid), Some(gid)) = (task, number(next()), number(next())) else {
        return Err(
            "usage: --janitor terminate|kill|ipc|wipe|wipe-as-root UID GID, or leftovers UID LOGIN"
                .to_owned(),
        );
    };
    let said = |what: &str, e: io::Error| format!("{what}: {e}");
    if task == Task::WipeAsRoot {
        prctl::set_no_new_privs().map_err(|e| said("no_new_privs", e.into()))?;
    } else {
        become_user(uid, gid).map_err(|e| said("becoming the user", e))?;
    }
    // A change of identity forgets this, so it comes after.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| said("parent death signal", e.into()))?;
    match task {
        Task::Terminate => terminate_all().map_err(|e| said("terminate", e)),
        Task::Kill => kill_all(uid).map_err(|e| said("kill", e)),
        Task::Ipc => ipc::remove_all(uid).map_err(|e| said("ipc", e)),
        Task::Leftovers => Err("leftovers are named by their login".to_owned()),
        Task::Wipe => folder()
            .and_then(|folder| wipe::wipe(&folder, false))
            .map_err(|e| said("wipe", e)),
        Task::WipeAsRoot => folder()
            .and_then(|folder| wipe::wipe(&folder, true))
            .map_err(|e| said("wipe", e)),
    }
}

/// `leftovers UID LOGIN`: as root, which works on folders of the system's.
fn leave_nothing(uid: Option<String>, login: Option<String>) -> Result<(), String> {
    let uid = uid.and_then(|uid| crate::policy::Uid::try_from(uid.parse::<u32>().ok()?).ok());
    let login = login.and_then(|login| Login::try_from(login.as_str()).ok());
    let (Some(uid), Some(login)) = (uid, login) else {
        return Err("usage: --janitor leftovers UID LOGIN".to_owned());
    };
    prctl::set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("parent death signal: {e}"))?;
    let left: Vec<String> = leftovers::remove(&login, uid)
        .into_iter()
        .map(|(path, error)| format!("{}: {error}", path.display()))
        .collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(left.join("; "))
    }
}

fn folder() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// Gives up root for good. Afterwards only the effective UID, which the kernel checks for files, IPC
/// and sending signals, is the user's.
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // With a UID above 2^31 the user could be what another janitor really is.
    if !is_usable(uid) || !is_usable(gid) || i32::try_from(uid).is_err() {
        return Err(io::Error::other(format!(
            "{uid}:{gid} is not a user of ours"
        )));
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let nobody = Uid::from_raw(NOBODYS_UIDS + std::process::id());
    prctl::set_no_new_privs()?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    match setresuid(nobody, user, nobody) {
        // In a user namespace that does not map it the user is all there is.
        Err(Errno::EINVAL) => setresuid(user, user, user)?,
        outcome => outcome?,
    }
    let (uids, gids) = (getresuid()?, getresgid()?);
    let outer = [uids.real, uids.saved]
        .iter()
        .all(|id| *id == nobody || *id == user);
    let inner = uids.effective == user;
    let groups = [gids.real, gids.effective, gids.saved]
        .iter()
        .all(|id| *id == group);
    let no_others = getgroups()?.iter().all(|id| *id == group);
    if outer && inner && groups && no_others && has_no_capabilities()? {
        Ok(())
    } else {
        Err(io::Error::other("the change of identity did not take"))
    }
}

fn has_no_capabilities() -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(["CapEff:", "CapPrm:", "CapAmb:"].iter().all(|set| {
        let value = status.lines().find_map(|line| line.strip_prefix(set));
        value.is_none_or(|value| value.trim().bytes().all(|digit| digit == b'0'))
    }))
}

/// As systemd does: who is stopped goes on, to see that it is to end.
fn terminate_all() -> io::Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        match kill(Pid::from_raw(-1), signal) {
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The kernel signals all processes of the user in one step that no fork can slip through.
fn kill_all(uid: u32) -> io::Result<()> {
    // Where the janitor could not keep a UID of its own it is one of the user's processes itself,
    // and whether others are left is for the daemon to see.
    let countable = getresuid()?.real.as_raw() != uid;
    for round in 1..=200 {
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
            Err(e) => return Err(e.into()),
        }
        // Dying takes a moment; zombies wait for their parents, some for ever.
        let look_closer = round % 50 == 0;
        if !countable || !has_processes(uid) || (look_closer && !has_living_processes(uid)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other("some processes do not end"))
}

/// The folder behind `fd`, which may be a mere path, opened for reading under our identity.
pub(super) fn readable(fd: &OwnedFd) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(fd, ".", flags, nix::sys::stat::Mode::empty())?)
}

/// Names in a folder, without `.` and `..`.
pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut listing = nix::dir::Dir::from_fd(readable(folder)?)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

//! Whom the registry believes: uid 0 of the host itself, as the kernel describes the peer.
//! Root of a container or of a user namespace also shows uid 0 on a socket that was bind-mounted
//! into it; what tells them apart is in `/proc`, readable without any capability.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::leader;

/// What a user namespace makes of IDs. One that was made with all users mapped to themselves has our `uid_map`; whoever
/// makes such a one seldom thinks of the others.
const MAPS: [&str; 3] = ["uid_map", "gid_map", "projid_map"];

/// The texts of [`MAPS`]. `None` where the kernel has no user namespaces.
type Maps = Option<[String; 3]>;

/// The condition that a peer fails. The sentence is what the peer and the journal are told.
#[derive(Debug)]
pub enum NotAdmitted {
    /// Its UID, as SO_PEERCRED says, is not 0.
    NotRoot {
        /// That UID.
        uid: u32,
    },
    /// The kernel knows no PID of it: it is in a PID namespace that is not below ours.
    NoPid,
    /// It is in a PID namespace below ours: a container.
    OtherPidNamespace,
    /// Its user namespace is not the daemon's: its root is not the host's.
    OtherUserNamespace,
    /// It ended before it could be looked at.
    Gone,
    /// `/proc` does not say.
    Unknown(io::Error),
}

impl std::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotAdmitted::NotRoot { uid } => {
                write!(f, "the caller has uid {uid}; sessions are registered by root only")
            }
            NotAdmitted::NoPid => f.write_str(
                "the caller is in a foreign PID namespace; sessions are registered from the host only",
            ),
            NotAdmitted::OtherPidNamespace => f.write_str(
                "the caller is in a PID namespace of its own, such as a container; sessions are registered from the host only",
            ),
            NotAdmitted::OtherUserNamespace => f.write_str(
                "the caller is root of another user namespace; sessions are registered by the host's root only",
            ),
            NotAdmitted::Gone => f.write_str("the caller ended before it could be identified"),
            NotAdmitted::Unknown(e) => write!(f, "the caller cannot be identified: {e}"),
        }
    }
}

impl std::error::Error for NotAdmitted {}

impl From<io::Error> for NotAdmitted {
    fn from(e: io::Error) -> NotAdmitted {
        match e.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => NotAdmitted::Gone,
            _ => NotAdmitted::Unknown(e),
        }
    }
}

impl From<nix::Error> for NotAdmitted {
    fn from(e: nix::Error) -> NotAdmitted {
        io::Error::from(e).into()
    }
}

/// Looks at the peer of a connection: `uid` and `pid` from SO_PEERCRED, `pidfd` from SO_PEERPIDFD
/// where the kernel has it.
///
/// # Errors
/// The first condition that the peer fails.
pub fn admit(uid: u32, pid: Option<i32>, pidfd: Option<&OwnedFd>) -> Result<(), NotAdmitted> {
    let pid = numbers(uid, pid)?;
    // A folder of /proc stays that of its process: once opened, a reused PID cannot be meant.
    let folder = open(
        format!("/proc/{pid}").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let own = own_maps().map_err(NotAdmitted::Unknown)?;
    let status = read_at(&folder, "status")?;
    let maps = match own {
        Some(_) => Some(maps_at(&folder)?),
        None => None,
    };
    if let Some(pidfd) = pidfd {
        // Still alive, so the PID was still its own when the folder was opened.
        if leader::has_exited(pidfd.as_fd())? || leader::pid_of(pidfd)? != pid {
            return Err(NotAdmitted::Gone);
        }
    }
    judge(&status, &maps, own)
}

fn numbers(uid: u32, pid: Option<i32>) -> Result<i32, NotAdmitted> {
    if uid != 0 {
        return Err(NotAdmitted::NotRoot { uid });
    }
    pid.filter(|pid| *pid > 0).ok_or(NotAdmitted::NoPid)
}

fn judge(status: &str, maps: &Maps, own: &Maps) -> Result<(), NotAdmitted> {
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .ok_or_else(|| NotAdmitted::Unknown(io::Error::other("its status has no NSpid")))?;
    match pids.split_ascii_whitespace().count() {
        1 => {}
        _ => return Err(NotAdmitted::OtherPidNamespace),
    }
    // A namespace that has not been mapped yet has an empty map, and so has one seen from outside.
    let unmapped = |maps: &[String; 3]| maps[0].trim().is_empty();
    if maps != own || maps.as_ref().is_some_and(unmapped) {
        return Err(NotAdmitted::OtherUserNamespace);
    }
    Ok(())
}

/// Our own, which never change.
fn own_maps() -> io::Result<&'static Maps> {
    static OWN: OnceLock<Maps> = OnceLock::new();
    if let Some(maps) = OWN.get() {
        return Ok(maps);
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let maps = match maps_at(&open("/proc/self", flags, Mode::empty())?) {
        Ok(maps) => Some(maps),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(OWN.get_or_init(|| maps))
}

fn maps_at(folder: &OwnedFd) -> io::Result<[String; 3]> {
    let [uids, gids, projects] = MAPS.map(|map| read_at(folder, map));
    Ok([uids?, gids?, projects?])
}

fn read_at(folder: &OwnedFd, file: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = openat(
        folder,
        file,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    std::fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const HOST_MAP: &str = "         0          0 4294967295\n";

    fn maps(texts: [&str; 3]) -> Maps {
        Some(texts.map(str::to_owned))
    }

    fn status(pids: &str) -> String {
        format!("Name:\tteleport\nNStgid:\t{pids}\nNSpid:\t{pids}\nUid:\t0\t0\t0\t0\n")
    }

    #[test]
    fn root_of_the_host_is_believed() {
        let host = maps([HOST_MAP; 3]);
        assert!(judge(&status("4711"), &host, &host).is_ok());
        // A kernel without user namespaces has one root only.
        assert!(judge(&status("4711"), &None, &None).is_ok());
    }

    #[test]
    fn anybody_else_is_told_which_condition_failed() {
        assert!(matches!(
            numbers(1000, Some(5)),
            Err(NotAdmitted::NotRoot { uid: 1000 })
        ));
        assert!(matches!(numbers(0, Some(0)), Err(NotAdmitted::NoPid)));
        assert!(matches!(numbers(0, None), Err(NotAdmitted::NoPid)));
        let host = maps([HOST_MAP; 3]);
        let judged = |pids: &str, its| judge(&status(pids), &maps(its), &host).unwrap_err();
        assert!(matches!(
            judged("4711\t1", [HOST_MAP; 3]),
            NotAdmitted::OtherPidNamespace
        ));
        for its in [
            ["0 1000 1\n", HOST_MAP, HOST_MAP],
            ["0 0 1\n", "0 0 1\n", ""],
            ["", "", ""],
            [HOST_MAP, HOST_MAP, ""],
            [HOST_MAP, "0 0 65536\n", HOST_MAP],
        ] {
            let refused = judged("4711", its);
            assert!(matches!(refused, NotAdmitted::OtherUserNamespace));
        }
        let unmapped = maps(["", "", ""]);
        assert!(judge(&status("4711"), &unmapped, &unmapped).is_err());
        assert!(matches!(
            judge("Name:\tx\n", &host, &host),
            Err(NotAdmitted::Unknown(_))
        ));
    }

    #[test]
    fn this_process_is_admitted_and_one_that_has_ended_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        admit(0, Some(own), None).unwrap();
        let mut child = Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        let dead = i32::try_from(child.id()).unwrap();
        assert!(matches!(admit(0, Some(dead), None), Err(NotAdmitted::Gone)));
    }

    #[test]
    fn root_of_a_new_pid_or_user_namespace_is_refused() {
        for (flags, refused) in [
            (["-f", "-p"], "PID namespace"),
            (["-U", "-r"], "another user namespace"),
        ] {
            // The command announces itself from inside the namespace and waits to be looked at.
            let mut outer = Command::new("unshare")
                .args(flags)
                .args(["sh", "-c", "echo here; read line"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this test needs unshare and root");
            let mut here = [0; 5];
            outer
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut here)
                .unwrap();
            let pid = outer.id();
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            let inside = children
                .trim()
                .parse()
                .unwrap_or(i32::try_from(pid).unwrap());
            let refusal = admit(0, Some(inside), None).unwrap_err().to_string();
            drop(outer.stdin.take());
            outer.wait().unwrap();
            assert!(refusal.contains(refused), "{flags:?}: {refusal}");
        }
    }
}

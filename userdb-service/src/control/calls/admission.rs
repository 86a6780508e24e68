//! Whom the registry believes: uid 0 of the host itself, as the kernel describes the peer.
//! Root of a container or of a user namespace also shows uid 0 on a socket that was bind-mounted
//! into it; what tells them apart is in `/proc`, readable without any capability.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use crate::control::host::{descriptors, proc_files};
use crate::control::leader;

/// What a user namespace makes of IDs. One that was made with all users mapped to themselves has our `uid_map`; whoever
/// makes such a one seldom thinks of the others.
const MAPS: [&str; 3] = ["uid_map", "gid_map", "projid_map"];

/// Its PIDs, one in each PID namespace from ours down to its own: in its status, and in the fdinfo of its pidfd.
const PIDS: &str = "NSpid:";

/// The texts of [`MAPS`]. `None` where the kernel has no user namespaces.
type Maps = Option<[String; 3]>;

/// The condition that a peer fails. The sentence is what the peer and the journal are told.
#[derive(Debug)]
pub(super) enum NotAdmitted {
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

/// Looks at the peer of a connection: `uid` and `pid` from SO_PEERCRED, and its `pidfd`. Who has none has ended, and its
/// PID may be another process's by now.
///
/// # Errors
/// The first condition that the peer fails.
pub(super) fn admit(
    uid: u32,
    pid: Option<i32>,
    pidfd: Option<&OwnedFd>,
) -> Result<(), NotAdmitted> {
    let pid = numbers(uid, pid)?;
    let pidfd = pidfd.ok_or(NotAdmitted::Gone)?;
    let own = own_maps().map_err(NotAdmitted::Unknown)?;
    let read = |file: &str| proc_files::read(&format!("/proc/{pid}/{file}"));
    let maps = match own {
        Some(_) => Some(maps(&read)?),
        None => None,
    };
    let told = descriptors::fdinfo(pidfd)?;
    let status = match proc_files::field(&told, PIDS) {
        Some(_) => None,
        None => Some(read("status")?),
    };
    // Still alive, so the PID was its own all the time.
    if leader::has_exited(pidfd.as_fd())? || descriptors::pid_in_fdinfo(&told)? != pid {
        return Err(NotAdmitted::Gone);
    }
    judge(&status.unwrap_or(told), &maps, own)
}

fn numbers(uid: u32, pid: Option<i32>) -> Result<i32, NotAdmitted> {
    if uid != 0 {
        return Err(NotAdmitted::NotRoot { uid });
    }
    pid.filter(|pid| *pid > 0).ok_or(NotAdmitted::NoPid)
}

/// `told`: its status, or the fdinfo of its pidfd.
fn judge(told: &str, maps: &Maps, own: &Maps) -> Result<(), NotAdmitted> {
    let pids = proc_files::field(told, PIDS)
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
    let maps = match maps(&|file| proc_files::read(&format!("/proc/self/{file}"))) {
        Ok(maps) => Some(maps),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(OWN.get_or_init(|| maps))
}

fn maps(read: &dyn Fn(&str) -> io::Result<String>) -> io::Result<[String; 3]> {
    let [uids, gids, projects] = MAPS.map(read);
    Ok([uids?, gids?, projects?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::io::Read;
    use std::process::{Command, Stdio};

    fn pidfd_of(pid: i32) -> OwnedFd {
        pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
    }

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
        assert!(matches!(admit(0, Some(own), None), Err(NotAdmitted::Gone)));
        let pidfd = pidfd_of(own);
        admit(0, Some(own), Some(&pidfd)).unwrap();
        // Another process than the number says.
        assert!(matches!(
            admit(0, Some(1), Some(&pidfd)),
            Err(NotAdmitted::Gone)
        ));
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let dead = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd_of(dead);
        child.wait().unwrap();
        for pidfd in [None, Some(&pidfd)] {
            assert!(matches!(
                admit(0, Some(dead), pidfd),
                Err(NotAdmitted::Gone)
            ));
        }
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
            let pidfd = pidfd_of(inside);
            let refusal = admit(0, Some(inside), Some(&pidfd))
                .unwrap_err()
                .to_string();
            drop(outer.stdin.take());
            outer.wait().unwrap();
            assert!(refusal.contains(refused), "{flags:?}: {refusal}");
        }
    }
}

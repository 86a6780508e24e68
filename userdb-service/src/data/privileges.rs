//! Giving root away for good: what teleport-userdbd does before anything else.
//!
//! The unit cannot do it (`User=` would make PID 1 ask our own socket for the groups and wait 45 s), so
//! the process does: to the UID of `teleport-userdb`, or a fixed one, with no group, no capability in
//! any set and no way back. Nothing here knows what the daemon is for.

use std::fmt;
use std::fs;
use std::io;

use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The user that sysusers.d makes for the daemon.
pub const USER: &str = "teleport-userdb";

/// The UID and GID where that user is missing. 65520 to 65533 are in nobody's range (after systemd's
/// dynamic users, before `nobody`), so no file and no process of anybody else has it.
pub const FALLBACK: u32 = 65_525;

/// What became of the privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Started as root, now this user, who is [`USER`].
    User(u32),
    /// Started as root, now [`FALLBACK`]: [`USER`] is not in `/etc/passwd`.
    Fallback,
    /// Not started as root: there was no other user to become.
    NotRoot(u32),
}

/// Something is left, or cannot be given away: the process must not go on.
#[derive(Debug)]
pub enum PrivilegeError {
    /// A step was refused.
    Step {
        /// Which one.
        what: &'static str,
        /// By the kernel, because:
        why: io::Error,
    },
    /// All steps were taken, and yet these lines of `/proc/self/status` are not what they must be.
    Left(Vec<String>),
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrivilegeError::Step { what, why } => write!(
                f,
                "{what} failed: {why}; the unit must leave CAP_SETUID, CAP_SETGID and CAP_SETPCAP to \
                 be given away"
            ),
            PrivilegeError::Left(lines) => {
                write!(
                    f,
                    "privileges are left after giving them away: {}",
                    lines.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for PrivilegeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PrivilegeError::Step { why, .. } => Some(why),
            PrivilegeError::Left(_) => None,
        }
    }
}

/// Gives everything away and checks that nothing is left. Called while the process has one thread
/// (capabilities are a thread's own) and has not opened anything.
///
/// # Errors
/// The process must exit.
pub fn give_away() -> Result<Outcome, PrivilegeError> {
    let started_as = geteuid();
    let outcome = if started_as.is_root() {
        // Read by hand: getpwnam would ask all userdb providers, and one of them is this process.
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        let (outcome, uid, gid) = match user_in(&passwd, USER) {
            Some((uid, gid)) => (Outcome::User(uid), uid, gid),
            None => (Outcome::Fallback, FALLBACK, FALLBACK),
        };
        empty_bounding_set()?;
        become_user(uid, gid)?;
        outcome
    } else {
        Outcome::NotRoot(started_as.as_raw())
    };
    step("clearing the ambient set", clear_ambient_capability_set())?;
    step("clearing the capabilities", set_capabilities(None, NONE))?;
    step("setting no_new_privs", set_no_new_privs(true))?;
    // Nobody with this UID may look inside, and no core file is left.
    step(
        "becoming undumpable",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    check(outcome)?;
    Ok(outcome)
}

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

fn step<E: Into<io::Error>>(what: &'static str, done: Result<(), E>) -> Result<(), PrivilegeError> {
    done.map_err(|why| PrivilegeError::Step {
        what,
        why: why.into(),
    })
}

fn empty_bounding_set() -> Result<(), PrivilegeError> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => step(
                "emptying the bounding set",
                remove_capability_from_bounding_set(capability),
            )?,
            Ok(false) => {}
            // Beyond the last capability of this kernel.
            Err(_) => break,
        }
    }
    Ok(())
}

fn become_user(uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    step("leaving all groups", setgroups(&[]))?;
    step("changing the GID", setresgid(gid, gid, gid))?;
    step("changing the UID", setresuid(uid, uid, uid))
}

/// UID and GID of `name` in a passwd file; none if the line cannot be used: an ID that is
/// root's, nobody's or no ID. Of the rest of the line and the file nothing counts, so this is no reader of either as those in the
/// control plane are.
fn user_in(passwd: &[u8], name: &str) -> Option<(u32, u32)> {
    // What others have written about themselves may be in any encoding.
    let passwd = String::from_utf8_lossy(passwd);
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?
        .skip(1);
    let mut id = || {
        let id: u32 = fields.next()?.parse().ok()?;
        (!matches!(id, 0 | 65534 | 65535 | u32::MAX)).then_some(id)
    };
    Some((id()?, id()?))
}

fn check(outcome: Outcome) -> Result<(), PrivilegeError> {
    let status = fs::read_to_string("/proc/self/status").map_err(|why| PrivilegeError::Step {
        what: "reading /proc/self/status",
        why,
    })?;
    let mut left = left_in(&status, outcome);
    if dumpable_behavior() != Ok(DumpableBehavior::NotDumpable) {
        left.push("dumpable".into());
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(PrivilegeError::Left(left))
    }
}

/// The lines of `/proc/self/status` that show something left.
fn left_in(status: &str, outcome: Outcome) -> Vec<String> {
    let value = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    };
    let all_are = |text: &str, id: u32| text.split_whitespace().all(|t| t.parse() == Ok(id));
    let is_zero = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b'0');
    let user = match outcome {
        Outcome::User(uid) => Some(uid),
        Outcome::Fallback => Some(FALLBACK),
        Outcome::NotRoot(_) => None,
    };
    let mut left = Vec::new();
    let mut must = |key: &str, good: &dyn Fn(&str) -> bool| match value(key) {
        Some(text) if good(text) => {}
        text => left.push(format!("{key}: {}", text.unwrap_or("missing"))),
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        must(set, &is_zero);
    }
    must("NoNewPrivs", &|text| text == "1");
    if let Some(uid) = user {
        must("CapBnd", &is_zero);
        must("Uid", &|text| all_are(text, uid));
        must("Gid", &|text| {
            !text.split_whitespace().any(|gid| gid == "0")
        });
        must("Groups", &str::is_empty);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Name:\tx\nUid:\t990\t990\t990\t990\nGid:\t988\t988\t988\t988\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    #[test]
    fn the_user_is_found_by_its_whole_name_only() {
        let passwd = b"root:x:0:0::/:/bin/sh\nteleport-userdbx:x:1:1::/:\njuergen:x:1000:1000:J\xfcrgen:/:\n\
            teleport-userdb:!*:990:988:made by sysusers:/:/usr/sbin/nologin\n";
        assert_eq!(user_in(passwd, USER), Some((990, 988)));
        assert_eq!(user_in(passwd, "teleport"), None);
        assert_eq!(user_in(b"", USER), None);
    }

    #[test]
    fn a_user_that_would_be_root_or_nobody_is_no_user() {
        for ids in [
            "0:988",
            "990:0",
            "65534:1",
            "4294967295:1",
            "-1:1",
            "x:1",
            "990",
        ] {
            assert_eq!(
                user_in(format!("{USER}:x:{ids}").as_bytes(), USER),
                None,
                "{ids}"
            );
        }
    }

    #[test]
    fn nothing_left_is_seen_as_nothing_left() {
        assert!(left_in(GOOD, Outcome::User(990)).is_empty());
        assert!(left_in(GOOD, Outcome::NotRoot(990)).is_empty());
    }

    #[test]
    fn anything_left_is_seen() {
        for (line, bad) in [
            ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000001"),
            ("CapInh:\t0000000000000000", "CapInh:\t00000000000000c0"),
            ("CapAmb:\t0000000000000000", "CapAmb:\t8000000000000000"),
            ("990\t990\t990\t990", "990\t990\t0\t990"),
            ("988\t988\t988\t988", "988\t988\t988\t0"),
            ("Groups:\t ", "Groups:\t4 24"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("CapEff:\t0000000000000000\n", ""),
        ] {
            let status = GOOD.replace(line, bad);
            assert_ne!(status, GOOD);
            assert_eq!(left_in(&status, Outcome::User(990)).len(), 1, "{bad}");
        }
    }
}

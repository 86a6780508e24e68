//! Our units, and how systemd says they are. What would be right is judged elsewhere.

use std::io;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::node::Seen;

/// Units that have to be enabled. All but [`SWEEP`] also run all the time.
pub const ENABLED: [&str; 5] = [
    SESSIOND,
    "teleport-sessiond.socket",
    "teleport-userdbd.service",
    "teleport-userdbd.socket",
    SWEEP,
];
/// Who decides, in a sandbox of its own.
pub const SESSIOND: &str = "teleport-sessiond.service";
/// Runs once, at boot.
pub const SWEEP: &str = "teleport-sudoers-sweep.service";
/// Runs all the time, and comes with sessiond: there is nothing to enable. Without it every login is refused.
pub const LOOKUP: &str = "teleport-lookup.socket";
/// Run when something has failed, until it is put right.
pub const HELPERS: [&str; 2] = [WITHDRAWAL, AGAIN];
/// Takes sudo rights away where teleport-sessiond could not.
pub const WITHDRAWAL: &str = "teleport-sudoers-withdrawal.service";
/// Starts teleport-userdbd again.
pub const AGAIN: &str = "teleport-userdbd-again.service";
/// The same, for those who get ephemeral homes.
pub const HOMES: &str = "run-teleport\\x2duserdb-home.mount";

/// A unit's state in systemctl's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// `is-enabled`.
    pub enabled: String,
    /// `is-active`.
    pub active: String,
}

/// Those that are needed on a node; [`HELPERS`] in case of need.
pub fn needed(has_ephemeral_homes: bool) -> Vec<&'static str> {
    let homes = has_ephemeral_homes.then_some(HOMES);
    let all_the_time = ENABLED.into_iter().chain([LOOKUP]).chain(homes);
    all_the_time.chain(HELPERS).collect()
}

/// systemctl answers a line for each unit, whatever its exit status.
pub(super) fn look(names: &[&str]) -> Seen<Vec<Unit>> {
    let ask = |verb: &str| -> io::Result<Vec<String>> {
        let output = Command::new("systemctl")
            .arg(verb)
            .args(names)
            .stdin(Stdio::null())
            .output()?;
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect();
        if lines.len() == names.len() {
            return Ok(lines);
        }
        Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    };
    match ask("is-enabled").and_then(|enabled| Ok((enabled, ask("is-active")?))) {
        Ok((enabled, active)) => Seen::Known(
            names
                .iter()
                .zip(enabled.into_iter().zip(active))
                .map(|(name, (enabled, active))| Unit {
                    name: (*name).to_owned(),
                    enabled,
                    active,
                })
                .collect(),
        ),
        Err(error) => Seen::Failed(format!("systemctl does not say how the units are: {error}")),
    }
}

/// The PID of the process that systemd takes for the unit's, if it runs.
pub(super) fn main_pid(unit: &str) -> Option<u32> {
    let output = Command::new("systemctl")
        .args(["show", "--property=MainPID", "--value", unit])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    running(&String::from_utf8_lossy(&output.stdout))
}

/// systemd says 0 where none runs.
fn running(main_pid: &str) -> Option<u32> {
    main_pid.trim().parse().ok().filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_without_a_process_has_no_pid() {
        assert_eq!(running("4711\n"), Some(4711));
        for none in ["0\n", "", "MainPID=1"] {
            assert_eq!(running(none), None, "{none:?}");
        }
    }
}

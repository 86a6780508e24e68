//! Our units, and how systemd says they are. What would be right is judged elsewhere.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::node::Seen;
use crate::runtime;

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

/// The state of what is being started. A service of ours that cannot be started comes by again and again.
pub(super) const ACTIVATING: &str = "activating";

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
        let output = systemctl(&[&[verb], names].concat())?;
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

/// A service that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    /// The PID of the process that systemd takes for the unit's.
    pub(super) pid: u32,
    /// The sentence that it has told systemd about itself.
    pub(super) status: String,
}

/// The unit's service, if it runs.
pub(super) fn running(unit: &str) -> Option<Running> {
    let output = systemctl(&["show", "--property=MainPID,StatusText", unit]).ok()?;
    parsed(&String::from_utf8_lossy(&output.stdout))
}

/// systemd says 0 where none runs, and keeps the status of the one before.
fn parsed(properties: &str) -> Option<Running> {
    let value = |key: &str| {
        let mut lines = properties.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let pid = value("MainPID")?.parse().ok().filter(|pid| *pid != 0)?;
    let status = value("StatusText").unwrap_or_default().to_owned();
    Some(Running { pid, status })
}

/// Whether a unit, which may be a template, is enabled, masked or not there, in systemctl's word.
pub(super) fn enabled(unit: &str) -> Option<String> {
    first_word("is-enabled", unit)
}

/// Whether systemd is about to start the unit: for a moment, or again and again where that fails.
pub(super) fn is_activating(unit: &str) -> bool {
    first_word("is-active", unit).is_some_and(|said| said == ACTIVATING)
}

/// Whether systemd says that the unit is active.
pub(super) fn is_active(unit: &str) -> bool {
    first_word("is-active", unit).is_some_and(|said| said == "active")
}

fn first_word(verb: &str, unit: &str) -> Option<String> {
    let output = systemctl(&[verb, unit]).ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.split_whitespace().next().map(str::to_owned)
}

/// How long systemctl may take; with a PID 1 that hangs it would wait for a minute and more.
const PATIENCE: Duration = Duration::from_secs(5);

fn systemctl(arguments: &[&str]) -> io::Result<Output> {
    let mut command = Command::new("systemctl");
    command.args(arguments);
    output(command, PATIENCE)
}

/// What the command says; it is killed if that takes too long.
fn output(mut command: Command, patience: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    runtime::block_on(async {
        let said = timeout(patience, command.output()).await;
        said.unwrap_or_else(|_| {
            Err(io::Error::other(format!(
                "no answer within {} s; PID 1 hangs, or the bus of the system does",
                patience.as_secs()
            )))
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_without_a_process_does_not_run_whatever_its_status_was() {
        let found = parsed("StatusText=All is well = good.\nMainPID=4711\n");
        let expected = Running {
            pid: 4711,
            status: "All is well = good.".to_owned(),
        };
        assert_eq!(found, Some(expected));
        assert_eq!(
            parsed("MainPID=7\n").map(|one| one.status),
            Some(String::new())
        );
        for none in ["MainPID=0\nStatusText=good\n", "", "4711\n"] {
            assert_eq!(parsed(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_systemctl_that_hangs_is_not_waited_for() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let begun = std::time::Instant::now();
        let error = output(command, Duration::from_millis(50)).expect_err("no answer");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(error.to_string().starts_with("no answer within"), "{error}");
    }
}

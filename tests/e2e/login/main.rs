//! Logins on a booted node, from the account phase to the last logout, as a Teleport child makes them.
//! One machine for all tests of this binary; each test uses logins of its own.

mod lifetime;
mod logind;
mod lookups;
mod outage;
mod refusals;
mod storm;

use std::time::Duration;

use rig::Machine;

/// Longer than anything takes that happens by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Fields of the `getent passwd` line of a user that is there.
#[track_caller]
fn passwd(machine: &Machine, key: &str) -> Vec<String> {
    let line = machine.run(&["getent", "passwd", key]);
    line.must().split(':').map(str::to_owned).collect()
}

/// Whether nothing resolves the login any more: glibc by name, systemd, the private group, the shared group.
fn is_gone(machine: &Machine, login: &str) -> bool {
    machine.run(&["getent", "passwd", login]).status == 2
        && machine.run(&["getent", "group", login]).status == 2
        && !machine.run(&["userdbctl", "user", login]).succeeded()
        && !members(machine, "teleport-tmp")
            .iter()
            .any(|member| member == login)
}

/// Members of a group as `getent group` lists them; none if there is no such group.
fn members(machine: &Machine, group: &str) -> Vec<String> {
    let line = machine.run(&["getent", "group", group]);
    let members = line
        .stdout
        .trim_end()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    members
        .split(',')
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

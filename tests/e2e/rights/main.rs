//! What a session is given besides its user: sudo, a home, a terminal; and that each goes with the session.
//! One machine with one configuration for all tests of this binary; each test uses logins of its own.

mod bystanders;
mod forwarding;
mod homes;
mod slow_disk;
mod sudo;
mod sudoers_d;
mod terminal;
mod visudo;
mod withdrawal;

use std::sync::{Once, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rig::{Journal, Machine};

/// How long a process left behind is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// Roles of the tests. Everybody may log in by the role of the package's file.
const ROLES: &str = r#"
[[role]]
match = "admin"
sudo = true

[[role]]
match = "digger"
groups = ["diggers"]

[[role]]
match = "restarter"
sudoers = ["ALL=(root) NOPASSWD: /usr/bin/systemctl restart app"]

[[role]]
match = "homeless"
home = "none"

[[role]]
match = "settled"
home = "persistent"

[[role]]
match = "broken"
groups = ["crew"]
sudo = true
sudoers = ["ALL=(root NOPASSWD: /usr/bin/id"]
"#;

/// The node with the roles above.
#[track_caller]
fn node() -> RwLockReadGuard<'static, Machine> {
    let node = rig::node();
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| configure(&node));
    node
}

/// The same while no other test uses it.
#[track_caller]
fn node_alone() -> RwLockWriteGuard<'static, Machine> {
    drop(node());
    rig::node_alone()
}

/// Gives a machine the roles above, as an administrator would.
#[track_caller]
fn configure(machine: &Machine) {
    add_config(machine, "10-rights", ROLES);
}

#[track_caller]
fn add_config(machine: &Machine, name: &str, text: &str) {
    machine.write(&format!("/etc/teleport-userdb/config.d/{name}.toml"), text);
    reload(machine);
}

/// Reloads and waits until it is done: systemctl only waits until it is told, on systemd 252.
#[track_caller]
fn reload(machine: &Machine) {
    let journal = Journal::now(machine);
    // A role of these is wrong, as systemctl says.
    machine.run(&["systemctl", "reload", "teleport-sessiond"]);
    let limit = Duration::from_secs(30);
    machine.within(limit, "the configuration is read", |_| {
        let lines = journal.lines(&["-u", "teleport-sessiond"]);
        lines.iter().any(|line| line.contains("was read anew"))
    });
}

/// UID of a login that is on.
#[track_caller]
fn uid(machine: &Machine, login: &str) -> String {
    machine.run(&["id", "-u", login]).must().to_owned()
}

/// A field of the `getent passwd` line of a login, from 0.
#[track_caller]
fn field(machine: &Machine, login: &str, index: usize) -> String {
    let line = machine.run(&["getent", "passwd", login]);
    let field = line.must().split(':').nth(index);
    field.unwrap_or_default().to_owned()
}

/// The process of the daemon, if it has started and is not ending.
fn daemon(node: &Machine) -> Option<String> {
    let shown = node.sh(
        "systemctl is-active -q teleport-sessiond && systemctl show -P MainPID teleport-sessiond",
    );
    let active = shown.succeeded() && shown.stdout.trim() != "0";
    active.then(|| shown.stdout.trim().to_owned())
}

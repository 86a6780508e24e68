//! What a session outlives and what ends it: damaged state, restarts, stopped and starved services, a reboot.
//! How a login ends in the ordinary ways is in `login/`.

mod crowd;
mod ends;
mod reboot;
mod restarts;
mod starved;
mod state;

use std::path::PathBuf;
use std::time::Duration;

use rig::{Login, Machine};
use serde_json::Value;

const SESSIOND: &str = "teleport-sessiond.service";
/// A restart and what comes after it, on a loaded machine.
const SOON: Duration = Duration::from_secs(30);

/// The shared node with a role that has sudo.
#[track_caller]
fn node_alone() -> std::sync::RwLockWriteGuard<'static, Machine> {
    static CONFIGURED: std::sync::Once = std::sync::Once::new();
    let node = rig::node_alone();
    CONFIGURED.call_once(|| {
        node.write(
            "/etc/teleport-userdb/config.d/10-survive.toml",
            "[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudo = true\ngroups = [\"builders\"]\n",
        );
        node.run(&["systemctl", "restart", SESSIOND]).must();
    });
    node
}

/// An open session with sudo, without anything running in it.
#[track_caller]
fn admin(node: &Machine, login: &str) -> Login {
    let mut session = node
        .login(login)
        .roles("admin")
        .service("sshd")
        .hold("open")
        .start();
    session.reach("open");
    session
}

/// An open session with sudo in which the user sleeps.
#[track_caller]
fn busy_admin(node: &Machine, login: &str) -> Login {
    let session = node
        .login(login)
        .roles("admin")
        .service("sshd")
        .command("sleep 1000")
        .start();
    node.within(SOON, "the user runs something", |node| {
        node.run(&["pgrep", "-u", login, "-x", "sleep"]).succeeded()
    });
    session
}

/// Whether NSS by name answers.
fn is_known(node: &Machine, login: &str) -> bool {
    node.run(&["getent", "passwd", login]).succeeded()
}

/// The published users, as `teleport-userdbctl` lists them.
#[track_caller]
fn listed(node: &Machine, login: &str) -> Option<Value> {
    let list = node.run(&["teleport-userdbctl", "--json=short", "list"]);
    let list: Value = serde_json::from_str(list.must()).expect("a list");
    let users = list.as_array().cloned().unwrap_or_default();
    users.into_iter().find(|user| user["login"] == login)
}

/// Names of the sudoers files of ours.
fn sudoers(node: &Machine) -> Vec<String> {
    let folder = node.root().join("etc/sudoers.d");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("teleport"))
        .collect();
    names.sort();
    names
}

fn has_sudo(node: &Machine, login: &str) -> bool {
    sudoers(node).iter().any(|name| name.ends_with(login))
}

/// The folder of what is written down for a restart.
fn state(node: &Machine) -> PathBuf {
    node.root().join("run/teleport-sessiond")
}

#[track_caller]
fn main_pid(node: &Machine) -> String {
    let shown = node.run(&["systemctl", "show", "-P", "MainPID", SESSIOND]);
    shown.must().to_owned()
}

//! Rights as the programs see them that enforce them: sudo, sudo-rs, doas, and whatever reads names and numbers.
//! One machine with one configuration for most tests of this binary; each test uses logins of its own.

mod cap;
mod groups;
mod hostile;
mod named;
mod nscd;
mod programs;
mod shared;

use std::sync::{Once, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rig::{Journal, Machine};

/// Roles of the tests. Everybody may log in by the role of the package's file.
const ROLES: &str = r#"
templated-groups = ["team-*"]

[[role]]
match = "admin"
sudo = true

[[role]]
match = "doer"
doas = true

[[role]]
match = "restarter"
sudoers = ["ALL=(root) NOPASSWD: /usr/bin/systemctl restart app"]

[[role]]
match = "crew"
groups = ["crew", "builders"]

[[role]]
match = "team"
groups = ["{{env.TELEPORT_GROUPS}}"]
"#;

/// The one line that an administrator writes for doas.
const DOAS: &str = "permit nopass :teleport-doas as root\n";

/// The node with the roles above and doas.
#[track_caller]
fn node() -> RwLockReadGuard<'static, Machine> {
    let node = rig::node();
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        node.install("opendoas");
        node.write("/etc/doas.conf", DOAS);
        configure(&node, "10-roles", ROLES);
    });
    node
}

/// The same while no other test uses it.
#[track_caller]
fn node_alone() -> RwLockWriteGuard<'static, Machine> {
    drop(node());
    rig::node_alone()
}

fn file(name: &str) -> String {
    format!("/etc/teleport-userdb/config.d/{name}.toml")
}

/// Adds a piece of configuration and waits until it holds.
#[track_caller]
fn configure(machine: &Machine, name: &str, text: &str) {
    machine.write(&file(name), text);
    reload(machine);
}

/// Takes it back.
#[track_caller]
fn forget(machine: &Machine, name: &str) {
    machine.run(&["rm", &file(name)]).must();
    reload(machine);
}

#[track_caller]
fn reload(machine: &Machine) {
    let journal = Journal::now(machine);
    machine
        .run(&["systemctl", "reload", "teleport-sessiond"])
        .must();
    machine.within(Duration::from_secs(30), "the configuration is read", |_| {
        let lines = journal.lines(&["-u", "teleport-sessiond"]);
        lines.iter().any(|line| line.contains("was read anew"))
    });
}

/// UID of a login that is on.
#[track_caller]
fn uid(machine: &Machine, login: &str) -> String {
    machine.run(&["id", "-u", login]).must().to_owned()
}

/// Runs a program as that UID with the groups it has by now, or with none where nobody has the UID any more.
fn as_uid(machine: &Machine, uid: &str, program: &[&str]) -> rig::Ran {
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
    let groups = match machine.run(&["getent", "passwd", uid]).succeeded() {
        true => "--init-groups",
        false => "--clear-groups",
    };
    let words = [&["setpriv", &ids[0], &ids[1], groups][..], program].concat();
    machine.run(&words)
}

/// May that UID have a command run as root, by this program?
fn may(machine: &Machine, uid: &str, program: &str) -> bool {
    as_uid(machine, uid, &[program, "-n", "id", "-u"])
        .stdout
        .trim()
        == "0"
}

/// The same of a process that was started with a group and keeps it.
fn with_group(machine: &Machine, uid: &str, gid: &str, program: &str) -> bool {
    let ids = [
        format!("--reuid={uid}"),
        format!("--regid={uid}"),
        format!("--groups={uid},{gid}"),
    ];
    let words = [
        "setpriv", &ids[0], &ids[1], &ids[2], program, "-n", "id", "-u",
    ];
    machine.run(&words).stdout.trim() == "0"
}

/// sudo is content with all of its files, and so is sudo-rs where it is.
#[track_caller]
fn must_be_content(machine: &Machine) {
    machine.run(&["visudo", "-c"]).must();
    machine
        .sh("test ! -e /usr/sbin/visudo-rs || visudo-rs -c")
        .must();
}

/// An administrator's file in sudoers.d, as sudo wants it.
#[track_caller]
fn sudoers(machine: &Machine, name: &str, text: &str) {
    let path = format!("/etc/sudoers.d/{name}");
    machine.write(&path, text);
    machine.run(&["chmod", "0440", &path]).must();
}

/// Names of the groups of a login, sorted.
#[track_caller]
fn groups_of(machine: &Machine, login: &str) -> Vec<String> {
    let line = machine.run(&["id", "-Gn", login]);
    let mut names: Vec<String> = line.must().split(' ').map(str::to_owned).collect();
    names.sort();
    names
}

//! A process that opened a session and became its user, as Teleport's forwarding child does: the user's own to stop, it
//! keeps the record for as long as its parent lives, and no right.

use std::time::Duration;

use rig::Machine;

use crate::{node_alone, uid};

/// When a leader has certainly been looked at that became the user right after its session had opened.
const LOOKED_AT: Duration = Duration::from_secs(3);

/// Names of the groups that a new process of the login would have, sorted.
#[track_caller]
fn groups(node: &Machine, login: &str) -> Vec<String> {
    let line = node.run(&["id", "-Gn", login]);
    let mut names: Vec<String> = line.must().split(' ').map(str::to_owned).collect();
    names.sort();
    names
}

fn has_file(node: &Machine, login: &str) -> bool {
    let file = format!("etc/sudoers.d/teleport-{login}");
    node.root().join(file).exists()
}

/// May what runs as that UID have a command run as root?
fn may(node: &Machine, uid: &str) -> bool {
    let words = [
        "setpriv",
        &format!("--reuid={uid}"),
        &format!("--regid={uid}"),
        "--init-groups",
        "sudo",
        "-n",
        "true",
    ];
    node.run(&words).succeeded()
}

/// A process that its user has stopped, and that goes on when this is dropped: nobody would see its end otherwise.
struct Stopped<'m>(&'m Machine, String);

impl<'m> Stopped<'m> {
    #[track_caller]
    fn by_its_user(node: &'m Machine, uid: &str, pid: String) -> Self {
        let user = format!("--reuid={uid}");
        node.run(&["setpriv", &user, "--clear-groups", "kill", "-STOP", &pid])
            .must();
        Self(node, pid)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.run(&["kill", "-CONT", &self.1]);
    }
}

#[test]
fn a_forwarding_child_that_its_user_has_stopped_keeps_the_record_and_no_right() {
    let node = node_alone();
    let mut forwarding = node
        .forwarding("fritz")
        .roles("admin digger")
        .hold("open")
        .hold("became")
        .start();
    forwarding.reach("open");
    // Still root's: it has what its roles grant.
    let with_rights = ["diggers", "fritz", "teleport-tmp"];
    assert_eq!(groups(&node, "fritz"), with_rights);
    assert!(has_file(&node, "fritz"));
    let uid = uid(&node, "fritz");
    assert!(may(&node, &uid));

    let pid = forwarding.go_on().reach("became").pid();
    let stopped = Stopped::by_its_user(&node, &uid, pid);
    node.within(LOOKED_AT * 10, "its rights end", |node| {
        !has_file(node, "fritz")
    });
    let without = ["fritz", "teleport-tmp"];
    assert_eq!(groups(&node, "fritz"), without);
    assert!(!node.run(&["getent", "group", "diggers"]).succeeded());
    assert!(!may(&node, &uid));
    let list = node.run(&["teleport-userdbctl", "--json=short", "list"]);
    let list: serde_json::Value = serde_json::from_str(list.must()).expect("a list");
    let users = list.as_array().cloned().unwrap_or_default();
    let fritz = users.iter().find(|user| user["login"] == "fritz");
    assert_eq!(fritz.expect("it is on")["sessions"], 1);

    // A shell beside it has its own rights and takes them along.
    let mut shell = node
        .login("fritz")
        .roles("admin digger")
        .command("sudo -n id -un; id -Gn")
        .hold("command")
        .start();
    shell.reach("command");
    assert_eq!(groups(&node, "fritz"), with_rights);
    let ended = shell.finish();
    assert!(ended.must_write().starts_with("root\n"), "{ended:?}");
    assert!(!has_file(&node, "fritz") && !may(&node, &uid));
    assert_eq!(groups(&node, "fritz"), without);

    // Nor does a restart give anything back, for however short a time.
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    assert!(!has_file(&node, "fritz") && !may(&node, &uid));
    assert_eq!(groups(&node, "fritz"), without);

    drop(stopped);
    forwarding.finish().ran.must();
    node.within(LOOKED_AT * 10, "the record goes with it", |node| {
        !node.run(&["getent", "passwd", "fritz"]).succeeded()
    });
}

//! Checklist rows 15 and 16 on a node as Debian makes it: lists with each of ours once.

use std::collections::BTreeSet;

use rig::{Machine, node, node_alone};

use crate::session;

/// How often `name` begins a line, followed by a colon.
#[track_caller]
pub(crate) fn lines_of(machine: &Machine, list: &[&str], name: &str) -> usize {
    let list = machine.run(list);
    let begin = format!("{name}:");
    list.must()
        .lines()
        .filter(|line| line.starts_with(&begin))
        .count()
}

/// The groups of a login as getgrouplist gives them to `id`; panics if one of them is there twice.
#[track_caller]
pub(crate) fn groups_of(machine: &Machine, login: &str) -> Vec<String> {
    let ran = machine.run(&["id", "-Gn", login]);
    let groups: Vec<String> = ran.must().split_whitespace().map(str::to_owned).collect();
    let distinct: BTreeSet<&String> = groups.iter().collect();
    assert_eq!(distinct.len(), groups.len(), "{ran}");
    groups
}

/// How often a login is among the members of a group's line in `getent group`.
#[track_caller]
pub(crate) fn times_in(machine: &Machine, group: &str, login: &str) -> usize {
    let line = machine.run(&["getent", "group", group]);
    let members = line.must().rsplit(':').next().unwrap_or_default();
    members.split(',').filter(|member| *member == login).count()
}

#[test]
fn userdbctl_lists_each_user_and_group_once_with_userdbd_running_and_stopped() {
    let node = node_alone();
    let _session = session(&node, "luitgard");
    let units = ["systemd-userdbd.socket", "systemd-userdbd.service"];
    for running in [true, false] {
        if !running {
            node.run(&[&["systemctl", "stop"], &units[..]].concat())
                .must();
        }
        let users = lines_of(
            &node,
            &["userdbctl", "user", "--output=classic"],
            "luitgard",
        );
        let groups = ["luitgard", "teleport-tmp"]
            .map(|group| lines_of(&node, &["userdbctl", "group", "--output=classic"], group));
        if !running {
            node.run(&["systemctl", "start", units[0]]).must();
        }
        assert_eq!((users, groups), (1, [1, 1]), "userdbd running: {running}");
    }
}

#[test]
fn getgrouplist_has_no_group_twice() {
    let node = node();
    let _session = session(&node, "leonie");
    assert_eq!(groups_of(&node, "leonie"), ["leonie", "teleport-tmp"]);
}

#[test]
fn userdbctl_tells_each_membership() {
    let node = node_alone();
    let _session = session(&node, "lambert");
    let told = |question: [&str; 2]| {
        let ran = node.run(&[&["userdbctl"], &question[..], &["--no-legend"]].concat());
        let ours = |row: &&str| row.split_whitespace().eq(["lambert", "teleport-tmp"]);
        ran.must().lines().filter(ours).count()
    };
    let questions = [
        ["groups-of-user", "lambert"],
        ["users-in-group", "teleport-tmp"],
    ];
    assert_eq!(questions.map(told), [1, 1]);
    let units = ["systemd-userdbd.socket", "systemd-userdbd.service"];
    node.run(&[&["systemctl", "stop"], &units[..]].concat())
        .must();
    let without_userdbd = questions.map(told);
    node.run(&["systemctl", "start", units[0]]).must();
    // There userdbctl itself adds what getgrnam() says to what providers say, and nothing tells our module who asks.
    assert_eq!(without_userdbd, [1, 2]);
}

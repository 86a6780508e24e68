//! Groups: joined, made, listed, and gone again with the session that brought them.

use crate::{groups_of, node, node_alone};

#[test]
fn the_groups_of_a_session_come_and_go_with_it_in_every_way_of_asking() {
    let node = node();
    let mut plain = node.login("gerda").hold("command").command("true").start();
    plain.reach("command");
    assert_eq!(groups_of(&node, "gerda"), ["gerda", "teleport-tmp"]);
    let mut more = node
        .login("gerda")
        .roles("crew")
        .hold("command")
        .command("id -Gn")
        .start();
    more.reach("command");
    let all = ["builders", "crew", "gerda", "teleport-tmp"];
    assert_eq!(groups_of(&node, "gerda"), all);
    let members = node.run(&["userdbctl", "users-in-group", "crew"]);
    assert!(members.must().contains("gerda"), "{members}");
    let builders = node.run(&["getent", "group", "builders"]);
    assert!(builders.must().ends_with(":gerda"), "{builders}");
    // Its own process has them, and so has one that somebody else starts for the user.
    let ended = more.finish();
    let written = ended.written();
    let mut written: Vec<&str> = written.split(' ').collect();
    written.sort_unstable();
    assert_eq!(written, all, "{ended:?}");

    assert_eq!(groups_of(&node, "gerda"), ["gerda", "teleport-tmp"]);
    node.run(&["getent", "group", "builders"]).must_end_with(2);
    let members = node.run(&["userdbctl", "users-in-group", "crew"]);
    assert!(!members.stdout.contains("gerda"), "{members}");
    plain.finish().ran.must();
    assert!(!node.run(&["id", "gerda"]).succeeded());
    let marker = node.run(&["getent", "group", "teleport-tmp"]);
    assert!(!marker.stdout.contains("gerda"), "{marker}");
    // What was there before is as it was.
    let crew = node.run(&["getent", "group", "crew"]);
    assert!(crew.must().ends_with(':'), "{crew}");
}

#[test]
fn a_group_that_is_made_stays_as_long_as_it_has_a_member() {
    let node = node();
    let start = |login: &str| {
        let mut session = node
            .login(login)
            .roles("team")
            .env("TELEPORT_GROUPS=team-x")
            .hold("open")
            .start();
        session.reach("open");
        session
    };
    let (first, second) = (start("gita"), start("gabi"));
    let group = node.run(&["getent", "group", "team-x"]);
    let mut members: Vec<&str> = group
        .must()
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .split(',')
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["gabi", "gita"], "{group}");
    first.finish().ran.must();
    assert!(
        node.run(&["getent", "group", "team-x"])
            .must()
            .ends_with(":gabi")
    );
    second.finish().ran.must();
    node.run(&["getent", "group", "team-x"]).must_end_with(2);
}

#[test]
fn a_trait_gives_groups_inside_its_bounds_only() {
    let node = node();
    let ended = node
        .login("gitta")
        .roles("team")
        .env("TELEPORT_GROUPS=team-a crew sudo teleport-sudo teleport-doas root team-b")
        .command("id -Gn; sudo -n true || echo no sudo; doas -n true || echo no doas")
        .run();
    let written = ended.must_write();
    let mut lines = written.lines();
    let mut groups: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    groups.sort_unstable();
    assert_eq!(
        groups,
        ["gitta", "team-a", "team-b", "teleport-tmp"],
        "{ended:?}"
    );
    assert!(
        written.contains("no sudo") && written.contains("no doas"),
        "{ended:?}"
    );
}

#[test]
fn with_the_merge_action_an_existing_group_shows_its_new_member_and_keeps_its_own() {
    let node = node_alone();
    let with = |action: &str| {
        let line = format!("group: files {action}teleport systemd");
        node.sh(&format!("sed -i 's/^group:.*/{line}/' /etc/nsswitch.conf"))
            .must();
    };
    node.run(&["gpasswd", "-a", "walter", "crew"]).must();
    let mut session = node.login("gunna").roles("crew").hold("open").start();
    session.reach("open");
    let crew = || node.run(&["getent", "group", "crew"]).must().to_owned();
    let without = crew();
    with("[SUCCESS=merge] ");
    let merged = crew();
    let ids = groups_of(&node, "gunna");
    session.finish().ran.must();
    let after = crew();
    with("");
    node.run(&["gpasswd", "-d", "walter", "crew"]).must();
    assert!(without.ends_with(":walter"), "{without}");
    assert!(merged.ends_with(":walter,gunna"), "{merged}");
    assert_eq!(ids, ["builders", "crew", "gunna", "teleport-tmp"]);
    assert!(after.ends_with(":walter"), "{after}");
}

//! The right itself, asked of sudo: who has it, exactly how much, and until when.

use std::time::Duration;

use rig::{Ended, Machine};

use crate::{node, node_alone, uid};

/// What `sudo -l` lists, one entry an element.
#[track_caller]
fn listed(ended: &Ended) -> Vec<String> {
    ended
        .must_write()
        .lines()
        .skip_while(|line| !line.contains("may run the following"))
        .skip(1)
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Asks sudo as that UID, outside any session, as a process would that somebody has left.
fn may(machine: &Machine, uid: &str) -> bool {
    let ids = [&format!("--reuid={uid}"), &format!("--regid={uid}")];
    let asked = machine.run(&[
        "setpriv",
        ids[0],
        ids[1],
        "--clear-groups",
        "sudo",
        "-n",
        "true",
    ]);
    asked.succeeded()
}

#[test]
fn a_role_with_sudo_makes_root_and_the_same_login_without_it_stays_who_it_is() {
    let node = node();
    let with = node
        .login("sally")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(with.must_write(), "root");
    let without = node
        .login("sally")
        .roles("dev")
        .command("sudo -n true")
        .run();
    without.ran.must_end_with(1);
}

#[test]
fn sudo_lists_exactly_what_the_roles_say() {
    let node = node();
    let full = node
        .login("sina")
        .roles("admin")
        .command("sudo -n -l")
        .run();
    assert_eq!(listed(&full), ["(ALL) NOPASSWD: ALL"], "{full:?}");
    let one = node
        .login("sven")
        .roles("restarter")
        .command("sudo -n -l")
        .run();
    let restart = "(root) NOPASSWD: /usr/bin/systemctl restart app";
    assert_eq!(listed(&one), [restart], "{one:?}");
    let both = node
        .login("selma")
        .roles("restarter admin")
        .command("sudo -n -l")
        .run();
    let mut entries = listed(&both);
    entries.sort();
    assert_eq!(entries, ["(ALL) NOPASSWD: ALL", restart], "{both:?}");
}

#[test]
fn a_role_with_one_command_gives_that_command_only() {
    let node = node();
    let ended = node
        .login("simon")
        .roles("restarter")
        .command("sudo -n /usr/bin/systemctl restart app; echo $?; sudo -n /usr/bin/systemctl restart dbus; echo $?")
        .run();
    let written = ended.must_write();
    // 5: systemctl ran, as root, and knows no such unit. 1: sudo refused.
    let statuses: Vec<&str> = written
        .lines()
        .filter(|line| line.parse::<u8>().is_ok())
        .collect();
    assert_eq!(statuses, ["5", "1"], "{ended:?}");
}

#[test]
fn once_close_session_has_returned_nothing_of_the_user_has_the_right() {
    let node = node();
    let loop_of_a_thief = "nohup sh -c 'while :; do sudo -n true && echo may || echo not; done' </dev/null >>/tmp/silas 2>/dev/null & \
                           until grep -q may /tmp/silas; do sleep 0.02; done";
    let mut login = node
        .login("silas")
        .roles("admin")
        .hold("command")
        .hold("close")
        .command(loop_of_a_thief)
        .start();
    login.reach("command");
    let uid = uid(&node, "silas");
    assert!(may(&node, &uid));
    login.go_on().reach("close");
    assert!(!may(&node, &uid), "a new process has the right");
    let tries = || -> usize { node.sh("wc -l </tmp/silas").must().parse().unwrap() };
    let before = tries();
    node.within(Duration::from_secs(30), "the thief has tried again", |_| {
        tries() > before + 3
    });
    // The next one may have read its right before the close.
    let log = node.sh(&format!("tail -n +{} /tmp/silas | sort -u", before + 2));
    assert_eq!(
        log.must(),
        "not",
        "a process left behind has the right, or does not run"
    );
    login.finish();
}

#[test]
fn the_right_shrinks_to_that_of_the_session_that_is_left() {
    let node = node();
    let mut small = node
        .login("svea")
        .roles("restarter")
        .hold("command")
        .command("true")
        .start();
    small.reach("command");
    let uid = uid(&node, "svea");
    assert!(!may(&node, &uid));
    let mut full = node
        .login("svea")
        .roles("admin")
        .hold("command")
        .command("true")
        .start();
    full.reach("command");
    assert!(may(&node, &uid));
    full.finish().ran.must();
    assert!(!may(&node, &uid));
    let left = node.run(&["sudo", "-l", "-U", "svea"]);
    assert!(left.must().contains("systemctl restart app"), "{left}");
    small.finish().ran.must();
}

#[test]
fn a_killed_session_loses_the_right() {
    let node = node();
    let mut login = node.login("sara").roles("admin").hold("open").start();
    let pid = login.reach("open").pid();
    let uid = uid(&node, "sara");
    assert!(may(&node, &uid));
    node.run(&["kill", "-KILL", &pid]).must();
    node.within(Duration::from_secs(20), "the right is gone", |node| {
        !may(node, &uid)
    });
    let file = node.root().join("etc/sudoers.d/teleport-sara");
    assert!(std::fs::symlink_metadata(file).is_err());
}

#[test]
fn who_is_only_admitted_and_has_no_session_yet_has_no_right_yet() {
    let node = node();
    let mut login = node.login("stina").roles("admin").hold("account").start();
    login.reach("account");
    assert!(!may(&node, &uid(&node, "stina")));
    login.finish().ran.must();
}

#[test]
fn without_the_daemon_nobody_has_the_right_and_its_next_start_gives_it_back_to_living_sessions() {
    let node = node_alone();
    let mut login = node.login("sofie").roles("admin").hold("open").start();
    login.reach("open");
    let mut gone = node.login("stefan").roles("admin").hold("open").start();
    let pid = gone.reach("open").pid();
    let (uid, uid_of_gone) = (uid(&node, "sofie"), uid(&node, "stefan"));
    let units = ["teleport-sessiond.socket", "teleport-sessiond.service"];
    node.run(&["systemctl", "stop", units[0], units[1]]).must();
    assert!(!may(&node, &uid));
    node.run(&["kill", "-KILL", &pid]).must();
    node.run(&["systemctl", "start", units[0], units[1]]).must();
    assert!(may(&node, &uid));
    assert!(!may(&node, &uid_of_gone));
    let ours = node.sh("ls /etc/sudoers.d | grep ^teleport-");
    assert_eq!(ours.must(), "teleport-sofie");
    login.finish().ran.must();
    assert!(!may(&node, &uid));
}

#[test]
fn a_restart_of_the_daemon_takes_the_right_from_nobody() {
    let node = node_alone();
    let mut login = node.login("sonja").roles("admin").hold("open").start();
    login.reach("open");
    let uid = uid(&node, "sonja");
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| (0..60).filter(|_| !may(&node, &uid)).count());
        for _ in 0..3 {
            node.run(&["systemctl", "restart", "teleport-sessiond"])
                .must();
        }
        asking.join()
    });
    assert_eq!(asking.unwrap_or(usize::MAX), 0, "of 60 times");
    login.finish().ran.must();
    assert!(!may(&node, &uid));
}

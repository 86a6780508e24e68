//! A role that says `linger = true`: what its sessions leave goes on, without rights, and gives nobody any.

use std::time::{Duration, Instant};

use rig::Machine;

use crate::{BASE, IN_THE_END, ends, node};

/// Longer than what is left here has without `linger`: it ends by SIGTERM, right after `retire-delay`.
const LONG: Duration = Duration::from_secs(5);

/// A session of Alice's that leaves a process; the UID.
#[track_caller]
fn leave(node: &Machine, login: &str) -> String {
    let mut session = node
        .login(login)
        .roles("lingerer")
        .hold("open")
        .command(&format!(
            "setsid -f left {login} </dev/null >/dev/null 2>&1; until test -e /var/tmp/{login}.root; do sleep 0.1; done"
        ))
        .start();
    session.reach("open");
    let uid = crate::uid(node, login);
    session.finish().ran.must();
    uid
}

#[track_caller]
fn lives(node: &Machine, login: &str) {
    let look = format!(
        "rm -f /var/tmp/{login}.*; sleep 1.5; timeout 30 sh -c 'until test -e /var/tmp/{login}.alive; do sleep 0.1; done'; ls /var/tmp/{login}.*"
    );
    assert_eq!(
        node.sh(&look).must(),
        format!("/var/tmp/{login}.alive"),
        "it is alive and has no rights"
    );
}

#[track_caller]
fn is_locked(node: &Machine, login: &str) {
    let record = node.run(&["userdbctl", "user", "--output=json", login]);
    assert!(record.must().contains("\"locked\""), "{record}");
    assert_eq!(node.run(&["id", "-Gn", login]).must(), login);
    assert!(
        !node
            .sh(&format!("test -e /etc/sudoers.d/teleport-{login}"))
            .succeeded()
    );
}

fn end_of(node: &Machine, uid: &str) {
    node.run(&["pkill", "-KILL", "-u", uid, "-f", "bin/left"]);
}

fn it_goes_on_locked_and_without_rights_and_ends_with_its_last_process() {
    let node = node();
    let uid = leave(&node, "lotte");
    is_locked(&node, "lotte");
    let checked = node.run(&["teleport-userdbctl", "check"]);
    let mut lines = checked.stdout.lines();
    assert!(
        lines.any(|line| line.starts_with("OK    sessions ") && line.contains("lotte")),
        "{checked}"
    );
    std::thread::sleep(LONG);
    lives(&node, "lotte");
    is_locked(&node, "lotte");
    assert!(node.sh(&format!("test -d {BASE}/lotte")).succeeded());
    end_of(&node, &uid);
    // The user manager stays for logind's stop delay.
    ends(&node, "lotte", &uid, Instant::now(), IN_THE_END);
    assert_eq!(node.run(&["id", "lotte"]).status, 1);
}

fn the_same_person_with_the_same_role_joins_it() {
    let node = node();
    let uid = leave(&node, "lukas");
    std::thread::sleep(LONG);
    let again = node
        .login("lukas")
        .roles("lingerer")
        .command("pgrep -c -u lukas -f [b]in/left; sudo -n id -u")
        .run();
    assert_eq!(again.must_write(), "1\n0");
    std::thread::sleep(Duration::from_secs(1));
    lives(&node, "lukas");
    end_of(&node, &uid);
    ends(&node, "lukas", &uid, Instant::now(), IN_THE_END);
}

fn for_another_person_it_is_ended_first() {
    is_ended_for("luise", "bob", "lingerer");
}

fn for_the_same_person_with_another_role_it_is_ended_first() {
    is_ended_for("lars", "alice", "dev");
}

#[track_caller]
fn is_ended_for(login: &str, user: &str, roles: &str) {
    let node = node();
    let uid = leave(&node, login);
    std::thread::sleep(LONG);
    lives(&node, login);
    let began = Instant::now();
    let other = loop {
        let other = node
            .login(login)
            .user(user)
            .roles(roles)
            .command("pgrep -u $(id -u) -f [b]in/left; ls -A | grep -c -v '^\\.'; id -u")
            .run();
        if other.code("account") == Some("SUCCESS") {
            break other;
        }
        assert!(began.elapsed() < IN_THE_END, "{other:?}");
    };
    assert_eq!(
        other.must_write(),
        format!("0\n{uid}"),
        "nothing of it is left: {other:?}"
    );
    let alive = node.sh(&format!(
        "rm -f /var/tmp/{login}.*; sleep 1.5; ls /var/tmp/{login}.* 2>/dev/null"
    ));
    assert_eq!(alive.stdout, "");
}

#[test]
fn what_a_role_lets_linger_goes_on_without_rights_and_gives_nobody_any() {
    crate::side_by_side(&[
        (
            "it goes on locked and without rights and ends with its last process",
            it_goes_on_locked_and_without_rights_and_ends_with_its_last_process,
        ),
        (
            "the same person with the same role joins it",
            the_same_person_with_the_same_role_joins_it,
        ),
        (
            "for another person it is ended first",
            for_another_person_it_is_ended_first,
        ),
        (
            "for the same person with another role it is ended first",
            for_the_same_person_with_another_role_it_is_ended_first,
        ),
    ]);
}

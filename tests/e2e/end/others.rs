//! What Alice has left on a login never gains what Bob's role grants on it: whatever it is, it is gone before Bob is in.

use std::time::{Duration, Instant};

use rig::Machine;

use crate::{IN_THE_END, bob, node, remains};

/// Alice's session, to its end. What she left tries for Bob's rights from then on.
#[track_caller]
fn alice(node: &Machine, login: &str, roles: &str, leaving: &str) -> String {
    let mut session = node
        .login(login)
        .user("alice")
        .roles(roles)
        .hold("open")
        .command(leaving)
        .start();
    session.reach("open");
    let uid = crate::uid(node, login);
    session.finish().ran.must();
    uid
}

#[track_caller]
fn had_nothing(node: &Machine, name: &str) {
    let had = node.sh(&format!(
        "ls /var/tmp/{name}.root /var/tmp/{name}.group 2>/dev/null"
    ));
    assert_eq!(had.stdout, "", "what Alice left had what Bob has");
}

/// Alice leaves it, Bob is there long enough for anything of hers to try.
#[track_caller]
fn gains_nothing(login: &str, leaving: &str) {
    let node = node();
    alice(&node, login, "dev", leaving);
    let ended = bob(
        &node,
        login,
        "admin",
        // (sudo says so if somebody else's file goes while it reads the folder.)
        &format!(
            "sudo -n id -u 2>/dev/null; id -Gn | grep -c builders; rm -f /var/tmp/{login}.alive; sleep 1.5; ls /var/tmp/{login}.alive"
        ),
    );
    // Bob has his rights, and nothing of Alice's is alive beside him.
    let written = ended.written();
    assert!(written.starts_with("0\n1\n"), "{ended:?}");
    assert!(written.contains("No such file"), "{ended:?}");
    had_nothing(&node, login);
}

fn a_process() {
    gains_nothing(
        "dev1",
        "setsid -f left dev1 </dev/null >/dev/null 2>&1; sleep 0.3",
    );
}

fn a_process_that_ignores_signals() {
    gains_nothing(
        "dev2",
        "setsid -f left dev2 TERM INT </dev/null >/dev/null 2>&1; sleep 0.3",
    );
}

fn a_service_of_her_user_manager() {
    gains_nothing("dev3", "systemd-run --user --quiet left dev3; sleep 0.3");
}

fn a_unit_in_her_home_that_a_user_manager_would_start() {
    gains_nothing(
        "dev4",
        "mkdir -p ~/.config/systemd/user/default.target.wants && \
         printf '[Service]\\nExecStart=/usr/local/bin/left dev4\\n' >~/.config/systemd/user/left.service && \
         ln -s ../left.service ~/.config/systemd/user/default.target.wants/",
    );
}

fn a_process_in_the_group_of_her_role_and_newgrp() {
    // She has no group of Bob's; what she left tries `sg`, all the time.
    gains_nothing(
        "dev5",
        "setsid -f sh -c \"trap '' HUP; while :; do newgrp builders </dev/null; left dev5; done\" </dev/null >/dev/null 2>&1; sleep 0.3",
    );
}

fn the_shell_start_up_of_a_home_that_stays() {
    let node = node();
    let trap = "echo 'sudo -n id -u >/var/tmp/dev6.root; echo trapped' >~/.bashrc; cp ~/.bashrc ~/.profile; \
                cp ~/.bashrc ~/.bash_profile; pwd";
    alice(&node, "dev6", "keeper", trap);
    let kept = node.run(&["stat", "-c", "%a %F", "/home/dev6"]);
    assert_eq!(kept.must(), "700 directory");
    let expected = home_while_reserved(&node, "dev6", "chief");
    assert_eq!(expected, "/", "nobody has looked yet whose it is");
    let ended = bob(
        &node,
        "dev6",
        "chief",
        "bash -lic 'pwd; echo $HOME' 2>/dev/null",
    );
    let told = ended.messages().join(" ");
    assert!(
        told.contains("/home/dev6 is of another Teleport user"),
        "{ended:?}"
    );
    assert_eq!(
        ended.written().lines().rev().take(2).collect::<Vec<_>>(),
        ["/", "/"],
        "{ended:?}"
    );
    had_nothing(&node, "dev6");
    // Hers it stays, with the UID that it fixes.
    let again = loop {
        let ended = node
            .login("dev6")
            .roles("keeper")
            .command("pwd; stat -c %u . ; id -u")
            .run();
        if ended.code("account") == Some("SUCCESS") {
            break ended.must_write();
        }
    };
    let lines: Vec<&str> = again.lines().collect();
    assert!(lines[0] == "/home/dev6" && lines[1] == lines[2], "{again}");
}

/// The home that anybody may read of while Bob is let in, but not in yet.
#[track_caller]
fn home_while_reserved(node: &Machine, login: &str, roles: &str) -> String {
    let began = Instant::now();
    loop {
        let mut reserved = node
            .login(login)
            .user("bob")
            .roles(roles)
            .hold("account")
            .start();
        if reserved.reaches("account") {
            let home = node.sh(&format!("getent passwd {login} | cut -d: -f6"));
            return home.must().to_owned();
        }
        assert!(began.elapsed() < IN_THE_END);
    }
}

fn a_home_that_somebody_else_owns_is_refused_with_a_sentence_and_left_alone() {
    let node = node();
    node.sh("mkdir -m 0750 /home/dev7 && chown 4242:4242 /home/dev7")
        .must();
    let ended = node.login("dev7").roles("keeper").command("pwd").run();
    let told = ended.messages().join(" ");
    assert!(
        told.contains("/home/dev7") && told.contains("belongs to UID 4242"),
        "{ended:?}"
    );
    assert_eq!(ended.must_write(), "/");
    let after = node.run(&["stat", "-c", "%u:%g %a", "/home/dev7"]);
    assert_eq!(after.must(), "4242:4242 750");
}

fn a_reservation_of_bobs_that_is_never_opened_revives_nothing() {
    let node = node();
    let uid = alice(
        &node,
        "dev8",
        "dev",
        "setsid -f left dev8 </dev/null >/dev/null 2>&1; sleep 0.3",
    );
    let began = Instant::now();
    loop {
        let mut reserved = node
            .login("dev8")
            .user("bob")
            .roles("admin")
            .hold("account")
            .start();
        // Reserved, or told to wait.
        if reserved.reaches("account") {
            assert_eq!(
                remains(&node, "dev8", &uid),
                "",
                "Bob's reservation found it alive"
            );
            std::thread::sleep(Duration::from_millis(500));
            had_nothing(&node, "dev8");
            return;
        }
        assert!(began.elapsed() < IN_THE_END);
    }
}

fn a_crontab_and_jobs_of_at_are_gone_before_bob_is_in() {
    let node = node();
    let uid = alice(
        &node,
        "dev9",
        "dev",
        "echo '* * * * * left dev9' | crontab - && echo 'left dev9' | at now + 1 minute 2>/dev/null",
    );
    let look =
        format!("ls /var/spool/cron/crontabs/dev9 2>/dev/null; find /var/spool/cron -uid {uid}; :");
    let planted = node.sh(&look).must().lines().count();
    assert!(planted >= 2, "nothing was planted");
    bob(&node, "dev9", "admin", "sleep 0.1").ran.must();
    assert_eq!(node.sh(&look).must(), "");
}

#[test]
fn nothing_of_alices_gains_what_bobs_role_grants_on_the_same_login() {
    crate::side_by_side(&[
        ("a process", a_process),
        (
            "a process that ignores signals",
            a_process_that_ignores_signals,
        ),
        (
            "a service of her user manager",
            a_service_of_her_user_manager,
        ),
        (
            "a unit in her home that a user manager would start",
            a_unit_in_her_home_that_a_user_manager_would_start,
        ),
        (
            "a process in the group of her role and newgrp",
            a_process_in_the_group_of_her_role_and_newgrp,
        ),
        (
            "the shell start up of a home that stays",
            the_shell_start_up_of_a_home_that_stays,
        ),
        (
            "a home that somebody else owns is refused with a sentence and left alone",
            a_home_that_somebody_else_owns_is_refused_with_a_sentence_and_left_alone,
        ),
        (
            "a reservation of bobs that is never opened revives nothing",
            a_reservation_of_bobs_that_is_never_opened_revives_nothing,
        ),
        (
            "a crontab and jobs of at are gone before bob is in",
            a_crontab_and_jobs_of_at_are_gone_before_bob_is_in,
        ),
    ]);
}

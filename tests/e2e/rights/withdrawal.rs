//! That sudo goes with its session whatever becomes of the file and of its folder.
//! What a slow disk does is of `slow_disk`.

use std::time::Duration;

use rig::{Journal, Machine};

use crate::{daemon, node, node_alone};

/// Waits until the daemon has seen that the folder is another one, and another daemon than `before` is there.
#[track_caller]
fn must_start_anew(node: &Machine, journal: &Journal, before: &str) {
    let limit = Duration::from_secs(60);
    node.within(limit, "the folder is seen to be another one", |_| {
        let lines = journal.lines(&["-u", "teleport-sessiond"]);
        lines
            .iter()
            .any(|line| line.contains("was replaced by another folder"))
    });
    // The line is older than the end of who wrote it.
    node.within(limit, "the daemon starts anew", |node| {
        daemon(node).is_some_and(|pid| pid != before)
    });
}

#[test]
fn a_folder_that_is_replaced_while_the_daemon_starts_is_worked_in_all_the_same() {
    let node = node_alone();
    let mut login = node
        .login("w-starting")
        .roles("admin")
        .hold("open")
        .command("sudo -n id -un")
        .start();
    login.reach("open");
    // The sandbox is made before anything in it runs, and the daemon looks at the folder later.
    let drop_in = "/run/systemd/system/teleport-sessiond.service.d/slow.conf";
    node.run(&[
        "mkdir",
        "-p",
        "/run/systemd/system/teleport-sessiond.service.d",
    ])
    .must();
    node.write(
        drop_in,
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'test -e /run/quick || { touch /run/teleport-userdb/begun; sleep 3; }; exec /usr/libexec/teleport-sessiond'\n",
    );
    node.sh("systemctl daemon-reload && systemctl restart --no-block teleport-sessiond")
        .must();
    node.within(Duration::from_secs(30), "it begins to start", |node| {
        node.run(&["test", "-e", "/run/teleport-userdb/begun"])
            .succeeded()
    });
    let journal = Journal::now(&node);
    let starting = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
    node.sh("touch /run/quick; cp -a /etc/sudoers.d /etc/new && mv /etc/sudoers.d /etc/old && mv /etc/new /etc/sudoers.d")
        .must();
    must_start_anew(&node, &journal, starting.must());
    let ended = login.finish();
    assert_eq!(ended.must_write(), "root");
    // What went with the old folder is not read by sudo, and its place not known to a daemon that never saw it.
    let left = node.sh("ls -A /etc/sudoers.d | grep teleport- || :");
    assert_eq!(left.must(), "");
    node.run(&["rm", "-r", "/etc/old"]).must();
}

#[test]
fn a_folder_that_an_administrator_replaces_is_worked_in_at_once_and_keeps_no_right() {
    let node = node_alone();
    let journal = Journal::now(&node);
    let before = daemon(&node).unwrap();
    // Removed and made anew. (From here on it is a folder of the machine's own, not of its image: those are not
    // renamed but copied.)
    node.sh("cp -a /etc/sudoers.d /etc/new && rm -r /etc/sudoers.d && mv /etc/new /etc/sudoers.d")
        .must();
    must_start_anew(&node, &journal, &before);
    let mut login = node
        .login("w-moved")
        .roles("admin")
        .hold("open")
        .command("sudo -n id -un")
        .start();
    login.reach("open");
    // As a configuration management does it: a copy, worked on and put in place.
    let journal = Journal::now(&node);
    let before = daemon(&node).unwrap();
    node.sh(
        "cp -a /etc/sudoers.d /etc/new && mv /etc/sudoers.d /etc/old && mv /etc/new /etc/sudoers.d",
    )
    .must();
    must_start_anew(&node, &journal, &before);
    // The session has lived on, with its right in the new folder and none in the old.
    let old = node.sh("ls -A /etc/old | grep teleport- || :");
    assert_eq!(old.must(), "");
    let ended = login.finish();
    assert_eq!(ended.must_write(), "root");
    let left = node.sh("ls -A /etc/sudoers.d | grep teleport- || :");
    assert_eq!(left.must(), "");
    // A new session has its right there, too.
    let next = node
        .login("w-moved")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(next.must_write(), "root");
    node.run(&["rm", "-r", "/etc/old"]).must();
}

#[test]
fn a_second_name_of_our_file_grants_nothing_once_the_session_is_over() {
    let node = node();
    let mut login = node.login("w-linked").roles("admin").hold("open").start();
    login.reach("open");
    node.run(&[
        "ln",
        "/etc/sudoers.d/teleport-w-linked",
        "/etc/sudoers.d/zz-second",
    ])
    .must();
    login.finish().ran.must();
    let left = node.sh("ls /etc/sudoers.d/teleport-w-linked; wc -c </etc/sudoers.d/zz-second; rm /etc/sudoers.d/zz-second");
    assert_eq!(left.stdout.trim(), "0", "{left}");
    assert!(left.stderr.contains("No such file"), "{left}");
}

#[test]
fn a_file_of_ours_that_has_lost_its_header_keeps_everybody_out_until_it_is_gone() {
    let node = node();
    let journal = Journal::now(&node);
    let file = "/etc/sudoers.d/teleport-w-edited";
    let mut login = node.login("w-edited").roles("admin").hold("open").start();
    login.reach("open");
    // In place, so that it is the same file, and so that it names nobody: who is named elsewhere in sudoers is kept out for that.
    node.sh(&format!("echo 'Defaults:root !lecture' >{file}"))
        .must();
    login.finish().ran.must();
    node.run(&["test", "-s", file]).must();
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("has lost its header line") && line.contains(file)),
        "{lines:#?}"
    );
    let refused = node.login("w-edited").run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    assert!(
        matches!(refused.messages()[..], [sentence] if sentence.contains("sudo")),
        "{refused:?}"
    );
    let checked = node.run(&["teleport-userdbctl", "check"]);
    for part in ["WRONG old rights", "as w-edited is refused", file] {
        assert!(checked.stdout.contains(part), "{part:?}: {checked}");
    }
    let asked = "teleport-userdbctl explain --user u --login w-edited --roles admin";
    let explained = node.sh(asked);
    explained.must_end_with(1);
    assert!(explained.stdout.contains(file), "{explained}");
    node.run(&["rm", file]).must();
    node.within(Duration::from_secs(20), "it is let in again", |node| {
        node.login("w-edited").run().ran.succeeded()
    });
    assert_eq!(node.sh(asked).status, 0);
    let checked = node.run(&["teleport-userdbctl", "check"]);
    assert!(!checked.stdout.contains("w-edited is refused"), "{checked}");
}

#[test]
fn a_file_that_was_put_in_the_place_of_ours_is_left_alone_and_told_of() {
    let node = node();
    let journal = Journal::now(&node);
    let file = "/etc/sudoers.d/teleport-w-replaced";
    let mut login = node.login("w-replaced").roles("admin").hold("open").start();
    login.reach("open");
    node.run(&["sed", "-i", "1d", file]).must();
    login.finish().ran.must();
    node.run(&["test", "-s", file]).must();
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    let told = |line: &String| line.contains("is not ours") && line.contains(file);
    assert!(lines.iter().any(told), "{lines:#?}");
    node.run(&["rm", file]).must();
}

#[test]
fn a_file_that_somebody_removes_while_its_session_lives_is_written_again() {
    let node = node();
    let journal = Journal::now(&node);
    let file = "/etc/sudoers.d/teleport-w-lost";
    let mut login = node.login("w-lost").roles("admin").hold("open").start();
    login.reach("open");
    node.run(&["rm", file]).must();
    node.within(Duration::from_secs(30), "it is written again", |node| {
        node.run(&["test", "-s", file]).succeeded()
    });
    let lines = journal.lines(&["-u", "teleport-sessiond"]);
    let told = |line: &String| line.contains("has removed the sudoers file of w-lost");
    assert_eq!(
        lines.iter().filter(|line| told(line)).count(),
        1,
        "{lines:#?}"
    );
    login.finish().ran.must();
    assert!(!node.run(&["test", "-e", file]).succeeded());
}

#[test]
fn a_file_of_ours_that_came_back_by_itself_gives_nobody_its_right() {
    let node = node();
    let file = "/etc/sudoers.d/teleport-w-stray";
    let mut login = node.login("w-stray").roles("admin").hold("open").start();
    login.reach("open");
    node.run(&["cp", "-p", file, "/root/backup"]).must();
    login.finish().ran.must();
    node.run(&["mv", "/root/backup", file]).must();
    let next = node
        .login("w-stray")
        .command("sudo -n true 2>/dev/null || echo no")
        .run();
    assert_eq!(next.must_write(), "no");
    assert!(!node.run(&["test", "-e", file]).succeeded());
}

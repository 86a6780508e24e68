//! That sudo goes with its session whatever becomes of the file, of its folder and of the disk; and that a disk that
//! does not answer keeps nobody else from logging in.

use std::process::{Child, Stdio};
use std::time::Duration;

use rig::{Journal, Machine};

use crate::{node, node_alone};

/// As long as something may take that nothing holds up, on a busy machine. What the disk held up would take 20 s, and a
/// login fails after five.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Every fsync of the daemon takes this long while it lives.
struct Stalled<'m>(&'m Machine, Child);

impl<'m> Stalled<'m> {
    #[track_caller]
    fn disk_of(node: &'m Machine, each: Duration) -> Stalled<'m> {
        Stalled::with_threads(node, each, 2)
    }

    /// Waits for `threads` to be held at least; those that come later are, too.
    #[track_caller]
    fn with_threads(node: &'m Machine, each: Duration, threads: usize) -> Stalled<'m> {
        let delay = format!("inject=fsync:delay_enter={}", each.as_micros());
        let pid = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
        let strace = node
            .command(&[
                "strace",
                "-f",
                "-qq",
                "-e",
                "trace=fsync",
                "-e",
                &delay,
                "-p",
                pid.must(),
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let traced = format!(
            "grep -Hc '^TracerPid:.[1-9]' /proc/{}/task/*/status",
            pid.must()
        );
        node.within(Duration::from_secs(30), "strace has every thread", |node| {
            let counts = node.sh(&traced).stdout;
            counts.lines().count() >= threads && counts.lines().all(|line| line.ends_with(":1"))
        });
        Stalled(node, strace)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        // Its death detaches it, and what it has held goes on.
        self.0.run(&["pkill", "-KILL", "strace"]);
        let _ = self.1.wait();
    }
}

#[test]
fn a_disk_that_does_not_answer_costs_the_logins_with_sudo_their_sudo_and_nobody_anything_else() {
    let node = node_alone();
    // Here before, and on disk.
    let mut before = node.login("w-before").roles("admin").hold("open").start();
    before.reach("open");
    let mut plain = node.login("w-plain").hold("open").start();
    let plain_pid = plain.reach("open").pid();
    let stalled = Stalled::disk_of(&node, Duration::from_secs(20));

    // Whoever needs sudo waits a second, is told, and goes on without.
    let with_sudo = || {
        node.login("w-sudo")
            .roles("admin")
            .command("sudo -n true")
            .run()
    };
    let without = std::thread::scope(|scope| {
        let without = scope.spawn(with_sudo);
        // Meanwhile others come and go, and the end of a leader is noticed.
        std::thread::sleep(Duration::from_millis(300));
        let other = node.login("w-other").command("true").run();
        other.ran.must();
        assert!(other.ran.elapsed < AT_ONCE, "{other:?}");
        node.run(&["kill", "-KILL", &plain_pid]).must();
        node.within(AT_ONCE, "the end of a leader is noticed", |node| {
            !node.run(&["getent", "passwd", "w-plain"]).succeeded()
        });
        without.join().unwrap()
    });
    assert_eq!(without.code("open"), Some("SUCCESS"), "{without:?}");
    assert!(
        !without.ran.succeeded() && without.ran.elapsed < AT_ONCE,
        "{without:?}"
    );
    assert!(
        without
            .messages()
            .iter()
            .any(|message| message.contains("no sudo rights")),
        "{without:?}"
    );

    // The end of a session with a file is not held up either: its right and its user are gone.
    let ended = before.finish();
    ended.ran.must();
    assert_eq!(ended.code("close"), Some("SUCCESS"), "{ended:?}");
    assert!(!node.run(&["getent", "passwd", "w-before"]).succeeded());
    drop(stalled);

    node.within(Duration::from_secs(30), "the files are gone", |node| {
        node.sh("ls /etc/sudoers.d | grep -c teleport-w-")
            .stdout
            .trim()
            == "0"
    });
    let again = node
        .login("w-sudo")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(again.must_write(), "root");
}

#[test]
fn of_many_who_end_at_once_none_keeps_sudo_on_a_slow_disk() {
    let node = node_alone();
    let names: Vec<String> = (0..12).map(|number| format!("w-many{number}")).collect();
    let sessions: Vec<_> = names
        .iter()
        .map(|name| {
            let mut login = node.login(name).roles("admin").hold("open").start();
            login.reach("open");
            login
        })
        .collect();
    // One after the other, their files would take four times as long as a logout waits for its own.
    let stalled = Stalled::disk_of(&node, Duration::from_millis(200));
    let left = std::thread::scope(|scope| {
        let ends: Vec<_> = sessions
            .into_iter()
            .zip(&names)
            .map(|(login, name)| {
                let node = &node;
                scope.spawn(move || {
                    login.finish().ran.must();
                    let file = format!("/etc/sudoers.d/teleport-{name}");
                    node.run(&["test", "-e", &file]).succeeded().then_some(file)
                })
            })
            .collect();
        ends.into_iter()
            .filter_map(|end| end.join().unwrap())
            .collect::<Vec<_>>()
    });
    drop(stalled);
    assert!(left.is_empty(), "there after the logout: {left:?}");
}

#[test]
fn of_many_who_come_at_once_each_has_sudo_on_a_slow_disk() {
    let node = node_alone();
    // On a loaded machine some may come too late all the same; one after the other, most always would.
    let all_have_it = (0..5).any(|round| {
        let stalled = Stalled::disk_of(&node, Duration::from_millis(100));
        let logins: Vec<String> = (0..24).map(|n| format!("w-crowd{round}x{n}")).collect();
        let start = |login: &String| node.login(login).roles("admin").hold("open").start();
        let mut sessions: Vec<_> = logins.iter().map(start).collect();
        for session in &mut sessions {
            session.reach("open");
        }
        let files = node.sh(&format!(
            "ls /etc/sudoers.d | grep -c '^teleport-w-crowd{round}x'"
        ));
        drop(stalled);
        for session in sessions {
            session.finish().ran.must();
        }
        println!("{} of {} have sudo", files.stdout.trim(), logins.len());
        files.stdout.trim() == logins.len().to_string()
    });
    assert!(all_have_it);
}

#[test]
fn who_is_granted_a_file_while_an_earlier_one_is_removed_keeps_it_when_others_come() {
    let node = node_alone();
    let session = |login: &str, holds: &[&str]| {
        let login = node.login(login).roles("admin");
        let mut login = holds.iter().fold(login, |login, at| login.hold(at)).start();
        login.reach(holds[0]);
        login
    };
    let has_file = || {
        node.sh("test -e /etc/sudoers.d/teleport-w-again")
            .succeeded()
    };
    // On a loaded machine the grant may come too late to be one.
    let granted = (0..10).any(|_| {
        let mut busy = session("w-busy", &["open"]);
        let mut first = session("w-again", &["open"]);
        let mut second = session("w-again", &["account", "open"]);
        let stalled = Stalled::disk_of(&node, Duration::from_millis(150));
        for login in [&mut busy, &mut first, &mut second] {
            login.go_on();
            // The removal of the first is still waited for when the next one opens.
            std::thread::sleep(Duration::from_millis(30));
        }
        let granted = second.try_reach("open") && has_file();
        drop(stalled);
        let third = session("w-again", &["account"]);
        assert!(!granted || has_file(), "taken away by the third");
        for login in [busy, first, second, third] {
            login.finish();
        }
        granted
    });
    assert!(granted);
}

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

/// The process of the daemon, if it has started and is not ending.
fn daemon(node: &Machine) -> Option<String> {
    let shown = node.sh(
        "systemctl is-active -q teleport-sessiond && systemctl show -P MainPID teleport-sessiond",
    );
    let active = shown.succeeded() && shown.stdout.trim() != "0";
    active.then(|| shown.stdout.trim().to_owned())
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
    let told = |line: &String| line.contains("another file") && line.contains(file);
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

#[test]
fn a_daemon_that_starts_on_a_disk_that_does_not_answer_serves_everybody_all_the_same() {
    let node = node_alone();
    let sessions: Vec<_> = (0..3)
        .map(|number| {
            let name = format!("w-again{number}");
            let mut login = node.login(&name).roles("admin").hold("open").start();
            login.reach("open");
            login
        })
        .collect();
    // It waits to be traced before it has done anything.
    let folder = "/run/systemd/system/teleport-sessiond.service.d";
    node.run(&["mkdir", "-p", folder]).must();
    node.write(
        &format!("{folder}/held.conf"),
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$; exec /usr/libexec/teleport-sessiond'\n",
    );
    // Killed, it leaves no file: all have to be written again.
    let before = daemon(&node).unwrap();
    node.sh(&format!("systemctl daemon-reload && kill -KILL {before}"))
        .must();
    let pid = || {
        let shown = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
        shown.must().to_owned()
    };
    let stopped = |pid: &str| {
        let state = node.sh(&format!("grep -c '^State:.T' /proc/{pid}/status"));
        pid != before && state.stdout.trim() == "1"
    };
    node.within(Duration::from_secs(30), "the next one is held", |_| {
        stopped(&pid())
    });
    let stalled = Stalled::with_threads(&node, Duration::from_secs(40), 1);
    let started = node.run(&["kill", "-CONT", &pid()]);
    started.must();
    // Each of the files would take 40 s.
    let took = node.within(Duration::from_secs(20), "the daemon has started", |node| {
        daemon(node).is_some()
    });
    println!("started after {took:?}");
    let other = node.login("w-new").command("true").run();
    other.ran.must();
    drop(stalled);
    node.sh(&format!("rm -r {folder} && systemctl daemon-reload"))
        .must();
    for login in sessions {
        login.finish().ran.must();
    }
    node.within(Duration::from_secs(30), "the files are gone", |node| {
        let left = node.sh("ls /etc/sudoers.d | grep -c teleport-w-");
        left.stdout.trim() == "0"
    });
}

//! That a disk of sudoers.d that does not answer, or takes its time, keeps nobody else from logging in, and gives nobody more
//! or longer sudo than his session.

use std::process::{Child, Stdio};
use std::time::Duration;

use rig::Machine;

use crate::{daemon, node_alone};

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

#[test]
fn who_comes_while_the_file_of_the_login_is_on_its_way_waits_for_it_too_or_is_told() {
    let node = node_alone();
    let stalled = Stalled::disk_of(&node, Duration::from_millis(300));
    for round in 0..3 {
        let login = format!("w-both{round}");
        let file = format!("/etc/sudoers.d/teleport-{login}");
        let come = || {
            let mut session = node.login(&login).roles("admin").hold("open").start();
            session.reach("open");
            let has_file = node.run(&["test", "-e", &file]).succeeded();
            let told = format!("{:?}", session.events()).contains("no sudo rights");
            (session, has_file, told)
        };
        let sessions = std::thread::scope(|scope| {
            let both = [scope.spawn(come), scope.spawn(come)];
            both.map(|session| session.join().unwrap())
        });
        for (session, has_file, told) in sessions {
            assert!(has_file || told, "{:?}", session.events());
        }
    }
    drop(stalled);
}

#[test]
fn a_late_answer_to_the_second_of_two_takes_nothing_from_the_first() {
    let node = node_alone();
    let reserved = |login: &str| {
        let login = node.login(login).roles("admin").hold("account");
        let mut login = login.hold("open").start();
        login.reach("account");
        login
    };
    let [mut first, mut second] = ["w-late"; 2].map(reserved);
    let stalled = Stalled::disk_of(&node, Duration::from_millis(800));
    // The thread makes a file for this one while the orders come, and after the first of them one for the next.
    let before = reserved("w-ahead");
    let mut between = reserved("w-between");
    for login in [&mut first, &mut between, &mut second] {
        login.go_on();
        std::thread::sleep(Duration::from_millis(30));
    }
    let told = [&mut first, &mut second].map(|login| {
        login.reach("open");
        format!("{:?}", login.events()).contains("no sudo rights")
    });
    std::thread::sleep(Duration::from_secs(2));
    let file = node.sh("test -e /etc/sudoers.d/teleport-w-late");
    drop(stalled);
    assert!(file.succeeded() || told == [true, true], "{told:?}");
    for login in [first, second, before, between] {
        login.finish();
    }
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

//! Files of ours in sudoers.d as sudo would meet them at any moment: whole, root's, and read-only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rig::Machine;

use crate::node_alone;

const HEADER: &str =
    "# teleport-userdb v1: written for a live session, removed with it; do not edit";
const FULL: &str = "ALL=(ALL) NOPASSWD: ALL";
const RESTART: &str = "ALL=(root) NOPASSWD: /usr/bin/systemctl restart app";

/// What was seen of files of ours.
#[derive(Debug, Default)]
struct Seen {
    looks: usize,
    logins: BTreeSet<String>,
    wrong: Vec<String>,
}

/// Reads all files that sudo would read, again and again.
fn watch(machine: &Machine, until: &AtomicBool) -> Seen {
    let folder = machine.root().join("etc/sudoers.d");
    let mut seen = Seen::default();
    while !until.load(Ordering::Relaxed) && seen.wrong.len() < 5 {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // sudo skips the others.
            if let Some(login) = name.strip_prefix("teleport-")
                && !name.contains('.')
                && !name.ends_with('~')
            {
                seen.looks += 1;
                seen.logins.insert(login.to_owned());
                if let Some(why) = fault(&entry.path(), login) {
                    seen.wrong.push(format!("{name}: {why}"));
                }
            }
        }
    }
    seen
}

/// What sudo would have against the file.
fn fault(path: &Path, login: &str) -> Option<String> {
    // Gone before it was opened.
    let mut file = File::open(path).ok()?;
    let seen = file.metadata().ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let kind = (seen.is_file(), seen.mode() & 0o7777, seen.uid(), seen.gid());
    // No link at all: removed since it was opened.
    if kind != (true, 0o440, 0, 0) || seen.nlink() > 1 {
        return Some(format!("{kind:?}, {} links", seen.nlink()));
    }
    let whole = |specs: &[&str]| {
        let lines: String = specs
            .iter()
            .map(|spec| format!("{login} {spec}\n"))
            .collect();
        text == format!("{HEADER}\n{lines}")
    };
    let known =
        whole(&[FULL]) || whole(&[RESTART]) || whole(&[RESTART, FULL]) || whole(&[FULL, RESTART]);
    (!known).then_some(text)
}

#[test]
fn no_file_that_sudo_reads_is_ever_less_than_whole_while_a_hundred_logins_come_and_go() {
    let node = node_alone();
    let over = AtomicBool::new(false);
    let (seen, refusals, checks) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&node, &over));
        let visudo = scope.spawn(|| {
            let (mut refusals, mut checks) = (Vec::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let checked = node.run(&["visudo", "-c"]);
                checks += 1;
                if !checked.succeeded() {
                    refusals.push(checked);
                }
            }
            (refusals, checks)
        });
        let logins: Vec<_> = (0..4)
            .map(|lane| {
                let node = &node;
                scope.spawn(move || {
                    for turn in 0..25 {
                        // The second session changes the file, and its end changes it back.
                        let login = format!("s{lane}-{turn}");
                        let mut first = node.login(&login).roles("restarter").hold("open").start();
                        first.reach("open");
                        node.login(&login).roles("admin").run().ran.must();
                        first.finish().ran.must();
                    }
                })
            })
            .collect();
        let failed = logins
            .into_iter()
            .filter_map(|lane| lane.join().err())
            .count();
        over.store(true, Ordering::Relaxed);
        let (refusals, checks) = visudo.join().expect("visudo was run");
        assert_eq!(failed, 0, "logins failed");
        (
            watcher.join().expect("files were watched"),
            refusals,
            checks,
        )
    });
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert!(refusals.is_empty(), "{refusals:#?}");
    // It has looked often enough to have seen something.
    assert!(
        seen.logins.len() >= 50 && seen.looks > 1000 && checks > 20,
        "{} logins in {} looks, {checks} checks",
        seen.logins.len(),
        seen.looks
    );
    let left = node.sh("ls -A /etc/sudoers.d | grep -vx README || :");
    assert_eq!(left.must(), "");
}

#[test]
fn a_dot_in_a_login_does_not_make_sudo_skip_its_file() {
    let node = crate::node();
    let ended = node
        .login("s.dot")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(ended.must_write(), "root");
}

#[test]
fn a_folder_that_a_drop_in_closes_to_the_daemon_takes_sudo_from_roles_and_keeps_nobody_out() {
    const DROP_INS: &str = "/run/systemd/system/teleport-sessiond.service.d";
    let node = node_alone();
    let start_anew = || {
        node.sh("systemctl daemon-reload && systemctl restart teleport-sessiond")
            .must();
    };
    let daemon = || {
        let shown = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
        shown.must().to_owned()
    };
    node.run(&["mkdir", "-p", DROP_INS]).must();
    // Whoever has left just before is refused where nobody can see that nothing of him is there.
    for (setting, granted, other) in [
        ("ReadOnlyPaths=/etc/sudoers.d", "s-read", "s-other"),
        ("InaccessiblePaths=/etc/sudoers.d", "s-closed", "s-else"),
    ] {
        node.write(
            &format!("{DROP_INS}/closed.conf"),
            &format!("[Service]\n{setting}\n"),
        );
        start_anew();
        let before = daemon();
        let granted = node.login(granted).roles("admin").run();
        granted.ran.must();
        let told = granted.messages().join(" ");
        assert!(
            told.contains("This session has no sudo rights"),
            "{setting}: {granted:?}"
        );
        // Longer than the daemon takes to see that the folder is another one.
        std::thread::sleep(Duration::from_secs(3));
        node.login(other).run().ran.must();
        assert_eq!(daemon(), before, "{setting}");
        let checked = node.run(&["teleport-userdbctl", "check"]);
        let told = [
            "WRONG sudoers folder",
            "`systemctl cat teleport-sessiond.service`",
        ];
        for part in told {
            assert!(
                checked.stdout.contains(part),
                "{setting}: {part:?}: {checked}"
            );
        }
    }
    node.run(&["rm", &format!("{DROP_INS}/closed.conf")]).must();
    start_anew();
    let ended = node
        .login("s-open")
        .roles("admin")
        .command("sudo -n id -un")
        .run();
    assert_eq!(ended.must_write(), "root");
}

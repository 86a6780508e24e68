//! Many sessions of many users: opened many at a time, half of their leaders killed, the rest closed. `make soak` makes 10,000.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rig::Machine;
use serde_json::Value;

use crate::{main_pid, node_alone};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/survive/crowd.c");
const CROWD: &str = "/usr/local/bin/crowd";
/// Until everything is withdrawn after the last end.
const GONE: Duration = Duration::from_secs(5);
/// Until what was left of all of them is ended: some processes for each user.
const ENDED: Duration = Duration::from_secs(300);
/// Until the memory of all of it is given back.
const BACK: Duration = Duration::from_secs(30);

#[track_caller]
fn install(node: &Machine) {
    let built = std::env::temp_dir().join(format!("crowd-{}", std::process::id()));
    let gcc = Command::new("gcc")
        .args(["-O2", "-o"])
        .arg(&built)
        .arg(SOURCE)
        .output()
        .expect("gcc, which `make setup` installs");
    assert!(
        gcc.status.success(),
        "{}",
        String::from_utf8_lossy(&gcc.stderr)
    );
    node.copy_in(&built, CROWD).expect("copied");
    let _ = std::fs::remove_file(built);
}

#[track_caller]
fn told(node: &Machine, what: &str) -> Vec<Value> {
    let ran = node.run(&["teleport-userdbctl", "--json=short", what]);
    let told: Value = serde_json::from_str(ran.must()).expect("JSON");
    told.as_array().cloned().unwrap_or_default()
}

/// Memory of the daemon in KiB: its own, and what is resident in all, the program and the table of accounts included.
#[track_caller]
fn memory(node: &Machine) -> (u64, u64) {
    let status = format!(
        "awk '/^RssAnon/ {{ own = $2 }} /^VmRSS/ {{ all = $2 }} END {{ print own, all }}' /proc/{}/status",
        main_pid(node)
    );
    let said = node.sh(&status).must().to_owned();
    let (own, all) = said.split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse().expect("a number");
    (number(own), number(all))
}

/// Ten percent more, or 2 MiB.
fn about(before: u64) -> u64 {
    (before + before / 10).max(before + 2048)
}

/// How many descriptors the daemon has.
#[track_caller]
fn descriptors(node: &Machine) -> usize {
    let count = format!("ls /proc/{}/fd | wc -l", main_pid(node));
    node.sh(&count).must().parse().expect("a number")
}

/// Whether the users of the crowd have this many sessions each.
fn counted(node: &Machine, prefix: &str, users: usize, each: usize) -> bool {
    let list = told(node, "list");
    let of_crowd = |user: &&Value| {
        user["login"]
            .as_str()
            .is_some_and(|login| login.starts_with(prefix))
    };
    let list: Vec<&Value> = list.iter().filter(of_crowd).collect();
    list.len() == users && list.iter().all(|user| user["sessions"] == each)
}

/// Opens, kills and closes; each step is counted.
fn come_and_go(node: &Machine, service: &str, prefix: &str, users: usize, each: usize) {
    let sessions = users * each;
    let descriptors_before = descriptors(node);
    let began = Instant::now();
    let mut crowd = node
        .command(&[
            CROWD,
            service,
            prefix,
            &sessions.to_string(),
            &users.to_string(),
            "64",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("entering the machine");
    let (mut stdin, stdout) = (
        crowd.stdin.take().expect("piped"),
        crowd.stdout.take().expect("piped"),
    );
    let mut said = BufReader::new(stdout).lines();
    let mut next = || said.next().and_then(|line| line.ok()).unwrap_or_default();
    assert_eq!(next(), format!("open {sessions} refused 0"));
    let opened = began.elapsed();
    let paces = next();
    println!(
        "{sessions} sessions of {users} users in {service}: microseconds of each login: {paces}"
    );
    assert!(
        counted(node, prefix, users, each),
        "all are open and counted"
    );
    assert_eq!(told(node, "sessions").len(), sessions);

    // One for each leader; what starts all of them is watched once, and there may be calls.
    let more = descriptors(node).saturating_sub(descriptors_before);
    assert!(
        more <= sessions + 50,
        "{more} descriptors for {sessions} sessions"
    );

    let kept = each / 2;
    writeln!(stdin, "kill").expect("the crowd lives");
    assert_eq!(next(), format!("ended {}", users * (each - kept)));
    let killed = node.within(
        GONE,
        "half of the leaders are dead, half of the sessions are left",
        |node| counted(node, prefix, users, kept),
    );
    assert_eq!(told(node, "sessions").len(), users * kept);

    writeln!(stdin, "close").expect("the crowd lives");
    assert_eq!(next(), format!("ended {}", users * kept));
    let closed = node.within(GONE, "nobody is left", |node| {
        told(node, "list").is_empty() && told(node, "sessions").is_empty()
    });
    drop(stdin);
    let _ = crowd.wait();
    for key in [format!("{prefix}0"), format!("{prefix}{}", users - 1)] {
        node.run(&["getent", "passwd", &key]).must_end_with(2);
    }
    println!(
        "{sessions} sessions of {users} users in {service}: open in {opened:.1?}; gone {killed:.1?} after half were \
         killed, {closed:.1?} after the rest was closed"
    );
}

fn ended(node: &Machine) -> Duration {
    let logins = crate::state(node).join("logins");
    node.within(ENDED, "everything they left is ended", |_| {
        std::fs::read_dir(&logins).is_ok_and(|mut left| left.next().is_none())
    })
}

#[test]
fn a_crowd_is_counted_exactly_and_leaves_neither_users_nor_memory_behind() {
    let node = node_alone();
    install(&node);
    let soak = std::env::var_os("TELEPORT_USERDB_SOAK").is_some();
    let (users, each) = if soak { (1000, 10) } else { (30, 6) };
    // What a daemon has once it has worked is the measure.
    come_and_go(&node, "sshd", "warm", 30, 4);
    ended(&node);
    let before = memory(&node);
    come_and_go(&node, "sshd", "crowd", users, each);
    let took = ended(&node);
    // Given back a moment after the last end, not with it.
    let began = Instant::now();
    let after = loop {
        let (own, all) = memory(&node);
        if own <= about(before.0) && all <= about(before.1) {
            break (own, all);
        }
        assert!(
            began.elapsed() < BACK,
            "the daemon has {own} and {all} KiB, its own and in all, and had {before:?} before the crowd"
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    println!(
        "all of it ended after another {took:.1?}; memory (own, in all) {before:?} KiB before, {after:?} KiB {:.1?} after",
        began.elapsed()
    );
}

#[test]
fn a_crowd_with_pam_systemd_is_counted_exactly_too() {
    let node = node_alone();
    install(&node);
    let soak = std::env::var_os("TELEPORT_USERDB_SOAK").is_some();
    let (users, each) = if soak { (100, 2) } else { (8, 2) };
    come_and_go(&node, "teleport", "system", users, each);
    ended(&node);
}

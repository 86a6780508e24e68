//! Restarts under load: a loop of logins and lookups that must not notice. `make soak` does a thousand of each.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rig::{Journal, Machine};
use serde_json::Value;

use crate::{SESSIOND, SOON, admin, has_sudo, is_known, listed, main_pid, node_alone};

const USERDBD: &str = "teleport-userdbd.service";
/// Rounds where nothing else is asked for.
const SOME: usize = 12;

/// How often each daemon is restarted.
fn rounds() -> usize {
    std::env::var("TELEPORT_USERDB_SOAK")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(SOME)
}

/// How a daemon ends: asked to, or killed.
fn end(node: &Machine, unit: &str, round: usize) {
    let verbs: &[&[&str]] = match round % 3 {
        0 => &[&["restart"]],
        1 => &[&["kill", "-s", "KILL"]],
        _ => &[&["stop"], &["start"]],
    };
    for verb in verbs {
        let ran = node.run(&[&["systemctl"], *verb, &[unit]].concat());
        // A caller who comes just then has it started again, and systemd gives up stopping it for that.
        if !(*verb == ["stop"] && ran.stderr.contains("canceled")) {
            ran.must();
        }
    }
}

#[test]
fn restarts_of_either_daemon_under_logins_and_lookups_lose_no_session_and_no_answer() {
    let node = node_alone();
    let keepers = ["ruben", "runa"];
    let sessions: Vec<_> = keepers.iter().map(|login| admin(&node, login)).collect();
    node.run(&["rm", "-f", "/run/soaked"]).must();
    let spawn = |arguments: &[&str]| {
        node.command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("entering the machine")
    };
    // One process looks the keepers up by NSS and by userdb, another logs people in and out.
    let lookups = spawn(&[
        "/usr/local/bin/teleport-child",
        "watch",
        "--until",
        "/run/soaked",
        keepers[0],
        keepers[1],
    ]);
    let logins = spawn(&[
        "/usr/local/bin/teleport-child",
        "storm",
        "--logins",
        "2",
        "--prefix",
        "rush",
        "--until",
        "/run/soaked",
    ]);
    let began = Instant::now();
    for round in 0..rounds() {
        for unit in [SESSIOND, USERDBD] {
            end(&node, unit, round);
        }
        // Not always at the same place of a login.
        std::thread::sleep(Duration::from_millis(
            u64::try_from(round * 37 % 150).unwrap_or(0),
        ));
    }
    let took = began.elapsed();
    node.run(&["touch", "/run/soaked"]).must();
    let told: BTreeMap<&str, Value> = [("lookups", lookups), ("logins", logins)]
        .into_iter()
        .map(|(name, child)| {
            let output = child.wait_with_output().expect("its output");
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            (
                name,
                serde_json::from_str(told.trim()).unwrap_or(Value::String(told)),
            )
        })
        .collect();
    println!(
        "{} restarts of each daemon in {took:.1?}: {told:?}",
        rounds()
    );
    for (name, told) in &told {
        assert_eq!(told["failures"], 0, "{name}: {told}");
    }
    assert!(told["lookups"]["lookups"].as_u64() > Some(100), "{told:?}");
    assert!(told["logins"]["sessions"].as_u64() > Some(10), "{told:?}");
    for login in keepers {
        assert_eq!(
            listed(&node, login).unwrap_or_default()["sessions"],
            1,
            "{login}"
        );
        node.within(SOON, "sudo is there after the last restart", |node| {
            has_sudo(node, login)
        });
    }
    for session in sessions {
        session.finish().ran.must();
    }
    for login in keepers {
        assert!(!is_known(&node, login), "{login}");
    }
}

#[test]
fn an_upgrade_of_the_package_costs_no_session_and_no_lookup() {
    let node = node_alone();
    let session = admin(&node, "ulrike");
    let uid = node.run(&["id", "-u", "ulrike"]).must().to_owned();
    let daemon = main_pid(&node);
    node.copy_in(
        &rig::package_file().expect("`make deb`"),
        "/var/tmp/older.deb",
    )
    .expect("copied");
    // The same content under a higher version: dpkg takes the way of an upgrade.
    node.sh(
        "cd /var/tmp && rm -rf newer looked && dpkg-deb -R older.deb newer && \
         sed -i 's/^Version: .*/&+upgrade/' newer/DEBIAN/control && dpkg-deb -Znone -b newer newer.deb",
    )
    .must();
    let told = node.sh(
        "teleport-child watch --until /var/tmp/looked ulrike & watch=$!; \
         dpkg -i /var/tmp/newer.deb >/var/tmp/upgrade.log 2>&1; code=$?; : >/var/tmp/looked; wait $watch; exit $code",
    );
    let told: Value = serde_json::from_str(told.must().trim()).expect("figures");
    assert_eq!(told["failures"], 0, "{told}");
    assert!(told["lookups"].as_u64() > Some(10), "{told}");
    let version = node.run(&["dpkg-query", "-f", "${Version}", "-W", "teleport-userdb"]);
    assert!(version.must().ends_with("+upgrade"), "{version}");
    assert_ne!(main_pid(&node), daemon, "the new daemon runs");
    assert_eq!(node.run(&["id", "-u", "ulrike"]).must(), uid);
    assert_eq!(listed(&node, "ulrike").unwrap_or_default()["sessions"], 1);
    node.within(SOON, "sudo is there", |node| has_sudo(node, "ulrike"));
    session.finish().ran.must();
    assert!(!is_known(&node, "ulrike") && !has_sudo(&node, "ulrike"));
}

#[test]
fn a_daemon_that_starts_with_too_few_descriptors_loses_no_session() {
    const DROP_IN: &str = "/run/systemd/system/teleport-sessiond.service.d";
    let node = node_alone();
    let logins = ["fiona", "fabian", "felix"];
    let sessions = logins.map(|login| admin(&node, login));
    node.run(&["mkdir", "-p", DROP_IN]).must();
    let journal = Journal::now(&node);
    let mut starts = Vec::new();
    for limit in (8..44).step_by(3) {
        node.write(
            &format!("{DROP_IN}/few.conf"),
            &format!("[Service]\nLimitNOFILE={limit}\n"),
        );
        node.run(&["systemctl", "daemon-reload"]).must();
        let restart = ["timeout", "10", "systemctl", "restart", SESSIOND];
        starts.push(node.run(&restart).succeeded());
        for login in logins {
            assert!(is_known(&node, login), "{login} with {limit}");
        }
    }
    // Some were too few to start, and others enough.
    assert_eq!((starts[0], starts[starts.len() - 1]), (false, true));
    let told = journal.lines(&["-u", "teleport-sessiond", "-p", "err"]);
    let why = |line: &String| line.contains("LimitNOFILE=");
    assert!(told.iter().any(why), "{told:?}");
    node.run(&["rm", "-r", DROP_IN]).must();
    node.run(&["systemctl", "daemon-reload"]).must();
    node.run(&["systemctl", "restart", SESSIOND]).must();
    for (login, session) in logins.iter().zip(sessions) {
        node.within(SOON, "its rights are back", |node| has_sudo(node, login));
        session.finish().ran.must();
        node.within(SOON, "it ends with its session", |node| {
            !is_known(node, login)
        });
    }
}

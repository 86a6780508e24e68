//! Services that are stopped or get nothing any more: no room, no descriptors, no memory. Said clearly, nothing half-done,
//! and well again as soon as there is enough, without a restart.

use std::time::{Duration, Instant};

use rig::{Ended, Machine};
use serde_json::Value;

use crate::{SOON, admin, has_sudo, is_known, listed, main_pid, node_alone, state};

/// How long a service is stopped.
fn pause() -> Duration {
    let soak = std::env::var_os("TELEPORT_USERDB_SOAK").is_some();
    Duration::from_secs(if soak { 60 } else { 3 })
}

/// Refused, with a sentence, in time.
#[track_caller]
fn must_be_refused(ended: &Ended) {
    assert_ne!(ended.code("open"), Some("SUCCESS"), "{ended:?}");
    assert_eq!(ended.messages().len(), 1, "{ended:?}");
    assert!(ended.ran.elapsed < Duration::from_secs(15), "{ended:?}");
}

/// A login as it should be, by the same daemon.
#[track_caller]
fn must_be_well(node: &Machine, daemon: &str, login: &str) {
    assert_eq!(main_pid(node), daemon, "it was not to be restarted");
    let session = admin(node, login);
    assert!(is_known(node, login) && has_sudo(node, login), "{login}");
    session.finish().ran.must();
    assert!(!is_known(node, login) && !has_sudo(node, login), "{login}");
}

/// Inside the mounts of the daemon.
#[track_caller]
fn in_its_mounts(node: &Machine, daemon: &str, line: &str) {
    node.run(&["nsenter", "-t", daemon, "-m", "--", "sh", "-c", line])
        .must();
}

/// Lookups of a user for a while: how many there were, and the slowest by NSS in microseconds.
#[track_caller]
fn lookups(node: &Machine, login: &str, limit: Duration) -> (u64, u64) {
    node.run(&["rm", "-f", "/var/tmp/looked"]).must();
    let line = format!(
        "(sleep {}; : >/var/tmp/looked) & teleport-child watch --until /var/tmp/looked {login}",
        limit.as_secs()
    );
    let told = node.run_for(limit * 2 + SOON * 4, &["sh", "-c", &line]);
    let told: Value = serde_json::from_str(told.must().trim()).expect("figures");
    let figure = |name: &str| told[name].as_u64().unwrap_or(u64::MAX);
    (figure("lookups"), figure("slowest_nss_us"))
}

#[test]
fn while_sessiond_dbus_or_logind_is_stopped_lookups_are_as_ever_and_calls_end_in_time() {
    let node = node_alone();
    let keeper = admin(&node, "stella");
    let (usual, _) = lookups(&node, "stella", Duration::from_secs(3));
    for unit in ["teleport-sessiond", "dbus", "systemd-logind"] {
        node.run(&["systemctl", "kill", "-s", "STOP", unit]).must();
        let (count, slowest) = lookups(&node, "stella", pause());
        let login = node.login("sven").roles("admin").service("sshd").run();
        if unit == "teleport-sessiond" && pause() < Duration::from_secs(30) {
            must_be_refused(&login);
        } else {
            // After half a minute the watchdog has started another sessiond; and nobody waits for the other two.
            login.ran.must();
        }
        node.run(&["systemctl", "kill", "-s", "CONT", unit]).must();
        println!(
            "{unit} stopped for {:?}: {count} lookups, {usual} in 3 s before; slowest {slowest} us",
            pause()
        );
        let expected = usual * pause().as_secs() / 3;
        assert!(
            count > expected / 3,
            "{unit}: {count} lookups, {expected} expected"
        );
        assert!(slowest < 100_000, "{unit}: a lookup took {slowest} us");
        node.within(SOON, "logins are made again", |node| {
            node.login("signe").service("sshd").run().ran.succeeded()
        });
        assert_eq!(
            listed(&node, "stella").unwrap_or_default()["sessions"],
            1,
            "{unit}"
        );
    }
    assert!(has_sudo(&node, "stella"));
    keeper.finish().ran.must();
    node.within(SOON * 6, "what was refused leaves nothing", |node| {
        !is_known(node, "sven")
    });
}

#[test]
fn with_run_full_a_login_is_refused_and_who_is_on_stays() {
    let node = node_alone();
    let keeper = admin(&node, "sten");
    let daemon = main_pid(&node);
    let size = node.sh("findmnt -no SIZE -b /run").must().trim().to_owned();
    // As large as what is in it, to the page.
    node.sh("mount -o remount,size=$(($(df -k --output=used /run | tail -n 1)))k /run")
        .must();
    node.sh(
        "dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null; df -k --output=avail /run | tail -n 1",
    );
    let refused = node.login("sina").roles("admin").service("sshd").run();
    let known = is_known(&node, "sten") && has_sudo(&node, "sten");
    let left = is_known(&node, "sina") || has_sudo(&node, "sina");
    node.sh(&format!(
        "rm -f /run/filler; mount -o remount,size={size} /run"
    ))
    .must();
    must_be_refused(&refused);
    assert!(known && !left);
    must_be_well(&node, &daemon, "sina");
    keeper.finish().ran.must();
    assert!(!is_known(&node, "sten") && !has_sudo(&node, "sten"));
}

#[test]
fn with_run_read_only_a_login_is_refused_and_who_leaves_is_gone() {
    let node = node_alone();
    let keeper = admin(&node, "swantje");
    let leaver = admin(&node, "silja");
    let daemon = main_pid(&node);
    // The daemon's file of accounts is open for writing, so that the file system itself cannot be made read-only.
    let folders = ["/run/teleport-sessiond", "/run/teleport-userdb"];
    for folder in folders {
        let line = format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}");
        in_its_mounts(&node, &daemon, &line);
    }
    let refused = node.login("sonja").roles("admin").service("sshd").run();
    let known = is_known(&node, "swantje") && has_sudo(&node, "swantje");
    let left = is_known(&node, "sonja") || has_sudo(&node, "sonja");
    leaver.finish().ran.must();
    let stayed = is_known(&node, "silja") || has_sudo(&node, "silja");
    for folder in folders {
        in_its_mounts(&node, &daemon, &format!("umount {folder}"));
    }
    must_be_refused(&refused);
    assert!(known && !left && !stayed);
    must_be_well(&node, &daemon, "sonja");
    node.within(SOON * 6, "what has ended is written down at last", |node| {
        !state(node).join("logins/silja").exists()
    });
    keeper.finish().ran.must();
}

/// A login that is told that it has no sudo, and has none.
#[track_caller]
fn must_go_without_sudo(node: &Machine) {
    let ended = node.login("sara").roles("admin").service("sshd").run();
    ended.ran.must();
    assert!(
        matches!(ended.messages()[..], [said] if said.contains("no sudo")),
        "{ended:?}"
    );
    assert!(!has_sudo(node, "sara"));
}

#[test]
fn with_sudoers_d_full_or_read_only_a_session_says_that_it_has_no_sudo() {
    let node = node_alone();
    let daemon = main_pid(&node);
    // The very folder that it holds: from another one in its place it would start anew.
    in_its_mounts(&node, &daemon, "mount -o remount,bind,ro /etc/sudoers.d");
    must_go_without_sudo(&node);
    in_its_mounts(&node, &daemon, "mount -o remount,bind,rw /etc/sudoers.d");
    must_be_well(&node, &daemon, "sara");

    node.sh("mount -t tmpfs -o nr_inodes=1,mode=0750 tmpfs /etc/sudoers.d && systemctl restart teleport-sessiond")
        .must();
    let daemon = main_pid(&node);
    must_go_without_sudo(&node);
    node.sh("mount -o remount,nr_inodes=100 /etc/sudoers.d")
        .must();
    must_be_well(&node, &daemon, "sara");

    // Where there is no room for what one more session brings, those before it are without theirs for a moment only.
    let lister = "[[role]]\nmatch = \"lister\"\ncreate-user = true\nsudoers = [\"ALL=(root) NOPASSWD: /usr/bin/ls\"]\n";
    node.write("/etc/teleport-userdb/config.d/lister.toml", lister);
    node.sh("systemctl reload teleport-sessiond").must();
    let keeper = admin(&node, "stine");
    node.sh(
        "mount -o remount,nr_inodes=$(($(df --output=iused /etc/sudoers.d | tail -n 1))) /etc/sudoers.d",
    )
    .must();
    let mut second = node
        .login("stine")
        .roles("lister")
        .service("sshd")
        .hold("open")
        .start();
    second.reach("open");
    node.within(SOON, "sudo is back", |node| has_sudo(node, "stine"));
    let second = second.finish();
    assert!(
        matches!(second.messages()[..], [said] if said.contains("no sudo")),
        "{second:?}"
    );
    keeper.finish().ran.must();
    node.sh("rm /etc/teleport-userdb/config.d/lister.toml")
        .must();
    node.sh("systemctl stop teleport-sessiond && umount /etc/sudoers.d && systemctl start teleport-sessiond")
        .must();
}

#[test]
fn without_descriptors_a_login_is_refused_and_without_memory_nothing_is_lost() {
    let node = node_alone();
    let keeper = admin(&node, "silke");
    let daemon = main_pid(&node);
    let limits = node.sh(&format!(
        "prlimit --pid {daemon} --nofile --noheadings -o SOFT,HARD"
    ));
    let limits = limits
        .must()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(":");
    let used = node
        .sh(&format!("ls /proc/{daemon}/fd | wc -l"))
        .must()
        .to_owned();
    node.run(&[
        "prlimit",
        "--pid",
        &daemon,
        &format!(
            "--nofile={used}:{}",
            limits.rsplit(':').next().unwrap_or("65536")
        ),
    ])
    .must();
    let began = Instant::now();
    let refused = node.login("sissi").roles("admin").service("sshd").run();
    node.run(&["prlimit", "--pid", &daemon, &format!("--nofile={limits}")])
        .must();
    println!("without descriptors: refused after {:.1?}", began.elapsed());
    must_be_refused(&refused);
    assert!(is_known(&node, "silke") && has_sudo(&node, "silke"));
    must_be_well(&node, &daemon, "sissi");

    // Not a byte more than it has: where that is enough it goes on, where it is not it refuses, or ends and the next daemon
    // goes on where it was. The hard limits stay, for nobody in a container may lift them.
    let limited = |limit: &str| {
        let limits = [
            format!("--as={limit}:unlimited"),
            format!("--data={limit}:unlimited"),
        ];
        node.run(&["prlimit", "--pid", &daemon, &limits[0], &limits[1]])
    };
    limited("4096").must();
    for login in ["sixten", "sina", "sophus"] {
        let login = node.login(login).roles("admin").service("sshd").run();
        if login.code("open") != Some("SUCCESS") {
            must_be_refused(&login);
        }
    }
    let lifted = limited("unlimited");
    assert!(lifted.succeeded() || main_pid(&node) != daemon, "{lifted}");
    node.within(SOON, "sudo is there", |node| has_sudo(node, "silke"));
    assert_eq!(listed(&node, "silke").unwrap_or_default()["sessions"], 1);
    admin(&node, "sixten").finish().ran.must();
    keeper.finish().ran.must();
    assert!(!is_known(&node, "silke"));
}

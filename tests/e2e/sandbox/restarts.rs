//! Lookups while our services restart: a provider that does not answer would cost each one 45 s.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rig::{Journal, LOCAL_USER, node_alone};

/// Prints the milliseconds that each lookup of an unknown user takes, until told to stop.
const LOOKING: &str = "while [ ! -e /run/looked-enough ]; do began=$(date +%s%N); getent passwd nosuchuser; \
                       echo $((($(date +%s%N) - began) / 1000000)); done; rm /run/looked-enough";

#[test]
fn no_lookup_waits_while_a_service_restarts() {
    let node = node_alone();
    for unit in [
        "teleport-userdbd.service",
        "teleport-sessiond.service",
        "teleport-lookup.socket",
    ] {
        let looking = node
            .command(&["sh", "-c", LOOKING])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..10 {
            let ran = node.run(&["systemctl", "restart", unit]);
            ran.must();
            assert!(ran.elapsed < Duration::from_secs(20), "{ran}");
        }
        node.run(&["touch", "/run/looked-enough"]).must();
        let told = looking.wait_with_output().unwrap();
        let told: Vec<u64> = String::from_utf8_lossy(&told.stdout)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let longest = told.iter().max().copied().unwrap_or_default();
        println!(
            "{unit}: {} lookups, the longest took {longest} ms",
            told.len()
        );
        assert!(
            told.len() >= 10,
            "{unit}: only {} lookups were made",
            told.len()
        );
        assert!(longest < 8000, "{unit}: a lookup took {longest} ms");
    }
    node.run(&["getent", "passwd", LOCAL_USER]).must();
    node.login("rikard").command("true").run().ran.must();
}

#[test]
fn a_user_database_that_cannot_start_holds_up_no_lookup_and_comes_back_by_itself() {
    let node = node_alone();
    let program = "/usr/libexec/teleport-userdbd";
    let socket = "/run/systemd/userdb/com.goteleport.DynamicUser";
    node.run(&["mv", program, "/usr/libexec/away"]).must();
    for (how, broken) in [
        ("is missing", ":"),
        ("says that it cannot run", "cp /bin/false"),
        (
            // Not even what the unit is to run when it has failed.
            "has no namespace to run in",
            "mkdir -p /run/systemd/system/teleport-userdbd.service.d; printf '[Service]\\nBindPaths=/no/such/folder\\n' \
             >/run/systemd/system/teleport-userdbd.service.d/bound.conf; systemctl daemon-reload; cp /usr/libexec/away",
        ),
        (
            "crashes",
            "printf '#!/bin/sh\\nkill -SEGV $$\\n' >/run/crash; install -m 755 /run/crash",
        ),
    ] {
        node.sh(&format!("rm -f {program}; {broken} {program}"))
            .must();
        let journal = Journal::now(&node);
        node.run(&["systemctl", "restart", "teleport-userdbd.service"]);
        let took = node.within(Duration::from_secs(90), "the socket is closed", |node| {
            !node.run(&["test", "-e", socket]).succeeded()
                && journal
                    .lines(&["-u", "teleport-userdbd-again", "-p", "crit"])
                    .iter()
                    .any(|line| line.contains("cannot be started"))
        });
        let lookup = node.run(&["getent", "passwd", "nosuchuser"]);
        println!(
            "{how}: closed after {took:?}, then a lookup took {:?}",
            lookup.elapsed
        );
        assert!(lookup.elapsed < Duration::from_secs(8), "{how}: {lookup}");
        // Who needs no systemd is let in.
        node.login("ruth")
            .service("sshd")
            .command("id -un")
            .run()
            .ran
            .must();
        node.sh(&format!(
            "rm -rf {program} /run/systemd/system/teleport-userdbd.service.d; \
             systemctl daemon-reload; cp /usr/libexec/away {program}"
        ))
        .must();
        let took = node.within(Duration::from_secs(60), "it is back", |node| {
            node.run(&["systemctl", "is-active", "teleport-userdbd.service"])
                .succeeded()
                && node.run(&["test", "-e", socket]).succeeded()
        });
        println!("{how}: back after {took:?}");
    }
    node.run(&["mv", "/usr/libexec/away", program]).must();
    let mut login = node.login("ruth").hold("open").start();
    login.reach("open");
    node.run(&["userdbctl", "user", "ruth"]).must();
    login.finish().ran.must();
}

/// Sends to a socket that nobody reads until it takes no more from anybody.
fn fill(socket: &Path) {
    let mut is_full = false;
    while !is_full {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        is_full = sender.send_to(b"MESSAGE=x\n", socket).is_err();
        while sender.send_to(b"MESSAGE=x\n", socket).is_ok() {}
    }
}

#[test]
fn a_journal_that_hangs_keeps_nobody_out_and_no_right_in_place() {
    let node = node_alone();
    let journald = |signal: &str| {
        node.run(&["systemctl", "kill", "-s", signal, "systemd-journald"])
            .must();
    };
    let journal = Journal::now(&node);
    journald("STOP");
    // More lines than its socket takes.
    let storm = ["teleport-child", "storm", "--logins=64", "--rounds=1"];
    let storm = node.run(&storm);
    let comes_in = || {
        let login = node.login("rosina").service("sshd").command("true");
        login.run().code("open") == Some("SUCCESS")
    };
    // On a busy machine what the crowd has left to be told may still hold up the first one.
    let late = (0..3).any(|_| comes_in());
    // Not even the first line of anybody has room.
    fill(&node.root().join("run/systemd/journal/socket"));
    let restart = "timeout 30 systemctl restart teleport-userdbd teleport-sessiond";
    let restarted = node.sh(restart);
    let later = comes_in();
    // With more lines than there is room for, told by the one thread that lets all of them in and out.
    let crowd = "teleport-child storm --logins=128 --rounds=1 --prefix=crowd";
    let crowd = node.sh(crowd);
    let limit = Duration::from_secs(30);
    let told = node.sh("teleport-userdbctl list --no-legend | grep -q storm");
    let left = (0..300).any(|_| {
        std::thread::sleep(limit / 300);
        !node
            .sh("teleport-userdbctl list --no-legend | grep -q .")
            .succeeded()
    });
    journald("CONT");
    assert!(left, "{told}{storm}");
    assert!(late, "{storm}");
    restarted.must();
    assert!(later);
    crowd.must();
    // Nothing is lost but what a daemon had not told when it ended.
    for of_all in ["is made for", "opened"] {
        node.within(limit, "all of the crowd are told of", |_| {
            let told = journal.lines(&["-u", "teleport-sessiond"]);
            let of_crowd = |line: &&String| line.contains("crowd") && line.contains(of_all);
            let told = told.iter().filter(of_crowd).count();
            assert!(told <= 128, "{of_all}: {told}");
            told == 128
        });
    }
    let lost = journal.lines(&["-u", "teleport-sessiond", "-p", "warning"]);
    let lost = lost.iter().find(|line| line.contains("took no lines"));
    assert_eq!(lost, None);
}

#[test]
fn why_a_daemon_has_ended_is_told_under_its_unit_though_the_journal_reads_it_later() {
    let node = node_alone();
    let journal = Journal::now(&node);
    node.run(&["systemctl", "kill", "-s", "STOP", "systemd-journald"])
        .must();
    for program in ["teleport-sessiond", "teleport-userdbd"] {
        node.sh(&format!(
            "! systemd-run -q --wait --unit by-hand-{program} /usr/libexec/{program}"
        ))
        .must();
    }
    node.run(&["systemctl", "kill", "-s", "CONT", "systemd-journald"])
        .must();
    for program in ["teleport-sessiond", "teleport-userdbd"] {
        let unit = format!("by-hand-{program}");
        let told = journal.lines(&["-u", &unit, "-p", "err"]);
        let why = |line: &String| line.starts_with(program) && line.contains("socket");
        assert!(told.iter().any(why), "{program}: {told:?}");
    }
    // Where stderr is no journal's, or nobody reads it any more.
    for program in ["teleport-sessiond", "teleport-userdbd"] {
        let journal = Journal::now(&node);
        let unread = format!("exec 2> >(:); wait $!; /usr/libexec/{program}");
        assert_eq!(node.run(&["bash", "-c", &unread]).status, 1, "{program}");
        let by_hand = node.run(&[&format!("/usr/libexec/{program}")]);
        assert_eq!(by_hand.status, 1, "{by_hand}");
        assert!(!by_hand.stderr.starts_with('<'), "{by_hand}");
        assert!(by_hand.stderr.contains("socket"), "{by_hand}");
        let told = journal.lines(&["-t", program, "-p", "err"]);
        let why = told.iter().filter(|line| line.contains("socket"));
        assert_eq!(why.count(), 2, "{program}: {told:?}");
    }
}

#[test]
fn no_right_outlasts_a_daemon_whose_sandbox_cannot_be_made() {
    let node = node_alone();
    let role = "[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudoers = [\"ALL=(ALL) NOPASSWD: ALL\"]\n";
    node.write("/etc/teleport-userdb/config.d/50-admin.toml", role);
    node.run(&["systemctl", "reload", "teleport-sessiond"])
        .must();
    let mut login = node.login("rut").roles("admin").hold("open").start();
    login.reach("open");
    let file = "/etc/sudoers.d/teleport-rut";
    node.run(&["test", "-e", file]).must();
    let drop_in = "/run/systemd/system/teleport-sessiond.service.d";
    node.sh(&format!(
        "mkdir -p {drop_in}; printf '[Service]\\nReadWritePaths=/no/such/folder\\n' >{drop_in}/homes.conf; systemctl daemon-reload"
    ))
    .must();
    // (systemd 252 comes to OnFailure= only once it does not start the unit again.)
    let daemon = ["teleport-sessiond.socket", "teleport-sessiond.service"];
    node.run(&[&["systemctl", "stop"], &daemon[..]].concat());
    node.within(Duration::from_secs(20), "the right goes", |node| {
        !node.run(&["test", "-e", file]).succeeded()
    });
    node.sh(&format!("rm -r {drop_in}; systemctl daemon-reload"))
        .must();
    node.run(&[&["systemctl", "start"], &daemon[..]].concat())
        .must();
    node.within(Duration::from_secs(20), "it comes back", |node| {
        node.run(&["test", "-e", file]).succeeded()
    });
    login.finish().ran.must();
    node.run(&["rm", "/etc/teleport-userdb/config.d/50-admin.toml"])
        .must();
    node.run(&["systemctl", "reload", "teleport-sessiond"])
        .must();
}

#[test]
fn a_sweep_takes_stale_rights_only_while_no_daemon_looks_after_them() {
    let node = node_alone();
    let stale = "/etc/sudoers.d/teleport-nobody-now";
    let header = "# teleport-userdb v1: written for a live session, removed with it; do not edit";
    let sweep = "teleport-sudoers-sweep.service";
    let daemon = ["teleport-sessiond.socket", "teleport-sessiond.service"];
    node.sh(&format!("echo '{header}' >{stale}")).must();
    node.run(&["systemctl", "restart", sweep]).must();
    node.run(&["test", "-e", stale]).must();
    node.run(&[&["systemctl", "stop"], &daemon[..]].concat())
        .must();
    // As after a soft-reboot: /run is that of before, and nobody runs yet.
    node.sh(&format!(
        "test -d /run/teleport-sessiond && echo '{header}' >{stale}"
    ))
    .must();
    node.run(&["systemctl", "restart", sweep]).must();
    assert!(!node.run(&["test", "-e", stale]).succeeded());
    // It is tried again where it could not be done.
    let folder = "/etc/sudoers.d";
    node.sh(&format!(
        "echo '{header}' >{stale}; mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    ))
    .must();
    let failed = node.run(&["systemctl", "restart", sweep]);
    node.run(&["mount", "-o", "remount,bind,rw", folder]).must();
    assert!(!failed.succeeded(), "{failed}");
    node.within(Duration::from_secs(20), "the right goes", |node| {
        !node.run(&["test", "-e", stale]).succeeded()
    });
    node.run(&["umount", folder]).must();
    node.run(&["systemctl", "restart", sweep]).must();
    node.run(&[&["systemctl", "start"], &daemon[..]].concat())
        .must();
    // A second one by hand is told that there is one.
    let second = node.run(&["/usr/libexec/teleport-sessiond"]);
    assert!(!second.succeeded(), "{second}");
}

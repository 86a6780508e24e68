//! Whoever else is needed for the end is away, asleep or forbidden: rights go at once all the same, and the rest follows
//! when they are back.

use std::time::{Duration, Instant};

use rig::{Machine, node_alone};

use crate::{IN_THE_END, ends, remains};

/// With rights still there so long after the command has ended, something waited for somebody.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A login with sudo ends while somebody is away, three times; `away` and `back` are shell lines.
#[track_caller]
fn withdrawn_at_once(login: &str, away: &str, back: &str) {
    drop(crate::node());
    let node = node_alone();
    let mut took = Vec::new();
    for round in 0..3 {
        let name = format!("{login}{round}");
        let mut session = node
            .login(&name)
            .roles("admin")
            .hold("open")
            .hold("command")
            .command(&format!(
                "setsid -f left {name} TERM </dev/null >/dev/null 2>&1; exec sleep 1000"
            ))
            .start();
        session.reach("open");
        let uid = crate::uid(&node, &name);
        session.go_on();
        session.reach("command");
        session.go_on();
        node.within(Duration::from_secs(30), "the command runs", |node| {
            node.run(&["pgrep", "-u", &uid, "-x", "sleep"]).succeeded()
                && node
                    .sh(&format!("test -e /var/tmp/{name}.root"))
                    .succeeded()
        });
        node.sh(away).must();
        took.push(withdrawal(&node, &name, &uid));
        // Its processes end without anybody's help.
        node.within(Duration::from_secs(60), "what it left is dead", |node| {
            !node.run(&["pgrep", "-u", &uid]).succeeded()
        });
        node.sh(back).must();
        let since = Instant::now();
        session.finish();
        ends(&node, &name, &uid, since, IN_THE_END);
        assert_eq!(remains(&node, &name, &uid), "");
    }
    println!("{login}: withdrawn after {took:?}");
    // The way of the last exit through the machine counts as well, and its CPUs may be busy.
    let best = took.iter().min().copied().unwrap_or_default();
    assert!(best < AT_ONCE, "{took:?}");
    assert!(took.iter().all(|took| *took < 30 * AT_ONCE), "{took:?}");
    let works = node
        .login(login)
        .roles("admin")
        .command("sudo -n id -u")
        .run();
    assert_eq!(works.must_write(), "0");
}

/// From the end of the session's command to the end of its rights, measured inside.
#[track_caller]
fn withdrawal(node: &Machine, login: &str, uid: &str) -> Duration {
    let measure = format!(
        "pkill -KILL -u {uid} -x sleep; begin=$(date +%s%N); \
         while test -e /etc/sudoers.d/teleport-{login} || getent passwd {login} >/dev/null; do :; done; \
         echo $(( $(date +%s%N) - begin ))"
    );
    let ran = node.sh(&measure);
    match ran.must().parse() {
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        Err(_) => panic!("no time was measured: {ran}"),
    }
}

#[test]
fn logind_is_stopped_like_a_process_that_hangs() {
    withdrawn_at_once(
        "hank",
        "systemctl kill --signal=STOP systemd-logind",
        "systemctl kill --signal=CONT systemd-logind",
    );
}

#[test]
fn logind_is_masked() {
    withdrawn_at_once(
        "mask",
        "systemctl mask --runtime -q systemd-logind && systemctl stop systemd-logind",
        "systemctl unmask --runtime -q systemd-logind && systemctl start systemd-logind",
    );
}

#[test]
fn the_bus_is_stopped() {
    withdrawn_at_once(
        "busy",
        "systemctl stop dbus.socket dbus.service",
        "systemctl start dbus.socket dbus.service && systemctl restart systemd-logind",
    );
}

#[test]
fn logind_was_restarted_and_has_forgotten_the_user() {
    withdrawn_at_once("forget", ":", "systemctl restart systemd-logind");
}

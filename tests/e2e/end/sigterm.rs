//! What a user leaves running has SIGTERM, once, and its time before SIGKILL, whoever of logind and systemd can be asked.

use rig::{Machine, Suite, boot_node};

use crate::common::{IN_THE_END, uid};
use crate::told::{configure, times};

/// From SIGTERM to SIGKILL, in seconds.
const TIME: f64 = 2.0;

/// Who is away when a session ends (a login is called so), and how they come back.
const AWAY: [(&str, &str, &str); 4] = [
    ("noone", ":", ":"),
    (
        "logind",
        "systemctl kill --signal=STOP systemd-logind",
        "systemctl kill --signal=CONT systemd-logind",
    ),
    // Asked for, it comes back without the user, who has no record any more.
    ("memory", "systemctl stop systemd-logind", ":"),
    (
        "thebus",
        "systemctl stop dbus.socket dbus.service",
        "systemctl start dbus.socket dbus.service && systemctl restart systemd-logind",
    ),
];

fn has_sigterm_first(machine: &Machine, login: &str, away: &str, back: &str) {
    let suite = machine.suite().name();
    let mut session = machine
        .login(login)
        .hold("open")
        .hold("close")
        .command(&format!(
            "setsid -f told {login} 0.1 </dev/null >/dev/null 2>&1; until test -e /var/tmp/{login}.alive; do sleep 0.1; done"
        ))
        .start();
    session.reach("open");
    let uid = uid(machine, login);
    session.go_on();
    session.reach("close");
    machine.sh(away).must();
    session.finish();
    machine.within(IN_THE_END, "what it left is dead", |machine| {
        !machine.run(&["pgrep", "-u", &uid]).succeeded()
    });
    machine.sh(back).must();
    let (signals, alive) = (
        times(machine, &format!("{login}.term")),
        times(machine, &format!("{login}.alive")),
    );
    assert_eq!(signals.len(), 1, "{suite}, away: {login}: {signals:?}");
    let time = alive.last().expect("it was alive") - signals[0];
    println!("{suite}, away: {login}: SIGKILL {time:.1} s after SIGTERM");
    // It wrote every 0.1 s.
    assert!(time > TIME - 0.5, "{suite}, away: {login}: {time}");
    machine.within(IN_THE_END, "the UID is let go", |machine| {
        let held = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice");
        !machine.run(&["test", "-e", &held]).succeeded()
    });
}

#[test]
fn what_is_left_running_has_sigterm_before_sigkill_on_every_systemd() {
    let suites = [Suite::Bookworm, Suite::Trixie];
    std::thread::scope(|scope| {
        for suite in suites {
            scope.spawn(move || {
                let machine = boot_node(suite).expect("a machine");
                configure(&machine, &format!("{TIME}s"), "100ms");
                for (login, away, back) in AWAY {
                    has_sigterm_first(&machine, login, away, back);
                }
            });
        }
    });
}

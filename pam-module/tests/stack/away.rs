//! Logins while the daemon is away, hung or hanging up.
//! What it answers when it does is in `cases`.

use std::path::Path;
use std::time::Duration;

use account_table::{AccountSpec, Disposition, Trust, Writer};
use libpam_sys as sys;

use crate::registry::UID;
use crate::rig::{Rig, SLACK, in_child, timed};

#[test]
fn without_a_daemon_a_user_of_the_host_logs_in_and_nobody_is_made() {
    let rig = Rig::new();
    let root = rig.login("root");
    assert_eq!(
        [root.account(), root.open(), root.close()],
        [sys::PAM_SUCCESS; 3]
    );
    assert!(root.told(sys::PAM_ERROR_MSG).is_empty());
    root.end(0);

    let nobody = rig.login("no-such-user-here");
    assert_eq!(nobody.account(), sys::PAM_AUTHINFO_UNAVAIL);
    let told = nobody.told(sys::PAM_ERROR_MSG);
    assert_eq!(told.len(), 1);
    for part in [
        "no-such-user-here",
        "cannot be made now",
        "teleport-sessiond",
        "systemctl status",
    ] {
        assert!(told[0].contains(part), "{told:?} lacks {part}");
    }
    assert_eq!(nobody.open(), sys::PAM_SESSION_ERR);
    nobody.end(0);
}

#[test]
fn without_a_daemon_nobody_logs_in_as_a_user_of_ours() {
    let rig = Rig::new();
    // A user of the host stands in for one that NSS finds because the table has it.
    let mut table = Writer::open(Path::new("/run/teleport-userdb/accounts"), Trust::Root)
        .expect("make the table");
    table.publish(&account("daemon")).expect("publish the user");
    let ours = rig.login("daemon");
    let others = rig.login("bin");
    in_child(|| {
        assert_eq!(ours.account(), sys::PAM_AUTHINFO_UNAVAIL);
        assert_eq!(ours.open(), sys::PAM_SESSION_ERR);
        assert_eq!(others.account(), sys::PAM_SUCCESS);
        assert_eq!(others.open(), sys::PAM_SUCCESS);
    });
    for login in [ours, others] {
        login.end(0);
    }
}

fn account(login: &str) -> AccountSpec {
    AccountSpec {
        login: login.to_owned(),
        aliases: Vec::new(),
        uid: UID,
        gid: UID,
        gecos: String::new(),
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
        locked: false,
        since_usec: 0,
        sessions: 1,
        stop_delay_usec: 0,
        disposition: Disposition::Dynamic,
        tasks_max: None,
        memory_max: None,
        cpu_weight: None,
        umask: None,
        environment: Vec::new(),
        groups: Vec::new(),
    }
}

#[test]
fn a_daemon_that_never_answers_costs_the_timeout_of_the_argument() {
    let rig = Rig::with_arguments("timeout=1s");
    let _hung = rig.hung_registry();
    for (user, account, open) in [
        (
            "no-such-user-here",
            sys::PAM_AUTHINFO_UNAVAIL,
            sys::PAM_SESSION_ERR,
        ),
        ("root", sys::PAM_SUCCESS, sys::PAM_SUCCESS),
    ] {
        let login = rig.login(user);
        // A user of this host has waited once and goes on; for anybody else there is hope to the end.
        let waits_twice = open != sys::PAM_SUCCESS;
        for (expected, waits, (code, took)) in [
            (account, true, timed(|| login.account())),
            (open, waits_twice, timed(|| login.open())),
        ] {
            assert_eq!(code, expected, "{user}");
            let least = Duration::from_secs(u64::from(waits));
            assert!(took >= least && took < least + SLACK, "{user}: {took:?}");
        }
        let ((), took) = timed(|| login.end(0));
        assert!(
            took < SLACK,
            "nothing is held, so nobody is asked: {took:?}"
        );
    }
}

#[test]
fn a_daemon_that_hangs_up_is_asked_again_until_the_timeout_and_raises_no_signal_in_the_program() {
    let rig = Rig::with_arguments("timeout=1s");
    let listener = rig.hung_registry();
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
            let _ = said.send(());
        }
    });
    let login = rig.login("no-such-user-here");
    in_child(|| {
        // SAFETY: the default action runs no code; the Rust runtime of this test ignores the signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let (code, took) = timed(|| login.account());
        assert_eq!(code, sys::PAM_AUTHINFO_UNAVAIL);
        assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    });
    login.end(0);
    // Often enough that the other side is sometimes the faster one.
    let tries = heard.try_iter().count();
    assert!(tries > 10, "asked {tries} times only");
}

#[test]
fn close_waits_for_a_second_at_most_and_pam_end_not_again() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    drop(registry);
    let _hung = rig.hung_registry();
    let (code, took) = timed(|| login.close());
    assert_eq!(code, sys::PAM_SUCCESS);
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    let ((), took) = timed(|| login.end(0));
    assert!(took < SLACK, "{took:?}");
}

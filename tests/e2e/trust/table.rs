//! What our module answers in each phase, with the real registry: the cases down, the phases across. In these stacks
//! nobody else decides, and what we ignore ends as CRED_INSUFFICIENT.
//!
//! close_session after a refused open_session is not here: libpam answers that one itself, as it did the open.

use std::time::Duration;

use rig::{LOCAL_GROUP, LOCAL_USER, LoginBuilder, Machine};

use crate::{is_gone, node, node_alone, sessions};

const IGNORED: &str = "CRED_INSUFFICIENT";
const PHASES: [&str; 3] = ["account", "open", "close"];
const UNITS: [&str; 4] = [
    "teleport-sessiond.socket",
    "teleport-userdbd.socket",
    "teleport-sessiond.service",
    "teleport-userdbd.service",
];

/// The codes of account, open and close; authentication, credentials and password must be ignored in every case.
#[track_caller]
fn codes(login: LoginBuilder) -> [String; 3] {
    let ended = login.flag("--regardless").run();
    for phase in ["authenticate", "setcred", "password"] {
        assert_eq!(ended.code(phase), Some(IGNORED), "{phase}: {ended:?}");
    }
    PHASES.map(|phase| ended.code(phase).unwrap_or("none").to_owned())
}

fn judged<'m>(node: &'m Machine, login: &str) -> LoginBuilder<'m> {
    node.login(login).service("judge")
}

#[test]
fn without_teleport_login_in_the_pam_environment_everything_is_ignored() {
    let node = node();
    let login = judged(&node, "hans").flag("--process-env-only");
    assert_eq!(codes(login), [IGNORED; 3]);
    assert!(is_gone(&node, "hans"));
}

#[test]
fn in_a_service_that_is_not_ours_everything_is_ignored() {
    let node = node();
    assert_eq!(codes(node.login("hanna").service("stranger")), [IGNORED; 3]);
    assert!(is_gone(&node, "hanna"));
}

#[test]
fn a_login_that_exists_elsewhere_succeeds() {
    let node = node();
    assert_eq!(codes(judged(&node, LOCAL_USER)), ["SUCCESS"; 3]);
    assert!(sessions(&node, LOCAL_USER).is_empty());
}

#[test]
fn a_login_of_ours_succeeds() {
    let node = node();
    assert_eq!(codes(judged(&node, "heidi")), ["SUCCESS"; 3]);
    assert!(is_gone(&node, "heidi"));
}

#[test]
fn what_policy_refuses_and_who_is_not_the_teleport_login_get_the_codes_of_a_refusal() {
    let node = node();
    for login in [
        judged(&node, LOCAL_GROUP),
        judged(&node, "sudo"),
        judged(&node, "helga").env("TELEPORT_LOGIN=hugo"),
        judged(&node, LOCAL_USER).env("TELEPORT_LOGIN=root"),
    ] {
        let shown = format!("{login:?}");
        let [account, open, _] = codes(login);
        assert_eq!(
            [account.as_str(), &open],
            ["PERM_DENIED", "SESSION_ERR"],
            "{shown}"
        );
    }
    assert!(is_gone(&node, "helga") && is_gone(&node, "hugo"));
}

#[test]
fn a_caller_that_is_not_admitted_gets_the_codes_of_a_refusal() {
    let node = node();
    for login in ["henri", LOCAL_USER] {
        let login = judged(&node, login).inside(&["unshare", "-p", "-f", "--mount-proc"]);
        let [account, open, _] = codes(login);
        assert_eq!([account.as_str(), &open], ["PERM_DENIED", "SESSION_ERR"]);
    }
}

#[test]
fn with_the_daemon_away_locals_succeed_and_users_to_be_made_and_of_ours_are_unavailable() {
    let node = node_alone();
    let mut before = judged(&node, "hedwig").hold("open").start();
    before.reach("open");
    let mut between = judged(&node, "hilde").hold("account").start();
    between.reach("account");
    let reserved_local = {
        let mut login = judged(&node, LOCAL_USER).hold("account").start();
        login.reach("account");
        login
    };

    node.run(&[&["systemctl", "stop"], &UNITS[..]].concat())
        .must();
    let local = codes(judged(&node, LOCAL_USER));
    let new = codes(judged(&node, "herta"));
    // It is in the table, as the daemon has left it: somebody else could be meant by now.
    let published = node.run(&["getent", "passwd", "hedwig"]);
    let ours = codes(judged(&node, "hedwig"));
    let (before, between, reserved_local) =
        (before.finish(), between.finish(), reserved_local.finish());
    node.run(&[&["systemctl", "start"], &UNITS[..]].concat())
        .must();

    assert_eq!(local, ["SUCCESS"; 3]);
    assert_eq!(new[..2], ["AUTHINFO_UNAVAIL", "SESSION_ERR"]);
    published.must();
    assert_eq!(ours[..2], ["AUTHINFO_UNAVAIL", "SESSION_ERR"]);
    assert_eq!(before.code("close"), Some("SUCCESS"), "{before:?}");
    assert_eq!(between.code("open"), Some("SESSION_ERR"), "{between:?}");
    let local = PHASES.map(|phase| reserved_local.code(phase));
    assert_eq!(local, [Some("SUCCESS"); 3], "{reserved_local:?}");
    node.within(
        Duration::from_secs(30),
        "who left while the daemon was away is gone",
        |node| is_gone(node, "hedwig") && is_gone(node, "hilde"),
    );
}

#[test]
fn a_daemon_that_hangs_is_as_one_that_is_away_after_the_timeout() {
    let node = node_alone();
    let hung = |signal: &str| {
        let signal = format!("--signal={signal}");
        node.run(&[
            "systemctl",
            "kill",
            "--kill-whom=main",
            &signal,
            "teleport-sessiond",
        ])
        .must();
    };
    hung("STOP");
    let began = std::time::Instant::now();
    let (local, new) = std::thread::scope(|scope| {
        let local = scope.spawn(|| codes(judged(&node, LOCAL_USER)));
        let new = scope.spawn(|| codes(judged(&node, "hella")));
        (local.join(), new.join())
    });
    let took = began.elapsed();
    hung("CONT");
    assert_eq!(local.unwrap(), ["SUCCESS"; 3]);
    assert_eq!(new.unwrap()[..2], ["AUTHINFO_UNAVAIL", "SESSION_ERR"]);
    // Two phases that ask, five seconds each; Teleport waits longer than that.
    assert!(took < Duration::from_secs(20), "{took:?}");
    // What the daemon finds in its queue when it goes on is of callers that are gone.
    node.within(
        Duration::from_secs(30),
        "nobody is made for who has left",
        |node| sessions(node, "hella").is_empty() && is_gone(node, "hella"),
    );
}

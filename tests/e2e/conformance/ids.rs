//! Checklist rows 13 and 14: what is somebody else's, name or UID, is never answered.

use rig::{LOCAL_USER, Machine, node_alone};
use serde_json::json;

use crate::wire::{ask, userdb};
use crate::{OURS, session, uid};

/// The UID that a login would be given, by the daemon's own decision.
#[track_caller]
fn foretold(machine: &Machine, login: &str) -> u32 {
    let options = ["--user", "alice", "--roles", "dev ops", "--login", login];
    let told = machine.run(&[&["teleport-userdbctl", "explain"], &options[..]].concat());
    let line = told
        .must()
        .lines()
        .find(|line| line.contains("UID, GID"))
        .unwrap();
    let word = line.split_whitespace().nth(2).unwrap();
    word.trim_end_matches(',').parse().unwrap()
}

#[track_caller]
fn must_be_nobody(machine: &Machine, key: &str, value: serde_json::Value) {
    for (method, key) in [
        ("GetUserRecord", key),
        (
            "GetGroupRecord",
            &key.replace("user", "group").replace("uid", "gid"),
        ),
    ] {
        let reply = ask(machine, method, &json!({key: value, "service": OURS}));
        assert_eq!(
            reply["error"],
            userdb("NoRecordFound"),
            "{method} {key} {value}: {reply}"
        );
    }
}

#[test]
fn a_login_that_is_somebody_elses_is_not_answered() {
    let node = node_alone();
    let mut login = node
        .login(LOCAL_USER)
        .service("teleport")
        .hold("open")
        .start();
    login.reach("open");
    must_be_nobody(&node, "userName", json!(LOCAL_USER));
    must_be_nobody(&node, "uid", json!(uid(&node, LOCAL_USER)));
    for name in ["root", "nobody", "daemon"] {
        must_be_nobody(&node, "userName", json!(name));
    }
}

#[test]
fn a_uid_that_is_somebody_elses_is_not_given() {
    let node = node_alone();
    let taken = foretold(&node, "irmgard");
    node.sh(&format!(
        "echo 'squatter:x:{taken}:{taken}::/:/usr/sbin/nologin' >>/etc/passwd"
    ))
    .must();
    let session = session(&node, "irmgard");
    let given = uid(&node, "irmgard");
    assert_ne!(given, taken);
    must_be_nobody(&node, "uid", json!(taken));
    drop(session);
    node.sh("sed -i '/^squatter:/d' /etc/passwd").must();
}

#[test]
fn a_uid_that_logind_still_remembers_is_not_given() {
    let node = node_alone();
    let remembered = foretold(&node, "ingeborg");
    let file = format!("/run/systemd/users/{remembered}");
    node.write(&file, "NAME=somebody\nSTATE=closing\n");
    let _session = session(&node, "ingeborg");
    let given = uid(&node, "ingeborg");
    node.run(&["rm", &file]).must();
    assert_ne!(given, remembered);
    must_be_nobody(&node, "uid", json!(remembered));
}

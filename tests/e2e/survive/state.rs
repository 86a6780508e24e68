//! What is written down for a restart and can no longer be read: rights go, what people have open does not.

use std::fs;
use std::path::Path;

use rig::{Journal, Machine};

use crate::{SESSIOND, SOON, admin, busy_admin, has_sudo, is_known, listed, node_alone, state};

type Damage = fn(&str) -> String;

/// What may have become of a file.
const DAMAGES: [(&str, Damage); 4] = [
    ("one byte is different", |good| {
        good.replacen("alice", "alicf", 1)
    }),
    ("it is empty", |_| String::new()),
    ("it is cut off", |good| good[..good.len() / 2].to_owned()),
    ("a newer daemon wrote it", |good| {
        good.replacen("\"version\":1", "\"version\":2", 1)
    }),
];

#[track_caller]
fn spoil(folder: &Path, damage: Damage) {
    for entry in fs::read_dir(folder).expect("the state").flatten() {
        let good = fs::read_to_string(entry.path()).expect("a state file");
        fs::write(entry.path(), damage(&good)).expect("written");
    }
}

#[track_caller]
fn restart_with(node: &Machine, change: impl FnOnce()) {
    node.run(&["systemctl", "stop", SESSIOND]).must();
    change();
    node.run(&["systemctl", "start", SESSIOND]).must();
    // Answered only once what was written down has been taken up.
    node.run(&["teleport-userdbctl", "sessions"]).must();
}

#[test]
fn with_a_damaged_or_newer_state_rights_end_at_once_and_each_login_with_its_last_process() {
    let node = node_alone();
    for (index, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let login = format!("dora{index}");
        let session = busy_admin(&node, &login);
        let idle = admin(&node, &format!("dirk{index}"));
        let uid = node.run(&["id", "-u", &login]).must().to_owned();
        assert!(has_sudo(&node, &login));
        let journal = Journal::now(&node);
        restart_with(&node, || {
            spoil(&state(&node).join("sessions"), damage);
            // The odd ones lose everything, the even ones the sessions alone.
            if index % 2 == 1 {
                spoil(&state(&node).join("logins"), damage);
            }
        });
        assert!(!has_sudo(&node, &login), "{what}");
        let user = listed(&node, &login).unwrap_or_else(|| panic!("{what}: it is gone"));
        assert_eq!(user["locked"], true, "{what}: {user}");
        assert_eq!(user["groups"], serde_json::json!([]), "{what}: {user}");
        assert_eq!(user["uid"].to_string(), uid, "{what}: {user}");
        assert_eq!(node.run(&["id", "-Gn", &login]).must(), login, "{what}");
        let told = journal.entries(&["MESSAGE_ID=d32fe2e2c1774864a0acad646383ba24"]);
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        if index == 0 {
            // Nobody comes in beside processes of somebody unknown; others do.
            let refused = node.login(&login).service("sshd").run();
            let code = refused.code("account");
            assert_eq!(code, Some("PERM_DENIED"), "{refused:?}");
            assert_eq!(refused.messages().len(), 1, "{refused:?}");
            node.login("doris").service("sshd").run().ran.must();
        }
        // Another restart changes nothing.
        restart_with(&node, || ());
        assert!(
            is_known(&node, &login) && !has_sudo(&node, &login),
            "{what}"
        );
        node.run(&["pgrep", "-u", &uid, "-x", "sleep"]).must();

        node.run(&["pkill", "-KILL", "-u", &uid]).must();
        node.within(SOON, "it ends with its last process", |node| {
            !is_known(node, &login)
        });
        session.finish();
        idle.finish();
        node.within(SOON, "what nothing ran for is gone, too", |node| {
            !is_known(node, &format!("dirk{index}"))
        });
        node.within(SOON, "it can be used again", |node| {
            node.login(&login).service("sshd").run().ran.succeeded()
        });
    }
}

#[test]
fn a_state_that_was_emptied_is_like_a_damaged_one() {
    let node = node_alone();
    let session = busy_admin(&node, "dagmar");
    restart_with(&node, || {
        fs::remove_dir_all(state(&node)).expect("removed");
        fs::create_dir(state(&node)).expect("made");
    });
    assert!(is_known(&node, "dagmar") && !has_sudo(&node, "dagmar"));
    node.run(&["pkill", "-KILL", "-u", "dagmar"]).must();
    node.within(SOON, "it ends with its last process", |node| {
        !is_known(node, "dagmar")
    });
    session.finish();
}

#[test]
fn a_damaged_note_about_a_used_uid_does_not_free_the_uid() {
    let node = node_alone();
    let before = admin(&node, "damian");
    let uid = node.run(&["id", "-u", "damian"]).must().to_owned();
    before.finish();
    let note = state(&node).join("uids").join(&uid);
    // With the end of what the login has left, which takes some seconds.
    let ended = std::time::Duration::from_secs(30);
    node.within(ended, "the UID is noted as used", |_| note.exists());
    for _ in 0..2 {
        restart_with(&node, || fs::write(&note, "").expect("written"));
        assert!(note.exists(), "written down anew");
    }
    // Not even to the same name: nobody can say any more whose it was.
    let after = admin(&node, "damian");
    assert_ne!(node.run(&["id", "-u", "damian"]).must(), uid);
    after.finish();
}

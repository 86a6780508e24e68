//! Logins that are not ours to make: those of others pass untouched, what cannot be is refused in a sentence.

use rig::{Ended, Etc, LOCAL_GROUP, LOCAL_USER, node};

use crate::{is_gone, passwd};

/// Refused in the account phase, with one sentence for the person at the terminal.
#[track_caller]
fn must_be_refused(ended: &Ended, code: &str, naming: &str) {
    assert_eq!(ended.code("account"), Some(code), "{ended:?}");
    ended.ran.must_end_with(251);
    let messages = ended.messages();
    assert!(
        matches!(messages[..], [sentence] if sentence.contains(naming) && sentence.ends_with('.')),
        "one sentence that names {naming:?} was expected: {messages:?}"
    );
}

#[test]
fn a_login_named_like_an_existing_user_passes_through_untouched() {
    let node = node();
    let before = (
        passwd(&node, LOCAL_USER),
        node.run(&["id", LOCAL_USER]).must().to_owned(),
    );
    let mut login = node.login(LOCAL_USER).hold("command").command("id").start();
    login.reach("command");
    assert_eq!(passwd(&node, LOCAL_USER), before.0);
    assert_eq!(node.run(&["id", LOCAL_USER]).must(), before.1);
    let record = node.run(&["userdbctl", "user", LOCAL_USER, "--output=json"]);
    assert!(!record.must().contains("com.goteleport"), "{record}");
    let ended = login.finish();
    assert_eq!(ended.must_write(), before.1);
    assert_eq!(
        (ended.code("open"), ended.code("close")),
        (Some("SUCCESS"), Some("SUCCESS")),
        "{ended:?}"
    );
    assert_eq!(passwd(&node, LOCAL_USER), before.0);
}

#[test]
fn a_login_named_like_an_existing_group_is_refused_with_a_sentence() {
    let node = node();
    let before = Etc::of(&node);
    let ended = node.login(LOCAL_GROUP).run();
    must_be_refused(&ended, "PERM_DENIED", LOCAL_GROUP);
    node.run(&["getent", "passwd", LOCAL_GROUP])
        .must_end_with(2);
    before.must_equal(&Etc::of(&node));
}

#[test]
fn a_login_that_a_group_of_the_node_lists_is_refused_and_gets_none_of_its_rights() {
    let node = rig::node_alone();
    node.sh("cp -p /etc/group /root/group && echo 'crane:x:990:noel' >>/etc/group")
        .must();
    let given = ["noel", "Noel"].map(|login| node.login(login).run());
    node.sh("cat /root/group >/etc/group").must();
    for ended in given {
        must_be_refused(&ended, "PERM_DENIED", "crane");
    }
    assert!(is_gone(&node, "noel"));
    node.login("noel").command("true").run().ran.must();
}

#[test]
fn a_pam_user_other_than_teleport_login_is_refused() {
    let node = node();
    let ended = node.login("nils").env("TELEPORT_LOGIN=nora").run();
    assert_eq!(ended.code("account"), Some("PERM_DENIED"), "{ended:?}");
    assert!(is_gone(&node, "nils") && is_gone(&node, "nora"));
}

#[test]
fn variables_outside_the_pam_environment_make_no_user() {
    let node = node();
    let ended = node
        .login("nele")
        .service("sshd")
        .flag("--process-env-only")
        .flag("--look")
        .run();
    let found = ended
        .events
        .iter()
        .any(|event| event["event"] == "lookup" && event["found"] == true);
    assert!(!found, "{ended:?}");
    assert!(is_gone(&node, "nele"));
}

#[test]
fn a_service_that_is_not_ours_makes_no_user() {
    let node = node();
    let ended = node
        .login("nico")
        .service("foreign")
        .flag("--look")
        .hold("account")
        .run();
    let found = ended
        .events
        .iter()
        .any(|event| event["event"] == "lookup" && event["found"] == true);
    assert!(!found, "{ended:?}");
}

//! From when to when a login is there: sessions counted, every way to end one, and what stays on disk (nothing).

use std::time::Duration;

use rig::{Etc, node};

use crate::{SOON, is_gone, members, passwd};

#[test]
fn a_second_session_keeps_the_login_and_the_end_of_the_first_changes_nothing() {
    let node = node();
    let mut first = node.login("mara").hold("open").start();
    first.reach("open");
    let (record, groups) = (
        passwd(&node, "mara"),
        node.run(&["id", "mara"]).must().to_owned(),
    );
    let mut second = node.login("mara").hold("open").start();
    second.reach("open");
    first.finish().ran.must();
    assert_eq!(passwd(&node, "mara"), record);
    assert_eq!(node.run(&["id", "mara"]).must(), groups);
    assert!(members(&node, "teleport-tmp").contains(&"mara".to_owned()));
    second.finish().ran.must();
    assert!(is_gone(&node, "mara"));
}

#[test]
fn the_end_of_the_last_session_withdraws_the_user_before_close_session_returns() {
    let node = node();
    let mut login = node.login("milo").flag("--look").hold("close").start();
    login.reach("close");
    // close_session has returned, pam_end was not called, the process lives.
    assert!(is_gone(&node, "milo"));
    let ended = login.finish();
    let open = ended.lookup("open").cloned().unwrap_or_default();
    assert_eq!(open["found"], true, "{ended:?}");
    assert_eq!(open["by_uid"], "milo", "{ended:?}");
    let close = ended.lookup("close").cloned().unwrap_or_default();
    assert_eq!(close["found"], false, "{ended:?}");
    assert!(
        close["by_uid"].is_null() && close["group"].is_null(),
        "{ended:?}"
    );
    assert_eq!(ended.code("close"), Some("SUCCESS"), "{ended:?}");
}

#[test]
fn two_sessions_of_one_process_are_two_sessions() {
    let node = node();
    let ended = node
        .login("moritz")
        .option("--handles", "2")
        .flag("--look")
        .run();
    ended.ran.must();
    let found: Vec<bool> = ended
        .events
        .iter()
        .filter(|event| event["event"] == "lookup" && event["after"] == "close")
        .map(|event| event["found"] == true)
        .collect();
    assert_eq!(found, [true, false], "{ended:?}");
}

#[test]
fn a_killed_pam_process_takes_its_user_along_within_a_second() {
    let node = node();
    for point in ["account", "open"] {
        let mut login = node.login("mona").hold(point).start();
        let pid = login.reach(point).pid();
        assert!(!is_gone(&node, "mona"));
        node.run(&["kill", "-KILL", &pid]).must();
        node.within(SOON, "the user of a killed PAM process is gone", |node| {
            is_gone(node, "mona")
        });
        login.finish().ran.must_end_with(128 + 9);
    }
}

#[test]
fn a_killed_pam_process_ends_its_own_session_only() {
    let node = node();
    let mut killed = node.login("marek").hold("open").start();
    let pid = killed.reach("open").pid();
    let mut other = node.login("marek").hold("open").start();
    other.reach("open");
    node.run(&["kill", "-KILL", &pid]).must();
    killed.finish();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(!is_gone(&node, "marek"));
    other.finish().ran.must();
    assert!(is_gone(&node, "marek"));
}

#[test]
fn pam_end_without_close_takes_the_user_along() {
    let node = node();
    let mut login = node.login("mats").flag("--end-only").hold("open").start();
    login.reach("open");
    assert!(!is_gone(&node, "mats"));
    let ended = login.finish();
    assert_eq!(ended.code("close"), None, "{ended:?}");
    node.within(SOON, "the user of an ended PAM handle is gone", |node| {
        is_gone(node, "mats")
    });
}

#[test]
fn pam_end_itself_withdraws_the_user_of_a_session_that_was_not_closed() {
    let node = node();
    let ended = node.login("malte").flag("--end-only").flag("--look").run();
    let end = ended.lookup("end").cloned().unwrap_or_default();
    assert_eq!(end["found"], false, "{ended:?}");
}

#[test]
fn close_session_as_the_login_user_succeeds_and_the_user_is_gone_with_the_process() {
    let node = node();
    let mut login = node.forwarding("mila").hold("became").start();
    login.reach("became");
    assert!(!is_gone(&node, "mila"));
    let ended = login.finish();
    ended.ran.must();
    assert_eq!(ended.code("close"), Some("SUCCESS"), "{ended:?}");
    node.within(SOON, "the user of a forwarding child is gone", |node| {
        is_gone(node, "mila")
    });
}

#[test]
fn a_login_has_the_same_uid_each_time() {
    let node = node();
    let uid = |role: &str| {
        let ended = node.login("merle").roles(role).command("id -u").run();
        ended.must_write()
    };
    assert_eq!(uid("dev"), uid("ops"));
}

#[test]
fn the_command_runs_as_the_user_with_all_its_groups() {
    let node = node();
    let ended = node.login("magda").command("id -un; id -gn; id -Gn").run();
    assert_eq!(ended.must_write(), "magda\nmagda\nmagda teleport-tmp");
}

#[test]
fn etc_is_bit_identical_before_during_and_after_a_login() {
    // Alone: another test's login would prove less if this one went wrong beside it.
    let node = rig::node_alone();
    let before = Etc::of(&node);
    let mut login = node
        .login("max")
        .hold("account")
        .hold("command")
        .hold("close")
        .command("id")
        .start();
    for point in ["account", "command", "close"] {
        login.reach(point);
        before.must_equal(&Etc::of(&node));
        login.go_on();
    }
    login.finish().ran.must();
    before.must_equal(&Etc::of(&node));
    // What is cleaned up later has had its time, too.
    std::thread::sleep(Duration::from_secs(4));
    before.must_equal(&Etc::of(&node));
}

#[test]
fn another_spelling_of_a_login_that_has_just_ended_waits_for_its_end() {
    let node = node();
    let uid = |login: &str| {
        let ended = node.login(login).command("id -u").run();
        ended.must_write()
    };
    let (first, second, first_again) = (uid("Ludmila"), uid("ludmila"), uid("Ludmila"));
    assert_ne!(first, second);
    assert_eq!(first, first_again);
}

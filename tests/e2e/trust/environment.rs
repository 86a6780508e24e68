//! What a login is about is said once, by the PAM environment of the account phase; what comes later, or from
//! elsewhere, changes nothing.

use rig::{Ended, LOCAL_USER};

use crate::{is_gone, node, sessions};

/// What decides whether the role `warden` counted, and what the environment says by then.
const WHO: &str = "id -Gn; echo roles=$TELEPORT_ROLES; sudo -n true 2>/dev/null && echo sudo";

/// The role `warden` stood in the environment of the session, and has given nothing.
#[track_caller]
fn must_have_gained_nothing(ended: &Ended, login: &str) {
    let written = ended.must_write();
    let lines: Vec<&str> = written.lines().collect();
    let groups = format!("{login} teleport-tmp");
    assert_eq!(lines, [groups.as_str(), "roles=warden"], "{ended:?}");
}

#[test]
fn the_role_that_the_other_tests_smuggle_gives_a_group_and_sudo_when_teleport_names_it() {
    let node = node();
    let ended = node
        .login("gerd")
        .service("sshd")
        .roles("dev warden")
        .command(WHO)
        .run();
    let written = ended.written();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(
        lines,
        ["gerd wardens teleport-tmp", "roles=dev warden", "sudo"],
        "{ended:?}"
    );
}

#[test]
fn what_stands_in_the_pam_environment_before_our_account_phase_counts_whoever_set_it() {
    let node = node();
    let ended = node
        .login("greta")
        .service("meddled-before")
        .command("id -Gn")
        .run();
    assert_eq!(ended.must_write(), "greta wardens teleport-tmp");
}

#[test]
fn what_another_module_changes_between_account_and_session_changes_nothing() {
    let node = node();
    let mut login = node
        .login("gisela")
        .service("meddled-after")
        .hold("open")
        .command(&format!("{WHO}; true"))
        .start();
    login.reach("open");
    let listed = sessions(&node, "gisela");
    assert_eq!(listed[0]["roles"], serde_json::json!(["dev"]), "{listed:?}");
    must_have_gained_nothing(&login.finish(), "gisela");
    assert!(is_gone(&node, "gisela"));
}

#[test]
fn what_pam_env_sets_before_our_session_phase_changes_nothing() {
    let node = node();
    let mut login = node
        .login("gunda")
        .service("overridden")
        .hold("open")
        .command(&format!("{WHO}; true"))
        .start();
    login.reach("open");
    let listed = sessions(&node, "gunda");
    assert_eq!(listed[0]["teleportUser"], "alice", "{listed:?}");
    must_have_gained_nothing(&login.finish(), "gunda");
}

#[test]
fn the_users_own_pam_environment_file_changes_nothing() {
    let node = node();
    let mut first = node.login("gustav").service("sshd").hold("open").start();
    first.reach("open");
    let written = node.sh("home=$(getent passwd gustav | cut -d: -f6) && \
         echo 'TELEPORT_ROLES OVERRIDE=warden' >$home/.pam_environment && \
         chown gustav:gustav $home/.pam_environment");
    written.must();
    let second = node
        .login("gustav")
        .service("readenv")
        .command(&format!("{WHO}; true"))
        .run();
    must_have_gained_nothing(&second, "gustav");
    first.finish().ran.must();
    assert!(is_gone(&node, "gustav"));
}

#[test]
fn variables_that_first_appear_in_the_session_phase_make_no_user() {
    let node = node();
    // The account phase finds none in the PAM environment, only in that of the process.
    let mut login = node
        .login("gundula")
        .service("late")
        .flag("--process-env-only")
        .flag("--regardless")
        .hold("open")
        .start();
    login.reach("open");
    assert!(sessions(&node, "gundula").is_empty() && is_gone(&node, "gundula"));
    let ended = login.finish();
    assert_eq!(ended.code("open"), Some("SUCCESS"), "{ended:?}");
}

#[test]
fn a_pam_user_that_another_module_has_set_before_us_is_refused() {
    let node = node();
    let ended = node.login("gero").service("renamed-before").run();
    assert_eq!(ended.code("account"), Some("PERM_DENIED"), "{ended:?}");
    assert!(
        matches!(ended.messages()[..], [sentence] if sentence.contains("gero") && sentence.contains(LOCAL_USER)),
        "{ended:?}"
    );
    assert!(is_gone(&node, "gero"));
}

#[test]
fn a_pam_user_that_another_module_changes_after_the_account_phase_is_refused_and_nothing_stays() {
    let node = node();
    let mut login = node
        .login("gitta")
        .service("renamed-after")
        .hold("account")
        .start();
    login.reach("account");
    assert!(!is_gone(&node, "gitta"));
    let ended = login.finish();
    assert_eq!(ended.code("open"), Some("SESSION_ERR"), "{ended:?}");
    assert!(
        matches!(ended.messages()[..], [sentence] if sentence.contains("gitta") && sentence.contains(LOCAL_USER)),
        "{ended:?}"
    );
    assert!(sessions(&node, "gitta").is_empty() && is_gone(&node, "gitta"));
}

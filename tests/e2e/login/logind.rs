//! With pam_systemd after us in the stack: logind's session, the runtime directory, and the way of the exit status.

use std::time::Duration;

use rig::{Journal, node, node_alone};

use crate::{is_gone, passwd};

/// logind keeps a user for `retire-delay` after the last session, then everything of it ends.
const RETIRED: Duration = Duration::from_secs(40);

#[test]
fn logind_lists_the_session_and_the_runtime_directory_comes_and_goes() {
    let node = node();
    let mut login = node.login("olga").hold("open").start();
    login.reach("open");
    let uid = passwd(&node, "olga")[2].clone();
    let folder = format!("/run/user/{uid}");
    let sessions = node.run(&["loginctl", "list-sessions", "--no-legend"]);
    let rows = sessions
        .must()
        .lines()
        .filter(|row| row.split_whitespace().any(|word| word == "olga"));
    assert!(rows.count() >= 1, "{sessions}");
    let owner = node.run(&["stat", "-c", "%U %a", &folder]);
    assert_eq!(owner.must(), "olga 700");
    login.finish().ran.must();
    assert!(is_gone(&node, "olga"));
    node.within(RETIRED, "the runtime directory is gone", |node| {
        !node.run(&["test", "-e", &folder]).succeeded()
    });
    node.within(RETIRED, "logind has forgotten the user", |node| {
        !node
            .run(&["loginctl", "list-users", "--no-legend"])
            .stdout
            .contains("olga")
    });
}

#[test]
fn thirty_logins_of_one_user_in_a_row_each_get_a_runtime_directory_and_leave_no_error() {
    let node = node_alone();
    let journal = Journal::now(&node);
    for round in 0..30 {
        let ended = node
            .login("otto")
            .command(r#"test -O "$XDG_RUNTIME_DIR" && echo "$XDG_RUNTIME_DIR""#)
            .run();
        let folder = ended.must_write();
        assert!(
            folder.starts_with("/run/user/"),
            "login {round}: {folder:?}"
        );
        assert!(is_gone(&node, "otto"), "after login {round}");
    }
    node.within(RETIRED, "logind has forgotten the user", |node| {
        !node
            .run(&["loginctl", "list-users", "--no-legend"])
            .stdout
            .contains("otto")
    });
    journal.must_have_no_errors();
}

#[test]
fn the_exit_status_of_the_command_reaches_the_caller() {
    let node = node();
    for (line, status) in [
        ("true", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + 15),
    ] {
        node.login("oskar")
            .command(line)
            .run()
            .ran
            .must_end_with(status);
    }
}

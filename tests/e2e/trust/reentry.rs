//! su, sudo, cron, at and login inside and beside a session, with our module in the stacks they all share: none of
//! them is a session of ours, whatever its environment says, and each ends as it would without us.

use std::time::Duration;

use rig::{Ended, LOCAL_USER, Machine};

use crate::{is_gone, node, sessions};

/// Until cron, at or a shell has got to its work on a loaded machine.
const STARTED: Duration = Duration::from_secs(20);

/// A command that says that it has begun, waits to be let go, and ends with 7.
fn waiting(mark: &str) -> String {
    format!("id -un >/tmp/{mark}.in; while [ ! -e /tmp/{mark}.out ]; do sleep 0.05; done; exit 7")
}

/// What began under `mark` runs as `user`, and `login` has its one session all the while.
#[track_caller]
fn one_session_while_it_runs(node: &Machine, mark: &str, user: &str, login: &str) {
    let begun = format!("{user}\n");
    node.within(STARTED, &format!("{mark} has begun"), |node| {
        node.run(&["cat", &format!("/tmp/{mark}.in")]).stdout == begun
    });
    let listed = sessions(node, login);
    assert_eq!(listed.len(), 1, "{mark}: {listed:?}");
    assert!(sessions(node, LOCAL_USER).is_empty() && sessions(node, "root").is_empty());
    node.run(&["touch", &format!("/tmp/{mark}.out")]).must();
}

/// A session of `login` with sudo whose command starts something else, which runs as `user`.
#[track_caller]
fn inside_a_session(node: &Machine, login: &str, starts: &str, mark: &str, user: &str) -> Ended {
    // As a shell of Teleport has them: pam_getenvlist goes to the user's environment.
    let mut session = node
        .login(login)
        .roles("warden")
        .hold("command")
        .command(starts)
        .start();
    session.reach("command");
    one_session_while_it_runs(node, mark, user, login);
    let ended = session.finish();
    assert!(is_gone(node, login), "{mark}");
    ended
}

#[test]
fn su_inside_a_session_is_no_session() {
    let node = node();
    for (login, mark, user) in [
        ("ida", "su-local", LOCAL_USER),
        ("ingo", "su-self", "ingo"),
        ("inka", "su-root", "root"),
    ] {
        let starts = format!("sudo -n -E su {user} -s /bin/sh -c '{}'", waiting(mark));
        let ended = inside_a_session(&node, login, &starts, mark, user);
        ended.ran.must_end_with(7);
    }
}

#[test]
fn sudo_inside_a_session_is_no_session() {
    let node = node();
    for (login, mark, options, user) in [
        ("ilse", "sudo-login", "-i", "root"),
        ("imke", "sudo-other", "-i -u walter", LOCAL_USER),
        ("isa", "sudo-self", "-E -u isa", "isa"),
    ] {
        let starts = format!("sudo -n {options} sh -c '{}'", waiting(mark));
        let ended = inside_a_session(&node, login, &starts, mark, user);
        ended.ran.must_end_with(7);
    }
}

#[test]
fn login_inside_a_session_is_no_session() {
    let node = node();
    // A terminal of its own, as getty would give it. login throws away what was typed before it asks, so it is typed
    // until it has been heard.
    node.write("/tmp/login-self.sh", &waiting("login-self"));
    let starts = "{ until [ -e /tmp/login-self.out ]; do echo sh /tmp/login-self.sh; sleep 0.3; done; echo exit 0; } \
                  | sudo -n -E timeout 30 script -qec 'login -p -f irma' /dev/null >/dev/null";
    let ended = inside_a_session(&node, "irma", starts, "login-self", "irma");
    ended.ran.must();
}

#[test]
fn an_at_job_of_a_session_is_no_session() {
    let node = node();
    let mark = "at-job";
    let starts = format!(
        "at now 2>&1 <<'END'\n{}\nEND\nwhile [ ! -e /tmp/{mark}.out ]; do sleep 0.05; done",
        waiting(mark)
    );
    let ended = inside_a_session(&node, "iwan", &starts, mark, "iwan");
    ended.ran.must();
}

#[test]
fn a_cron_job_of_a_session_is_no_session() {
    let node = node();
    let mark = "cron-job";
    let mut session = node.login("irene").roles("warden").hold("open").start();
    session.reach("open");
    node.write(&format!("/tmp/{mark}.sh"), &waiting(mark));
    node.sh(&format!(
        "echo '@reboot sh /tmp/{mark}.sh' | crontab -u irene -"
    ))
    .must();
    // Jobs of the boot are run at once, unlike all others.
    node.sh("rm -f /run/crond.reboot; systemctl restart cron")
        .must();
    one_session_while_it_runs(&node, mark, "irene", "irene");
    session.finish().ran.must();
    assert!(is_gone(&node, "irene"));
}

#[test]
fn services_of_the_host_are_none_of_ours_even_with_the_variables_in_their_pam_environment() {
    let node = node();
    for service in ["su", "sudo", "cron", "atd", "login"] {
        let ended = node
            .login("iris")
            .service(service)
            .flag("--regardless")
            .flag("--look")
            .run();
        assert!(sessions(&node, "iris").is_empty(), "{service}: {ended:?}");
        assert!(is_gone(&node, "iris"), "{service}: {ended:?}");
        assert!(
            !ended
                .messages()
                .iter()
                .any(|said| said.contains("Teleport")),
            "{service}: {ended:?}"
        );
    }
}

//! Ends of a session that take more than a process that closes or dies: handles of others, processes that
//! change sides, services that stop for good.

use rig::{Machine, takes_pid};
use serde_json::{Value, json};

use crate::{SESSIOND, SOON, admin, has_sudo, is_known, listed, main_pid, node_alone};

const CLIENT: &str = "/usr/local/bin/teleport-child";

/// What the registry says to a process of its own.
fn call(node: &Machine, method: &str, parameters: Value) -> Value {
    let method = format!("com.goteleport.Sessions.{method}");
    let ran = node.run(&[CLIENT, "call", &method, &parameters.to_string()]);
    serde_json::from_str(ran.stdout.trim()).unwrap_or_default()
}

#[track_caller]
fn handle_of(node: &Machine, login: &str) -> String {
    let sessions = call(node, "List", json!({}));
    let sessions = sessions["parameters"]["sessions"].as_array().cloned();
    let session = sessions
        .unwrap_or_default()
        .into_iter()
        .find(|session| session["userName"] == login);
    session.unwrap_or_default()["session"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn nobody_else_can_close_a_session_nor_take_its_handle() {
    let node = node_alone();
    let session = admin(&node, "edda");
    let handle = handle_of(&node, "edda");
    for other in [
        handle.as_str(),
        "6fa459ea-ee8a-4ca4-894e-db77e160355e",
        "",
        "1",
    ] {
        let refused = call(&node, "Close", json!({"session": other}));
        assert_eq!(
            refused["error"], "com.goteleport.Sessions.UnknownSession",
            "{other:?}: {refused}"
        );
    }
    // Another process that asks for the same handle gets one of its own.
    let request = json!({
        "login": "edda", "service": "sshd", "undecodable": [], "session": handle,
        "environment": {
            "TELEPORT_LOGIN": "edda", "TELEPORT_USERNAME": "alice", "TELEPORT_ROLES": "admin"
        },
    });
    let reserved = call(&node, "Reserve", request);
    let admission = &reserved["parameters"]["admission"];
    assert!(admission["session"].is_string(), "{reserved}");
    assert_ne!(admission["session"], handle, "{reserved}");
    assert!(is_known(&node, "edda") && has_sudo(&node, "edda"));
    // As the user, nobody is even heard.
    let ran = node.run(&[
        "setpriv",
        "--reuid=edda",
        "--clear-groups",
        CLIENT,
        "call",
        "com.goteleport.Sessions.Close",
        &json!({"session": handle}).to_string(),
    ]);
    assert!(!ran.succeeded(), "{ran}");
    assert!(has_sudo(&node, "edda"));
    session.finish().ran.must();
    assert!(!is_known(&node, "edda") && !has_sudo(&node, "edda"));
}

/// One process that asks what it is given, each method with its parameters, over one connection; an answer a line.
const ONE_BY_ONE: &str = r#"my $registry = IO::Socket::UNIX->new(Peer => "/run/teleport-userdb/sessions") or die; $/ = "\0"; $\ = "\n";
    while (my ($method, $parameters) = splice @ARGV, 0, 2) {
        syswrite $registry, qq({"method":"com.goteleport.Sessions.$method","parameters":$parameters}\0);
        chomp(my $answer = <$registry>); print $answer;
    }"#;

#[test]
fn a_process_that_opens_what_it_has_closed_or_something_else_beside_gets_a_session_of_its_own() {
    let node = node_alone();
    let (over, other) = (
        "6fa459ea-ee8a-4ca4-894e-db77e160355f",
        "6fa459ea-ee8a-4ca4-894e-db77e1603560",
    );
    let asks = |login: &str, handle: &str| {
        let request = json!({
            "login": login, "service": "sshd", "undecodable": [], "session": handle,
            "environment": {
                "TELEPORT_LOGIN": login, "TELEPORT_USERNAME": "alice", "TELEPORT_ROLES": "admin"
            },
        });
        request.to_string()
    };
    let ran = node.run(&[
        "perl",
        "-MIO::Socket::UNIX",
        "-e",
        ONE_BY_ONE,
        "Reserve",
        &asks("ebba", over),
        "Close",
        &json!({"session": over}).to_string(),
        // While the registry still waits for this process to end.
        "Open",
        &asks("ebba", over),
        "Open",
        &asks("edna", other),
    ]);
    let answers: Vec<Value> = ran
        .must()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect();
    let session = |index: usize| answers[index]["parameters"]["admission"]["session"].as_str();
    assert_eq!(answers.len(), 4, "{ran}");
    assert_eq!(session(0), Some(over), "{ran}");
    assert!(session(2).is_some_and(|handle| handle != over), "{ran}");
    assert_eq!(session(3), Some(other), "{ran}");
    node.within(SOON, "both have ended with their process", |node| {
        !is_known(node, "ebba") && !is_known(node, "edna")
    });
}

#[test]
fn a_forwarding_child_that_its_user_has_stopped_does_not_outlive_its_parent_in_the_registry() {
    let node = node_alone();
    let mut session = node
        .forwarding("elmar")
        .service("sshd")
        .hold("became")
        .start();
    session.reach("became");
    let pid = session.pid();
    let parent = node
        .sh(&format!("cut -d' ' -f4 /proc/{pid}/stat"))
        .must()
        .to_owned();
    node.run(&["kill", "-STOP", &pid]).must();
    assert!(is_known(&node, "elmar"));
    node.run(&["kill", "-KILL", &parent]).must();
    node.within(SOON, "its session is over", |node| !is_known(node, "elmar"));
    let _ = node.run(&["kill", "-KILL", &pid]);
    drop(session);
}

#[test]
fn the_end_of_the_whole_cgroup_ends_every_session_in_it() {
    let node = node_alone();
    // Beside the rest of the rig, which is not to end.
    let enter = "mkdir -p \"$1\" && echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"";
    let cgroup = "/sys/fs/cgroup/system.slice/teleport.service/restarted";
    let logins = ["ella", "elsa", "enya", "esra", "etta"];
    let sessions = logins.map(|login| {
        let mut session = node
            .login(login)
            .roles("admin")
            .service("sshd")
            .inside(&["sh", "-c", enter, "sh", cgroup])
            .hold("open")
            .start();
        session.reach("open");
        session
    });
    // What `systemctl restart teleport` does: SIGTERM to the parent and to every child.
    node.sh(&format!("kill -TERM $(cat {cgroup}/cgroup.procs)"))
        .must();
    node.within(SOON, "all of them are gone", |node| {
        logins
            .iter()
            .all(|login| !is_known(node, login) && !has_sudo(node, login))
    });
    drop(sessions);
}

#[test]
fn minutes_between_account_and_session_and_a_restart_there_lose_nothing() {
    let node = node_alone();
    let mut session = node
        .login("emil")
        .roles("admin")
        .service("sshd")
        .flag("--auth")
        .flag("--look")
        .hold("account")
        .hold("authenticate")
        .hold("open")
        .start();
    session.reach("account");
    node.run(&["systemctl", "restart", SESSIOND]).must();
    assert!(is_known(&node, "emil") && !has_sudo(&node, "emil"));
    session.go_on().reach("authenticate");
    node.run(&["systemctl", "kill", "-s", "KILL", SESSIOND])
        .must();
    session.go_on().reach("open");
    assert!(is_known(&node, "emil") && has_sudo(&node, "emil"));
    assert_eq!(listed(&node, "emil").unwrap_or_default()["sessions"], 1);
    session.finish().ran.must();
    assert!(!is_known(&node, "emil"));
}

#[test]
fn a_leader_that_dies_between_account_and_session_while_the_daemon_is_away_leaves_nothing() {
    let node = node_alone();
    let mut session = node.login("enno").service("sshd").hold("account").start();
    let pid = session.reach("account").pid();
    node.run(&["systemctl", "stop", SESSIOND]).must();
    node.run(&["kill", "-KILL", &pid]).must();
    session.finish();
    assert!(is_known(&node, "enno"), "nobody is there to withdraw it");
    node.run(&["systemctl", "start", SESSIOND]).must();
    node.within(SOON, "it is gone", |node| !is_known(node, "enno"));
}

#[test]
fn while_the_daemon_is_stopped_for_good_nobody_has_sudo_and_who_is_on_is_still_known() {
    let node = node_alone();
    let session = admin(&node, "erna");
    let units = ["teleport-sessiond.socket", SESSIOND];
    node.run(&[&["systemctl", "stop"], &units[..]].concat())
        .must();
    assert!(!has_sudo(&node, "erna") && is_known(&node, "erna"));
    node.run(&[&["systemctl", "start"], &units[..]].concat())
        .must();
    node.within(SOON, "it has sudo again", |node| has_sudo(node, "erna"));
    session.finish().ran.must();
    assert!(!is_known(&node, "erna"));
}

#[test]
fn whoever_has_the_pid_of_a_dead_leader_inherits_nothing() {
    let node = node_alone();
    for round in 0..5 {
        let login = format!("egon{round}");
        let mut session = admin(&node, &login);
        let pid = session.pid();
        // Stopped, it cannot see the leader's end before the PID is somebody else's.
        let daemon = main_pid(&node);
        node.run(&["kill", "-STOP", &daemon]).must();
        node.run(&["kill", "-KILL", &pid]).must();
        session.finish();
        takes_pid(&node, &pid);
        if round % 2 == 0 {
            node.run(&["kill", "-KILL", &daemon]).must();
        } else {
            node.run(&["kill", "-CONT", &daemon]).must();
        }
        node.within(SOON, "the session is over", |node| {
            !is_known(node, &login) && !has_sudo(node, &login)
        });
        let comm = node.sh(&format!("cat /proc/{pid}/comm"));
        assert_eq!(comm.must(), "sleep", "the heir of the PID lives");
        let _ = node.run(&["kill", "-KILL", &pid]);
    }
}

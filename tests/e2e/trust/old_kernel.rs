//! Kernels before 6.5 do not tell the peer's pidfd: the registry finds it by the PID, and everything is as ever.

use std::time::Duration;

use rig::{Journal, Machine, takes_pid};

use crate::admission::reservation;
use crate::{answer, call_inside, is_gone, node_alone, sessions};

const SOON: Duration = Duration::from_secs(20);
const FOLDER: &str = "/run/systemd/system/teleport-sessiond.service.d";
const DROP_IN: &str = "[Service]\nExecStart=\n\
                       ExecStart=/usr/local/bin/teleport-child old-kernel -- /usr/libexec/teleport-sessiond\n";

/// teleport-sessiond without SO_PEERPIDFD, as long as this lives.
struct OldKernel<'m>(&'m Machine);

impl<'m> OldKernel<'m> {
    #[track_caller]
    fn on(node: &'m Machine) -> Self {
        node.run(&["mkdir", "-p", FOLDER]).must();
        node.write(&format!("{FOLDER}/old-kernel.conf"), DROP_IN);
        let old = Self(node);
        old.restart().must();
        old
    }

    fn restart(&self) -> rig::Ran {
        self.0
            .sh("systemctl daemon-reload && systemctl restart teleport-sessiond")
    }
}

impl Drop for OldKernel<'_> {
    fn drop(&mut self) {
        self.0.run(&["rm", "-r", FOLDER]);
        self.restart();
    }
}

#[test]
fn without_so_peerpidfd_logins_closes_and_deaths_of_leaders_are_seen_as_ever() {
    let node = node_alone();
    let _old = OldKernel::on(&node);

    let mut login = node.login("fritz").hold("open").hold("close").start();
    let leader = login.reach("open").pid();
    let listed = sessions(&node, "fritz");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["leaderPid"].to_string(), leader, "{listed:?}");
    login.go_on().reach("close");
    assert!(is_gone(&node, "fritz"), "when close_session has returned");
    login.finish().ran.must();

    for point in ["account", "open"] {
        let mut login = node.login("frida").hold(point).start();
        let pid = login.reach(point).pid();
        assert!(!is_gone(&node, "frida"));
        node.run(&["kill", "-KILL", &pid]).must();
        node.within(SOON, "a killed leader takes its user along", |node| {
            is_gone(node, "frida")
        });
        login.finish();
    }

    let mut forwarding = node.forwarding("falko").hold("became").start();
    forwarding.reach("became");
    assert!(!is_gone(&node, "falko"));
    forwarding.finish().ran.must();
    node.within(SOON, "the user of a forwarding child is gone", |node| {
        is_gone(node, "falko")
    });
}

#[test]
fn without_so_peerpidfd_other_roots_and_callers_that_have_ended_are_refused_as_ever() {
    let node = node_alone();
    let _old = OldKernel::on(&node);
    let orphaned = node.run(&[
        "/usr/local/bin/teleport-child",
        "call",
        "--orphaned",
        "com.goteleport.Sessions.List",
    ]);
    assert_eq!(
        answer(&orphaned)["error"],
        "com.goteleport.Sessions.NotAdmitted",
        "{orphaned}"
    );
    for wrapper in [
        &["unshare", "-U", "-r"][..],
        &["unshare", "-p", "-f", "--mount-proc"],
    ] {
        let (_, answer) = call_inside(&node, wrapper, "List", &serde_json::json!({}));
        assert_eq!(
            answer["error"], "com.goteleport.Sessions.NotAdmitted",
            "{answer}"
        );
    }
}

#[test]
fn without_so_peerpidfd_live_sessions_survive_a_restart_of_the_registry() {
    let node = node_alone();
    let old = OldKernel::on(&node);
    let mut login = node.login("flora").hold("open").start();
    login.reach("open");
    old.restart().must();
    assert_eq!(sessions(&node, "flora").len(), 1);
    login.finish().ran.must();
    assert!(is_gone(&node, "flora"));
}

/// A caller that asks and ends while nobody answers.
const ASKS_AND_ENDS: &str = r#"my $registry = IO::Socket::UNIX->new(Peer => "/run/teleport-userdb/sessions") or die;
    syswrite $registry, qq({"method":"com.goteleport.Sessions.Reserve","parameters":$ARGV[0]}\0); print $$;"#;

#[test]
fn without_so_peerpidfd_who_has_the_pid_of_a_caller_that_has_ended_leads_nothing() {
    let node = node_alone();
    let _old = OldKernel::on(&node);
    let daemon = node.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
    let daemon = daemon.must().to_owned();
    let journal = Journal::now(&node);
    node.run(&["kill", "-STOP", &daemon]).must();
    let asks = ["perl", "-MIO::Socket::UNIX", "-e", ASKS_AND_ENDS];
    let asked = reservation("fabia").to_string();
    let pid = node.run(&[&asks[..], &[&asked]].concat()).must().to_owned();
    takes_pid(&node, &pid);
    node.run(&["kill", "-CONT", &daemon]).must();
    node.within(SOON, "the caller is refused", |_| {
        let lines = journal.lines(&["-u", "teleport-sessiond"]);
        lines.iter().any(|line| line.contains("caller ended"))
    });
    assert!(sessions(&node, "fabia").is_empty() && is_gone(&node, "fabia"));
    let comm = node.sh(&format!("cat /proc/{pid}/comm"));
    assert_eq!(comm.must(), "sleep", "the heir of the PID lives");
    let _ = node.run(&["kill", "-KILL", &pid]);
}

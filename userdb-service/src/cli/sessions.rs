//! `teleport-userdbctl sessions`: what is reserved and open, as the registry says. For root, like the registry.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use session_protocol::client::{Failure as CallFailure, Registry, SOCKET};
use session_protocol::sessions::Session;

use super::output::{Output, moment};
use super::{Failure, GOOD, WRONG, table, units};

/// The registry answers at once or not at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The whole table as text.
pub fn render(sessions: &[Session], legend: bool) -> String {
    let mut table = table::Table::new(&[
        ("SESSION", false),
        ("LOGIN", false),
        ("UID", true),
        ("TELEPORT USER", false),
        ("ROLES", false),
        ("STATE", false),
        ("LEADER", true),
        ("SERVICE", false),
        ("SINCE", false),
    ]);
    for session in sessions {
        table.row([
            session.session.clone(),
            session.userName.clone(),
            session.uid.to_string(),
            session.teleportUser.clone(),
            session.roles.join(" "),
            session.state.clone(),
            session.leaderPid.to_string(),
            session.service.clone(),
            moment(u64::try_from(session.sinceUSec).unwrap_or_default()),
        ]);
    }
    table.render(legend, "sessions")
}

/// Why the registry has no list for us, as a sentence that says what would help.
pub fn sentence(failure: &CallFailure) -> String {
    match failure {
        CallFailure::NotAdmitted { message } => message.clone(),
        // Where it runs, starting it does nothing.
        CallFailure::TimedOut => silent(
            "teleport-sessiond",
            "; sessions go on",
            units::is_activating(units::SESSIOND),
        ),
        failure => {
            let daemon = "teleport-sessiond";
            let is_lost = is_lost(Path::new(SOCKET), daemon);
            not_reached(daemon, &format!(": {failure}"), is_lost)
        }
    }
}

/// What to do about a daemon whom nobody reaches, or whose socket `is_lost`.
pub(super) fn not_reached(daemon: &str, why: &str, is_lost: bool) -> String {
    let mend = match is_lost {
        // Starting what runs, or what systemd listens for, makes no file.
        true => format!(
            "systemd listens and the socket's file is gone: `systemctl restart {daemon}.socket` makes it anew"
        ),
        false => format!("`systemctl start {daemon}` starts it, its journal says why it ended"),
    };
    format!("{daemon} does not answer{why}; {mend}")
}

/// Whether the file of the daemon's socket is gone, and systemd takes it for there.
pub(super) fn is_lost(socket: &Path, daemon: &str) -> bool {
    let seen = std::fs::symlink_metadata(socket);
    let is_gone = seen.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    is_gone && units::is_active(&format!("{daemon}.socket"))
}

/// What to do about a daemon that took the call and gave no answer. Where it is only being started, systemd took it.
pub(super) fn silent(daemon: &str, beside: &str, is_activating: bool) -> String {
    if is_activating {
        return format!(
            "{daemon} does not answer: it is being started; where that takes long, `systemctl status {daemon}` says why"
        );
    }
    format!(
        "{daemon} does not answer: no answer in time; `systemctl restart {daemon}` ends it and starts another{beside}"
    )
}

pub(super) fn run(output: Output) -> Result<(String, u8), Failure> {
    let failed = |message: String| Failure {
        status: WRONG,
        message,
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(failed(
            "the registry of sessions answers root only: run this as root, or `teleport-userdbctl list` as anybody"
                .to_owned(),
        ));
    }
    let sessions = Registry::new(PATIENCE)
        .list()
        .map_err(|failure| failed(sentence(&failure)))?;
    let text = output.show(&Listed(&sessions), || render(&sessions, output.legend));
    Ok((text, GOOD))
}

/// The sessions as the interface spells them.
#[derive(Serialize)]
#[serde(transparent)]
struct Listed<'a>(&'a [Session]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_listed_with_their_leaders() {
        let session = Session {
            session: "0f0e".to_owned(),
            userName: "maria".to_owned(),
            uid: 1_879_048_192,
            teleportUser: "maria@example.com".to_owned(),
            roles: vec!["dev".to_owned(), "o\u{9b}ps".to_owned()],
            state: "open".to_owned(),
            leaderPid: 77,
            service: "teleport".to_owned(),
            sinceUSec: 1_795_233_906_000_000,
        };
        assert_eq!(
            render(&[session], true),
            "SESSION LOGIN        UID TELEPORT USER     ROLES         STATE LEADER SERVICE  SINCE\n\
             0f0e    maria 1879048192 maria@example.com dev o\\u{9b}ps open      77 teleport Sat 2026-11-21 04:05:06 UTC\n\
             \n1 session listed.\n"
        );
        assert_eq!(render(&[], true), "No sessions.\n");
    }

    #[test]
    fn a_daemon_that_hangs_is_to_be_restarted_since_it_runs() {
        let sentence = sentence(&CallFailure::TimedOut);
        assert!(
            sentence.contains("no answer in time")
                && sentence.contains("`systemctl restart teleport-sessiond`"),
            "{sentence}"
        );
        assert!(!sentence.contains("systemctl start"), "{sentence}");
    }

    #[test]
    fn a_daemon_that_does_not_get_as_far_as_to_run_is_not_to_be_restarted() {
        let told = silent("teleport-sessiond", "", true);
        assert!(
            told.contains("`systemctl status teleport-sessiond`"),
            "{told}"
        );
        assert!(!told.contains("restart"), "{told}");
    }

    #[test]
    fn a_daemon_whose_socket_was_removed_gets_it_back_by_its_socket_unit() {
        let told = not_reached("teleport-sessiond", ": no such file", true);
        assert!(
            told.contains("`systemctl restart teleport-sessiond.socket`"),
            "{told}"
        );
        assert!(!told.contains("systemctl start"), "{told}");
        assert!(!is_lost(Path::new("/"), "teleport-sessiond"), "it is there");
    }

    #[test]
    fn an_absent_daemon_is_told_with_what_would_help() {
        let sentence = sentence(&CallFailure::Unreachable("/x: no such file".to_owned()));
        assert!(
            sentence.contains("/x: no such file") && sentence.contains("systemctl start"),
            "{sentence}"
        );
    }
}

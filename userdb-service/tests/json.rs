//! Every key of the JSON that `teleport-userdbctl` prints stands in its manual page.

#![allow(missing_docs, unreachable_pub, reason = "test code")]

#[path = "policy/world.rs"]
#[allow(dead_code, reason = "the table tests use more of it")]
mod world;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, to_value};
use session_protocol::sessions::Session;
use userdb_service::cli::list::{State, User};
use userdb_service::cli::node::TableSeen;
use userdb_service::cli::units::Unit;
use userdb_service::cli::unread::UnreadFile;
use userdb_service::cli::written::{Leaving, WithoutFile};
use userdb_service::control::state::StuckRight;
use userdb_service::control::sudo::files::Amiss;
use userdb_service::policy::Login;
use userdb_service::policy::decide::{Facts, LoginPhase};
use userdb_service::policy::explain::{Explained, explain};

use crate::world::{World, login};

/// The words that the manual page has in bold or between quotation marks.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/man/teleport-userdbctl.1");
    let bold = page.lines().filter(|line| line.starts_with(".B"));
    let quoted = page
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    bold.chain(quoted)
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphabetic() && c != '_'))
        .map(str::to_owned)
        .collect()
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

fn all_documented(what: &str, value: &Value) {
    let mut found = BTreeSet::new();
    keys(value, &mut found);
    assert!(!found.is_empty(), "{what}");
    let missing: Vec<_> = found.difference(&documented()).cloned().collect();
    assert!(missing.is_empty(), "{what}: {missing:?}");
}

/// What the command prints on this machine.
fn printed(command: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_teleport-userdbctl"))
        .args([command, "--json"])
        .output()
        .expect("it runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_manual_page_has_every_key_of_what_is_seen_and_judged() {
    for command in ["status", "check"] {
        all_documented(command, &printed(command));
    }
    // What is not to be seen on every machine.
    let unit = Unit {
        name: String::new(),
        enabled: String::new(),
        active: String::new(),
    };
    all_documented("units", &to_value(unit).expect("JSON"));
    all_documented("table", &to_value(TableSeen::default()).expect("JSON"));
    let leaving = Leaving {
        login: String::new(),
        phase: LoginPhase::Lingering,
    };
    all_documented("leaving", &to_value(leaving).expect("JSON"));
    let without = WithoutFile {
        login: String::new(),
        file: String::new(),
        found: Amiss::Absent,
    };
    all_documented("withoutSudoers", &to_value(without).expect("JSON"));
    let stuck = StuckRight {
        login: Login::try_from("zed").expect("a login"),
        why: String::new(),
    };
    all_documented("stuckRights", &to_value(stuck).expect("JSON"));
    let unread = UnreadFile {
        path: String::new(),
        why: String::new(),
        mend: None,
    };
    all_documented("unreadSudoers", &to_value(unread).expect("JSON"));
}

#[test]
fn the_manual_page_has_every_key_of_users_and_sessions() {
    let user = User {
        login: String::new(),
        aliases: Vec::new(),
        uid: 0,
        gid: 0,
        sessions: 0,
        since_usec: 0,
        home: String::new(),
        shell: String::new(),
        groups: Vec::new(),
        gecos: String::new(),
        locked: false,
        state: State::Open,
    };
    all_documented("list", &to_value(user).expect("JSON"));
    let session = Session {
        session: String::new(),
        userName: String::new(),
        uid: 0,
        teleportUser: String::new(),
        roles: Vec::new(),
        state: String::new(),
        leaderPid: 0,
        service: String::new(),
        sinceUSec: 0,
    };
    all_documented("sessions", &to_value(session).expect("JSON"));
}

#[test]
fn the_manual_page_has_every_key_of_an_explanation() {
    let mut world = World::new(
        "[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"ops\"]\n[[role]]\nmatch = \"kept\"\nhome = \"persistent\"\n",
    )
    .with_user("root", 0);
    world.host.sudoers_names = ["carol".to_owned()].into();
    for (name, role) in [
        ("alice", "dev"),
        ("bob", "kept"),
        ("carol", "dev"),
        ("root", "dev"),
    ] {
        let mut facts = Facts {
            host: world.host.clone(),
            ..Facts::default()
        };
        let explanation = loop {
            match explain(&world.config, &login(name, role), &facts, &world.occupancy) {
                Explained::Done(explanation) => break explanation,
                Explained::Ask(questions) => {
                    for question in questions {
                        let answer = world.answer(&question);
                        facts.answers.insert(question, answer);
                    }
                }
            }
        };
        all_documented(name, &to_value(explanation).expect("JSON"));
    }
}

//! What is told of a state that is made up: sessions opened in a registry, or files written for a restart.

use super::*;
use crate::control::leader::LeaderId;
use crate::control::registry::{Arrival, SessionId};
use crate::policy::Plan;

pub(in crate::cli) fn plan(login: &str, user: &str, sudo: bool) -> Plan {
    let sudoers = match sudo {
        true => &["ALL=(ALL) NOPASSWD: ALL"][..],
        false => &[],
    };
    let plan = serde_json::json!({
        "login": login, "given": login, "aliases": [], "uid": 0x7000_0001, "gid": 0x7000_0001,
        "teleport_user": user, "roles": ["dev"], "gecos": "", "home": "none", "shell": "/bin/sh",
        "groups": [], "sudoers": sudoers, "sudo_mode": "file", "doas": false, "linger": false,
        "max_sessions": null, "disposition": "dynamic", "notes": [],
        "resources": {"tasks_max": null, "memory_max": null, "cpu_weight": null, "umask": null, "environment": []},
    });
    serde_json::from_value(plan).expect("a plan")
}

/// A registry with an open session for each of the plans.
pub(in crate::cli) fn on(terms: Terms, plans: &[Plan]) -> Registry {
    let mut registry = Registry::new(terms);
    for plan in plans {
        open(&mut registry, plan);
    }
    registry
}

fn open(registry: &mut Registry, plan: &Plan) -> SessionId {
    let id = SessionId::random();
    let leader = LeaderId {
        pid: 7,
        start_time: 7,
        pidfd_inode: None,
        boot_id: "test".to_owned(),
    };
    let arrival = Arrival {
        id,
        plan: plan.clone(),
        leader,
        service: "teleport".to_owned(),
        since_usec: 1,
    };
    registry.reserve(Boottime::from_usec(1_000_000), arrival);
    registry.open(id).expect("reserved");
    id
}

fn folder(what: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("{what}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    folder
}

/// Writes down what the registry holds, as the daemon does.
fn write_down(registry: &Registry, state: &StateDir) {
    for session in registry.list() {
        state.save_session(session).expect("written");
    }
    for standing in registry.standings() {
        state.save_login(standing).expect("written");
    }
}

#[test]
fn who_was_granted_sudo_and_has_no_file_is_found_with_the_name_of_the_file() {
    let (root, sudoers) = (folder("without-file"), folder("without-file-sudoers"));
    let state = StateDir::open(&root).expect("made");
    let files = SudoersFiles::new(&sudoers);
    let plans = [
        plan("a.b", "alice", true),
        plan("has-it", "bob", true),
        plan("needs-none", "carol", false),
    ];
    let mut registry = on(Terms::default(), &plans);
    // Only reserved: it grants nothing yet.
    let early = Arrival {
        id: SessionId::random(),
        plan: plan("early", "dan", true),
        leader: registry.list()[0].leader.clone(),
        service: "teleport".to_owned(),
        since_usec: 1,
    };
    registry.reserve(Boottime::now(), early);
    write_down(&registry, &state);
    let has_it = Login::try_from("has-it").expect("a login");
    let written = files.write(&has_it, &[crate::policy::SudoersSpec::full()]);
    written.expect("this test needs root");
    let found = without_file(&Config::default(), &files, &root);
    let missing = WithoutFile {
        login: "a.b".to_owned(),
        file: "teleport-a=2eb".to_owned(),
        found: Amiss::Absent,
    };
    assert_eq!(found, Seen::Known(vec![missing]));
    // Who is beyond the bound has none, rightly.
    let mut full = Config::default();
    full.sudo.max_files = 0;
    assert_eq!(without_file(&full, &files, &root), Seen::Known(Vec::new()));
    // One that is there and grants nothing is no file, whatever its name, and whatever the bound.
    let file = sudoers.join("teleport-has-it");
    std::fs::remove_file(&file).expect("removed");
    std::fs::write(file, "# somebody else's, perhaps\n").expect("written");
    let foreign = WithoutFile {
        login: "has-it".to_owned(),
        file: "teleport-has-it".to_owned(),
        found: Amiss::Headless,
    };
    let found = without_file(&full, &files, &root);
    assert_eq!(found, Seen::Known(vec![foreign]));
    for folder in [root, sudoers] {
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

#[test]
fn a_file_that_comes_while_it_is_looked_for_is_not_missing() {
    let (root, sudoers) = (folder("late-file"), folder("late-file-sudoers"));
    let state = StateDir::open(&root).expect("made");
    write_down(
        &on(Terms::default(), &[plan("late", "alice", true)]),
        &state,
    );
    let files = SudoersFiles::new(&sudoers);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(MOMENT / 4);
        let late = Login::try_from("late").expect("a login");
        let written = files.write(&late, &[crate::policy::SudoersSpec::full()]);
        written.expect("this test needs root");
    });
    let found = without_file(&Config::default(), &SudoersFiles::new(&sudoers), &root);
    assert_eq!(found, Seen::Known(Vec::new()));
    writer.join().expect("ended");
    for folder in [root, sudoers] {
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

#[test]
fn who_is_being_ended_or_lingers_is_found_with_the_phase_and_nobody_else() {
    let root = folder("leaving");
    let state = StateDir::open(&root).expect("made");
    write_down(
        &on(Terms::default(), &[plan("live", "alice", false)]),
        &state,
    );
    for (number, login, phase) in [
        (2, "ended", serde_json::json!("terminating")),
        (3, "stays", serde_json::json!("lingering")),
        (
            4,
            "back-soon",
            serde_json::json!({"retiring": {"since": 1}}),
        ),
    ] {
        let standing = serde_json::json!({
            "login": login, "given": login, "uid": 0x7000_0000 + number, "gid": 0x7000_0000 + number, "phase": phase,
            "owners": ["alice"], "may_have_remains": true,
        });
        let standing = serde_json::from_value(standing).expect("a standing");
        state.save_login(&standing).expect("written");
    }
    let Seen::Known(found) = leaving(true, &root) else {
        panic!("it can be read");
    };
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (one.login.as_str(), one.word()))
        .collect();
    let expected = [
        ("back-soon", "retiring"),
        ("ended", "terminating"),
        ("stays", "lingering"),
    ];
    assert_eq!(found, expected);
    assert_eq!(leaving(false, &root), Seen::RootOnly);
    std::fs::write(root.join("logins/torn"), "x").expect("written");
    assert!(matches!(leaving(true, &root), Seen::Failed(why) if why.contains("logins/torn")));
    std::fs::remove_dir_all(root).expect("removed");
}

#[test]
fn a_phase_is_the_same_word_in_text_and_in_json() {
    for phase in [
        LoginPhase::Reserved,
        LoginPhase::Active,
        LoginPhase::Retiring,
        LoginPhase::Terminating,
        LoginPhase::Lingering,
    ] {
        let one = Leaving {
            login: "pelle".to_owned(),
            phase,
        };
        assert_eq!(serde_json::json!(phase), one.word());
    }
}

#[test]
fn a_damaged_file_is_named_with_what_sets_it_aside() {
    let folder = std::env::temp_dir().join(format!("damaged-{}", std::process::id()));
    StateDir::open(&folder).expect("made");
    let file = folder.join("uids/1879048193");
    std::fs::write(&file, "odd").expect("written");
    match leaving(true, &folder) {
        Seen::Failed(why) => assert!(
            why.contains("uids/1879048193: ")
                && why.contains("`systemctl restart teleport-sessiond` sets it aside"),
            "{why}"
        ),
        seen => panic!("{seen:?}"),
    }
    std::fs::remove_dir_all(folder).expect("removed");
}

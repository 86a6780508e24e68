//! Every refusal and every note says what was wrong and what would be right.

use userdb_service::policy::decide::{Decision, Question};
use userdb_service::policy::{LoginRequest, same_request, undecided};

use crate::world::{PLAIN, World, login, with};

/// What is said in each case, one line each: the reason and the sentence, or `note` and the sentence.
const SAID: &str = include_str!("sentences.txt");

fn undecodable(name: &str) -> LoginRequest {
    let mut request = login("alice", "dev");
    request.environment.remove(name);
    request.undecodable.push(name.to_owned());
    request
}

/// A node on which somebody else is on `deploy`.
fn occupied(toml: &str, given: &str) -> World {
    let mut world = World::new(&format!(
        "{toml}\n{PLAIN}[[role]]\nmatch = \"ops\"\nsudo = true\n"
    ));
    let plan = world.plan(&with(login(given, "dev"), "TELEPORT_USERNAME", "other"));
    world.open(&plan);
    world
}

fn cases() -> Vec<(World, LoginRequest)> {
    let plain = || World::new(PLAIN);
    let alice = || login("alice", "dev");
    let with_role = |lines: &str| World::new(&format!("{PLAIN}{lines}\n"));
    let mut sudoers = plain();
    sudoers.host.sudoers_names = ["carol".to_owned()].into();
    let mut netgroup = plain();
    netgroup.host.in_netgroups = ["netta".to_owned()].into();
    let mut home_of_another = plain();
    home_of_another.host.homes = [("bob".to_owned(), 0x7000_0001)].into();
    let mut home_taken = plain().with_user("carol", 0x7000_0002);
    home_taken.host.homes = [("alice".to_owned(), 0x7000_0002)].into();
    let mut our_group = World::new(
        "templated-groups = [\"team-*\"]\n[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"{{env.T}}\"]\n",
    );
    let plan = our_group.plan(&with(alice(), "T", "team-a"));
    our_group.open(&plan);
    let teams = || {
        World::new(
            "templated-groups = [\"team-*\", \"git\", \"dave\"]\n[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"{{env.T}}\"]\n",
        )
    };
    let mut full = World::new(&format!("uids.range = \"70000-70000\"\n{PLAIN}"));
    full.host.busy_ids = [70000].into();
    let mut foreign_home = World::new(&format!("home.mode = \"persistent\"\n{PLAIN}"));
    foreign_home.host.homes = [("alice".to_owned(), 1000)].into();
    let requested = || World::new(&format!("uids.requested = \"20000-59999\"\n{PLAIN}"));
    let mut live = requested();
    let plan = live.plan(&alice());
    live.open(&plan);
    let mut colleague = with_role("groups = [\"bob\"]");
    let plan = plain().plan(&login("bob", "dev"));
    colleague.open(&plan);
    let mut in_sudoers = with_role("groups = [\"ops\"]");
    in_sudoers.host.sudoers_names = ["ops".to_owned()].into();
    let many: Vec<String> = (0..100).map(|count| format!("\"g{count}\"")).collect();
    let tiny = World::new(&format!("uids.range = \"70000-70000\"\n{PLAIN}"));
    let mut twin = plain();
    twin.host.case_twins = [("alice".to_owned(), "Alice".to_owned())].into();
    let mut live_in_sudoers = plain();
    let plan = live_in_sudoers.plan(&alice());
    live_in_sudoers.open(&plan);
    live_in_sudoers.host.sudoers_ids = [plan.uid.get()].into();
    vec![
        // The request.
        (plain(), undecodable("TELEPORT_LOGIN")),
        (plain(), undecodable("TELEPORT_ROLES")),
        (plain(), undecodable("TELEPORT_USERNAME")),
        (plain(), with(alice(), "TELEPORT_LOGIN", "bob")),
        (plain(), with(alice(), "TELEPORT_USERNAME", "")),
        (
            plain(),
            with(alice(), "TELEPORT_USERNAME", &"u".repeat(2000)),
        ),
        (plain(), with(alice(), "TELEPORT_USERNAME", "ann\u{fe0f}")),
        (plain(), login("alice", &"r".repeat(70_000))),
        (plain(), login("alice", "a\u{1b}[2J")),
        (
            plain().with_failing(Question::User("alice".to_owned())),
            alice(),
        ),
        // Roles.
        (
            World::new(&format!("auto-create-users = false\n{PLAIN}")),
            alice(),
        ),
        (
            with_role("[[role]]\nmatch = \"dev*\"\ncreate-user = false"),
            alice(),
        ),
        (World::default(), alice()),
        (World::default(), login("alice", "")),
        (World::default(), login("alice", "a b c d e f g h i j")),
        // Names.
        (plain(), login("", "dev")),
        (plain(), login("a\nb", "dev")),
        (plain(), login("a b", "dev")),
        (plain(), login("a:b", "dev")),
        (plain(), login(&"x".repeat(300), "dev")),
        (
            World::new(&format!("names.invalid = \"refuse\"\n{PLAIN}")),
            login("Bob", "dev"),
        ),
        (plain(), login("1001", "dev")),
        (plain(), login(&"x".repeat(40), "dev")),
        (plain().with_user("bob", 1000), login("Bob", "dev")),
        (plain().with_group("bob", 1000), login("bob", "dev")),
        (plain().with_group("bob", 1000), login("Bob", "dev")),
        (
            plain().with_member("docker", 990, "ghost"),
            login("ghost", "dev"),
        ),
        (twin, alice()),
        (our_group, login("team-a", "dev")),
        (with_role("groups = [\"ops\"]"), login("ops", "dev")),
        (
            World::new(&format!("names.protected = [\"svc-*\"]\n{PLAIN}")),
            login("svc-a", "dev"),
        ),
        (plain(), login("sudo", "dev")),
        (plain(), login("sudoedit", "dev")),
        (plain(), login("teleport-x", "dev")),
        (sudoers, login("carol", "dev")),
        (netgroup, login("netta", "dev")),
        (plain().with_user("john", 1000), login("john.doe", "dev")),
        (occupied("", "Deploy"), login("deploy", "dev")),
        // Numbers.
        (full, alice()),
        (
            requested().with_user("carol", 20001),
            with(alice(), "TELEPORT_UID", "20001"),
        ),
        (
            requested().with_group("carols", 20001),
            with(alice(), "TELEPORT_GID", "20001"),
        ),
        (live, with(alice(), "TELEPORT_UID", "20001")),
        (live_in_sudoers, alice()),
        (home_of_another, login("Bob", "dev")),
        (home_taken, alice()),
        // Other sessions of the login.
        (
            occupied("logins.shared = \"never\"", "deploy"),
            login("deploy", "dev"),
        ),
        (occupied("", "deploy"), login("deploy", "ops")),
        (World::new(&format!("{PLAIN}max-sessions = 1")), alice()),
        // What is not granted.
        (requested(), with(alice(), "TELEPORT_UID", "7\u{1b}")),
        (plain(), with(alice(), "TELEPORT_UID", "20001")),
        (with_role("sudo = true"), login("Bob", "dev")),
        (in_sudoers, login("Bob", "dev")),
        (
            with_role("doas = true\ndeny-groups = [\"teleport-doas\"]"),
            alice(),
        ),
        (
            with_role(&format!("groups = [{}]", many[..96].join(","))),
            alice(),
        ),
        (teams(), with(alice(), "T", &"wheel ".repeat(129))),
        (teams(), undecodable("T")),
        (teams(), with(alice(), "T", "Team\u{1b}")),
        (teams(), with(alice(), "T", "git")),
        (teams(), with(alice(), "T", "teleport-sudo")),
        (
            World::new(&format!(
                "templated-groups = [\"*\"]\n{PLAIN}groups = [\"{{{{env.T}}}}\"]\n"
            ))
            .with_group("teleport-web", 500),
            with(alice(), "T", "teleport-web"),
        ),
        (teams().with_user("dave", 1000), with(alice(), "T", "dave")),
        (colleague, alice()),
        (
            with_role("groups = [\"toor\"]").with_group("toor", 0),
            alice(),
        ),
        (
            with_role("groups = [\"x\"]").with_failing(Question::Group("x".to_owned())),
            alice(),
        ),
        (tiny, alice()),
        (foreign_home, alice()),
        (
            with_role(&format!(
                "environment = [\"A={0}\", \"B={0}\", \"C={0}\"]",
                "v".repeat(500)
            )),
            alice(),
        ),
    ]
}

#[test]
fn every_sentence_says_what_was_wrong_and_what_would_be_right() {
    let mut said = String::new();
    for (mut world, request) in cases() {
        // The session limit needs a session.
        if world
            .config
            .roles
            .iter()
            .any(|role| role.max_sessions.is_some())
        {
            let plan = world.plan(&request);
            world.open(&plan);
        }
        match world.decide(&request) {
            Decision::Refuse(refusal) => said.push_str(&format!(
                "{}: {}\n",
                refusal.reason.as_str(),
                refusal.message
            )),
            Decision::Grant(plan) => {
                let mut notes = plan.notes;
                assert!(!notes.is_empty(), "nothing to say about {request:?}");
                notes.dedup();
                for note in notes {
                    said.push_str(&format!("note: {note}\n"));
                }
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert!(said == SAID, "said now:\n{said}");
}

/// Sentences that a decision cannot end in by itself: the daemon says them around it.
#[test]
fn what_is_said_beside_a_decision_says_what_would_be_right_too() {
    let exhausted = undecided(&World::new("uids.range = \"70000-79999\"\n").config);
    assert_eq!(
        exhausted.message,
        "No free UID was found in uids.range (70000-79999) in 64 rounds of questions, because so much of it is taken; the administrator has to widen it."
    );
    let plan = World::new(PLAIN).plan(&login("alice", "dev"));
    let other = with(login("alice", "dev"), "TELEPORT_USERNAME", "eve");
    let refusal = same_request(&other, &plan).expect_err("another user");
    assert_eq!(
        refusal.message,
        "The login \"alice\" was admitted for the Teleport user \"someone@example.com\", but the session is about to open as \"alice\" for \"eve\"; no PAM module may change either in between."
    );
}

#[test]
fn no_sentence_carries_control_bytes_of_anybody() {
    assert!(!SAID.contains(|c: char| c.is_control() && c != '\n'));
    for (world, mut request) in cases() {
        let hostile = "\u{1b}[2J\r\n\u{202e}\u{0}";
        for name in ["TELEPORT_USERNAME", "TELEPORT_UID", "T"] {
            request = with(request, name, hostile);
        }
        let variants = [
            request.clone(),
            with(request.clone(), "TELEPORT_ROLES", hostile),
            with(request.clone(), "TELEPORT_LOGIN", hostile),
            {
                let mut request = with(request.clone(), "TELEPORT_LOGIN", hostile);
                request.login = hostile.to_owned();
                request
            },
        ];
        for request in variants {
            let said = match world.decide(&request) {
                Decision::Refuse(refusal) => refusal.message,
                Decision::Grant(plan) => plan.notes.concat() + &plan.gecos,
                _ => continue,
            };
            assert!(
                !said.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{said:?}"
            );
        }
    }
}

//! What roles grant: groups, sudo, doas, shell, home, limits.

use userdb_service::policy::decide::{Decision, Question, Reason};
use userdb_service::policy::plan::{GroupOrigin, Home, Plan};
use userdb_service::policy::sudoers::FULL;

use crate::world::{PLAIN, World, login, with};

fn groups(plan: &Plan) -> Vec<&str> {
    plan.groups
        .iter()
        .map(|group| group.name.as_ref())
        .collect()
}

fn specs(plan: &Plan) -> Vec<&str> {
    plan.sudoers.iter().map(AsRef::as_ref).collect()
}

/// A role that makes users, with more lines.
fn role(pattern: &str, lines: &str) -> String {
    format!("[[role]]\nmatch = \"{pattern}\"\ncreate-user = true\n{lines}\n")
}

#[test]
fn a_user_is_made_if_some_matching_role_says_so_and_none_forbids_it() {
    let toml = "[[role]]\nmatch = \"yes-*\"\ncreate-user = true\n[[role]]\nmatch = \"no\"\ncreate-user = false\n[[role]]\nmatch = \"shrug\"\ngroups = [\"x\"]\n";
    for (roles, made) in [
        ("yes-a", true),
        ("shrug yes-a", true),
        ("other yes-a yes-b", true),
        ("yes-a no", false),
        ("no", false),
        ("shrug", false),
        ("yes", false),
        ("Yes-a", false),
        ("", false),
        ("  ", false),
    ] {
        let decision = World::new(toml).decide(&login("alice", roles));
        assert_eq!(
            matches!(decision, Decision::Grant(_)),
            made,
            "{roles:?}: {decision:?}"
        );
    }
    let mut request = login("alice", "");
    request.environment.remove("TELEPORT_ROLES");
    assert_eq!(World::new(toml).refusal(&request).reason, Reason::Policy);
}

#[test]
fn without_any_configuration_nobody_is_made() {
    assert_eq!(
        World::default().refusal(&login("alice", "dev")).reason,
        Reason::Policy
    );
}

#[test]
fn the_switch_of_the_node_wins_over_every_role() {
    let world = World::new(&format!("auto-create-users = false\n{PLAIN}"));
    assert_eq!(world.refusal(&login("alice", "dev")).reason, Reason::Policy);
}

#[test]
fn roles_are_split_at_ascii_spaces_and_nothing_else() {
    let world = World::new(&role("admin", ""));
    for roles in ["admin", " admin", "x  admin ", "admin admin"] {
        assert_eq!(
            world
                .plan(&login("alice", roles))
                .roles
                .iter()
                .filter(|role| *role == "admin")
                .count(),
            1
        );
    }
    for roles in ["admin\u{a0}x", "аdmin", "admin,x", "\u{2003}admin"] {
        assert_eq!(
            world.refusal(&login("alice", roles)).reason,
            Reason::Policy,
            "{roles:?}"
        );
    }
}

#[test]
fn roles_that_are_too_long_or_not_text_are_refused() {
    let world = World::new(PLAIN);
    world.plan(&login("alice", &"r".repeat(64 * 1024)));
    world.plan(&login("alice", &"r ".repeat(32 * 1024)));
    assert_eq!(
        world
            .refusal(&login("alice", &"r".repeat(64 * 1024 + 1)))
            .reason,
        Reason::Policy
    );
    for roles in ["a\nb", "a\tb", "a\u{1b}[31m", "a\u{202e}b"] {
        assert_eq!(
            world.refusal(&login("alice", roles)).reason,
            Reason::Policy,
            "{roles:?}"
        );
    }
    let mut request = login("alice", "dev");
    request.environment.remove("TELEPORT_ROLES");
    request.undecodable.push("TELEPORT_ROLES".to_owned());
    assert_eq!(world.refusal(&request).reason, Reason::Policy);
}

#[test]
fn only_logins_by_teleport_in_services_of_ours_are_ours() {
    let world = World::new(PLAIN).with_user("root", 0);
    for name in ["alice", "root"] {
        let mut request = login(name, "dev");
        request.service = "su".to_owned();
        assert_eq!(world.decide(&request), Decision::NotOurs);
        let mut request = login(name, "dev");
        request.environment.remove("TELEPORT_LOGIN");
        assert_eq!(world.decide(&request), Decision::NotOurs);
    }
    let world = World::new(&format!("pam-services = [\"mine\"]\n{PLAIN}"));
    assert_eq!(world.decide(&login("alice", "dev")), Decision::NotOurs);
}

#[test]
fn pam_and_teleport_must_mean_the_same_login() {
    let world = World::new(PLAIN).with_user("root", 0);
    let refusal = world.refusal(&with(login("root", "dev"), "TELEPORT_LOGIN", "alice"));
    assert_eq!(refusal.reason, Reason::Policy);
    let mut request = login("alice", "dev");
    request.environment.remove("TELEPORT_LOGIN");
    request.undecodable.push("TELEPORT_LOGIN".to_owned());
    assert_eq!(world.refusal(&request).reason, Reason::InvalidName);
}

#[test]
fn every_user_carries_the_marker_and_nothing_else_by_default() {
    let plan = World::new(PLAIN).plan(&login("alice", "dev"));
    assert_eq!(groups(&plan), ["teleport-tmp"]);
    assert!(plan.sudoers.is_empty() && !plan.doas && plan.notes.is_empty());
}

#[test]
fn existing_groups_are_joined_and_missing_ones_made() {
    let mut world = World::new(&role("*", "groups = [\"docker\", \"new\", \"ldap-team\"]"))
        .with_group("docker", 990)
        .with_group("ldap-team", 5000);
    world.groups[1].source = "sss".to_owned();
    let plan = world.plan(&login("alice", "dev"));
    assert_eq!(
        groups(&plan),
        ["teleport-tmp", "docker", "new", "ldap-team"]
    );
    let kinds: Vec<_> = plan.groups.iter().map(|group| group.origin).collect();
    assert_eq!(
        kinds,
        [
            GroupOrigin::Synthesized,
            GroupOrigin::ForeignFiles,
            GroupOrigin::Synthesized,
            GroupOrigin::Foreign
        ]
    );
    assert_eq!((plan.groups[1].gid, plan.groups[3].gid), (990, 5000));
    // The next member finds the same group.
    world.open(&plan);
    let other = world.plan(&login("bob", "dev"));
    assert_eq!(plan.groups, other.groups);
}

#[test]
fn grants_add_up_and_denials_win() {
    let toml = role("a", "groups = [\"x\", \"y\"]\nsudo = true")
        + &role(
            "b",
            "groups = [\"y\", \"z\"]\nsudoers = [\"ALL=(root) /bin/id\"]\ndoas = true",
        )
        + &role("c", "deny-groups = [\"x\", \"z*\"]");
    let world = World::new(&toml);
    assert_eq!(
        groups(&world.plan(&login("alice", "a b"))),
        ["teleport-tmp", "teleport-doas", "x", "y", "z"]
    );
    assert_eq!(
        specs(&world.plan(&login("alice", "b a"))),
        [FULL, "ALL=(root) /bin/id"]
    );
    let plan = world.plan(&login("alice", "a b c"));
    assert_eq!(groups(&plan), ["teleport-tmp", "teleport-doas", "y"]);
    assert!(plan.doas && plan.notes.is_empty());
}

#[test]
fn nothing_denies_the_marker_and_a_denied_own_group_takes_its_right_along() {
    let world = World::new(&role("*", "doas = true\ndeny-groups = [\"teleport-*\"]"));
    let plan = world.plan(&login("alice", "dev"));
    assert_eq!(groups(&plan), ["teleport-tmp"]);
    assert!(!plan.doas);
    assert_eq!(
        plan.notes,
        ["No membership in teleport-doas: deny-groups has \"teleport-*\"."]
    );
}

#[test]
fn single_values_come_from_the_first_matching_role_in_file_order() {
    let toml = role(
        "a",
        "shell = \"/bin/sh\"\nmax-sessions = 3\numask = \"0027\"\nenvironment = [\"A=1\", \"B=1\"]",
    ) + &role(
        "b",
        "shell = \"/bin/zsh\"\nhome = \"none\"\nlinger = true\nmax-sessions = 7\ntasks-max = 5\nenvironment = { B = \"2\", C = \"2\" }",
    );
    let plan = World::new(&toml).plan(&login("alice", "b a"));
    assert_eq!(
        (
            plan.shell.as_str(),
            &plan.home,
            plan.linger,
            plan.max_sessions
        ),
        ("/bin/sh", &Home::None, true, Some(7))
    );
    assert_eq!(
        (plan.resources.umask, plan.resources.tasks_max),
        (Some(0o027), Some(5))
    );
    assert_eq!(plan.resources.environment, ["A=1", "B=1", "C=2"]);
    let plain = World::new(PLAIN).plan(&login("alice", "dev"));
    assert_eq!(
        plain.home,
        Home::Ephemeral {
            path: "/run/teleport-userdb/home/alice".to_owned()
        }
    );
    assert_eq!(
        (plain.shell.as_str(), plain.linger, plain.max_sessions),
        ("/bin/bash", false, None)
    );
}

#[test]
fn a_persistent_home_of_somebody_else_is_left_alone() {
    let mut world = World::new(&format!(
        "home.mode = \"persistent\"\nhome.base = \"/srv/home\"\n{PLAIN}"
    ));
    assert_eq!(
        world.plan(&login("alice", "dev")).home,
        Home::Persistent {
            path: "/srv/home/alice".to_owned()
        }
    );
    world.host.homes = [("alice".to_owned(), 1000)].into();
    let plan = world.plan(&login("alice", "dev"));
    assert_eq!(plan.home.path(), "/");
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn templates_name_groups_inside_their_bounds() {
    let toml = format!(
        "templated-groups = [\"team-*\", \"docker\", \"www-data\", \"carol\", \"adm\"]\n{}",
        role(
            "*",
            "groups = [\"{{env.TEAMS}}\", \"team-{{ env.UNIT }}\"]\ndeny-groups = [\"team-secret\"]"
        )
    );
    let mut world = World::new(&toml)
        .with_group("docker", 990)
        .with_user("carol", 1000);
    world.host.sudoers_names = ["team-root".to_owned()].into();
    let request = |teams: &str| with(login("alice", "dev"), "TEAMS", teams);
    let plan = world.plan(&with(
        request("team-a  docker team-a team-secret"),
        "UNIT",
        "x y",
    ));
    assert_eq!(
        groups(&plan),
        ["teleport-tmp", "team-a", "docker", "team-x", "team-y"]
    );
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    // Absent and empty: no groups, nothing to say.
    assert_eq!(
        groups(&world.plan(&login("alice", "dev"))),
        ["teleport-tmp"]
    );
    assert!(world.plan(&request("")).notes.is_empty());
    // Outside the bounds, invalid, protected, a user of somebody else, named in sudoers: left out, with a note.
    for left_out in [
        "wheel",
        "Team-a",
        "team-ä",
        "team-\u{1b}[2J",
        "www-data",
        "adm",
        "carol",
        "team-root",
    ] {
        let plan = world.plan(&request(left_out));
        assert_eq!(groups(&plan), ["teleport-tmp"], "{left_out}");
        assert_eq!(plan.notes.len(), 1, "{left_out}");
        assert!(!plan.notes[0].contains(char::is_control), "{left_out}");
    }
    let mut request = login("alice", "dev");
    request.undecodable.push("TEAMS".to_owned());
    assert_eq!(world.plan(&request).notes.len(), 1);
}

#[test]
fn where_a_template_may_name_any_group_ones_own_private_group_is_no_membership() {
    let toml = format!(
        "templated-groups = [\"*\"]\n{}",
        role("*", "groups = [\"{{env.T}}\"]")
    );
    let plan = World::new(&toml).plan(&with(login("alice", "dev"), "T", "alice bea"));
    assert_eq!(groups(&plan), ["teleport-tmp", "bea"]);
}

#[test]
fn without_bounds_a_template_names_nothing() {
    let world = World::new(&role("*", "groups = [\"{{env.TEAMS}}\"]")).with_group("docker", 990);
    let plan = world.plan(&with(login("alice", "dev"), "TEAMS", "docker"));
    assert_eq!(groups(&plan), ["teleport-tmp"]);
    assert_eq!(
        plan.notes,
        ["No membership in docker (from TEAMS): templated-groups does not list it."]
    );
}

#[test]
fn a_group_that_cannot_be_had_is_a_note_and_not_a_refusal() {
    let toml = role("*", "groups = [\"docker\", \"bob\", \"toor\"]");
    let mut world = World::new(&toml)
        .with_failing(Question::Group("docker".to_owned()))
        .with_group("toor", 0);
    let plan = World::new(PLAIN).plan(&login("bob", "dev"));
    world.open(&plan);
    let plan = world.plan(&login("alice", "dev"));
    assert_eq!(groups(&plan), ["teleport-tmp"]);
    assert_eq!(plan.notes.len(), 3);
}

#[test]
fn a_flood_of_groups_stays_bounded() {
    let world = World::new(&format!(
        "templated-groups = [\"*\"]\n{}",
        role("*", "groups = [\"{{env.TEAMS}}\"]")
    ));
    let teams: Vec<String> = (0..20_000).map(|count| format!("g{count}")).collect();
    let plan = world.plan(&with(login("alice", "dev"), "TEAMS", &teams.join(" ")));
    assert_eq!(plan.groups.len(), 96);
    assert!(plan.notes.len() < 100);
    let invalid: String = "Ä ".repeat(20_000);
    assert!(
        world
            .plan(&with(login("alice", "dev"), "TEAMS", &invalid))
            .notes
            .len()
            < 200
    );
}

#[test]
fn a_repaired_login_has_no_sudo_unless_the_configuration_says_so() {
    let toml = role("*", "sudo = true\ndoas = true\ngroups = [\"x\"]");
    let plan = World::new(&toml).plan(&login("Bob", "dev"));
    assert!(plan.sudoers.is_empty() && !plan.doas);
    assert_eq!(groups(&plan), ["teleport-tmp", "x"]);
    assert_eq!(plan.notes.len(), 1);
    let plan =
        World::new(&format!("names.repaired-may-sudo = true\n{toml}")).plan(&login("Bob", "dev"));
    assert!(plan.sudoers.len() == 1 && plan.doas && plan.notes.is_empty());
}

#[test]
fn a_repaired_login_does_not_get_sudo_through_a_group_either() {
    let toml = role("*", "groups = [\"sudo\", \"audit\"]");
    let mut world = World::new(&toml).with_group("sudo", 27);
    world.host.sudoers_names = ["%sudo".to_owned()].into();
    assert_eq!(
        groups(&world.plan(&login("Bob", "dev"))),
        ["teleport-tmp", "audit"]
    );
    assert_eq!(
        groups(&world.plan(&login("bob", "dev"))),
        ["teleport-tmp", "sudo", "audit"]
    );
    world.config.names.repaired_may_sudo = true;
    assert_eq!(
        groups(&world.plan(&login("Bob", "dev"))),
        ["teleport-tmp", "sudo", "audit"]
    );
}

#[test]
fn group_mode_gives_teleport_sudo_for_exactly_the_full_right() {
    let toml = format!(
        "sudo.mode = \"group\"\n{}{}",
        role("full", "sudo = true"),
        role("some", "sudoers = [\"ALL=(ALL) NOPASSWD: /bin/id\"]")
    );
    let world = World::new(&toml);
    let full = world.plan(&login("alice", "full"));
    assert_eq!(
        (groups(&full), specs(&full)),
        (vec!["teleport-tmp", "teleport-sudo"], vec![])
    );
    let some = world.plan(&login("alice", "some"));
    assert_eq!(
        (groups(&some), specs(&some)),
        (vec!["teleport-tmp"], vec!["ALL=(ALL) NOPASSWD: /bin/id"])
    );
    let both = world.plan(&login("alice", "some full"));
    assert_eq!((groups(&both).len(), specs(&both).len()), (2, 1));
}

#[test]
fn the_comment_field_is_bounded_and_holds_nothing_that_ends_it() {
    let gecos = |toml: &str, user: &str, roles: &str| {
        World::new(&format!("{toml}\n{PLAIN}"))
            .plan(&with(login("alice", roles), "TELEPORT_USERNAME", user))
            .gecos
    };
    assert_eq!(
        gecos("", "bob@example.com", "dev ops"),
        "User bob@example.com with roles dev ops created by Teleport."
    );
    assert_eq!(
        gecos("gecos = \"Teleport user\"", "bob", "dev"),
        "Teleport user"
    );
    assert_eq!(
        gecos("gecos = \"{login} {user}\"", "{roles}", "dev"),
        "alice {roles}"
    );
    assert_eq!(gecos("gecos = \"{user}\"", "a:b:", "dev"), "a_b_");
    let long = gecos("", "ä".repeat(300).as_str(), "dev");
    assert!(long.len() <= 255 && long.len() > 250);
}

#[test]
fn a_teleport_user_is_needed() {
    let world = World::new(PLAIN);
    let mut request = login("alice", "dev");
    request.environment.remove("TELEPORT_USERNAME");
    assert_eq!(world.refusal(&request).reason, Reason::Policy);
    assert_eq!(
        world
            .refusal(&with(login("alice", "dev"), "TELEPORT_USERNAME", ""))
            .reason,
        Reason::Policy
    );
    assert_eq!(
        world
            .refusal(&with(
                login("alice", "dev"),
                "TELEPORT_USERNAME",
                &"u".repeat(1025)
            ))
            .reason,
        Reason::Policy
    );
}

#[test]
fn the_same_arguments_give_the_same_plan() {
    let world = World::new(&role("*", "groups = [\"a\", \"b\"]\nsudo = true"));
    assert_eq!(
        world.plan(&login("alice", "x y")),
        world.plan(&login("alice", "x y"))
    );
}

#[test]
fn a_plan_survives_the_state_file() {
    let world = World::new(&role(
        "*",
        "groups = [\"a\"]\nsudo = true\nhome = \"persistent\"\nenvironment = [\"A=b\"]\nmemory-max = \"1G\"",
    ));
    let plan = world.plan(&login("Alice", "x y"));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

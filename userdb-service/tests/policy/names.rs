//! Which logins are made, under which name, and which are not.

use userdb_service::policy::decide::{Decision, HostFailure, Question, Reason};
use userdb_service::policy::plan::Plan;

use crate::world::{PLAIN, World, login, with};

fn aliases(plan: &Plan) -> Vec<&str> {
    plan.aliases.iter().map(AsRef::as_ref).collect()
}

#[test]
fn a_valid_login_is_made_as_it_is() {
    for name in [
        "alice",
        "ec2-user",
        "a",
        "_x",
        "a.b",
        "x-1_2.3",
        &"a".repeat(31),
    ] {
        let plan = World::new(PLAIN).plan(&login(name, "dev"));
        assert_eq!((plan.login.as_ref(), plan.given.as_str()), (name, name));
        assert!(plan.aliases.is_empty());
    }
}

#[test]
fn another_login_is_repaired_and_stays_known_under_its_original_spelling() {
    for (given, name) in [
        ("Bob", "bob"),
        ("bob@example.com", "bobexample.com"),
        ("1bob", "bob"),
        ("Jürgen", "jrgen"),
        ("b..", "b"),
    ] {
        let plan = World::new(PLAIN).plan(&login(given, "dev"));
        assert_eq!(plan.login.as_ref(), name);
        assert_eq!(aliases(&plan), [given]);
        assert_eq!(plan.given, given);
    }
}

#[test]
fn a_repaired_login_is_refused_where_the_configuration_wants_that() {
    let world = World::new(&format!("names.invalid = \"refuse\"\n{PLAIN}"));
    assert_eq!(
        world.refusal(&login("Bob", "dev")).reason,
        Reason::InvalidName
    );
    world.plan(&login("bob", "dev"));
}

#[test]
fn what_ends_a_field_a_line_or_a_word_is_never_repaired() {
    let world = World::new(PLAIN);
    for c in [
        '\0', '\n', '\r', '\t', '\u{1b}', ' ', ':', '/', '\\', '"', '\'', '`', '\u{7f}', '\u{85}',
        '\u{a0}', '\u{2028}', '\u{202e}', '\u{200b}',
    ] {
        let refusal = world.refusal(&login(&format!("bo{c}b"), "dev"));
        assert_eq!(refusal.reason, Reason::InvalidName, "{c:?}");
    }
    for beyond in [
        "",
        "1001",
        "...",
        "日本",
        &"a".repeat(32),
        &"A".repeat(32),
        &"%".repeat(256),
    ] {
        assert_eq!(
            world.refusal(&login(beyond, "dev")).reason,
            Reason::InvalidName,
            "{beyond}"
        );
    }
}

#[test]
fn sudoers_syntax_in_a_login_is_refused_or_falls_away() {
    let world = World::new(PLAIN);
    for (given, name) in [
        ("ALL", "all"),
        ("%alice", "alice"),
        ("#1001x", "x"),
        ("+ng", "ng"),
        ("alice,bob", "alicebob"),
        ("!alice", "alice"),
        ("a=b", "ab"),
    ] {
        assert_eq!(world.plan(&login(given, "dev")).login.as_ref(), name);
    }
    for word in [
        "@includedir /tmp",
        "alice ALL=(ALL) ALL",
        "alice\nbob ALL=(ALL) ALL",
        "\"alice\"",
        "a\\",
        "sudoedit",
        "list",
        "SudoEdit",
    ] {
        world.refusal(&login(word, "dev"));
    }
}

#[test]
fn a_user_of_somebody_else_goes_on_untouched_whatever_its_name_and_the_rules() {
    for (toml, name) in [
        (PLAIN, "root"),
        (PLAIN, "alice"),
        (PLAIN, "Alice"),
        (PLAIN, "DOMAIN\\carol"),
        (PLAIN, "john doe"),
        ("auto-create-users = false", "alice"),
        ("", "sudo"),
    ] {
        let world = World::new(toml)
            .with_user(name, 1000)
            .with_group(name, 1000);
        assert_eq!(
            world.decide(&login(name, "dev")),
            Decision::Foreign,
            "{name}"
        );
    }
    // Nor does it matter what else is wrong with the request.
    let world = World::new("").with_user("alice", 1000);
    assert_eq!(
        world.decide(&with(login("alice", "dev"), "TELEPORT_ROLES", "a\nb")),
        Decision::Foreign
    );
}

#[test]
fn a_failing_lookup_is_never_taken_for_absence() {
    for failing in [
        Question::User("a.b".to_owned()),
        Question::Group("a.b".to_owned()),
        Question::User("a".to_owned()),
    ] {
        let world = World::new(PLAIN).with_failing(failing.clone());
        assert_eq!(
            world.refusal(&login("a.b", "dev")).reason,
            Reason::LookupFailed,
            "{failing:?}"
        );
    }
    for failing in [
        Question::User("Bob".to_owned()),
        Question::User("bob".to_owned()),
        Question::Group("bob".to_owned()),
        Question::Group("Bob".to_owned()),
        Question::GroupsOf("bob".to_owned()),
        Question::GroupsOf("Bob".to_owned()),
    ] {
        let world = World::new(PLAIN).with_failing(failing.clone());
        assert_eq!(
            world.refusal(&login("Bob", "dev")).reason,
            Reason::LookupFailed,
            "{failing:?}"
        );
    }
}

#[test]
fn a_repaired_name_that_resolves_is_refused_and_not_passed_through() {
    let world = World::new(PLAIN).with_user("bob", 1000);
    assert_eq!(
        world.refusal(&login("Bob", "dev")).reason,
        Reason::ProtectedName
    );
    assert_eq!(world.decide(&login("bob", "dev")), Decision::Foreign);
    for group in ["bob", "Bob"] {
        let world = World::new(PLAIN).with_group(group, 1000);
        assert_eq!(
            world.refusal(&login("Bob", "dev")).reason,
            Reason::ProtectedName,
            "{group}"
        );
    }
}

#[test]
fn protected_names_are_refused_given_or_repaired() {
    let mut world =
        World::new(&format!("names.protected = [\"svc-*\"]\n{PLAIN}")).with_group("ops", 50);
    world.host.sudoers_names = ["Carol", "dave"].map(String::from).into();
    for name in [
        "sudo",
        "SUDO",
        "%sudo",
        "wheel",
        "teleport-x",
        "Teleport-X",
        "svc-a",
        "1svc-a",
        "ops",
        "OPS",
        "carol",
        "Carol",
        "dave",
        "systemd-x",
        "vu-a-1",
    ] {
        assert_eq!(
            world.refusal(&login(name, "dev")).reason,
            Reason::ProtectedName,
            "{name}"
        );
    }
}

#[test]
fn the_groups_of_any_role_are_nobodys_login() {
    let world = World::new(&format!(
        "{PLAIN}[[role]]\nmatch = \"other\"\ngroups = [\"builders\"]\n[names]\nallow = [\"builders\", \"teleport-tmp\"]\n"
    ));
    for name in ["builders", "teleport-tmp", "teleport-sudo", "teleport-doas"] {
        assert_eq!(
            world.refusal(&login(name, "dev")).reason,
            Reason::ProtectedName,
            "{name}"
        );
    }
}

#[test]
fn the_group_of_a_live_template_is_nobodys_login() {
    let mut world = World::new(
        "templated-groups = [\"team-*\"]\n[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"{{env.TEAMS}}\"]\n",
    );
    let plan = world.plan(&with(login("alice", "dev"), "TEAMS", "team-a"));
    world.open(&plan);
    assert_eq!(
        world.refusal(&login("team-a", "dev")).reason,
        Reason::ProtectedName
    );
    // Nor while it has no member, and not before it ever had one.
    world.close_all();
    assert_eq!(
        world.refusal(&login("team-a", "dev")).reason,
        Reason::ProtectedName
    );
    world.plan(&login("teams", "dev"));
}

#[test]
fn a_group_that_a_role_denies_by_name_is_nobodys_login() {
    let world = World::new(&format!(
        "names.allow = [\"backup-op\"]\n{PLAIN}deny-groups = [\"backup-op\", \"web-*\"]\n"
    ));
    assert_eq!(
        world.refusal(&login("backup-op", "dev")).reason,
        Reason::ProtectedName
    );
    world.plan(&login("web-a", "dev"));
}

#[test]
fn the_groups_by_which_teleport_knows_its_own_users_are_nobodys_login_whatever_is_allowed() {
    let names = ["teleport-system", "teleport-keep", "teleport-static"];
    let world = World::new(&format!("names.allow = {names:?}\n{PLAIN}"));
    for name in names {
        assert_eq!(
            world.refusal(&login(name, "dev")).reason,
            Reason::ProtectedName,
            "{name}"
        );
    }
}

#[test]
fn a_real_user_with_the_number_of_ours_is_somebody_elses() {
    let mut world = World::new(PLAIN);
    let plan = world.plan(&login("alice", "dev"));
    world.open(&plan);
    let (uid, gid) = (plan.uid.get(), plan.gid.get());
    // `useradd -u N alice`, while our alice is on.
    let added = world.clone().with_user("alice", uid);
    assert_eq!(added.decide(&login("alice", "dev")), Decision::Foreign);
    // `groupadd -g N alice`: the name is a group's now, and the number is, for the next who comes.
    let grouped = world.clone().with_group("alice", gid);
    assert_eq!(
        grouped.refusal(&login("alice", "dev")).reason,
        Reason::ProtectedName
    );
    world.close_all();
    for other in [
        world.clone().with_user("alia", uid),
        world.clone().with_group("alia", gid),
    ] {
        assert_ne!(other.plan(&login("alice", "dev")).uid, plan.uid);
    }
    // A group of ours, and one in /etc/group of that name and number: its members are those of others.
    let toml = "[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"builders\"]\n";
    let mut world = World::new(toml);
    let plan = world.plan(&login("alice", "dev"));
    world.open(&plan);
    let builders = plan
        .groups
        .iter()
        .find(|group| group.name.as_ref() == "builders");
    let gid = builders.expect("granted").gid;
    let plan = world
        .with_group("builders", gid)
        .plan(&login("alice", "dev"));
    let builders = plan
        .groups
        .iter()
        .find(|group| group.name.as_ref() == "builders");
    assert_eq!(
        builders.expect("granted").origin,
        userdb_service::policy::plan::GroupOrigin::ForeignFiles
    );
}

#[test]
fn a_login_that_differs_in_case_from_a_user_of_others_is_refused_whatever_is_allowed() {
    let mut world = World::new(&format!("names.allow = [\"alice\"]\n{PLAIN}"));
    world.host.case_twins = [("alice".to_owned(), "Alice".to_owned())].into();
    for name in ["alice", "ALICE"] {
        let refusal = world.refusal(&login(name, "dev"));
        assert_eq!(refusal.reason, Reason::ProtectedName, "{name}");
        assert!(refusal.message.contains("\"Alice\""), "{refusal:?}");
    }
    world.plan(&login("alicia", "dev"));
    // The user itself goes on.
    let itself = world.with_user("Alice", 1000);
    assert_eq!(itself.decide(&login("Alice", "dev")), Decision::Foreign);
}

#[test]
fn a_dotted_name_that_reads_as_user_and_group_is_refused() {
    let world = World::new(PLAIN)
        .with_user("john", 1000)
        .with_user("x.y", 1001);
    for name in ["john.doe", "john.doe.jr", "x.y.z", "John.Doe"] {
        assert_eq!(
            world.refusal(&login(name, "dev")).reason,
            Reason::ProtectedName,
            "{name}"
        );
    }
    world.plan(&login("jane.doe", "dev"));
    World {
        config: World::new(&format!("names.allow = [\"john.doe\"]\n{PLAIN}")).config,
        ..world
    }
    .plan(&login("john.doe", "dev"));
}

#[test]
fn allow_lifts_what_a_list_protects_and_nothing_that_exists() {
    let toml = format!(
        "names.allow = [\"git\", \"sudoedit\", \"carol\", \"teleport-bot\", \"svc-a\", \"ops\"]\nnames.protected = [\"svc-*\"]\n{PLAIN}"
    );
    let mut world = World::new(&toml).with_group("ops", 50);
    world.host.sudoers_names = ["carol".to_owned()].into();
    for name in ["git", "carol", "teleport-bot", "svc-a"] {
        world.plan(&login(name, "dev"));
    }
    assert_eq!(
        world.refusal(&login("ops", "dev")).reason,
        Reason::ProtectedName
    );
    assert_eq!(
        world.refusal(&login("svc-b", "dev")).reason,
        Reason::ProtectedName
    );
    assert_eq!(
        world.refusal(&login("sudoedit", "dev")).reason,
        Reason::ProtectedName
    );
}

#[test]
fn a_cache_that_echoes_our_own_user_does_not_make_it_somebody_elses() {
    let mut world = World::new(PLAIN);
    let plan = world.plan(&login("Bob", "dev"));
    world.open(&plan);
    for name in ["Bob", "bob"] {
        world = world.with_echo(name, plan.uid.get(), plan.gid.get());
    }
    assert_eq!(world.plan(&login("Bob", "dev")).uid, plan.uid);
    // The echo may outlast the sessions.
    world.close_all();
    assert_eq!(world.plan(&login("Bob", "dev")).uid, plan.uid);
    // Another user of the same number is no echo.
    let stranger = World::new(PLAIN).with_user("carol", plan.uid.get());
    assert_eq!(
        World {
            occupancy: world.occupancy,
            ..stranger
        }
        .decide(&login("carol", "dev")),
        Decision::Foreign
    );
}

#[test]
fn two_spellings_of_one_name_are_not_on_at_the_same_time() {
    for (first, second) in [("Bob", "bob"), ("bob", "Bob"), ("BOB", "Bob")] {
        let mut world = World::new(PLAIN);
        let plan = world.plan(&login(first, "dev"));
        world.open(&plan);
        assert_eq!(
            world.refusal(&login(second, "dev")).reason,
            Reason::Taken,
            "{first} then {second}"
        );
        world.close_all();
        assert_ne!(world.plan(&login(second, "dev")).uid, plan.uid);
    }
}

#[test]
fn a_member_of_a_group_of_others_is_refused_whatever_roles_and_allowances_say() {
    let toml = format!("names.allow = [\"ghost\"]\n{PLAIN}deny-groups = [\"docker\"]\n");
    // Under the name it gets and under the one it was asked for by.
    for (member, given) in [("ghost", "ghost"), ("ghost", "Ghost"), ("Ghost", "Ghost")] {
        let world = World::new(&toml).with_member("docker", 990, member);
        let refusal = world.refusal(&login(given, "dev"));
        assert_eq!(refusal.reason, Reason::ProtectedName, "{member} {given}");
        for part in [member, "docker"] {
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
        // Somebody else has nothing to do with it, and one round of questions is still enough.
        let (decision, rounds) = world.decide_in_rounds(&login("maria", "dev"));
        assert!(matches!(decision, Decision::Grant(_)), "{decision:?}");
        assert_eq!(rounds, 1);
    }
    // A group that its GID does not lead to is named by that.
    let mut nameless = World::new(&toml).with_member("docker", 990, "ghost");
    nameless.groups.clear();
    let refusal = nameless.refusal(&login("ghost", "dev"));
    assert!(refusal.message.contains("990"), "{}", refusal.message);
}

#[test]
fn our_own_memberships_that_come_back_keep_nobody_out_and_those_in_files_do() {
    let toml = format!("{PLAIN}groups = [\"docker\", \"builders\"]\n");
    let mut world = World::new(&toml).with_group("docker", 990);
    let plan = world.plan(&login("alice", "dev"));
    world.open(&plan);
    for source in ["sss", "systemd"] {
        for group in &plan.groups {
            let echo = ("alice".to_owned(), group.gid, source.to_owned());
            world.members.push(echo);
        }
    }
    world.plan(&login("alice", "dev"));
    // Another name has been granted nothing, so what is said of it is not ours.
    let mut other = world.clone();
    other.members = vec![("bea".to_owned(), 990, "sss".to_owned())];
    assert_eq!(
        other.refusal(&login("bea", "dev")).reason,
        Reason::ProtectedName
    );
    world
        .members
        .push(("alice".to_owned(), 990, "files".to_owned()));
    assert_eq!(
        world.refusal(&login("alice", "dev")).reason,
        Reason::ProtectedName
    );
}

#[test]
fn what_cannot_be_told_of_the_host_keeps_out_only_whom_we_would_make() {
    let mut world = World::new(PLAIN).with_user("root", 0);
    world.host.failure = Some(HostFailure {
        source: "the host".to_owned(),
        why: "/etc/sudoers.d/loop: too many links".to_owned(),
    });
    assert_eq!(world.decide(&login("root", "dev")), Decision::Foreign);
    let refusal = world.refusal(&login("maria", "dev"));
    assert_eq!(refusal.reason, Reason::LookupFailed);
    assert!(
        refusal.message.contains("sudoers.d/loop"),
        "{}",
        refusal.message
    );
}

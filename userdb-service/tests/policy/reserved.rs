//! What nobody may name: groups of ours and of Teleport, numbers in sudoers, users who hide in their name.

use userdb_service::policy::decide::Reason;
use userdb_service::policy::plan::Plan;

use crate::world::{PLAIN, World, login, with};

fn groups(plan: &Plan) -> Vec<&str> {
    plan.groups
        .iter()
        .map(|group| group.name.as_ref())
        .collect()
}

#[test]
fn a_repaired_login_gets_no_group_whose_number_sudoers_names() {
    let toml = format!("{PLAIN}groups = [\"ops\"]\n");
    let mut world = World::new(&toml).with_group("ops", 500);
    world.host.sudoers_ids = [500].into();
    assert_eq!(groups(&world.plan(&login("Bob", "dev"))), ["teleport-tmp"]);
    assert_eq!(
        groups(&world.plan(&login("bob", "dev"))),
        ["teleport-tmp", "ops"]
    );
}

#[test]
fn a_variable_names_no_group_of_ours_or_of_teleport_even_one_that_exists_and_is_allowed() {
    let reserved = [
        "teleport-sudo",
        "teleport-doas",
        "teleport-tmp",
        "teleport-system",
        "teleport-keep",
        "teleport-static",
    ];
    let toml = format!(
        "templated-groups = [\"*\"]\nnames.allow = {reserved:?}\n[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"{{{{env.T}}}}\", \"teleport-{{{{env.U}}}}\"]\n"
    );
    let mut world = World::new(&toml);
    for (name, gid) in reserved.iter().zip(500..) {
        world = world.with_group(name, gid);
    }
    let request = with(login("alice", "dev"), "T", &reserved.join(" "));
    let request = with(request, "U", "sudo doas system keep static");
    let plan = world.plan(&request);
    assert_eq!(groups(&plan), ["teleport-tmp"]);
    assert!(!plan.doas);
    // Others of that prefix that exist: by names.allow only.
    for (allow, expected) in [
        ("", vec!["teleport-tmp"]),
        ("\"teleport-web\"", vec!["teleport-tmp", "teleport-web"]),
    ] {
        let toml = format!(
            "templated-groups = [\"*\"]\nnames.allow = [{allow}]\n[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"{{{{env.T}}}}\"]\n"
        );
        let world = World::new(&toml).with_group("teleport-web", 501);
        let plan = world.plan(&with(login("alice", "dev"), "T", "teleport-web"));
        assert_eq!(groups(&plan), expected);
    }
}

#[test]
fn a_teleport_user_with_invisible_characters_is_refused() {
    for hidden in [
        '\n',
        '\u{202e}',
        '\u{34f}',
        '\u{1160}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{ffa0}',
        '\u{e0100}',
        '\u{1d175}',
        '\u{180b}',
    ] {
        let request = with(
            login("alice", "dev"),
            "TELEPORT_USERNAME",
            &format!("ann{hidden}"),
        );
        assert_eq!(
            World::new(PLAIN).refusal(&request).reason,
            Reason::Policy,
            "{hidden:?}"
        );
    }
    World::new(PLAIN).plan(&with(
        login("alice", "dev"),
        "TELEPORT_USERNAME",
        "Jürgen 日本 😀",
    ));
}

//! RFD 57's own example role, translated into config.toml, does what the RFD says.

use userdb_service::policy::config::Config;
use userdb_service::policy::decide::Decision;
use userdb_service::policy::sudoers::{FULL, file_name, render};

use crate::world::{World, login, with};

/// The example of the README, which Teleport's `pam.environment` fills:
/// `TELEPORT_GROUPS: "{{external.xxx}}"`.
fn example() -> &'static str {
    let readme = include_str!("../../../README.md");
    let mut blocks = readme
        .split("```toml\n")
        .filter_map(|rest| rest.split_once("```"));
    let block = blocks.find(|(block, _)| block.contains("match = \"example\""));
    block.expect("the README has the example role").0
}

#[test]
fn the_example_role_makes_a_user_with_its_groups_and_sudo() {
    let world = World::new(example()).with_group("ubuntu", 1000);
    let request = with(
        login("alice", "example"),
        "TELEPORT_GROUPS",
        "team-web team-db",
    );
    let plan = world.plan(&request);
    let groups: Vec<&str> = plan
        .groups
        .iter()
        .map(|group| group.name.as_ref())
        .collect();
    assert_eq!(groups, ["teleport-tmp", "ubuntu", "team-web", "team-db"]);
    assert_eq!(file_name(&plan.login), "teleport-alice");
    assert!(render(&plan.login, &plan.sudoers).ends_with(&format!("\nalice {FULL}\n")));
    assert!(plan.notes.is_empty());
}

#[test]
fn a_trait_the_user_does_not_have_is_no_group() {
    let plan = World::new(example())
        .with_group("ubuntu", 1000)
        .plan(&login("alice", "example"));
    assert_eq!(plan.groups.len(), 2);
}

#[test]
fn another_role_makes_nobody() {
    World::new(example()).refusal(&login("alice", "access"));
}

#[test]
fn the_example_stands_in_place_of_the_packaged_roles() {
    let packaged = include_str!("../../../units/config.toml");
    let files = [
        ("/usr/lib/config.toml", packaged),
        ("/etc/config.toml", example()),
    ];
    let world = World {
        config: Config::parse(&files).expect("good"),
        ..World::default()
    };
    world.plan(&login("alice", "example"));
    world.refusal(&login("alice", "access"));
}

#[test]
fn the_example_lets_root_in_and_leaves_it_alone() {
    let world = World::new(example()).with_user("root", 0);
    assert_eq!(world.decide(&login("root", "example")), Decision::Foreign);
}

#[test]
fn disable_auto_create_user_takes_precedence_over_the_role() {
    World::new(&format!("auto-create-users = false\n{}", example()))
        .refusal(&login("alice", "example"));
}

//! Files for which there was no room: who is next, and that nobody gets what is not his any more.
//!
//! How much room there is, is not known here.

use super::*;

fn login(name: &str) -> Login {
    Login::try_from(name).expect("a valid name")
}

#[test]
fn a_file_for_which_there_was_no_room_is_ordered_again_once_and_only_while_it_is_wanted() {
    let mut world = World::new();
    let zed = login("zed");
    assert_eq!(world.registry.sudoers_again(&zed), None);
    let id = world.reserve(plan("zed", "alice", true), 1);
    assert_eq!(world.registry.sudoers_again(&zed), None, "reserved only");
    world.open(id);
    assert_eq!(world.registry.sudoers_again(&zed), None, "it has it");

    world.registry.sudoers_not_written(&zed);
    assert!(world.registry.sudoers().next().is_none(), "not counted");
    let specs = plan("zed", "alice", true).sudoers;
    let order = Effect::Sudoers(zed.clone(), specs);
    assert_eq!(world.registry.sudoers_again(&zed), Some(order));
    assert!(
        world.registry.sudoers().eq([&zed]),
        "counted from the order on"
    );
    assert_eq!(world.registry.sudoers_again(&zed), None, "ordered");

    world.registry.sudoers_not_written(&zed);
    world.close(id);
    assert_eq!(world.registry.sudoers_again(&zed), None, "it is over");
}

#[test]
fn those_who_came_first_are_first_and_who_has_no_session_any_more_is_not_among_them() {
    let mut world = World::new();
    let ids = ["zed", "abe", "mia"].map(|name| {
        let id = world.reserve(plan(name, "alice", true), 1);
        world.open(id);
        id
    });
    // Another session does not put its login back.
    world.reserve(plan("zed", "alice", true), 2);
    let all: BTreeSet<Login> = ["abe", "mia", "zed", "gone"].map(login).into();
    let turn = |world: &World| world.registry.in_order_of_arrival(&all);
    assert_eq!(turn(&world), ["zed", "abe", "mia"].map(login));
    world.close(ids[1]);
    assert_eq!(turn(&world), ["zed", "mia"].map(login));
}

//! Sessions whose leader has become the user: they count, keep the record, and grant nothing.
//!
//! That a leader has become the user is said here, not looked for.

use super::*;

fn renounce(world: &mut World, id: SessionId) {
    let effects = world.registry.renounce(id);
    world.believe(effects);
}

#[track_caller]
fn must_have(world: &World, login: &str, sessions: u32, groups: usize, sudo: bool) {
    let shown = world.login(login).expect("the record stays");
    assert_eq!(shown.sessions, sessions);
    assert_eq!(shown.plan.groups.len(), groups, "{:?}", shown.plan.groups);
    assert_eq!(world.has_sudo(login), sudo);
}

#[test]
fn a_session_whose_leader_has_become_the_user_counts_and_grants_nothing() {
    let mut world = World::new();
    let forwarding = world.reserve(plan("zed", "alice", true), 1);
    world.open(forwarding);
    must_have(&world, "zed", 1, 2, true);
    assert!(world.registry.can_renounce(forwarding));
    renounce(&mut world, forwarding);
    must_have(&world, "zed", 1, 1, false);
    assert!(!world.registry.can_renounce(forwarding));
    // A shell beside it has its own rights, and takes them along.
    let shell = world.reserve(plan("zed", "alice", true), 2);
    world.open(shell);
    must_have(&world, "zed", 2, 2, true);
    world.close(shell);
    must_have(&world, "zed", 1, 1, false);
    world.leader_gone(forwarding);
    assert!(world.login("zed").is_none());
}

#[test]
fn what_a_leader_has_given_away_does_not_come_back_with_a_restart() {
    let mut world = World::new();
    let forwarding = world.reserve(plan("zed", "alice", true), 1);
    world.open(forwarding);
    renounce(&mut world, forwarding);
    world.restart(&BTreeSet::new());
    must_have(&world, "zed", 1, 1, false);
    // Nor is it forgotten by a look that comes twice, or too late.
    assert!(world.registry.renounce(forwarding).is_empty());
    world.close(forwarding);
    assert!(world.registry.renounce(forwarding).is_empty());
}

#[test]
fn the_record_stays_that_of_the_first_session_when_its_leader_becomes_the_user() {
    let mut world = World::new();
    let first = world.reserve(
        Plan {
            gecos: "first".to_owned(),
            ..plan("zed", "alice", true)
        },
        1,
    );
    world.open(first);
    let shell = world.reserve(plan("zed", "alice", true), 2);
    world.open(shell);
    renounce(&mut world, first);
    must_have(&world, "zed", 2, 2, true);
    assert_eq!(world.login("zed").expect("on").plan.gecos, "first");
}

#[test]
fn where_all_must_be_allowed_a_leader_that_has_become_the_user_still_holds_others_back() {
    for (shared, sudo) in [
        (SharedLogins::Intersect, false),
        (SharedLogins::Union, true),
    ] {
        let mut world = World::new();
        world.registry.configure(terms(shared));
        let forwarding = world.reserve(plan("zed", "bob", false), 1);
        world.open(forwarding);
        renounce(&mut world, forwarding);
        let shell = world.reserve(plan("zed", "alice", true), 2);
        world.open(shell);
        must_have(&world, "zed", 2, 2, sudo);
    }
}

#[test]
fn a_session_without_rights_has_none_to_lose() {
    let mut world = World::new();
    let mut plain = plan("zed", "alice", false);
    plain.groups.truncate(1);
    let id = world.reserve(plain, 1);
    world.open(id);
    assert!(!world.registry.can_renounce(id));
}

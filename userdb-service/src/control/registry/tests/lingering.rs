//! Logins whose role lets their processes go on.

use super::*;

fn lingering(user: &str, sudo: bool) -> Plan {
    Plan {
        linger: true,
        ..plan("dev", user, sudo)
    }
}

/// Alice has had a session with sudo and left processes.
fn left_by_alice() -> (World, SessionId) {
    let mut world = World::new();
    let id = world.reserve(lingering("alice", true), 10);
    world.open(id);
    world.close(id);
    (world, id)
}

fn processes_ended(world: &mut World) {
    let dev = Login::try_from("dev").expect("valid");
    world.processes_ended(&dev);
}

#[track_caller]
fn is_locked(world: &World) {
    let left = world
        .login("dev")
        .expect("published as long as it has processes");
    assert!(
        left.plan.groups.is_empty() && left.sessions == 0,
        "{left:?}"
    );
    assert!(!world.has_sudo("dev"));
}

#[test]
fn it_stays_without_rights_until_its_processes_have_ended_and_nothing_is_killed() {
    let (mut world, id) = left_by_alice();
    is_locked(&world);
    // Nobody who waits for its end is to be told that it comes.
    let phase = |world: &World| world.registry.occupancy().logins["dev"].phase;
    assert_eq!(phase(&world), crate::policy::decide::LoginPhase::Lingering);
    world.leader_gone(id);
    world.pass(Duration::from_secs(3600));
    assert_eq!(phase(&world), crate::policy::decide::LoginPhase::Lingering);
    is_locked(&world);
    assert!(world.ending.is_empty() && !world.awaited.is_empty());
    world.restart(&BTreeSet::new());
    is_locked(&world);
    assert!(!world.awaited.is_empty());
    processes_ended(&mut world);
    assert!(world.login("dev").is_none());
    assert!(
        !world.ending.is_empty(),
        "its crontab and the like are ended"
    );
    world.end_remains();
    assert!(world.standings.is_empty());
}

#[test]
fn without_processes_it_is_withdrawn_and_left_alone_for_the_delay_only() {
    let (mut world, id) = left_by_alice();
    processes_ended(&mut world);
    assert!(world.login("dev").is_none() && world.ending.is_empty());
    world.leader_gone(id);
    world.pass(DELAY);
    assert!(!world.ending.is_empty());
}

/// Who is told late that the last process of an earlier user of the name has ended.
#[test]
fn without_processes_of_another_uid_it_lingers_on() {
    for passes in [Duration::ZERO, DELAY] {
        let (mut world, id) = left_by_alice();
        world.leader_gone(id);
        world.pass(passes);
        let dev = Login::try_from("dev").expect("valid");
        let earlier = Uid::try_from(20_001).expect("in range");
        assert_eq!(world.registry.processes_ended(&dev, earlier), []);
        is_locked(&world);
        world.pass(DELAY);
        is_locked(&world);
        assert!(world.ending.is_empty());
    }
}

#[test]
fn only_the_same_teleport_user_with_the_same_grants_joins_it() {
    let (mut world, id) = left_by_alice();
    world.leader_gone(id);
    world.pass(DELAY);
    assert_eq!(
        world.registry.joinable(&lingering("alice", true)),
        Joinable::Now
    );
    for other in [lingering("alice", false), lingering("bob", true)] {
        assert_eq!(world.registry.joinable(&other), Joinable::AfterRemains);
    }
    assert_eq!(world.registry.make_way(&lingering("alice", true)), []);
    let again = world.reserve(lingering("alice", true), 11);
    world.open(again);
    assert!(world.has_sudo("dev"));
    processes_ended(&mut world);
    assert!(world.login("dev").is_some(), "it has a session");
    // Of a session with less in between, and one with as much: what was ever granted counts.
    let less = world.reserve(lingering("alice", false), 12);
    world.open(less);
    world.leader_gone(again);
    world.leader_gone(less);
    world.pass(DELAY);
    assert_eq!(
        world.registry.joinable(&lingering("alice", false)),
        Joinable::AfterRemains
    );
}

#[test]
fn for_anybody_else_it_is_ended_first() {
    let (mut world, id) = left_by_alice();
    let bob = lingering("bob", true);
    assert_eq!(world.registry.make_way(&bob), [], "not during the delay");
    world.leader_gone(id);
    world.pass(DELAY);
    let effects = world.registry.make_way(&bob);
    world.believe(effects);
    assert!(world.login("dev").is_none() && !world.ending.is_empty());
    processes_ended(&mut world);
    world.end_remains();
    assert_eq!(world.registry.joinable(&bob), Joinable::Now);
}

#[test]
fn any_session_with_such_a_role_makes_it_linger_and_a_reservation_does_not() {
    let mut world = World::new();
    let plain = world.reserve(plan("dev", "alice", false), 10);
    world.open(plain);
    let reserved = world.reserve(lingering("alice", false), 11);
    world.leader_gone(reserved);
    world.close(plain);
    assert!(world.login("dev").is_none());
    let again = world.reserve(plan("dev", "alice", false), 12);
    world.open(again);
    let lingers = world.reserve(lingering("alice", false), 13);
    world.open(lingers);
    world.close(lingers);
    world.close(again);
    is_locked(&world);
}

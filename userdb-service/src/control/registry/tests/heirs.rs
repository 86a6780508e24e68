//! Whoever comes after a login under its name, its UID or its GID, before and after a crash: none of them gets what was
//! another's.

use super::*;
use crate::policy::text::Text;

fn dev() -> Login {
    Login::try_from("dev").expect("valid")
}

fn numbered(plan: Plan, uid: u32, gid: u32) -> Plan {
    Plan {
        uid: Uid::try_from(uid).expect("in range"),
        gid: Gid::try_from(gid).expect("in range"),
        ..plan
    }
}

fn phase(world: &World) -> Option<Phase> {
    let standing = world.registry.standing(&dev());
    standing.map(|standing| standing.phase)
}

#[test]
fn a_private_gid_is_given_to_nobody_else_from_the_beginning() {
    let gid = Gid::try_from(20_002).expect("in range");
    let whose = |world: &World| {
        let given = world.registry.occupancy().gids.get(&gid);
        given.map(Text::as_str).map(str::to_owned)
    };
    let mut world = World::new();
    let id = world.reserve(numbered(plan("dev", "alice", false), 20_001, gid.get()), 10);
    let is_devs = |world: &World| assert_eq!(whose(world).as_deref(), Some("dev"));
    is_devs(&world);
    world.open(id);
    world.start_after_a_crash(&BTreeSet::new());
    is_devs(&world);
    world.close(id);
    is_devs(&world);
    world.start_after_a_crash(&BTreeSet::new());
    is_devs(&world);
    world.leader_gone(id);
    world.pass(DELAY);
    world.end_remains();
    assert_eq!(phase(&world), None);
    is_devs(&world);
    world.start_after_a_crash(&BTreeSet::new());
    is_devs(&world);
}

#[test]
fn killed_at_any_step_of_the_end_of_a_reservation_the_daemon_knows_whose_its_ids_were() {
    let plan = numbered(plan("dev", "alice", false), 20_001, 20_002);
    for steps in 0.. {
        let mut world = World::new();
        let id = world.reserve(plan.clone(), 10);
        let effects = world.registry.leader_gone(world.now, id);
        let all = effects.len();
        world.believe(effects.into_iter().take(steps).collect());
        world.start_after_a_crash(&BTreeSet::from([id]));
        let occupancy = world.registry.occupancy();
        assert!(occupancy.uids.get(&plan.uid).is_some(), "{steps} steps");
        assert!(occupancy.gids.get(&plan.gid).is_some(), "{steps} steps");
        if steps > all {
            break;
        }
    }
}

#[test]
fn what_is_left_of_an_earlier_user_of_the_name_does_not_say_who_has_it_now() {
    for has_standing in [false, true] {
        let mut world = World::new();
        let alices = numbered(plan("dev", "alice", false), 20_001, 20_003);
        let earlier = world.reserve(alices.clone(), 10);
        world.open(earlier);
        world.close(earlier);
        world.write_down_the_rest();
        let (over, standing) = (
            world.written[&earlier].clone(),
            world.standings[&dev()].clone(),
        );
        world.leader_gone(earlier);
        world.pass(DELAY);
        world.end_remains();
        assert_eq!(phase(&world), None);
        // The daemon was killed before it was removed, and again before more than a session is written down of who came next.
        world.written.insert(earlier, over);
        world
            .standings
            .extend(has_standing.then(|| (dev(), standing)));
        world.used_uids.clear();
        world.group_ids.clear();
        let next = numbered(plan("dev", "bob", false), 20_002, 20_002);
        let next = world.reserve(next, 11);
        world.open(next);
        world.start_after_a_crash(&BTreeSet::new());
        let standing = world.registry.standing(&dev()).expect("bob is there");
        assert_eq!(standing.uid.get(), 20_002);
        assert!(standing.owners.iter().eq(["bob"]));
        // What it says of IDs counts.
        assert!(world.used_uids.contains_key(&alices.uid));
        assert!(world.group_ids.contains_key(&alices.gid));
    }
}

#[test]
fn after_a_crash_the_delay_counts_from_the_last_end_and_not_from_one_before() {
    let mut world = World::new();
    let first = world.reserve(plan("dev", "alice", false), 10);
    world.open(first);
    world.leader_gone(first);
    world.pass(DELAY - Duration::from_secs(1));
    let again = world.reserve(plan("dev", "alice", false), 11);
    world.open(again);
    world.close(again);
    // That she had come back was not written down of the login.
    world.start_after_a_crash(&BTreeSet::new());
    world.leader_gone(again);
    world.pass(Duration::from_secs(2));
    assert!(world.ending.is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.ending, [dev()].into());
}

#[test]
fn after_a_crash_nothing_of_a_login_that_lingered_is_ended_while_a_leader_may_tell_how_its_session_ended()
 {
    let lingering = || Plan {
        linger: true,
        ..plan("dev", "alice", false)
    };
    let mut world = World::new();
    let first = world.reserve(lingering(), 10);
    world.open(first);
    world.leader_gone(first);
    world.pass(DELAY);
    assert_eq!(phase(&world), Some(Phase::Lingering));
    let again = world.reserve(lingering(), 11);
    world.open(again);
    world.close(again);
    world.start_after_a_crash(&BTreeSet::new());
    world.processes_ended(&dev());
    assert!(world.ending.is_empty());
    world.leader_gone(again);
    world.pass(DELAY);
    assert_eq!(world.ending, [dev()].into());
}

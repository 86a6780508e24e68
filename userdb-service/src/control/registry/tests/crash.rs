//! The daemon is killed before all of a login is written down.
//!
//! Nobody waits for what is written down of the login itself: its sessions say the same.

use super::property::check;
use super::*;

/// What was before somebody comes: nothing, a session of hers, the end of one.
const BEFORE: [fn(&mut World); 3] = [
    |_| {},
    |world| {
        let id = world.reserve(plan("dev", "alice", false), 10);
        world.open(id);
    },
    |world| {
        let id = world.reserve(plan("dev", "alice", false), 10);
        world.open(id);
        world.leader_gone(id);
    },
];

fn arriving(home: bool) -> Arrival {
    let plan = plan("dev", "alice", true);
    let path = "/run/teleport-userdb/home/dev".to_owned();
    let plan = match home {
        true => Plan {
            home: Home::Ephemeral { path },
            linger: true,
            ..plan
        },
        false => plan,
    };
    Arrival {
        id: SessionId::random(),
        plan,
        leader: leader(20),
        service: "teleport".to_owned(),
        since_usec: 1,
    }
}

/// What there is, written down.
fn world_after(before: fn(&mut World)) -> World {
    let mut world = World::new();
    before(&mut world);
    world.write_down_the_rest();
    world
}

fn standing(world: &World) -> Option<&Standing> {
    let dev = Login::try_from("dev").expect("valid");
    world.registry.standing(&dev)
}

/// Carries out the first `steps` of `effects`, and starts anew after a crash. False: there are not as many.
fn crash_after(world: &mut World, effects: Vec<Effect>, steps: usize) -> bool {
    let all = effects.len();
    world.believe(effects.into_iter().take(steps).collect());
    world.start_after_a_crash(&BTreeSet::new());
    check(world).expect("the world follows from the sessions");
    // What follows from them is written down now.
    assert!(world.registry.standings().eq(world.standings.values()));
    steps <= all
}

#[track_caller]
fn must_end(mut world: World) {
    let sessions: Vec<SessionId> = world.written.keys().copied().collect();
    for id in sessions {
        world.leader_gone(id);
    }
    let dev = Login::try_from("dev").expect("valid");
    world.processes_ended(&dev);
    world.pass(DELAY);
    world.end_remains();
    assert!(world.written.is_empty() && world.standings.is_empty());
    assert!(world.published.is_empty() && world.sudoers.is_empty());
}

/// Has the daemon killed after each number of steps of what `some` does with a reservation, whatever was there before. `some`
/// answers with the world that the next daemon finds, as long as there were so many steps.
fn at_each_step(some: impl Fn(World, SessionId, Vec<Effect>, bool, usize) -> Option<World>) {
    for before in BEFORE {
        for home in [false, true] {
            for steps in 0.. {
                let mut world = world_after(before);
                let arrival = arriving(home);
                let id = arrival.id;
                let effects = world.registry.reserve(world.now, arrival);
                match some(world, id, effects, home, steps) {
                    Some(world) => must_end(world),
                    None => break,
                }
            }
        }
    }
}

#[test]
fn killed_at_any_step_of_a_reservation_the_daemon_finds_it_or_nothing_of_it() {
    at_each_step(|mut world, id, effects, _, steps| {
        if !crash_after(&mut world, effects, steps) {
            return None;
        }
        let found = world.registry.session(id).map(|session| session.state);
        assert_eq!(found.is_some(), steps > 0);
        assert!(matches!(found, None | Some(State::Reserved { .. })));
        assert!(!world.has_sudo("dev"));
        Some(world)
    });
}

#[test]
fn killed_at_any_step_of_an_opening_the_daemon_finds_the_session_reserved_or_all_that_it_is() {
    at_each_step(|mut world, id, effects, home, steps| {
        world.believe(effects);
        let begun = world.registry.begin_to_open(id);
        assert_eq!(begun.is_some(), home);
        let mut effects = Vec::new();
        if let Some(begun) = begun {
            world.registry.given_a_home(&begun.plan.login);
            effects = begun.effects;
        }
        effects.extend(world.registry.open(id).expect("reserved"));
        let all = standing(&world).cloned().expect("open");
        if !crash_after(&mut world, effects, steps) {
            return None;
        }
        let found = world.registry.session(id).expect("written down");
        if found.state == State::Open {
            assert_eq!(standing(&world), Some(&all));
        } else {
            // A home was perhaps begun.
            assert!(!home || standing(&world).is_some_and(|dev| dev.may_have_remains));
        }
        Some(world)
    });
}

#[test]
fn a_home_that_was_begun_is_thought_of_after_a_crash_although_its_reservation_is_over() {
    let mut world = World::new();
    let arrival = arriving(true);
    let id = arrival.id;
    let effects = world.registry.reserve(world.now, arrival);
    world.believe(effects);
    let begun = world.registry.begin_to_open(id).expect("reserved");
    world.believe(begun.effects);
    world.close(id);
    world.start_after_a_crash(&BTreeSet::new());
    world.leader_gone(id);
    world.pass(DELAY);
    assert!(!world.ending.is_empty());
}

#[test]
fn who_was_there_for_a_moment_before_a_crash_is_an_owner_of_what_is_left() {
    for close in [false, true] {
        let mut world = world_after(BEFORE[1]);
        let id = world.reserve(plan("dev", "bob", true), 11);
        world.open(id);
        if close {
            world.close(id);
        }
        world.start_after_a_crash(&BTreeSet::new());
        let restored = standing(&world).expect("alice is there");
        assert_eq!(restored.owners.len(), 2);
        assert!(!restored.granted.sudoers.is_empty());
        for id in world.written.keys().copied().collect::<Vec<_>>() {
            world.leader_gone(id);
        }
        for who in ["alice", "bob"] {
            let plan = plan("dev", who, true);
            assert_eq!(world.registry.joinable(&plan), Joinable::AfterRemains);
        }
    }
}

#[test]
fn a_session_that_is_over_does_not_make_its_user_the_owner_of_a_login_whose_others_were_lost() {
    let mut world = world_after(BEFORE[1]);
    let over: Vec<SessionId> = world.written.keys().copied().collect();
    let lost = world.reserve(plan("dev", "bob", true), 11);
    world.open(lost);
    world.close(over[0]);
    world.written.remove(&lost);
    world.lacks_sessions = true;
    for _ in 0..2 {
        world.restart(&BTreeSet::new());
        let restored = standing(&world).expect("bob may be there");
        assert!(restored.is_stranded() && restored.phase == Phase::Lingering);
        world.lacks_sessions = false;
    }
}

#[test]
fn what_a_login_came_under_is_told_by_its_session_where_it_is_not_written_down() {
    let strict = Terms {
        retire_delay: Duration::from_secs(60),
        ..terms(SharedLogins::Never)
    };
    for told in [true, false] {
        let mut world = World::new();
        world.registry.configure(strict);
        let id = world.reserve(plan("dev", "alice", false), 10);
        if !told {
            // Neither did a daemon of before write it down, nor can be read what it wrote of the login.
            world.written.get_mut(&id).expect("written down").terms = None;
        }
        world.start_after_a_crash(&BTreeSet::new());
        let found = standing(&world).map(|dev| dev.terms);
        let expected = match told {
            true => strict,
            false => terms(SharedLogins::Union),
        };
        assert_eq!(found, Some(expected));
    }
}

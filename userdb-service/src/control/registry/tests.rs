//! The registry against a world that believes every effect.
//!
//! What that world shows is in `world.rs`, what holds of any course of events in `property.rs`.

mod crash;
mod heirs;
mod lingering;
mod property;
mod renounced;
mod shared;
mod wanting;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::world::World;
use super::*;
use crate::control::leader::LeaderId;
use crate::policy::plan::{
    Disposition, GrantedGroup, GroupOrigin, Home, Resources, SharedLogins, SudoMode,
};
use crate::policy::{Gid, Plan, Uid};

const DELAY: Duration = Duration::from_secs(3);

fn terms(shared: SharedLogins) -> Terms {
    Terms {
        shared,
        retire_delay: DELAY,
        ..Terms::default()
    }
}

fn leader(pid: i32) -> LeaderId {
    LeaderId {
        pid,
        start_time: u64::from(pid.unsigned_abs()) * 7,
        pidfd_inode: None,
        boot_id: "test".to_owned(),
    }
}

fn plan(login: &str, teleport_user: &str, sudo: bool) -> Plan {
    let number: u32 = login.bytes().map(u32::from).sum();
    let marker = |name: &str, gid| GrantedGroup {
        name: name.try_into().expect("valid"),
        gid,
        origin: GroupOrigin::Synthesized,
    };
    Plan {
        login: login.try_into().expect("valid"),
        given: login.to_owned(),
        aliases: Vec::new(),
        uid: Uid::try_from(0x7000_0000 + number).expect("in range"),
        gid: Gid::try_from(0x7000_0000 + number).expect("in range"),
        teleport_user: teleport_user.to_owned(),
        roles: vec!["dev".to_owned()],
        gecos: String::new(),
        home: Home::None,
        shell: "/bin/bash".to_owned(),
        groups: vec![
            marker("teleport-tmp", 0x7100_0000),
            marker("builders", 0x7100_0001),
        ],
        sudoers: if sudo {
            vec!["ALL=(ALL) NOPASSWD: ALL".try_into().expect("valid")]
        } else {
            Vec::new()
        },
        sudo_mode: SudoMode::File,
        doas: false,
        linger: false,
        max_sessions: None,
        resources: Resources::default(),
        disposition: Disposition::Dynamic,
        notes: Vec::new(),
    }
}

#[test]
fn a_login_whose_sessions_cannot_be_read_any_more_lingers_without_rights_until_its_processes_end() {
    let mut world = World::new();
    let login = Login::try_from("dev").expect("valid");
    let id = world.reserve(plan("dev", "alice", true), 10);
    world.open(id);
    world.written.clear();
    world.restart(&BTreeSet::new());
    let left = world.login("dev").expect("still published");
    assert!(
        left.plan.groups.is_empty() && left.sessions == 0,
        "{left:?}"
    );
    assert!(!world.has_sudo("dev"));
    // Not even the same person: who it was is not known.
    assert_eq!(
        world.registry.joinable(&plan("dev", "alice", true)),
        Joinable::AfterRemains
    );
    // It still is so after another restart.
    world.restart(&BTreeSet::new());
    assert!(world.login("dev").is_some() && world.awaited.contains(&login));
    world.pass(Duration::from_secs(700));
    assert!(world.login("dev").is_some() && world.ending.is_empty());

    world.processes_ended(&login);
    assert!(world.login("dev").is_none());
    world.end_remains();
    assert!(world.standings.is_empty());
    assert_eq!(
        world.registry.joinable(&plan("dev", "bob", true)),
        Joinable::Now
    );
}

#[test]
fn a_login_of_which_one_session_can_be_read_goes_on_with_that_one() {
    let mut world = World::new();
    let lost = world.reserve(plan("dev", "alice", true), 10);
    world.open(lost);
    let read = world.reserve(plan("dev", "alice", false), 11);
    world.open(read);
    world.written.remove(&lost);
    world.restart(&BTreeSet::new());
    assert_eq!(world.login("dev").map(|dev| dev.sessions), Some(1));
    assert!(!world.has_sudo("dev"));
}

#[test]
fn a_login_of_which_only_sessions_can_be_read_that_are_over_is_not_ended_for_them_while_another_may_live()
 {
    for lacks_sessions in [true, false] {
        let mut world = World::new();
        let over = world.reserve(plan("dev", "alice", false), 10);
        world.open(over);
        let lost = world.reserve(plan("dev", "alice", true), 11);
        world.open(lost);
        world.close(over);
        let gone = world.reserve(plan("eve", "alice", true), 12);
        world.open(gone);
        world.close(gone);
        world.written.remove(&lost);
        world.lacks_sessions = lacks_sessions;
        world.restart(&BTreeSet::new());
        assert!(!world.has_sudo("dev"));
        world.leader_gone(over);
        world.leader_gone(gone);
        world.pass(Duration::from_secs(700));
        let left = world.login("dev");
        assert_eq!(left.is_some(), lacks_sessions);
        assert!(left.is_none_or(|dev| dev.plan.groups.is_empty() && dev.sessions == 0));
        // Nobody is known to be in it, or it had no other.
        let ending: Vec<&str> = world.ending.iter().map(AsRef::as_ref).collect();
        assert_eq!(ending.contains(&"dev"), !lacks_sessions);
        assert!(ending.contains(&"eve") && world.login("eve").is_none());
    }
}

#[test]
fn a_reservation_is_published_without_rights_and_its_session_with_them() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", true), 10);
    let reserved = world.login("dev").expect("published");
    assert_eq!(reserved.sessions, 0);
    assert_eq!(reserved.plan.groups.len(), 1);
    assert!(!world.has_sudo("dev"));
    world.open(id);
    let open = world.login("dev").expect("published");
    assert_eq!((open.sessions, open.plan.groups.len()), (1, 2));
    assert!(world.has_sudo("dev"));
}

#[test]
fn who_has_nothing_to_order_waits_for_what_others_have_ordered_before_it_shows() {
    let mut world = World::new();
    let [first, second] = [10, 11].map(|pid| world.reserve(plan("dev", "alice", true), pid));
    let dev = Login::try_from("dev").expect("valid");
    let order = |effects: &[Effect]| {
        let at = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
        let shows = at(&Effect::Publish(dev.clone())).or(at(&Effect::Withdraw(dev.clone())));
        let ordered = |effect: &Effect| matches!(effect, Effect::Sudoers(..));
        let orders = effects.iter().position(ordered);
        (orders, at(&Effect::AwaitSudoers(dev.clone())), shows)
    };
    let opened = world.registry.open(first).expect("reserved");
    assert!(
        matches!(order(&opened), (Some(0), None, Some(_))),
        "{opened:?}"
    );
    let opened = world.registry.open(second).expect("reserved");
    assert!(
        matches!(order(&opened), (None, Some(0), Some(_))),
        "{opened:?}"
    );
    let effects = world.registry.renounce(first);
    world.believe(effects);
    let effects = world.registry.renounce(second);
    assert!(
        matches!(order(&effects), (Some(_), None, Some(_))),
        "{effects:?}"
    );
    let closed = world.registry.close(world.now, first);
    assert!(
        matches!(order(&closed), (None, Some(0), Some(_))),
        "{closed:?}"
    );
    let closed = world.registry.close(world.now, second);
    assert!(
        matches!(order(&closed), (None, Some(0), Some(_))),
        "{closed:?}"
    );
}

#[test]
fn the_first_of_two_sessions_ends_and_changes_nothing_but_the_count() {
    let mut world = World::new();
    let first = world.reserve(plan("dev", "alice", true), 10);
    world.open(first);
    let second = world.reserve(plan("dev", "alice", true), 11);
    world.open(second);
    assert_eq!(world.login("dev").map(|login| login.sessions), Some(2));
    world.close(first);
    world.leader_gone(first);
    assert_eq!(world.login("dev").map(|login| login.sessions), Some(1));
    assert!(world.has_sudo("dev"));
    world.close(second);
    assert!(world.login("dev").is_none() && !world.has_sudo("dev"));
}

#[test]
fn rights_shrink_to_those_of_the_sessions_that_stay() {
    let mut world = World::new();
    let plain = world.reserve(plan("dev", "alice", false), 10);
    world.open(plain);
    let powerful = world.reserve(plan("dev", "alice", true), 11);
    world.open(powerful);
    assert!(world.has_sudo("dev"));
    world.close(powerful);
    assert!(!world.has_sudo("dev") && world.login("dev").is_some());
}

#[test]
fn remains_are_ended_after_the_delay_and_the_leaders_exit_and_not_before() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    world.open(id);
    world.close(id);
    world.pass(DELAY);
    assert!(world.ending.is_empty(), "its leader has not exited");
    world.leader_gone(id);
    assert!(!world.ending.is_empty());
    assert_eq!(
        world.registry.joinable(&plan("dev", "alice", false)),
        Joinable::AfterRemains
    );
    world.end_remains();
    assert_eq!(
        world.registry.joinable(&plan("dev", "bob", false)),
        Joinable::Now
    );
    assert!(world.standings.is_empty() && world.written.is_empty());
    assert_eq!(world.used_uids.len(), 1);
}

#[test]
fn a_leader_that_closes_and_stays_is_waited_for_ten_seconds() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    world.open(id);
    world.close(id);
    world.pass(Duration::from_secs(9));
    assert!(world.ending.is_empty());
    world.pass(Duration::from_secs(1));
    assert!(!world.ending.is_empty());
}

#[test]
fn during_the_delay_its_sole_owner_comes_back_and_nobody_else() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    world.open(id);
    world.close(id);
    world.leader_gone(id);
    // By another spelling she is another user.
    let spelt_otherwise = Plan {
        given: "Dev".to_owned(),
        ..plan("dev", "alice", false)
    };
    for other in [plan("dev", "bob", false), spelt_otherwise] {
        assert_eq!(world.registry.joinable(&other), Joinable::AfterRemains);
    }
    assert_eq!(
        world.registry.joinable(&plan("dev", "alice", false)),
        Joinable::Now
    );
    let again = world.reserve(plan("dev", "alice", false), 11);
    world.pass(DELAY);
    assert!(world.ending.is_empty(), "it came back");
    // A reservation that is given up leads back to the end that was under way.
    world.leader_gone(again);
    assert!(world.login("dev").is_none());
    world.pass(DELAY);
    assert!(!world.ending.is_empty());
}

#[test]
fn a_reservation_ends_after_ten_minutes_and_leaves_no_remains_to_end() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    world.pass(Duration::from_secs(599));
    assert!(world.login("dev").is_some());
    world.pass(Duration::from_secs(1));
    assert!(world.login("dev").is_none());
    assert_eq!(world.registry.open(id), Err(NoReservation));
    world.leader_gone(id);
    assert!(world.ending.is_empty() && world.standings.is_empty());
}

#[test]
fn a_session_whose_leader_dies_while_its_home_is_made_leaves_remains_to_end() {
    let mut world = World::new();
    let plan_of = |user: &str| Plan {
        home: Home::Ephemeral {
            path: "/run/teleport-userdb/home/dev".to_owned(),
        },
        ..plan("dev", user, false)
    };
    let id = world.reserve(plan_of("alice"), 10);
    let begun = world.registry.begin_to_open(id).expect("reserved");
    world.believe(begun.effects);
    assert!(!has_home(&world), "none was given yet");
    world.registry.given_a_home(&plan_of("alice").login);
    world.leader_gone(id);
    world.pass(DELAY);
    assert!(!world.ending.is_empty());
    world.end_remains();
    world.reserve(plan_of("eve"), 11);
    assert!(!has_home(&world), "what is in place is not eve's");
}

#[test]
fn where_no_home_is_made_nothing_is_left_before_a_session_is_open() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    assert!(world.registry.begin_to_open(id).is_none());
    world.leader_gone(id);
    assert!(world.ending.is_empty() && world.standings.is_empty());
}

fn has_home(world: &World) -> bool {
    let dev = Login::try_from("dev").expect("valid");
    world
        .registry
        .standing(&dev)
        .is_some_and(|standing| standing.has_home)
}

#[test]
fn who_comes_back_in_time_finds_what_is_in_place() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", false), 10);
    world
        .registry
        .given_a_home(&plan("dev", "alice", false).login);
    world.open(id);
    world.close(id);
    let again = world.reserve(plan("dev", "alice", false), 11);
    assert!(has_home(&world));
    world.open(again);
    assert!(
        world.registry.begin_to_open(again).is_none(),
        "open already"
    );
}

#[test]
fn closing_twice_and_opening_twice_change_nothing() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", true), 10);
    world.open(id);
    assert_eq!(world.registry.open(id), Ok(Vec::new()));
    world.close(id);
    assert_eq!(world.registry.close(world.now, id), Vec::new());
    assert_eq!(
        world.registry.close(world.now, SessionId::random()),
        Vec::new()
    );
}

#[test]
fn a_session_handle_is_a_random_uuid_in_its_one_spelling() {
    let id = SessionId::random();
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in [
        "",
        "00000000-0000-0000-0000-000000000000",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        &id.to_string().replace('-', ""),
        &format!("{{{id}}}"),
    ] {
        assert_eq!(bad.parse::<SessionId>(), Err(NotASessionId), "{bad:?}");
    }
}

#[test]
fn a_live_login_keeps_what_it_came_under_over_reload_and_restart() {
    let mut world = World::new();
    let first = world.reserve(plan("dev", "alice", true), 10);
    world.open(first);
    let second = world.reserve(plan("dev", "bob", false), 11);
    world.open(second);
    assert!(world.has_sudo("dev"), "a union");
    let strict = Terms {
        retire_delay: Duration::from_secs(60),
        ..terms(SharedLogins::Intersect)
    };
    let dev = Login::try_from("dev").expect("valid");
    let rule = |world: &World| world.registry.occupancy().logins[&dev].shared;
    world.registry.configure(strict);
    for restarted in [false, true] {
        if restarted {
            world.restart(&BTreeSet::new());
            world.registry.configure(strict);
        }
        let third = world.reserve(plan("dev", "bob", false), 12);
        world.open(third);
        world.close(third);
        assert!(world.has_sudo("dev"), "restarted: {restarted}");
        assert_eq!(rule(&world), SharedLogins::Union);
        let shown = world.login("dev").expect("published");
        assert_eq!(shown.retire_delay, DELAY);
        world.leader_gone(third);
    }
    world.leader_gone(first);
    world.leader_gone(second);
    world.pass(DELAY);
    assert!(!world.ending.is_empty(), "it ends by its own delay");
    // Who comes next comes under what is configured now.
    world.end_remains();
    let next = world.reserve(plan("dev", "alice", true), 13);
    world.open(next);
    assert_eq!(rule(&world), SharedLogins::Intersect);
    world.leader_gone(next);
    world.pass(DELAY);
    assert!(world.ending.is_empty());
}

#[test]
fn the_others_on_a_login_do_not_count_the_reservation_itself() {
    let mut world = World::new();
    let first = world.reserve(plan("dev", "alice", true), 10);
    let second = world.reserve(plan("dev", "bob", false), 11);
    let others = world.registry.others(second).expect("reserved");
    assert_eq!(others.sessions, 1);
    assert_eq!(others.teleport_users.keys().collect::<Vec<_>>(), ["alice"]);
    world.open(first);
    assert!(world.registry.others(first).is_none(), "open already");
}

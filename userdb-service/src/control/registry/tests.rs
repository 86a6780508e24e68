//! The registry against a world that believes every effect.
//!
//! The world keeps what a host would show: published users, sudoers files, what is written down.

mod lingering;
mod renounced;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::plan::{
    Disposition, GrantedGroup, GroupOrigin, Resources, SharedLogins, SudoMode,
};

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

/// What a host would show.
struct World {
    registry: Registry,
    now: Boottime,
    published: BTreeMap<Login, Published>,
    sudoers: BTreeSet<Login>,
    written: BTreeMap<SessionId, Session>,
    standings: BTreeMap<Login, Standing>,
    quarantine: BTreeMap<Uid, String>,
    group_ids: BTreeMap<Gid, String>,
    watched: BTreeSet<SessionId>,
    ending: BTreeSet<Login>,
    awaited: BTreeSet<Login>,
}

impl World {
    fn new() -> Self {
        Self {
            registry: Registry::new(terms(SharedLogins::Union)),
            now: Boottime::from_usec(1_000_000),
            published: BTreeMap::new(),
            sudoers: BTreeSet::new(),
            written: BTreeMap::new(),
            standings: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            watched: BTreeSet::new(),
            ending: BTreeSet::new(),
            awaited: BTreeSet::new(),
        }
    }

    fn believe(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::RememberSession(id) => {
                    if let Some(session) = self.registry.session(id) {
                        self.written.insert(id, session.clone());
                    }
                }
                Effect::ForgetSession(id) => {
                    self.written.remove(&id);
                }
                Effect::RememberLogin(login) => {
                    if let Some(standing) = self.registry.standing(&login) {
                        self.standings.insert(login, standing.clone());
                    }
                }
                Effect::ForgetLogin(login) => {
                    self.standings.remove(&login);
                }
                Effect::Sudoers(login, specs) => {
                    if specs.is_empty() {
                        self.sudoers.remove(&login);
                    } else {
                        self.sudoers.insert(login);
                    }
                }
                Effect::Publish(login) => {
                    let published = self.registry.published(&login);
                    self.published
                        .extend(published.map(|published| (login, published)));
                }
                Effect::Withdraw(login) => {
                    self.published.remove(&login);
                }
                Effect::Lock(login) => {
                    if let Some(published) = self.published.get_mut(&login) {
                        published.plan.groups.clear();
                        published.sessions = 0;
                    }
                }
                Effect::AwaitProcesses(login, _) => {
                    self.awaited.insert(login);
                }
                Effect::Watch(id) => {
                    self.watched.insert(id);
                }
                Effect::Unwatch(id) => {
                    self.watched.remove(&id);
                }
                Effect::EndRemains(login, _) => {
                    self.ending.insert(login);
                }
                Effect::Quarantine(uid, given) => {
                    self.quarantine.insert(uid, given);
                }
                Effect::QuarantineGroup(gid, name) => {
                    self.group_ids.insert(gid, name);
                }
            }
        }
    }

    fn reserve(&mut self, plan: Plan, pid: i32) -> SessionId {
        let id = SessionId::random();
        let effects = self.registry.reserve(
            self.now,
            Arrival {
                id,
                plan,
                leader: leader(pid),
                service: "teleport".to_owned(),
                since_usec: 1,
            },
        );
        self.believe(effects);
        id
    }

    fn open(&mut self, id: SessionId) {
        let effects = self.registry.open(id).expect("reserved");
        self.believe(effects);
    }

    fn close(&mut self, id: SessionId) {
        let effects = self.registry.close(self.now, id);
        self.believe(effects);
    }

    fn leader_gone(&mut self, id: SessionId) {
        let effects = self.registry.leader_gone(self.now, id);
        self.believe(effects);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let effects = self.registry.tick(self.now);
        self.believe(effects);
    }

    fn end_remains(&mut self) {
        for login in std::mem::take(&mut self.ending) {
            let effects = self.registry.remains_ended(&login);
            self.believe(effects);
        }
    }

    fn login(&self, name: &str) -> Option<&Published> {
        self.published
            .get(&Login::try_from(name).expect("a valid name"))
    }

    fn has_sudo(&self, name: &str) -> bool {
        self.sudoers
            .contains(&Login::try_from(name).expect("a valid name"))
    }

    /// The daemon is killed and started again; leaders in `dead` have exited meanwhile.
    fn restart(&mut self, dead: &BTreeSet<SessionId>) {
        self.registry = Registry::new(terms(SharedLogins::Union));
        self.watched.clear();
        let effects = self.registry.restore(
            self.now,
            self.standings.values().cloned().collect(),
            self.written.values().cloned().collect(),
            Quarantine {
                uids: self.quarantine.clone().into_iter().collect(),
                gids: self.group_ids.clone().into_iter().collect(),
            },
            |session| !dead.contains(&session.id),
        );
        self.believe(effects);
        let live: BTreeSet<Login> = self
            .registry
            .list()
            .iter()
            .map(|session| session.login().clone())
            .chain(
                self.registry
                    .lingering()
                    .map(|standing| standing.login.clone()),
            )
            .collect();
        self.published.retain(|login, _| live.contains(login));
        let sudoers: BTreeSet<&Login> = self.registry.sudoers().collect();
        self.sudoers.retain(|login| sudoers.contains(login));
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

    let effects = world.registry.processes_ended(&login);
    world.believe(effects);
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
    assert_eq!(world.quarantine.len(), 1);
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
    assert_eq!(
        world.registry.joinable(&plan("dev", "bob", false)),
        Joinable::AfterRemains
    );
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
    let id = world.reserve(plan("dev", "alice", false), 10);
    let begun = world.registry.begin_to_open(id).expect("reserved");
    world.believe(begun.effects);
    assert!(!has_home(&world), "none was given yet");
    world
        .registry
        .given_a_home(&plan("dev", "alice", false).login);
    world.leader_gone(id);
    world.pass(DELAY);
    assert!(!world.ending.is_empty());
    world.end_remains();
    world.reserve(plan("dev", "eve", false), 11);
    assert!(!has_home(&world), "what is in place is not eve's");
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

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        login: usize,
        user: usize,
        sudo: bool,
    },
    Open(usize),
    Close(usize),
    LeaderGone(usize),
    Pass(u64),
    EndRemains,
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3usize, 0..2usize, any::<bool>())
            .prop_map(|(login, user, sudo)| Step::Arrive { login, user, sudo }),
        4 => (0..12usize).prop_map(Step::Open),
        3 => (0..12usize).prop_map(Step::Close),
        3 => (0..12usize).prop_map(Step::LeaderGone),
        2 => (0..700u64).prop_map(Step::Pass),
        1 => Just(Step::EndRemains),
        1 => (0..12usize).prop_map(Step::Restart),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens in whatever order: who is published, who has sudo and who is watched follows
    /// from the sessions alone, and when all leaders are gone nothing is left.
    #[test]
    fn the_world_always_follows_from_the_live_sessions(steps in steps()) {
        let logins = ["dev", "ops", "web"];
        let users = ["alice", "bob"];
        let mut world = World::new();
        let mut ids: Vec<SessionId> = Vec::new();
        let mut dead: BTreeSet<SessionId> = BTreeSet::new();
        let pick = |ids: &[SessionId], n: usize| {
            (!ids.is_empty()).then(|| ids[n % ids.len()])
        };
        for step in steps {
            match step {
                Step::Arrive { login, user, sudo } => {
                    let plan = plan(logins[login], users[user], sudo);
                    if world.registry.joinable(&plan) == Joinable::Now {
                        ids.push(world.reserve(plan, ids.len() as i32 + 1));
                    }
                }
                Step::Open(n) => {
                    if let Some(id) = pick(&ids, n)
                        && let Ok(effects) = world.registry.open(id)
                    {
                        world.believe(effects);
                    }
                }
                Step::Close(n) => {
                    if let Some(id) = pick(&ids, n) {
                        world.close(id);
                    }
                }
                Step::LeaderGone(n) => {
                    if let Some(id) = pick(&ids, n) {
                        dead.insert(id);
                        world.leader_gone(id);
                    }
                }
                Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
                Step::EndRemains => world.end_remains(),
                Step::Restart(n) => {
                    if let Some(id) = pick(&ids, n) {
                        dead.insert(id);
                    }
                    world.restart(&dead);
                }
            }
            check(&world)?;
        }
        for id in ids {
            world.leader_gone(id);
        }
        for _ in 0..3 {
            world.pass(Duration::from_secs(700));
            world.end_remains();
        }
        check(&world)?;
        prop_assert!(world.published.is_empty());
        prop_assert!(world.sudoers.is_empty());
        prop_assert!(world.written.is_empty());
        prop_assert!(world.standings.is_empty());
        prop_assert!(world.watched.is_empty());
        prop_assert!(world.registry.occupancy().logins.is_empty());
        prop_assert!(world.registry.occupancy().groups.is_empty());
    }
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let live = world.registry.list();
    let logins: BTreeSet<&Login> = live.iter().map(|session| session.login()).collect();
    prop_assert_eq!(world.published.keys().collect::<BTreeSet<_>>(), logins);
    for (login, published) in &world.published {
        let open = live
            .iter()
            .filter(|session| session.login() == login && session.state == State::Open)
            .count();
        prop_assert_eq!(published.sessions as usize, open);
        let may_sudo = live.iter().any(|session| {
            session.login() == login
                && session.state == State::Open
                && !session.plan.sudoers.is_empty()
        });
        prop_assert_eq!(world.sudoers.contains(login), may_sudo);
    }
    for login in &world.sudoers {
        prop_assert!(world.published.contains_key(login));
    }
    for session in live {
        prop_assert!(world.watched.contains(&session.id));
        prop_assert_eq!(world.written.get(&session.id), Some(session));
    }
    Ok(())
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

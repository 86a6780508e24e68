//! Whatever happens in whatever order.
//!
//! What must follow from the sessions alone is looked up in them, one by one.

use proptest::prelude::*;

use super::*;

const LOGINS: [&str; 3] = ["dev", "ops", "web"];
const USERS: [&str; 2] = ["alice", "bob"];

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        login: usize,
        user: usize,
        sudo: bool,
    },
    BeginToOpen(usize),
    Open(usize),
    Close(usize),
    LeaderGone(usize),
    Pass(u64),
    EndRemains,
    Restart(usize),
    Crash(usize),
    Renounce(usize),
    SudoersNotWritten(usize),
    SudoersAgain(usize),
    ArriveLingering {
        login: usize,
        user: usize,
    },
    ProcessesEnded(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3usize, 0..2usize, any::<bool>())
            .prop_map(|(login, user, sudo)| Step::Arrive { login, user, sudo }),
        1 => (0..12usize).prop_map(Step::BeginToOpen),
        4 => (0..12usize).prop_map(Step::Open),
        3 => (0..12usize).prop_map(Step::Close),
        3 => (0..12usize).prop_map(Step::LeaderGone),
        2 => (0..700u64).prop_map(Step::Pass),
        1 => Just(Step::EndRemains),
        1 => (0..12usize).prop_map(Step::Restart),
        1 => (0..12usize).prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The same, with leaders that become the user, processes that outlive their sessions and files that cannot be written.
fn steps_with_trouble() -> impl Strategy<Value = Vec<Step>> {
    let trouble = prop_oneof![
        (0..12usize).prop_map(Step::Renounce),
        (0..3usize).prop_map(Step::SudoersNotWritten),
        (0..3usize).prop_map(Step::SudoersAgain),
        (0..3usize, 0..2usize).prop_map(|(login, user)| Step::ArriveLingering { login, user }),
        (0..3usize).prop_map(Step::ProcessesEnded),
    ];
    let trouble = proptest::collection::vec((any::<proptest::sample::Index>(), trouble), 0..20);
    (steps(), trouble).prop_map(|(mut steps, trouble)| {
        for (at, step) in trouble {
            steps.insert(at.index(steps.len() + 1), step);
        }
        steps
    })
}

/// A world with the sessions that came, and those of them whose leaders have exited.
struct Course {
    world: World,
    ids: Vec<SessionId>,
    dead: BTreeSet<SessionId>,
}

impl Course {
    fn begin() -> Self {
        Self {
            world: World::new(),
            ids: Vec::new(),
            dead: BTreeSet::new(),
        }
    }

    fn pick(&self, n: usize) -> Option<SessionId> {
        (!self.ids.is_empty()).then(|| self.ids[n % self.ids.len()])
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Arrive { login, user, sudo } => {
                self.arrive(login, plan(LOGINS[login], USERS[user], sudo));
            }
            Step::ArriveLingering { login, user } => {
                let plan = plan(LOGINS[login], USERS[user], false);
                self.arrive(
                    login,
                    Plan {
                        linger: true,
                        ..plan
                    },
                );
            }
            Step::ProcessesEnded(login) => {
                let login = Login::try_from(LOGINS[login]).expect("valid");
                self.world.processes_ended(&login);
            }
            Step::BeginToOpen(n) => {
                if let Some(id) = self.pick(n) {
                    self.begin_to_open(id);
                }
            }
            Step::Open(n) => {
                if let Some(id) = self.pick(n) {
                    self.begin_to_open(id);
                }
                if let Some(id) = self.pick(n)
                    && let Ok(effects) = self.world.registry.open(id)
                {
                    self.world.believe(effects);
                }
            }
            Step::Close(n) => {
                if let Some(id) = self.pick(n) {
                    self.world.close(id);
                }
            }
            Step::LeaderGone(n) => {
                if let Some(id) = self.pick(n) {
                    self.dead.insert(id);
                    self.world.leader_gone(id);
                }
            }
            Step::Pass(seconds) => self.world.pass(Duration::from_secs(seconds)),
            Step::EndRemains => self.world.end_remains(),
            Step::Restart(n) => {
                self.dead.extend(self.pick(n));
                self.world.restart(&self.dead);
            }
            Step::Crash(n) => {
                self.dead.extend(self.pick(n));
                self.world.start_after_a_crash(&self.dead);
            }
            Step::Renounce(n) => {
                if let Some(id) = self.pick(n) {
                    let effects = self.world.registry.renounce(id);
                    self.world.believe(effects);
                }
            }
            Step::SudoersNotWritten(login) => {
                let login = Login::try_from(LOGINS[login]).expect("valid");
                self.world.registry.sudoers_not_written(&login);
            }
            Step::SudoersAgain(login) => {
                let login = Login::try_from(LOGINS[login]).expect("valid");
                let order = self.world.registry.sudoers_again(&login);
                self.world.believe(order.into_iter().collect());
            }
        }
    }

    fn arrive(&mut self, login: usize, plan: Plan) {
        let home = home(LOGINS[login]);
        let plan = Plan { home, ..plan };
        if self.world.registry.joinable(&plan) != Joinable::Now {
            return;
        }
        let pid = self.ids.len() as i32 + 1;
        // Another one for each.
        self.world.registry.configure(Terms {
            stop_timeout: Duration::from_secs(pid.unsigned_abs().into()),
            ..terms(SharedLogins::Union)
        });
        self.ids.push(self.world.reserve(plan, pid));
    }

    fn begin_to_open(&mut self, id: SessionId) {
        let Some(begun) = self.world.registry.begin_to_open(id) else {
            return;
        };
        self.world.believe(begun.effects);
        if begun.plan.home != Home::None {
            self.world.registry.given_a_home(&begun.plan.login);
        }
    }

    /// All leaders exit, and all time passes that anything waits for.
    fn end(&mut self) {
        for id in self.ids.clone() {
            self.world.leader_gone(id);
        }
        for _ in 0..3 {
            self.world.pass(Duration::from_secs(700));
            self.world.end_remains();
        }
    }
}

/// One of them has homes.
fn home(login: &str) -> Home {
    match login {
        "web" => Home::Ephemeral {
            path: "/run/teleport-userdb/home/web".to_owned(),
        },
        _ => Home::None,
    }
}

proptest! {
    /// Whatever happens in whatever order: who is published, who has sudo and who is watched follows
    /// from the sessions alone, and when all leaders are gone nothing is left.
    #[test]
    fn the_world_always_follows_from_the_live_sessions(steps in steps()) {
        let mut course = Course::begin();
        for step in steps {
            let crash = matches!(step, Step::Crash(_));
            let before: Vec<Standing> = course.world.registry.standings().cloned().collect();
            let live = course.world.logins();
            course.take(step);
            check(&course.world)?;
            if crash {
                check_restored(&course.world, &before, &live)?;
            }
        }
        course.end();
        let world = course.world;
        check(&world)?;
        prop_assert!(world.published.is_empty());
        prop_assert!(world.sudoers.is_empty());
        prop_assert!(world.written.is_empty());
        prop_assert!(world.standings.is_empty());
        prop_assert!(world.watched.is_empty());
        prop_assert!(world.registry.occupancy().logins.is_empty());
        prop_assert!(world.registry.occupancy().groups.is_empty());
    }

    /// Who has a sudoers file is counted as it changes; a walk over all logins finds the same.
    #[test]
    fn the_counts_of_sudoers_files_are_what_a_walk_over_all_logins_finds(
        steps in steps_with_trouble()
    ) {
        let mut course = Course::begin();
        for step in steps {
            course.take(step);
            check_counts(&course.world.registry)?;
        }
        course.end();
        prop_assert!(course.world.registry.with_sudo.is_empty());
    }

    /// What the policy is told is kept as it changes, too; and who once had an ID is known until the next boot.
    #[test]
    fn what_the_policy_is_told_is_what_a_walk_over_all_logins_finds(steps in steps_with_trouble()) {
        let mut course = Course::begin();
        let mut had = BTreeSet::new();
        for step in steps {
            course.take(step);
            let World { registry, published, .. } = &course.world;
            for (login, entry) in &registry.logins {
                let told = registry.occupancy().logins.get(login);
                prop_assert_eq!(told, Some(&registry.occupant(entry, None)), "{}", login);
            }
            prop_assert_eq!(registry.occupancy().logins.len(), registry.logins.len());
            had.extend(published.values().map(|published| published.plan.uid));
            for uid in &had {
                prop_assert!(registry.occupancy().uids.contains_key(uid), "{}", uid);
            }
        }
    }
}

fn check_counts(registry: &Registry) -> Result<(), TestCaseError> {
    let open_users = |login: &Login| -> BTreeSet<&str> {
        registry
            .list()
            .into_iter()
            .filter(|session| session.login() == login && session.state == State::Open)
            .map(|session| session.plan.teleport_user.as_str())
            .collect()
    };
    let with_file: Vec<&Login> = registry
        .logins
        .iter()
        .filter(|(_, entry)| {
            entry
                .sudoers
                .as_ref()
                .is_some_and(|specs| !specs.is_empty())
        })
        .map(|(login, _)| login)
        .collect();
    prop_assert_eq!(registry.sudoers().collect::<Vec<_>>(), with_file.clone());
    for login in LOGINS {
        let login = Login::try_from(login).expect("valid");
        let others: Vec<&Login> = with_file
            .iter()
            .copied()
            .filter(|have| **have != login)
            .collect();
        let of = |user: &str| {
            others
                .iter()
                .filter(|other| open_users(other).contains(user))
                .count()
        };
        let fewest = open_users(&login)
            .into_iter()
            .map(|user| (of(user), user))
            .min();
        let (least, user) = fewest.unwrap_or_default();
        prop_assert_eq!(registry.sudoers_beside(&login), (others.len(), least, user));
        prop_assert_eq!(registry.has_sudoers(&login), with_file.contains(&&login));
    }
    Ok(())
}

/// Of each login is known again what was known `before` the daemon was killed.
fn check_restored(
    world: &World,
    before: &[Standing],
    live: &BTreeSet<Login>,
) -> Result<(), TestCaseError> {
    for before in before {
        let Some(now) = world.registry.standing(&before.login) else {
            prop_assert!(!before.may_have_remains, "{before:?}");
            continue;
        };
        prop_assert_eq!(now.uid, before.uid);
        prop_assert_eq!(&now.owners, &before.owners);
        prop_assert_eq!(&now.granted.union(&before.granted), &now.granted);
        prop_assert!(now.may_have_remains || !before.may_have_remains);
        // A home that was not given may be somebody else's.
        prop_assert!(before.has_home || !now.has_home);
        if live.contains(&before.login) {
            prop_assert_eq!(now.terms, before.terms);
        }
    }
    Ok(())
}

pub(super) fn check(world: &World) -> Result<(), TestCaseError> {
    // Nothing is waited for that cannot come any more.
    for (_, timer) in &world.registry.timers {
        let state = |id: &SessionId| world.registry.session(*id).map(|session| session.state);
        let may_come = match timer {
            Timer::ReservationExpires(id) => matches!(state(id), Some(State::Reserved { .. })),
            Timer::DepartureOverdue(id) => matches!(state(id), Some(State::Departed { .. })),
            Timer::RetireDelayOver(_) => true,
        };
        prop_assert!(may_come, "{timer:?}");
    }
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

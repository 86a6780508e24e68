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
    Open(usize),
    Close(usize),
    LeaderGone(usize),
    Pass(u64),
    EndRemains,
    Restart(usize),
    Renounce(usize),
    SudoersNotWritten(usize),
    SudoersAgain(usize),
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

/// The same, with leaders that become the user and files that cannot be written.
fn steps_with_trouble() -> impl Strategy<Value = Vec<Step>> {
    let trouble = prop_oneof![
        (0..12usize).prop_map(Step::Renounce),
        (0..3usize).prop_map(Step::SudoersNotWritten),
        (0..3usize).prop_map(Step::SudoersAgain),
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
                let plan = plan(LOGINS[login], USERS[user], sudo);
                if self.world.registry.joinable(&plan) == Joinable::Now {
                    let pid = self.ids.len() as i32 + 1;
                    self.ids.push(self.world.reserve(plan, pid));
                }
            }
            Step::Open(n) => {
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

proptest! {
    /// Whatever happens in whatever order: who is published, who has sudo and who is watched follows
    /// from the sessions alone, and when all leaders are gone nothing is left.
    #[test]
    fn the_world_always_follows_from_the_live_sessions(steps in steps()) {
        let mut course = Course::begin();
        for step in steps {
            course.take(step);
            check(&course.world)?;
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

fn check(world: &World) -> Result<(), TestCaseError> {
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

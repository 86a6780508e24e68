//! Several Teleport users on one login: what `logins.shared` makes of them, whoever comes and goes in whatever order.
//!
//! Who may come is asked of the policy, as the daemon asks it: at the reservation and again at the opening.

use proptest::prelude::*;

use super::*;
use crate::policy::{self, decide};

const RULES: [SharedLogins; 4] = [
    SharedLogins::Refuse,
    SharedLogins::Never,
    SharedLogins::Intersect,
    SharedLogins::Union,
];
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const LOGINS: [&str; 2] = ["dev", "ops"];

/// Rights as a set of bits: sudo, a group, doas.
type Rights = u8;
const SUDO: Rights = 1;
const GROUP: Rights = 2;
const ALL: Rights = 7;

fn with(login: &str, user: &str, rights: Rights) -> Plan {
    let mut plan = plan(login, user, rights & SUDO != 0);
    plan.groups
        .retain(|group| group.name.as_ref() == MARKER || rights & GROUP != 0);
    plan.doas = rights & 4 != 0;
    plan
}

fn rights_of(plan: &Plan) -> Rights {
    u8::from(!plan.sudoers.is_empty())
        | u8::from(plan.groups.len() > 1) << 1
        | u8::from(plan.doas) << 2
}

/// A login by which somebody is on, as the test sees it.
struct Known {
    id: SessionId,
    login: usize,
    user: usize,
    rights: Rights,
    open: bool,
}

struct Shared {
    world: World,
    configured: SharedLogins,
    /// What each login came into being under.
    rules: [SharedLogins; 2],
    known: Vec<Known>,
}

impl Shared {
    fn under(rule: SharedLogins) -> Self {
        let mut world = World::new();
        world.registry.configure(terms(rule));
        Self {
            world,
            configured: rule,
            rules: [rule; 2],
            known: Vec::new(),
        }
    }

    fn on(&self, login: usize) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(move |known| known.login == login)
    }

    /// The account phase; whether it was admitted.
    fn reserve(&mut self, login: usize, user: usize, rights: Rights) -> bool {
        let plan = with(LOGINS[login], USERS[user], rights);
        if self.world.registry.joinable(&plan) != Joinable::Now {
            return false;
        }
        let occupancy = self.world.registry.occupancy();
        let there = occupancy.logins.get(&plan.login).filter(|occupant| {
            matches!(
                occupant.phase,
                decide::LoginPhase::Reserved | decide::LoginPhase::Active
            )
        });
        if there.is_some_and(|occupant| policy::may_open(&plan, occupant).is_err()) {
            return false;
        }
        if self.on(login).next().is_none() {
            self.rules[login] = self.configured;
        }
        let id = self
            .world
            .reserve(plan, i32::try_from(self.known.len()).unwrap_or(0) + 1);
        self.known.push(Known {
            id,
            login,
            user,
            rights,
            open: false,
        });
        true
    }

    /// The session phase; whether it became a session just now. A reservation that does not is over.
    fn open(&mut self, which: usize) -> bool {
        let Known { id, open, .. } = self.known[which];
        if open {
            return false;
        }
        let others = self.world.registry.others(id).expect("reserved");
        let plan = &self.world.registry.session(id).expect("reserved").plan;
        if policy::may_open(plan, &others).is_err() {
            self.close(which);
            return false;
        }
        self.world.open(id);
        self.known[which].open = true;
        true
    }

    fn close(&mut self, which: usize) {
        let known = self.known.remove(which);
        self.world.leader_gone(known.id);
    }

    /// What each Teleport user was granted by its open sessions on the login, and by its reservations, too, if told so.
    fn granted(&self, login: usize, reserved: bool) -> BTreeMap<usize, Rights> {
        let mut granted = BTreeMap::new();
        for known in self.on(login).filter(|known| known.open || reserved) {
            *granted.entry(known.user).or_default() |= known.rights;
        }
        granted
    }

    fn has(&self, login: usize) -> Rights {
        let shown = self.world.login(LOGINS[login]);
        shown.map_or(0, |shown| rights_of(&shown.plan))
    }

    /// What holds of a login at any time.
    fn check(&self, login: usize) -> Result<(), TestCaseError> {
        let by_user = self.granted(login, false);
        let all = by_user.values().fold(0, |all, rights| all | rights);
        let common = by_user.values().fold(ALL, |common, rights| common & rights);
        let expected = match self.rules[login] {
            SharedLogins::Union => all,
            _ => all & common,
        };
        prop_assert_eq!(self.has(login), expected, "{:?}", by_user);
        let has_file = self.world.has_sudo(LOGINS[login]);
        prop_assert_eq!(has_file, expected & SUDO != 0);
        if self.rules[login] == SharedLogins::Never {
            prop_assert!(self.granted(login, true).len() < 2, "{:?}", by_user);
        }
        Ok(())
    }

    /// What holds when somebody has just been let in.
    fn check_who_came(&self, login: usize) -> Result<(), TestCaseError> {
        let granted = self.granted(login, true);
        let differ = granted.values().collect::<BTreeSet<_>>().len() > 1;
        let may_differ = match self.rules[login] {
            SharedLogins::Refuse | SharedLogins::Never => false,
            SharedLogins::Intersect | SharedLogins::Union => true,
        };
        prop_assert!(may_differ || !differ, "{:?}", granted);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize, usize, Rights),
    Open(usize),
    Close(usize),
    Configure(usize),
    Restart,
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2usize, 0..3usize, 0..=ALL).prop_map(|(login, user, rights)| Step::Reserve(login, user, rights)),
        // Few different rights, so that some are equal.
        6 => (0..2usize, 0..3usize, 0..=SUDO).prop_map(|(login, user, rights)| Step::Reserve(login, user, rights)),
        8 => (0..8usize).prop_map(Step::Open),
        6 => (0..8usize).prop_map(Step::Close),
        1 => (0..4usize).prop_map(Step::Configure),
        1 => Just(Step::Restart),
        2 => Just(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Reservations and sessions of three Teleport users in any order, under any rule.
    #[test]
    fn a_login_has_what_its_rule_makes_of_the_sessions_that_are_open(rule in 0..4usize, steps in steps()) {
        let mut shared = Shared::under(RULES[rule]);
        for step in steps {
            match step {
                Step::Reserve(login, user, rights) => {
                    if shared.reserve(login, user, rights) {
                        shared.check_who_came(login)?;
                    }
                }
                Step::Open(which) if which < shared.known.len() => {
                    let login = shared.known[which].login;
                    if shared.open(which) {
                        shared.check_who_came(login)?;
                    }
                }
                Step::Close(which) if which < shared.known.len() => shared.close(which),
                Step::Open(_) | Step::Close(_) => {}
                Step::Configure(rule) => {
                    shared.configured = RULES[rule];
                    shared.world.registry.configure(terms(RULES[rule]));
                }
                Step::Restart => {
                    shared.world.restart(&BTreeSet::new());
                    shared.world.registry.configure(terms(shared.configured));
                }
                Step::Pass => {
                    shared.world.pass(DELAY);
                    shared.world.end_remains();
                }
            }
            for login in 0..LOGINS.len() {
                shared.check(login)?;
            }
        }
    }
}

/// Two who were both admitted before either has opened: what each opening finds, and what the login then has.
#[test]
fn two_reservations_race_and_each_opening_is_judged_by_what_holds_then() {
    for (rule, both_admitted, first, second, left) in [
        (SharedLogins::Refuse, false, SUDO, 0, 0),
        (SharedLogins::Never, false, SUDO, 0, 0),
        (SharedLogins::Intersect, true, SUDO, 0, GROUP),
        (SharedLogins::Union, true, SUDO, SUDO | GROUP, GROUP),
    ] {
        let mut shared = Shared::under(rule);
        assert!(shared.reserve(0, 0, SUDO), "{rule:?}");
        assert_eq!(shared.reserve(0, 1, GROUP), both_admitted, "{rule:?}");
        assert_eq!(shared.has(0), 0, "reserved only, {rule:?}");
        assert!(shared.open(0));
        assert_eq!(
            shared.has(0),
            first,
            "who is only reserved holds nobody back, {rule:?}"
        );
        if both_admitted {
            assert!(shared.open(1));
            assert_eq!(shared.has(0), second, "{rule:?}");
            shared.close(0);
            assert_eq!(shared.has(0), left, "{rule:?}");
        }
    }
}

#[test]
fn who_was_admitted_as_an_equal_is_refused_at_the_opening_once_rights_have_come_to_differ() {
    let mut shared = Shared::under(SharedLogins::Refuse);
    assert!(shared.reserve(0, 0, 0) && shared.open(0));
    assert!(shared.reserve(0, 0, SUDO) && shared.open(1));
    assert!(shared.reserve(0, 1, SUDO), "alice has as much");
    shared.close(1);
    assert!(!shared.open(1), "alice has less by now");
    assert_eq!((shared.has(0), shared.known.len()), (0, 1));
}

#[test]
fn what_a_login_would_have_with_one_more_session_is_what_it_then_has() {
    for rule in RULES {
        let mut world = World::new();
        world.registry.configure(terms(rule));
        let asked = with("dev", "bob", GROUP | 4);
        assert_eq!(world.registry.together(&asked), None, "nobody is on it");
        let alice = world.reserve(with("dev", "alice", SUDO | GROUP), 1);
        assert_eq!(
            world.registry.together(&asked),
            None,
            "who is only reserved brings nothing"
        );
        world.open(alice);
        let alone = with("dev", "alice", ALL);
        assert_eq!(
            world.registry.together(&alone),
            None,
            "there is nobody else"
        );
        let together = world.registry.together(&asked).expect("alice is on it");
        assert_eq!(together.others, BTreeSet::from(["alice".to_owned()]));
        assert_eq!(together.shared, rule);
        let bob = world.reserve(asked, 2);
        world.open(bob);
        let has = world.login("dev").expect("published");
        assert_eq!(together.plan, has.plan);
        let expected = match rule {
            SharedLogins::Union => ALL,
            _ => GROUP,
        };
        assert_eq!(rights_of(&together.plan), expected);
    }
}

/// What is shown of them where a record has no room for all their groups: the daemon publishes that instead.
#[test]
fn who_is_shown_without_rights_is_the_same_user_with_the_marker_alone() {
    let mut world = World::new();
    let id = world.reserve(plan("dev", "alice", true), 1);
    world.open(id);
    let published = world.login("dev").expect("has a session").clone();
    let less = published.clone().without_rights();
    let names: Vec<&str> = less.plan.groups.iter().map(|it| it.name.as_ref()).collect();
    assert_eq!(names, [MARKER]);
    assert!(less.plan.sudoers.is_empty() && published.plan.groups.len() > 1);
    assert_eq!((less.plan.uid, less.sessions), (published.plan.uid, 1));
}

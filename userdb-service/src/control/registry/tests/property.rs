//! Whatever happens in whatever order.
//!
//! What must follow from the sessions alone is looked up in them, one by one.

use proptest::prelude::*;

use super::*;

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

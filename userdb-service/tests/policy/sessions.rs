//! Several sessions and several Teleport users on one login.

use userdb_service::policy::decide::{LoginPhase, Reason};
use userdb_service::policy::plan::{Plan, SharedLogins, combine};
use userdb_service::policy::{Decision, may_open, same_request};

use crate::world::{World, login, with};

const ROLES: &str = "[[role]]\nmatch = \"*\"\ncreate-user = true\n[[role]]\nmatch = \"ops\"\nsudo = true\ngroups = [\"ops-team\"]\n[[role]]\nmatch = \"web\"\ngroups = [\"web-team\"]\ndoas = true\n";

fn world(shared: &str) -> World {
    World::new(&format!("logins.shared = \"{shared}\"\n{ROLES}"))
}

fn by(user: &str, roles: &str) -> userdb_service::policy::LoginRequest {
    with(login("deploy", roles), "TELEPORT_USERNAME", user)
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.groups
        .iter()
        .map(|group| group.name.as_ref())
        .collect()
}

#[test]
fn one_teleport_user_may_have_several_role_sets_on_a_login() {
    for shared in ["refuse", "never", "intersect", "union"] {
        let mut world = world(shared);
        let plan = world.plan(&by("ann", "ops"));
        world.open(&plan);
        assert_eq!(world.plan(&by("ann", "web")).uid, plan.uid, "{shared}");
    }
}

#[test]
fn two_teleport_users_share_a_login_only_as_the_configuration_says() {
    for (shared, same, other) in [
        ("refuse", true, false),
        ("never", false, false),
        ("intersect", true, true),
        ("union", true, true),
    ] {
        let mut world = world(shared);
        let plan = world.plan(&by("ann", "ops"));
        world.open(&plan);
        for (roles, joins) in [("ops x", same), ("web", other)] {
            let request = by("bea", roles);
            if joins {
                assert_eq!(world.plan(&request).uid, plan.uid, "{shared} {roles}");
            } else {
                assert_eq!(
                    world.refusal(&request).reason,
                    Reason::Shared,
                    "{shared} {roles}"
                );
            }
        }
    }
}

#[test]
fn a_second_session_may_not_widen_rights_that_were_shared_as_equal() {
    let mut world = world("refuse");
    for user in ["ann", "bea"] {
        let plan = world.plan(&by(user, "ops"));
        world.open(&plan);
    }
    assert_eq!(world.refusal(&by("ann", "web")).reason, Reason::Shared);
    world.plan(&by("ann", "ops"));
}

#[test]
fn remains_without_sessions_are_nobodys_rights() {
    for phase in [
        LoginPhase::Retiring,
        LoginPhase::Terminating,
        LoginPhase::Lingering,
    ] {
        let mut world = world("refuse");
        let plan = world.plan(&by("ann", "ops"));
        world.open(&plan);
        world.occupancy.logins.get_mut("deploy").unwrap().phase = phase;
        assert_eq!(world.plan(&by("bea", "web")).uid, plan.uid, "{phase:?}");
    }
}

#[test]
fn another_spelling_of_a_login_is_another_user_who_waits_for_its_end() {
    let spelt = |given: &str| with(login(given, "ops"), "TELEPORT_USERNAME", "ann");
    for (first, second) in [("Deploy", "deploy"), ("deploy", "Deploy")] {
        let mut world = world("refuse");
        let plan = world.plan(&spelt(first));
        world.open(&plan);
        let mut in_phase = |phase| {
            world.occupancy.logins.get_mut("deploy").unwrap().phase = phase;
            world.decide(&spelt(second))
        };
        for phase in [
            LoginPhase::Reserved,
            LoginPhase::Active,
            LoginPhase::Lingering,
        ] {
            let decision = in_phase(phase);
            assert!(
                matches!(&decision, Decision::Refuse(refusal) if refusal.reason == Reason::Taken),
                "{phase:?}: {decision:?}"
            );
        }
        for phase in [LoginPhase::Retiring, LoginPhase::Terminating] {
            let decision = in_phase(phase);
            let Decision::Grant(other) = decision else {
                panic!("{phase:?}: {decision:?}");
            };
            assert_eq!(other.login, plan.login);
            assert_ne!(other.uid, plan.uid);
        }
    }
}

#[test]
fn the_largest_session_limit_holds_and_counts_the_login() {
    let toml = format!(
        "{ROLES}[[role]]\nmatch = \"two\"\nmax-sessions = 2\n[[role]]\nmatch = \"one\"\nmax-sessions = 1\n"
    );
    let mut world = World::new(&toml);
    for open in 0..3 {
        for (roles, most) in [("one", 1), ("two", 2), ("one two", 2), ("x", 99)] {
            let fits = matches!(world.decide(&by("ann", roles)), Decision::Grant(_));
            assert_eq!(fits, open < most, "{open} sessions, {roles}");
        }
        let plan = world.plan(&by("ann", "x"));
        world.open(&plan);
    }
    assert_eq!(world.refusal(&by("ann", "two")).reason, Reason::Limit);
}

#[test]
fn the_sessions_of_one_login_add_up_to_one_account() {
    let world = world("union");
    let (ops, web, plain) = (
        world.plan(&by("ann", "ops")),
        world.plan(&by("ann", "web")),
        world.plan(&by("ann", "x")),
    );
    let other = world.plan(&by("bea", "web"));
    assert_eq!(combine(&[], SharedLogins::Union), None);

    // One user's rights add up whatever the setting, and shrink when a session ends.
    for shared in [
        SharedLogins::Refuse,
        SharedLogins::Intersect,
        SharedLogins::Union,
        SharedLogins::Never,
    ] {
        let both = combine(&[&ops, &web], shared).unwrap();
        assert_eq!(
            names(&both),
            ["teleport-tmp", "ops-team", "teleport-doas", "web-team"]
        );
        assert!(both.doas && both.sudoers.len() == 1);
        let left = combine(&[&web], shared).unwrap();
        assert_eq!(left.grants(), web.grants());
        assert_eq!(
            combine(&[&plain, &plain], shared).unwrap().grants(),
            plain.grants()
        );
    }

    // Two users': as configured.
    let meet = combine(&[&ops, &other], SharedLogins::Intersect).unwrap();
    assert_eq!(names(&meet), ["teleport-tmp"]);
    assert!(!meet.doas && meet.sudoers.is_empty());
    let join = combine(&[&ops, &other], SharedLogins::Union).unwrap();
    assert_eq!(names(&join).len(), 4);
    assert!(join.doas && join.sudoers.len() == 1);
    // Rights that were equal and are so no more: never more than both have.
    assert_eq!(
        combine(&[&ops, &plain, &other], SharedLogins::Refuse)
            .unwrap()
            .grants(),
        meet.grants()
    );

    // Identity is the first session's.
    assert_eq!(join.gecos, ops.gecos);
    assert_eq!(
        combine(&[&other, &ops], SharedLogins::Union).unwrap().gecos,
        other.gecos
    );
}

#[test]
fn a_live_login_goes_by_the_rule_it_came_into_being_under() {
    let mut old = world("union");
    let plan = old.plan(&by("ann", "ops"));
    old.open(&plan);
    let mut strict = World {
        config: world("never").config,
        ..old.clone()
    };
    assert_eq!(strict.plan(&by("bea", "web")).uid, plan.uid);
    // The next to come into being goes by the new one.
    strict.close_all();
    let plan = strict.plan(&by("ann", "ops"));
    strict.open(&plan);
    assert_eq!(strict.refusal(&by("bea", "ops")).reason, Reason::Shared);
}

#[test]
fn a_reservation_opens_for_the_same_login_and_teleport_user_only() {
    let world = world("union");
    let plan = world.plan(&by("ann", "ops"));
    same_request(&by("ann", "ops"), &plan).expect("the same");
    let other_user = same_request(&by("bea", "ops"), &plan).expect_err("another user");
    let other_login = same_request(
        &with(login("ops-1", "ops"), "TELEPORT_USERNAME", "ann"),
        &plan,
    )
    .expect_err("another login");
    for (refusal, named) in [(other_user, "\"bea\""), (other_login, "\"ops-1\"")] {
        assert_eq!(refusal.reason, Reason::Policy);
        assert!(
            refusal.message.contains(named) && refusal.message.contains("\"ann\""),
            "{refusal:?}"
        );
    }
}

#[test]
fn a_reservation_does_not_open_beside_rights_that_have_come_to_differ() {
    let mut world = world("refuse");
    let (ops, web) = (world.plan(&by("ann", "ops")), world.plan(&by("ann", "web")));
    world.open(&ops);
    let occupant = world.occupancy.logins["deploy"].clone();
    // Admitted as equal, while ann had a second session with more.
    let beas = world.plan(&by("bea", "ops"));
    may_open(&beas, &occupant).expect("equal");
    let mut widened = web.clone();
    widened.teleport_user = "bea".to_owned();
    let refusal = may_open(&widened, &occupant).expect_err("they differ");
    assert_eq!(refusal.reason, Reason::Shared);
    // As many sessions as the limit have been counted at the reservation.
    let limited = Plan {
        max_sessions: Some(1),
        ..beas
    };
    may_open(&limited, &occupant).expect("counted already");
}

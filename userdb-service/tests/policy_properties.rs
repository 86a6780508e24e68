//! The policy under generated logins, Teleport users, roles, templates and configurations: refused,
//! or exactly what is configured. PROPTEST_CASES sets how many; the ordinary run has fewer.

#![allow(missing_docs, unreachable_pub, reason = "test code")]

#[path = "policy/world.rs"]
#[allow(dead_code, reason = "the table tests use more of it")]
mod world;

#[path = "policy_properties/case.rs"]
mod case;
#[path = "policy_properties/cvtsudoers.rs"]
mod cvtsudoers;
#[path = "policy_properties/model.rs"]
mod model;

use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use userdb_service::policy::decide::Decision;
use userdb_service::policy::sudoers::file_name;

use crate::case::Case;

/// Cases in an ordinary run, each with a configuration and a node of its own: some twenty seconds.
const CASES: u32 = if cfg!(debug_assertions) {
    10_000
} else {
    20_000
};

fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn a_login_is_refused_or_given_exactly_what_is_configured() {
    // Over all cases: no two logins share a file.
    let files: RefCell<HashMap<String, String>> = RefCell::default();
    let granted = RefCell::new(0_u32);
    let mut runner = runner();
    let result = runner.run(&case::case(), |case| {
        let mut world = case.world();
        let mut plans = Vec::new();
        for request in case.requests() {
            match world.decide(&request) {
                Decision::Grant(plan) => {
                    model::check_plan(&case, &world, &request, &plan)?;
                    let mut files = files.borrow_mut();
                    if files.len() < 500_000 {
                        let login = files
                            .entry(file_name(&plan.login))
                            .or_insert_with(|| plan.login.to_string());
                        prop_assert_eq!(login.as_str(), plan.login.as_str());
                    }
                    world.open(&plan);
                    plans.push(plan);
                    *granted.borrow_mut() += 1;
                }
                Decision::Refuse(refusal) => {
                    prop_assert!(
                        !refusal.message.contains(char::is_control),
                        "{:?}",
                        refusal.message
                    );
                    prop_assert!(
                        refusal.message.ends_with('.') && refusal.message.len() < 1000,
                        "{:?}",
                        refusal.message
                    );
                }
                Decision::Foreign => {
                    prop_assert!(world.users.iter().any(|user| user.name == request.login))
                }
                other => prop_assert!(false, "unexpected: {:?}", other),
            }
        }
        model::check_together(&plans)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let (granted, cases) = (granted.into_inner(), runner.config().cases);
    println!(
        "{cases} cases, {} logins, {granted} granted",
        cases * Case::LOGINS as u32
    );
    // Else the generator has drifted to where everything is refused, and shows nothing.
    assert!(
        granted > cases / 4,
        "only {granted} of {cases} cases granted"
    );
}

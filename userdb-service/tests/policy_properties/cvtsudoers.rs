//! What sudo itself reads in the files: `cvtsudoers -f json` (package sudo) on a sample of plans.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use userdb_service::policy::Plan;
use userdb_service::policy::decide::Decision;
use userdb_service::policy::sudoers::render;

use crate::case::{SPECS, case};

/// Files in the sample.
const FILES: usize = 10_000;

/// Files that are read in one go. Read together they must still say what they say alone: a line that
/// ran on, or a rule for somebody else, would show in the list.
const TOGETHER: usize = 200;

/// The rules sudo reads in a text.
fn rules(text: &str) -> Vec<Value> {
    let mut child = Command::new("cvtsudoers")
        .args(["-f", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cvtsudoers, of the package sudo, is needed for this test");
    let mut input = child.stdin.take().expect("piped");
    let owned = text.to_owned();
    // Beside the reading, so that neither pipe fills up.
    let writer = std::thread::spawn(move || input.write_all(owned.as_bytes()));
    let output = child.wait_with_output().expect("cvtsudoers runs");
    writer
        .join()
        .expect("no panic")
        .expect("cvtsudoers reads all");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}\nin\n{text}"
    );
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        json.as_object().map(|object| object.len()),
        Some(1),
        "more than rules: {json}"
    );
    json["User_Specs"].as_array().expect("rules").clone()
}

/// The rule a specification is for `login`.
fn rule(specs: &[(&str, Value)], spec: &str, login: &str) -> Value {
    let (_, rule) = specs
        .iter()
        .find(|(known, _)| *known == spec)
        .expect("a specification of the sample");
    let mut rule = rule.clone();
    rule["User_List"] = serde_json::json!([{ "username": login }]);
    rule
}

/// Plans with sudo rights, of logins of all kinds.
fn plans() -> Vec<Plan> {
    let mut runner = TestRunner::deterministic();
    // The roles make and grant, else most cases would show nothing here.
    let strategy = case().prop_map(|mut case| {
        for role in &mut case.roles {
            (role.pattern, role.create, role.sudo) =
                ("*", Some(true), role.sudo || role.specs.is_empty());
        }
        case
    });
    let mut plans = Vec::new();
    while plans.len() < FILES {
        let case = strategy.new_tree(&mut runner).expect("a case").current();
        let world = case.world();
        for request in case.requests() {
            if let Decision::Grant(plan) = world.decide(&request)
                && !plan.sudoers.is_empty()
            {
                plans.push(*plan);
            }
        }
    }
    plans.truncate(FILES);
    plans
}

#[test]
fn sudo_reads_exactly_one_user_with_exactly_the_configured_rules() {
    let specs: Vec<(&str, Value)> = SPECS
        .iter()
        .map(|spec| {
            let rules = rules(&format!("standin {spec}\n"));
            assert_eq!(rules.len(), 1, "{spec}");
            (*spec, rules[0].clone())
        })
        .collect();
    let plans = plans();
    for batch in plans.chunks(TOGETHER) {
        let text: String = batch
            .iter()
            .map(|plan| render(&plan.login, &plan.sudoers))
            .collect();
        let want: Vec<Value> = batch
            .iter()
            .flat_map(|plan| {
                plan.sudoers
                    .iter()
                    .map(|spec| rule(&specs, spec.as_str(), plan.login.as_str()))
            })
            .collect();
        assert_eq!(rules(&text), want);
    }
    // And some alone, as they lie in sudoers.d.
    for plan in plans.iter().step_by(FILES / 50) {
        let want: Vec<Value> = plan
            .sudoers
            .iter()
            .map(|spec| rule(&specs, spec.as_str(), plan.login.as_str()))
            .collect();
        assert_eq!(rules(&render(&plan.login, &plan.sudoers)), want);
    }
}

//! How much is told of what is not granted. What the sentences say is in `sentences`.

use std::collections::BTreeSet;

use userdb_service::policy::config::HomeMode;
use userdb_service::policy::explain::{Explained, explain};
use userdb_service::policy::plan::Plan;
use userdb_service::policy::{Decision, LoginRequest};

use crate::world::{PLAIN, World, login, with};

/// What a directory calls a trait of many groups, none of which may be named here.
fn many_groups() -> LoginRequest {
    let teams: Vec<String> = (0..128)
        .map(|count| format!("CN=Domain-Users-{count}"))
        .collect();
    with(login("alice", "dev"), "TEAMS", &teams.join(" "))
}

/// So many roles that all name groups by that trait, the second half of them each in its own way.
fn roles(count: u32) -> World {
    let role = |number: u32| {
        let suffix = match number < count / 2 {
            true => String::new(),
            false => format!("-{number}"),
        };
        format!("{PLAIN}groups = [\"{{{{env.TEAMS}}}}{suffix}\"]\n")
    };
    World::new(&(0..count).map(role).collect::<String>())
}

#[test]
fn each_note_is_told_once_and_all_of_them_fit_into_an_answer() {
    let world = roles(20);
    let plan = world.plan(&many_groups());
    let different: BTreeSet<&String> = plan.notes.iter().collect();
    assert_eq!(different.len(), plan.notes.len());
    let told: usize = plan.notes.iter().map(String::len).sum();
    // The module reads answers of 256 KiB, in JSON.
    assert!(
        told < 64 << 10,
        "{told} bytes in {} notes",
        plan.notes.len()
    );
    assert_eq!(plan.notes.len(), 65);
    assert_eq!(
        plan.notes[64],
        "1344 more notes about groups are left out; teleport-userdbctl explain tells them."
    );
}

#[test]
fn what_is_left_out_is_told_by_an_explanation() {
    let world = roles(2);
    let mut facts = Default::default();
    let told = loop {
        let told = explain(&world.config, &many_groups(), &facts, &world.occupancy);
        match told {
            Explained::Done(told) => break told,
            Explained::Ask(questions) => facts.answers.extend(
                questions
                    .into_iter()
                    .map(|question| (question.clone(), world.answer(&question))),
            ),
        }
    };
    let steps = told.steps.iter().map(|step| &step.text);
    let left_out = steps.filter(|text| text.starts_with("No membership"));
    assert_eq!(left_out.count(), 2 * 128 - 64);
}

#[test]
fn what_is_not_about_groups_is_told_however_much_there_is_about_them() {
    let mut world = roles(2);
    world.config.home.mode = HomeMode::Persistent;
    world.host.homes = [("alice".to_owned(), 1000)].into();
    let notes = world.plan(&many_groups()).notes;
    assert!(notes.concat().contains("The home is /"), "{notes:?}");
}

#[test]
fn a_login_with_more_variables_than_are_published_is_made_without_the_rest() {
    let names = ('A'..='Z').flat_map(|one| ('A'..='L').map(move |two| format!("{one}{two}")));
    let all: Vec<String> = names.map(|name| format!("\"{name}=\"")).collect();
    let world = World::new(&format!("{PLAIN}environment = [{}]\n", all.join(",")));
    let Plan {
        resources, notes, ..
    } = match world.decide(&login("alice", "dev")) {
        Decision::Grant(plan) => *plan,
        other => panic!("{other:?}"),
    };
    // As many as the account table takes.
    assert_eq!(resources.environment.len(), 255);
    assert_eq!(notes.len(), all.len() - 255);
}

//! Readers in several threads against a writer that never rests: nothing torn, nobody lost who is there throughout.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::TableCell;

const ROUNDS: u32 = 20_000;

/// An account whose every field says the same version, so that a torn copy shows.
fn versioned(login: &str, uid: u32, version: u32) -> AccountSpec {
    AccountSpec {
        gecos: format!("{version:08} ").repeat(1 + version as usize % 40),
        home: format!("/{version:08}"),
        since_usec: version.into(),
        stop_delay_usec: version.into(),
        tasks_max: Some(version.into()),
        environment: vec![format!("V={version:08}")],
        groups: vec![
            group("all", 50),
            group(&format!("g{}", version % 3), 60 + version % 3),
        ],
        ..spec(login, uid, version)
    }
}

fn assert_whole(account: &Account) {
    let version = account.sessions();
    let text = format!("{version:08}");
    assert!(account.gecos().split_whitespace().all(|word| word == text));
    assert_eq!(account.gecos().len(), 9 * (1 + version as usize % 40));
    assert_eq!(account.home(), format!("/{text}"));
    let version = u64::from(version);
    assert_eq!(
        (
            account.since_usec(),
            account.stop_delay_usec(),
            account.tasks_max()
        ),
        (version, version, Some(version))
    );
    assert_eq!(
        account.environment().collect::<Vec<_>>(),
        [format!("V={text}")]
    );
    assert_eq!(account.groups().count(), 2);
}

#[test]
fn permanent_users_are_always_found_whole_while_others_come_and_go_and_the_table_grows() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let cell = TableCell::new(
        Box::leak(scratch.c_path().into_boxed_c_str()),
        scratch.trust,
    );
    for number in 0..4 {
        writer
            .publish(&versioned(&format!("permanent{number}"), 100 + number, 0))
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    let (lookups, busy) = (AtomicU64::new(0), AtomicU64::new(0));
    let reader = |thread: u32| {
        let mut newest = [0; 4];
        let mut round = thread;
        while !stop.load(Ordering::Relaxed) {
            let number = round % 4;
            round = round.wrapping_add(1);
            let table = cell.get().expect("a table");
            let answer = if round.is_multiple_of(2) {
                table.user_by_name(format!("permanent{number}").as_bytes())
            } else {
                table.user_by_uid(100 + number)
            };
            match answer {
                Lookup::Found(account) => {
                    assert_whole(&account);
                    assert_eq!(account.uid(), 100 + number);
                    let newest = &mut newest[number as usize];
                    assert!(
                        account.sessions() >= *newest,
                        "an older state after a newer one"
                    );
                    *newest = account.sessions();
                }
                Lookup::Absent => panic!("permanent{number} is absent"),
                Lookup::Busy => drop(busy.fetch_add(1, Ordering::Relaxed)),
            }
            match table.group_by_name(b"all") {
                Lookup::Found(group) => {
                    let mut listed = Vec::new();
                    let outcome = table.members(&group, |account| {
                        assert_whole(account);
                        listed.push(account.login().to_owned());
                        std::ops::ControlFlow::Continue(())
                    });
                    if outcome == Lookup::Found(()) {
                        let all = listed.len();
                        listed.sort();
                        listed.dedup();
                        assert_eq!(listed.len(), all, "somebody is listed twice");
                        assert_eq!(
                            listed
                                .iter()
                                .filter(|login| login.starts_with("permanent"))
                                .count(),
                            4
                        );
                    } else {
                        assert_eq!(outcome, Lookup::Busy);
                    }
                }
                Lookup::Absent => panic!("the group of permanent users is absent"),
                Lookup::Busy => drop(busy.fetch_add(1, Ordering::Relaxed)),
            }
            if let Lookup::Found(account) =
                table.user_by_name(format!("visitor{}", round % 97).as_bytes())
            {
                assert_whole(&account);
            }
            lookups.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || reader(thread));
        }
        for round in 0..ROUNDS {
            let visitor = round % 97;
            if round / 97 % 2 == 0 {
                writer
                    .publish(&versioned(
                        &format!("visitor{visitor}"),
                        1000 + visitor,
                        round,
                    ))
                    .unwrap();
            } else {
                writer.withdraw(&format!("visitor{visitor}")).unwrap();
            }
            writer
                .publish(&versioned(
                    &format!("permanent{}", round % 4),
                    100 + round % 4,
                    round,
                ))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (lookups, busy) = (lookups.into_inner(), busy.into_inner());
    assert!(
        lookups > 100 && busy * 100 < lookups,
        "{lookups} lookups, {busy} busy"
    );
}

#[test]
fn an_enumeration_under_change_meets_each_permanent_user_once() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let cell = TableCell::new(
        Box::leak(scratch.c_path().into_boxed_c_str()),
        scratch.trust,
    );
    for number in 0..8 {
        writer
            .publish(&versioned(&format!("permanent{number}"), 100 + number, 0))
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (mut cursor, mut permanent) = (crate::Cursor::default(), 0);
                loop {
                    match cell.get().unwrap().next_user(&mut cursor) {
                        Lookup::Found(account) => {
                            assert_whole(&account);
                            permanent += usize::from(account.login().starts_with("permanent"));
                        }
                        Lookup::Absent => break,
                        Lookup::Busy => (),
                    }
                }
                assert_eq!(permanent, 8);
            }
        });
        for round in 0..ROUNDS {
            let visitor = round % 53;
            if round / 53 % 2 == 0 {
                writer
                    .publish(&versioned(
                        &format!("visitor{visitor}"),
                        1000 + visitor,
                        round,
                    ))
                    .unwrap();
            } else {
                writer.withdraw(&format!("visitor{visitor}")).unwrap();
            }
            writer
                .publish(&versioned(
                    &format!("permanent{}", round % 8),
                    100 + round % 8,
                    round,
                ))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

//! Random histories against the simplest possible model: a map from login to what was published last.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::writer::state::Slots;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        user: u32,
        aliases: u8,
        groups: u8,
        size: u16,
        own_gid: bool,
    },
    Withdraw {
        user: u32,
    },
    Reopen,
    KeepEven,
    Shrink,
}

const USERS: u32 = 24;
const GROUPS: u32 = 6;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..USERS, any::<u8>(), any::<u8>(), 0..3000u16, any::<bool>()).prop_map(
            |(user, aliases, groups, size, own_gid)| Step::Publish { user, aliases, groups, size, own_gid }
        ),
        4 => (0..USERS).prop_map(|user| Step::Withdraw { user }),
        1 => Just(Step::Reopen),
        1 => Just(Step::KeepEven),
        1 => Just(Step::Shrink),
    ]
}

fn group_number(number: u32) -> GroupSpec {
    let origins = [
        GroupOrigin::Synthesized,
        GroupOrigin::ForeignFiles,
        GroupOrigin::Foreign,
    ];
    GroupSpec {
        name: format!("group{number}"),
        gid: 500 + number,
        origin: origins[number as usize % 3],
    }
}

fn spec_of(user: u32, aliases: u8, groups: u8, size: u16, own_gid: bool) -> AccountSpec {
    let chosen = |bits: u8, bit: u32| bits >> bit & 1 == 1;
    AccountSpec {
        aliases: (0..4)
            .filter(|&n| chosen(aliases, n))
            .map(|n| format!("alias{n}-{user}"))
            .collect(),
        groups: (0..GROUPS)
            .filter(|&n| chosen(groups, n))
            .map(group_number)
            .collect(),
        gecos: "g".repeat(size.into()),
        gid: if own_gid { 2000 + user } else { 1000 + user },
        ..spec(&format!("user{user}"), 1000 + user, 1)
    }
}

/// Everything a reader can ask must agree with the model.
fn check(table: &Table, model: &BTreeMap<String, AccountSpec>) {
    for user in 0..USERS {
        let login = format!("user{user}");
        let expected = model.get(&login);
        let found = |account: Lookup<Account>| account.found().map(|account| seen(table, &account));
        assert_eq!(
            found(table.user_by_name(login.as_bytes())).as_ref(),
            expected
        );
        assert_eq!(found(table.user_by_uid(1000 + user)).as_ref(), expected);
        for n in 0..4 {
            let alias = format!("alias{n}-{user}");
            let expected = expected.filter(|spec| spec.aliases.contains(&alias));
            assert_eq!(
                found(table.user_by_name(alias.as_bytes())).as_ref(),
                expected
            );
        }
        for gid in [1000 + user, 2000 + user] {
            let expected = expected
                .filter(|spec| spec.gid == gid)
                .map(|spec| spec.login.clone());
            assert_eq!(
                table
                    .group_by_gid(gid)
                    .found()
                    .map(|group| group.name().to_owned()),
                expected
            );
        }
    }
    for number in 0..GROUPS {
        let group = group_number(number);
        let expected: BTreeSet<String> = model
            .values()
            .filter(|spec| spec.groups.contains(&group))
            .map(|spec| spec.login.clone())
            .collect();
        let found = members(table, &group.name);
        assert_eq!(found.is_some(), !expected.is_empty(), "{group:?}");
        let found = found.unwrap_or_default();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(
            table.group_by_gid(group.gid).found().is_some(),
            !expected.is_empty()
        );
    }
    let (mut cursor, mut listed) = (crate::Cursor::default(), Vec::new());
    while let Lookup::Found(account) = table.next_user(&mut cursor) {
        listed.push(account.login().to_owned());
    }
    listed.sort();
    assert_eq!(listed, model.keys().cloned().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_the_model_says_after_every_step(steps in prop::collection::vec(step(), 1..80)) {
        let scratch = Scratch::new();
        let mut writer = scratch.small_writer(4);
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish { user, aliases, groups, size, own_gid } => {
                    let spec = spec_of(user, aliases, groups, size, own_gid);
                    writer.publish(&spec).unwrap();
                    model.insert(spec.login.clone(), spec);
                }
                Step::Withdraw { user } => {
                    let login = format!("user{user}");
                    prop_assert_eq!(writer.withdraw(&login).unwrap(), model.remove(&login).is_some());
                }
                Step::Reopen => {
                    drop(writer);
                    writer = scratch.small_writer(4);
                }
                Step::KeepEven => {
                    let even = |login: &str| login.ends_with(['0', '2', '4', '6', '8']);
                    writer.retain(even);
                    model.retain(|login, _| even(login));
                }
                Step::Shrink => writer.shrink(),
            }
            check(&scratch.table(), &model);
            // Whoever has gone has left nothing in the writer's memory.
            let slots = &writer.state.user_slots;
            prop_assert!(!model.is_empty() || *slots == Slots::default(), "{slots:?}");
        }
    }
}

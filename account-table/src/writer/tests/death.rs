//! A writer that dies before any one of its stores: readers see the old state or the new, and the next writer repairs the rest.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::writer::death;

/// What readers know of each login: by name, alias and uid, and as a member; all ways must agree.
fn state(scratch: &Scratch, login: &str, uid: u32) -> Option<AccountSpec> {
    let table = scratch.table();
    let by_name = table
        .user_by_name(login.as_bytes())
        .found()
        .map(|account| seen(&table, &account));
    let by_uid = table
        .user_by_uid(uid)
        .found()
        .map(|account| seen(&table, &account));
    assert_eq!(by_name, by_uid, "visible under one key and not the other");
    for group in by_name.iter().flat_map(|spec| &spec.groups) {
        let listed = members(&table, &group.name).expect("a live member's group");
        assert_eq!(listed.iter().filter(|member| *member == login).count(), 1);
    }
    for alias in by_name.iter().flat_map(|spec| &spec.aliases) {
        assert!(matches!(
            table.user_by_name(alias.as_bytes()),
            Lookup::Found(_)
        ));
    }
    by_name
}

fn bystander(number: u32) -> AccountSpec {
    let groups = vec![
        group("everyone", 900),
        group(&format!("own{number}"), 901 + number),
    ];
    AccountSpec {
        aliases: vec![format!("b{number}")],
        groups,
        ..spec(&format!("bystander{number}"), 100 + number, 7)
    }
}

fn first_version() -> AccountSpec {
    let groups = vec![group("everyone", 900), group("old", 950)];
    AccountSpec {
        aliases: vec!["x".into(), "y".into()],
        groups,
        ..spec("subject", 500, 1)
    }
}

fn second_version() -> AccountSpec {
    let groups = vec![group("new", 951), group("everyone", 900)];
    AccountSpec {
        aliases: vec!["y".into(), "z".into()],
        gid: 600,
        groups,
        ..spec("subject", 501, 2)
    }
}

/// A table of some bystanders, with the subject as `before` says.
fn prepare(bystanders: u32, before: &Option<AccountSpec>) -> (Scratch, Writer) {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    for number in 0..bystanders {
        writer.publish(&bystander(number)).unwrap();
    }
    if let Some(spec) = before {
        writer.publish(spec).unwrap();
    }
    (scratch, writer)
}

fn subject(scratch: &Scratch) -> Option<AccountSpec> {
    state(scratch, "subject", 500).or_else(|| state(scratch, "subject", 501))
}

/// Performs `change` with every number of stores to live, and checks readers before and after the next writer adopts.
fn dies_anywhere(
    bystanders: u32,
    before: Option<AccountSpec>,
    after: Option<AccountSpec>,
    change: impl Fn(&mut Writer),
) -> u64 {
    for steps in 0.. {
        let (scratch, mut writer) = prepare(bystanders, &before);
        let survived = death::after(steps, || change(&mut writer)).is_some();
        let handle = scratch.table();
        let inode = fs::metadata(scratch.path()).unwrap().ino();
        let left = subject_by_login(&scratch);
        assert!(
            left == before || left == after,
            "after {steps} steps: {left:?}"
        );
        assert!(!survived || left == after);
        check_bystanders(&scratch, bystanders);
        drop(writer);

        // The next writer may die too, before any of its stores.
        for repairs in 0.. {
            let repaired = death::after(repairs, || drop(scratch.writer())).is_some();
            assert_eq!(
                subject_by_login(&scratch),
                left,
                "the repair after {steps} steps changed what was published"
            );
            check_bystanders(&scratch, bystanders);
            if repaired {
                break;
            }
        }
        assert_eq!(
            fs::metadata(scratch.path()).unwrap().ino(),
            inode,
            "adopted in place"
        );
        assert!(!handle.is_retired());

        // Nothing is left of what was half-done: everything can be withdrawn, and nothing remains.
        let mut writer = scratch.writer();
        let table = scratch.table();
        for name in ["old", "new"] {
            let expected = left
                .iter()
                .any(|spec| spec.groups.iter().any(|group| group.name == name));
            assert_eq!(
                table.group_by_name(name.as_bytes()).found().is_some(),
                expected,
                "{name}"
            );
        }
        assert!(fs::read_dir(&scratch.folder).unwrap().count() <= 2);
        writer.publish(&second_version()).unwrap();
        assert_eq!(subject_by_login(&scratch), Some(second_version()));
        writer.retain(|_| false);
        let table = scratch.table();
        for name in ["everyone", "old", "new", "subject", "x", "y", "z"] {
            assert!(matches!(
                table.group_by_name(name.as_bytes()),
                Lookup::Absent
            ));
            assert!(matches!(
                table.user_by_name(name.as_bytes()),
                Lookup::Absent
            ));
        }
        assert!(writer.is_empty_throughout(), "stray hints are left");
        if survived {
            return steps;
        }
    }
    unreachable!("the change ends at some time")
}

/// The subject as found by login; every other way in must agree.
fn subject_by_login(scratch: &Scratch) -> Option<AccountSpec> {
    let table = scratch.table();
    let uid = table
        .user_by_name(b"subject")
        .found()
        .map(|account| account.uid());
    let other = |uid: u32| assert!(matches!(table.user_by_uid(uid), Lookup::Absent));
    match uid {
        Some(500) => other(501),
        Some(501) => other(500),
        _ => (other(500), other(501)).0,
    }
    uid.and_then(|uid| state(scratch, "subject", uid))
        .or_else(|| {
            assert!(subject(scratch).is_none());
            None
        })
}

fn check_bystanders(scratch: &Scratch, bystanders: u32) {
    for number in 0..bystanders {
        assert_eq!(
            state(scratch, &format!("bystander{number}"), 100 + number),
            Some(bystander(number))
        );
    }
}

#[test]
fn a_writer_dying_while_it_publishes_leaves_the_account_absent_or_whole() {
    let steps = dies_anywhere(3, None, Some(first_version()), |writer| {
        let _ = writer.publish(&first_version());
    });
    assert!(steps > 30, "{steps}");
}

#[test]
fn a_writer_dying_while_it_replaces_leaves_the_old_account_or_the_new() {
    dies_anywhere(3, Some(first_version()), Some(second_version()), |writer| {
        let _ = writer.publish(&second_version());
    });
}

#[test]
fn a_writer_dying_while_it_withdraws_leaves_the_account_whole_or_absent() {
    dies_anywhere(3, Some(first_version()), None, |writer| {
        let _ = writer.withdraw("subject");
    });
}

/// What lookups that are not of a live user's own say, and how often the table has changed by then.
fn answers(scratch: &Scratch) -> (Vec<String>, u64) {
    let table = scratch.table();
    let mut found = Vec::new();
    for name in ["subject", "x", "y", "z"] {
        let user = table.user_by_name(name.as_bytes()).found();
        found.extend(user.map(|account| format!("{name} {}", account.uid())));
    }
    for name in ["everyone", "old", "new"] {
        let group = table.group_by_name(name.as_bytes()).found();
        found.extend(group.map(|_| format!("{name} {:?}", members(&table, name))));
    }
    (found, table.changes())
}

#[test]
fn an_answer_from_amid_a_change_is_not_of_the_count_that_holds_after_it() {
    let (first, second) = (Some(first_version()), Some(second_version()));
    type Change = fn(&mut Writer);
    let changes: [(_, Change); 3] = [
        (None, |writer| writer.publish(&first_version()).unwrap()),
        (first, |writer| writer.publish(&second_version()).unwrap()),
        (second, |writer| {
            assert!(writer.withdraw("subject").unwrap())
        }),
    ];
    for (before, change) in changes {
        // From where it is counted is by chance.
        let made = |steps: u64| {
            let (scratch, mut writer) = prepare(0, &before);
            let (_, start) = answers(&scratch);
            let survived = death::after(steps, || change(&mut writer)).is_some();
            let (found, count) = answers(&scratch);
            (found, count.wrapping_sub(start), survived)
        };
        let (after, count, _) = made(u64::MAX);
        for steps in 0.. {
            let (amid, counted, survived) = made(steps);
            assert!(
                amid == after || counted != count,
                "after {steps} steps {amid:?} would be kept, and {after:?} holds"
            );
            if survived {
                break;
            }
        }
    }
}

#[test]
fn a_writer_dying_while_the_table_grows_loses_nobody() {
    let full: u32 = 7;
    let change = |writer: &mut Writer| {
        let _ = writer.publish(&first_version());
    };
    // Seven with two names each and one with one: of the sixteen names that fit, the change would be three more.
    for steps in (0..).step_by(13) {
        let (scratch, mut writer) = prepare(full, &None);
        writer.publish(&spec("last", 400, 1)).unwrap();
        let handle = scratch.table();
        let survived = death::after(steps, || change(&mut writer)).is_some();
        let left = subject_by_login(&scratch);
        assert!(left.is_none() || left == Some(first_version()));
        check_bystanders(&scratch, full);
        drop(writer);
        let writer = scratch.writer();
        assert_eq!(subject_by_login(&scratch), left);
        check_bystanders(&scratch, full);
        assert!(writer.logins().len() > full as usize);
        let current = scratch.table();
        assert!(
            !current.is_retired(),
            "the table under the path is the one to read"
        );
        let moved = fs::metadata(scratch.path()).unwrap().len() > 16384;
        assert!(
            handle.is_retired() || !moved,
            "readers of a file that has a successor are told"
        );
        if survived {
            return assert!(moved, "the table has not grown");
        }
    }
}

//! Tables of many sizes: the shape arithmetic, growth, and what does not fit.

use super::*;
use crate::WriteError;
use crate::layout::{Geometry, Index, K_MAX, K_MIN, MAX_LINES, PAGE, Place};

#[test]
fn regions_of_every_geometry_follow_each_other_and_end_with_the_file() {
    for k in K_MIN..=K_MAX {
        let geometry = Geometry::new(k).unwrap();
        let slots = geometry.slots() as u32;
        assert_eq!(geometry.user_head(slots), None);
        assert_eq!(
            geometry.group_head(0),
            geometry.user_head(slots - 1).map(|head| head + 1)
        );
        let mut end = geometry.group_head(slots - 1).unwrap() + 1;
        for index in Index::ALL {
            assert_eq!(geometry.index_base(index), end);
            end += geometry.index_size();
        }
        let (heap, _) = geometry.words_of(Place::new(0, 1)).unwrap();
        assert_eq!((heap, heap % 8), (end, 0));
        let lines = geometry.heap_lines() as u32;
        let (last, count) = geometry
            .words_of(Place::new(lines - MAX_LINES, MAX_LINES))
            .unwrap();
        assert!(last + count <= geometry.total_words());
        assert_eq!(geometry.file_size() % PAGE, 0);
        for outside in [
            Place::new(lines, 1),
            Place::new(lines - 1, 2),
            Place::new(0, 0),
            Place::new(0, 65),
        ] {
            assert_eq!(geometry.words_of(outside), None);
        }
    }
    assert!(Geometry::new(K_MIN - 1).is_none() && Geometry::new(K_MAX + 1).is_none());
}

#[test]
fn sizes_of_different_geometries_differ() {
    let sizes: Vec<usize> = (K_MIN..=K_MAX)
        .map(|k| Geometry::new(k).unwrap().file_size())
        .collect();
    assert!(sizes.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_table_grows_from_sixteen_users_to_thousands_and_loses_nobody() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    for number in 0..3000 {
        let groups = vec![
            group("all", 50),
            group(&format!("g{}", number % 700), 100 + number % 700),
        ];
        let aliases = vec![format!("alias{number}"), format!("other{number}")];
        let user = AccountSpec {
            aliases,
            groups,
            ..spec(&format!("user{number}"), 10_000 + number, 1)
        };
        writer.publish(&user).unwrap();
    }
    let table = scratch.table();
    for number in 0..3000 {
        let account = table
            .user_by_name(format!("other{number}").as_bytes())
            .found()
            .unwrap();
        assert_eq!(
            (account.uid(), account.groups().count()),
            (10_000 + number, 2)
        );
    }
    assert_eq!(members(&table, "all").unwrap().len(), 3000);
    for number in 0..700 {
        assert!(members(&table, &format!("g{number}")).unwrap().len() >= 4);
    }
}

#[test]
fn many_large_accounts_make_the_table_grow_for_want_of_room() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    for number in 0..16 {
        let user = AccountSpec {
            gecos: "x".repeat(3900),
            ..spec(&format!("user{number}"), 1000 + number, 1)
        };
        writer.publish(&user).unwrap();
        writer.publish(&user).unwrap();
    }
    assert_eq!(writer.logins().len(), 16);
    let table = scratch.table();
    assert!((0..16).all(|number| table.user_by_uid(1000 + number).found().is_some()));
}

#[test]
fn churn_in_a_table_of_constant_content_does_not_make_it_grow() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(6);
    let size = || std::fs::metadata(scratch.path()).unwrap().len();
    let before = size();
    for round in 0..5000u32 {
        let number = round % 40;
        let groups = vec![group("all", 50), group(&format!("g{number}"), 100 + number)];
        let gecos = "x".repeat((round as usize * 37) % 300);
        writer
            .publish(&AccountSpec {
                groups,
                gecos,
                ..spec(&format!("user{number}"), 1000 + number, 1)
            })
            .unwrap();
        if round % 3 == 0 {
            writer
                .withdraw(&format!("user{}", (number + 17) % 40))
                .unwrap();
        }
    }
    assert_eq!(size(), before);
}

#[test]
fn more_groups_of_one_name_than_a_walk_may_meet_are_refused_and_change_nothing() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(10);
    let groups =
        |range: std::ops::Range<u32>| range.map(|gid| group("same", gid)).collect::<Vec<_>>();
    writer
        .publish(&AccountSpec {
            groups: groups(1..101),
            ..spec("alice", 1000, 1)
        })
        .unwrap();
    let error = writer
        .publish(&AccountSpec {
            groups: groups(101..301),
            ..spec("bob", 1001, 1)
        })
        .unwrap_err();
    assert!(matches!(error, WriteError::Full), "{error}");
    let table = scratch.table();
    assert_eq!(
        table
            .user_by_name(b"alice")
            .found()
            .unwrap()
            .groups()
            .count(),
        100
    );
    assert!(matches!(table.user_by_name(b"bob"), Lookup::Absent));
    assert!(matches!(table.group_by_gid(200), Lookup::Absent));
    writer.publish(&spec("bob", 1001, 1)).unwrap();
}

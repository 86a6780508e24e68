//! One reader, one writer, one thing at a time.

use super::*;
use crate::{Cursor, Disposition, TableCell, WriteError};

pub(super) fn full_spec() -> AccountSpec {
    AccountSpec {
        login: "zoë".into(),
        aliases: vec!["Zoë@example.com".into(), "z".into()],
        uid: 0x7000_0001,
        gid: 0x7000_0002,
        gecos: "User zoe with roles dev ops, created by Teleport.".into(),
        home: "/home/zoë".into(),
        shell: "/bin/zsh".into(),
        locked: true,
        since_usec: 1_700_000_000_000_000,
        sessions: 3,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Regular,
        tasks_max: Some(512),
        memory_max: Some(u64::MAX),
        cpu_weight: Some(0),
        umask: Some(0o027),
        environment: vec!["LANG=de_DE.UTF-8".into(), "EMPTY=".into()],
        groups: vec![
            group("teleport-tmp", 0x7000_1000),
            GroupSpec {
                name: "docker".into(),
                gid: 998,
                origin: GroupOrigin::ForeignFiles,
            },
            GroupSpec {
                name: "ldap-admins".into(),
                gid: 70_000,
                origin: GroupOrigin::Foreign,
            },
        ],
    }
}

#[test]
fn everything_published_can_be_read_back_by_every_key() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let spec = full_spec();
    writer.publish(&spec).unwrap();
    let table = scratch.table();
    for name in ["zoë", "Zoë@example.com", "z"] {
        let account = table.user_by_name(name.as_bytes()).found().unwrap();
        assert_eq!(seen(&table, &account), spec);
    }
    assert_eq!(
        seen(&table, &table.user_by_uid(spec.uid).found().unwrap()),
        spec
    );

    let private = table.group_by_name("zoë".as_bytes()).found().unwrap();
    assert!(private.private() && private.gid() == spec.gid && private.name() == "zoë");
    assert_eq!(table.group_by_gid(spec.gid).found().unwrap().name(), "zoë");
    assert!(
        table.group_by_name(b"z").found().is_none(),
        "an alias is no group"
    );
    assert!(
        table.user_by_uid(spec.gid).found().is_none(),
        "a gid is no uid"
    );
    assert!(
        table.group_by_gid(spec.uid).found().is_none(),
        "a uid is no gid"
    );
    for shared in &spec.groups {
        let by_name = table.group_by_name(shared.name.as_bytes()).found().unwrap();
        let by_gid = table.group_by_gid(shared.gid).found().unwrap();
        assert_eq!(
            (by_name.gid(), by_name.origin(), by_name.private()),
            (shared.gid, shared.origin, false)
        );
        assert_eq!(by_gid.name(), shared.name);
        assert_eq!(members(&table, &shared.name), Some(vec!["zoë".to_owned()]));
    }
}

#[test]
fn nothing_is_found_that_was_not_published() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.publish(&spec("alice", 1000, 1)).unwrap();
    let table = scratch.table();
    for name in [
        &b""[..],
        b"alic",
        b"alice\0",
        b"alicee",
        b"\xff\xfe",
        &[b'a'; 5000],
    ] {
        assert!(matches!(table.user_by_name(name), Lookup::Absent));
        assert!(matches!(table.group_by_name(name), Lookup::Absent));
    }
    for id in [0, 1, 999, 1001, u32::MAX] {
        assert!(matches!(table.user_by_uid(id), Lookup::Absent));
        assert!(matches!(table.group_by_gid(id), Lookup::Absent));
    }
}

#[test]
fn a_withdrawn_account_is_gone_under_every_key_and_its_groups_with_it() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let zoe = full_spec();
    writer.publish(&zoe).unwrap();
    let table = scratch.table();
    assert_eq!(writer.uid_of("zoë"), Some(zoe.uid));
    assert!(writer.withdraw("zoë").unwrap());
    assert!(!writer.withdraw("zoë").unwrap());
    for name in ["zoë", "z", "Zoë@example.com"] {
        assert!(matches!(
            table.user_by_name(name.as_bytes()),
            Lookup::Absent
        ));
    }
    assert!(matches!(table.user_by_uid(zoe.uid), Lookup::Absent));
    for group in &zoe.groups {
        assert!(matches!(
            table.group_by_name(group.name.as_bytes()),
            Lookup::Absent
        ));
        assert!(matches!(table.group_by_gid(group.gid), Lookup::Absent));
    }
    assert!(writer.logins().is_empty());
}

#[test]
fn an_alias_does_not_withdraw_its_account() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.publish(&full_spec()).unwrap();
    assert!(!writer.withdraw("z").unwrap());
    assert_eq!(writer.uid_of("z"), None);
    assert_eq!(writer.logins(), ["zoë"]);
}

#[test]
fn a_replacement_drops_the_keys_only_the_old_account_had() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let mut zoe = full_spec();
    writer.publish(&zoe).unwrap();
    let table = scratch.table();
    zoe.aliases = vec!["zo".into()];
    zoe.uid = 5000;
    zoe.groups.remove(0);
    writer.publish(&zoe).unwrap();
    assert!(matches!(table.user_by_name(b"z"), Lookup::Absent));
    assert!(matches!(table.user_by_uid(0x7000_0001), Lookup::Absent));
    assert_eq!(members(&table, "teleport-tmp"), None);
    assert_eq!(
        seen(&table, &table.user_by_name(b"zo").found().unwrap()),
        zoe
    );
    assert_eq!(writer.logins().len(), 1);
}

#[test]
fn shared_groups_list_each_member_once_and_end_with_the_last() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let dev = group("dev", 3000);
    for number in 0..600 {
        let mut user = spec(&format!("user{number}"), 10_000 + number, 1);
        user.groups = vec![dev.clone(), dev.clone()];
        writer.publish(&user).unwrap();
    }
    let table = scratch.table();
    let mut logins = members(&table, "dev").unwrap();
    logins.sort();
    logins.dedup();
    assert_eq!(logins.len(), 600);
    for number in 0..599 {
        writer.withdraw(&format!("user{number}")).unwrap();
    }
    assert_eq!(members(&table, "dev"), Some(vec!["user599".to_owned()]));
    writer.withdraw("user599").unwrap();
    assert_eq!(members(&table, "dev"), None);
}

#[test]
fn a_synthesized_group_is_found_before_a_foreign_one_of_the_same_name() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let foreign = GroupSpec {
        name: "dev".into(),
        gid: 50,
        origin: GroupOrigin::ForeignFiles,
    };
    for (login, uid, dev) in [
        ("a", 1001, foreign.clone()),
        ("b", 1002, group("dev", 3000)),
        ("c", 1003, foreign),
    ] {
        writer
            .publish(&AccountSpec {
                groups: vec![dev],
                ..spec(login, uid, 1)
            })
            .unwrap();
    }
    let table = scratch.table();
    assert_eq!(table.group_by_name(b"dev").found().unwrap().gid(), 3000);
    assert_eq!(
        table.group_by_gid(50).found().unwrap().origin(),
        GroupOrigin::ForeignFiles
    );
    writer.withdraw("b").unwrap();
    assert_eq!(table.group_by_name(b"dev").found().unwrap().gid(), 50);
}

#[test]
fn keys_of_another_account_are_refused_and_change_nothing() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let zoe = full_spec();
    writer.publish(&zoe).unwrap();
    let mine = spec("alice", 1000, 1);
    for taken in [
        AccountSpec {
            login: "z".into(),
            ..mine.clone()
        },
        AccountSpec {
            aliases: vec!["zoë".into()],
            ..mine.clone()
        },
        AccountSpec {
            uid: zoe.uid,
            ..mine.clone()
        },
        AccountSpec {
            gid: zoe.gid,
            ..mine.clone()
        },
    ] {
        let error = writer.publish(&taken).unwrap_err();
        assert!(
            matches!(&error, WriteError::Taken { by, .. } if by == "zoë"),
            "{error}"
        );
    }
    let table = scratch.table();
    assert!(matches!(table.user_by_name(b"alice"), Lookup::Absent));
    assert_eq!(
        seen(&table, &table.user_by_name(b"z").found().unwrap()),
        zoe
    );
    writer.publish(&mine).unwrap();
}

#[test]
fn what_cannot_stand_in_a_passwd_line_is_refused() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let fine = spec("alice", 1000, 1);
    let long = "x".repeat(256);
    for wrong in [
        AccountSpec {
            login: String::new(),
            ..fine.clone()
        },
        AccountSpec {
            login: "a:b".into(),
            ..fine.clone()
        },
        AccountSpec {
            login: long.clone(),
            ..fine.clone()
        },
        AccountSpec {
            aliases: vec!["a\nb".into()],
            ..fine.clone()
        },
        AccountSpec {
            aliases: vec![String::new()],
            ..fine.clone()
        },
        AccountSpec {
            gecos: "a:b".into(),
            ..fine.clone()
        },
        AccountSpec {
            home: "/a\0b".into(),
            ..fine.clone()
        },
        AccountSpec {
            shell: "/bin/sh\n".into(),
            ..fine.clone()
        },
        AccountSpec {
            uid: 0,
            ..fine.clone()
        },
        AccountSpec {
            gid: u32::MAX,
            ..fine.clone()
        },
        AccountSpec {
            environment: vec!["novalue".into()],
            ..fine.clone()
        },
        AccountSpec {
            groups: vec![group("a,b", 5)],
            ..fine.clone()
        },
        AccountSpec {
            groups: vec![group(&long, 5)],
            ..fine.clone()
        },
        AccountSpec {
            groups: vec![group("dev", u32::MAX)],
            ..fine.clone()
        },
        AccountSpec {
            gecos: "x".repeat(4096),
            ..fine.clone()
        },
        AccountSpec {
            home: "x".repeat(70_000),
            ..fine.clone()
        },
        AccountSpec {
            environment: vec!["A=1".into(); 256],
            ..fine.clone()
        },
        AccountSpec {
            groups: (1..=600)
                .map(|gid| group(&format!("g{gid}"), gid))
                .collect(),
            ..fine.clone()
        },
    ] {
        let error = writer.publish(&wrong).unwrap_err();
        assert!(
            matches!(error, WriteError::Unfit { .. } | WriteError::TooLong { .. }),
            "{error}"
        );
    }
    assert!(writer.logins().is_empty());
    assert!(matches!(
        scratch.table().user_by_name(b"alice"),
        Lookup::Absent
    ));
}

#[test]
fn records_of_every_size_survive_up_to_the_largest() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let table = |scratch: &Scratch| scratch.table();
    let mut longest = 0;
    for length in (0..4096).step_by(7).chain(3900..4096) {
        let user = AccountSpec {
            gecos: "é".repeat(length / 2),
            ..spec("alice", 1000, 1)
        };
        match writer.publish(&user) {
            Ok(()) => {
                longest = longest.max(user.gecos.len());
                let table = table(&scratch);
                assert_eq!(
                    seen(&table, &table.user_by_uid(1000).found().unwrap()),
                    user
                );
            }
            Err(WriteError::TooLong { what: "GECOS", .. }) => {
                assert!(length > 3900, "{length} is not too long")
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(longest > 3950, "{longest}");
}

#[test]
fn enumeration_lists_everyone_once_and_goes_on_across_growth() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    for number in 0..10 {
        let dev = group(&format!("group{number}"), 100 + number);
        writer
            .publish(&AccountSpec {
                groups: vec![dev],
                ..spec(&format!("user{number}"), 1000 + number, 1)
            })
            .unwrap();
    }
    let cell = TableCell::new(
        Box::leak(scratch.c_path().into_boxed_c_str()),
        scratch.trust,
    );
    let (mut cursor, mut listed) = (Cursor::default(), Vec::new());
    while let Lookup::Found(account) = cell.get().unwrap().next_user(&mut cursor) {
        listed.push(account.login().to_owned());
        if listed.len() == 5 {
            for number in 10..200 {
                writer
                    .publish(&spec(&format!("user{number}"), 1000 + number, 1))
                    .unwrap();
            }
        }
    }
    let unique: std::collections::BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!((listed.len(), unique.len()), (200, 200));
    let (mut cursor, mut groups) = (Cursor::default(), 0);
    while let Lookup::Found(_) = cell.get().unwrap().next_group(&mut cursor) {
        groups += 1;
    }
    assert_eq!(groups, 10);
}

#[test]
fn a_version_is_that_of_one_record_and_changes_with_it_alone() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    for number in 0..3 {
        let spec = spec(&format!("user{number}"), 1000 + number, 1);
        writer.publish(&spec).unwrap();
    }
    writer.withdraw("user1").unwrap();
    let table = scratch.table();
    let versions = || {
        let (mut cursor, mut versions) = (Cursor::default(), Vec::new());
        while let Lookup::Found(version) = table.next_version(&mut cursor) {
            versions.push(version);
        }
        versions
    };
    let version = |name: &str| {
        table
            .user_by_name(name.as_bytes())
            .found()
            .unwrap()
            .version()
    };
    let before = versions();
    assert_eq!(before, [version("user0"), version("user2")]);
    writer.publish(&spec("user2", 1002, 2)).unwrap();
    writer.publish(&spec("user1", 1001, 1)).unwrap();
    let after = versions();
    assert_eq!((after.len(), after[0]), (3, before[0]));
    assert!(!after.contains(&before[1]));
    let mut slots: Vec<u32> = after.iter().map(|version| version.slot).collect();
    slots.dedup();
    assert_eq!(slots.len(), 3);
}

#[test]
fn changes_are_counted_after_each_and_across_growth() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let cell = TableCell::new(
        Box::leak(scratch.c_path().into_boxed_c_str()),
        scratch.trust,
    );
    let mut last = cell.get().unwrap().changes();
    for number in 0..100 {
        writer
            .publish(&spec(&format!("user{number}"), 1000 + number, 1))
            .unwrap();
        let now = cell.get().unwrap().changes();
        assert_ne!(now, last);
        last = now;
    }
    writer.withdraw("user3").unwrap();
    assert_ne!(cell.get().unwrap().changes(), last);
}

#[test]
fn a_reader_follows_the_file_being_replaced_but_a_handle_says_it_is_retired() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let handle = scratch.table();
    let cell = TableCell::new(
        Box::leak(scratch.c_path().into_boxed_c_str()),
        scratch.trust,
    );
    assert!(matches!(
        cell.get().unwrap().user_by_name(b"user99"),
        Lookup::Absent
    ));
    for number in 0..100 {
        writer
            .publish(&spec(&format!("user{number}"), 1000 + number, 1))
            .unwrap();
    }
    assert!(handle.is_retired());
    assert!(matches!(
        cell.get().unwrap().user_by_name(b"user99"),
        Lookup::Found(_)
    ));
}

//! The entry points called as glibc calls them, without glibc: every buffer length, every way to ask, every state of the table.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use crate::rig::{
    BOTH, Module, NOT_FOUND, OURS_ONLY, SUCCESS, TRY_AGAIN, alone, group, spec, table_path, writer,
};
use account_table::{AccountSpec, GroupOrigin};

#[test]
fn an_account_is_told_by_login_alias_and_uid() {
    alone(BOTH, &[], || {
        let mut writer = writer();
        writer
            .publish(&AccountSpec {
                aliases: vec!["Alice".into()],
                gid: 1001,
                ..spec("alice", 1000)
            })
            .unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        let expected = crate::rig::User {
            name: "alice".into(),
            password: "*".into(),
            uid: 1000,
            gid: 1001,
            gecos: "User alice".into(),
            home: "/run/teleport-userdb/home/alice".into(),
            shell: "/bin/bash".into(),
        };
        for reply in [
            module.user("alice", &mut buffer.clone()),
            module.user("Alice", &mut buffer.clone()),
            module.user_by_id(1000, &mut buffer),
        ] {
            assert_eq!(
                reply,
                crate::rig::Reply {
                    status: SUCCESS,
                    errno: 0,
                    entry: Some(expected.clone())
                }
            );
        }
        let private = module.group_by_id(1001, &mut buffer).entry.unwrap();
        assert_eq!(
            (
                private.name.as_str(),
                private.password.as_str(),
                private.members.len()
            ),
            ("alice", "x", 0)
        );
        assert_eq!(module.group("alice", &mut buffer).entry.unwrap(), private);
    });
}

#[test]
fn whoever_is_unknown_is_not_found_and_errno_is_left_alone() {
    alone(BOTH, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        let unknown = crate::rig::Reply {
            status: NOT_FOUND,
            errno: 0,
            entry: None,
        };
        for name in ["bob", "", "alic", &"a".repeat(100_000)] {
            assert_eq!(module.user(name, &mut buffer), unknown);
            assert_eq!(module.group(name, &mut buffer).status, NOT_FOUND);
        }
        for id in [0, 999, u32::MAX] {
            assert_eq!(module.user_by_id(id, &mut buffer), unknown);
            assert_eq!(module.group_by_id(id, &mut buffer).status, NOT_FOUND);
        }
        assert_eq!(
            module.init_groups("bob", 5, &[5], 1, -1),
            (NOT_FOUND, vec![5], 1)
        );
    });
}

#[test]
fn an_absent_or_broken_table_is_not_found_until_there_is_a_good_one() {
    alone(BOTH, &[], || {
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        assert_eq!(module.user("alice", &mut buffer).status, NOT_FOUND);
        for garbage in [
            vec![],
            vec![0],
            vec![0xff; 4096],
            vec![0xff; 700_000],
            vec![0; 16384],
        ] {
            fs::write(table_path(), garbage).unwrap();
            assert_eq!(module.user("alice", &mut buffer).status, NOT_FOUND);
        }
        let mut writer = writer();
        writer.publish(&spec("alice", 1000)).unwrap();
        assert_eq!(module.user("alice", &mut buffer).status, SUCCESS);
        writer.withdraw("alice").unwrap();
        assert_eq!(module.user("alice", &mut buffer).status, NOT_FOUND);
    });
}

#[test]
fn a_process_out_of_descriptors_is_told_to_try_again() {
    alone(BOTH, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        crate::rig::allow_descriptors(false);
        let reply = module.user("alice", &mut buffer);
        crate::rig::allow_descriptors(true);
        assert_eq!((reply.status, reply.errno), (TRY_AGAIN, libc::EAGAIN));
        assert_eq!(module.user("alice", &mut buffer).status, SUCCESS);
        crate::rig::allow_descriptors(false);
        let reply = module.user("alice", &mut buffer);
        crate::rig::allow_descriptors(true);
        assert_eq!(reply.status, SUCCESS, "a mapped table needs no descriptor");
    });
}

#[test]
fn buffers_of_every_length_and_alignment_get_all_or_nothing() {
    alone(BOTH, &[], || {
        let mut writer = writer();
        let dev = group("development", 3000, GroupOrigin::Synthesized);
        for number in 0..40 {
            let user = AccountSpec {
                groups: vec![dev.clone()],
                ..spec(&format!("user{number:02}"), 1000 + number)
            };
            writer.publish(&user).unwrap();
        }
        let module = Module::load();
        let mut space = vec![0u8; 4096 + 16];
        let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for offset in 0..8 {
            let mut was = [false; 2];
            for length in 0..=4096 {
                space.fill(0x5a);
                let user = module.user("user07", &mut space[offset..offset + length]);
                let group = module.group("development", &mut space[offset..offset + length]);
                assert!(
                    space[..offset]
                        .iter()
                        .chain(&space[offset + length..])
                        .all(|&byte| byte == 0x5a)
                );
                for (now, (status, errno)) in was
                    .iter_mut()
                    .zip([(user.status, user.errno), (group.status, group.errno)])
                {
                    match status {
                        SUCCESS => *now = true,
                        status => {
                            assert_eq!((status, errno, *now), (TRY_AGAIN, libc::ERANGE, false))
                        }
                    }
                }
                users.extend(user.entry);
                groups.extend(group.entry);
            }
            assert_eq!(was, [true, true]);
        }
        assert_eq!(
            (users.len(), groups.len()),
            (1, 1),
            "every success is the same answer"
        );
        assert_eq!(groups.first().unwrap().members.len(), 40);
    });
}

#[test]
fn five_thousand_members_fit_once_the_buffer_is_large_enough() {
    alone(BOTH, &[], || {
        let mut writer = writer();
        let all = group("everyone", 3000, GroupOrigin::Synthesized);
        let mut logins = BTreeSet::new();
        for number in 0..5000 {
            let login = format!("user{number}");
            writer
                .publish(&AccountSpec {
                    groups: vec![all.clone()],
                    ..spec(&login, 10_000 + number)
                })
                .unwrap();
            logins.insert(login);
        }
        let module = Module::load();
        let mut buffer = vec![0; 1 << 20];
        for length in (0..4096).chain([1 << 14, 1 << 15, 1 << 16]) {
            let reply = module.group("everyone", &mut buffer[..length]);
            assert_eq!(
                (reply.status, reply.errno),
                (TRY_AGAIN, libc::ERANGE),
                "{length}"
            );
        }
        let everyone = module.group_by_id(3000, &mut buffer).entry.unwrap();
        assert_eq!(everyone.members.len(), 5000);
        assert_eq!(
            everyone.members.into_iter().collect::<BTreeSet<_>>(),
            logins
        );
    });
}

#[test]
fn groups_of_others_are_told_only_where_files_provides_them() {
    alone(BOTH, &[], || {
        let groups = vec![
            group("docker", 998, GroupOrigin::ForeignFiles),
            group("ldap", 70_000, GroupOrigin::Foreign),
            group("teleport-tmp", 80_000, GroupOrigin::Synthesized),
        ];
        writer()
            .publish(&AccountSpec {
                groups,
                ..spec("alice", 1000)
            })
            .unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        assert_eq!(
            module.group("docker", &mut buffer).entry.unwrap().members,
            ["alice"]
        );
        assert_eq!(
            module
                .group_by_id(80_000, &mut buffer)
                .entry
                .unwrap()
                .members,
            ["alice"]
        );
        assert_eq!(module.group("ldap", &mut buffer).status, NOT_FOUND);
        assert_eq!(module.group_by_id(70_000, &mut buffer).status, NOT_FOUND);
        assert_eq!(
            module.init_groups("alice", 1000, &[1000], 1, -1).1,
            [1000, 998, 70_000, 80_000]
        );
    });
}

/// Few groups and many are read in different ways, and so are login and alias; the number that fits the first way is 16.
#[test]
fn everybody_has_all_of_the_groups_however_many_they_are() {
    alone(BOTH, &[], || {
        let mut writer = writer();
        for count in [0, 1, 15, 16, 17, 40, 200] {
            let all: Vec<u32> = (3000..3000 + count).collect();
            let groups = all
                .iter()
                .map(|&gid| group(&format!("g{gid}"), gid, GroupOrigin::Synthesized));
            writer
                .publish(&AccountSpec {
                    aliases: vec!["Alice".into()],
                    groups: groups.collect(),
                    ..spec("alice", 1000)
                })
                .unwrap();
            for name in ["alice", "Alice"] {
                let (status, mut told, _) = Module::load().init_groups(name, 1000, &[1000], 1, -1);
                told.sort_unstable();
                let expected: Vec<u32> = [1000].into_iter().chain(all.iter().copied()).collect();
                assert_eq!((status, told), (SUCCESS, expected), "{count} groups");
            }
        }
    });
}

#[test]
fn initgroups_honours_array_limit_and_primary_group() {
    alone(BOTH, &[], || {
        let gids = 2000..2020;
        let groups = gids
            .clone()
            .map(|gid| group(&format!("g{gid}"), gid, GroupOrigin::Synthesized))
            .collect();
        let mut writer = writer();
        writer
            .publish(&AccountSpec {
                aliases: vec!["Alice".into()],
                groups,
                ..spec("alice", 1000)
            })
            .unwrap();
        writer.publish(&spec("bob", 1001)).unwrap();
        let module = Module::load();
        let all: Vec<u32> = [1000].into_iter().chain(gids).collect();
        for size in [1, 2, 20, 21, 64] {
            let (status, groups, room) = module.init_groups("alice", 1000, &[1000], size, -1);
            assert_eq!((status, &groups), (SUCCESS, &all));
            assert!(
                room >= 21 && (size < 21 || room == size),
                "an array that suffices is left alone"
            );
        }
        assert_eq!(module.init_groups("Alice", 1000, &[1000], 1, 0).1, all);
        assert_eq!(
            module
                .init_groups("alice", 2003, &[2003, 2001], 2, -1)
                .1
                .len(),
            20,
            "neither doubled"
        );
        for limit in 1..=21 {
            let (status, groups, room) = module.init_groups("alice", 1000, &[1000], 1, limit);
            assert_eq!((status, groups), (SUCCESS, all[..limit as usize].to_vec()));
            assert!(room as i64 <= limit);
        }
        assert_eq!(
            module.init_groups("bob", 1001, &[1001], 1, -1),
            (SUCCESS, vec![1001], 1)
        );
    });
}

#[test]
fn a_process_that_bypasses_our_service_sees_nothing_of_us() {
    let list = [(
        "SYSTEMD_BYPASS_USERDB",
        "io.systemd.Home:com.goteleport.DynamicUser",
    )];
    alone(OURS_ONLY, &list, || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        assert_eq!(module.user("alice", &mut buffer).status, NOT_FOUND);
        assert_eq!(module.group_by_id(1000, &mut buffer).status, NOT_FOUND);
        assert_eq!(module.next_user(&mut buffer).status, NOT_FOUND);
        assert_eq!(module.init_groups("alice", 1000, &[], 1, -1).0, NOT_FOUND);
    });
}

#[test]
fn other_bypass_lists_and_later_changes_of_the_environment_do_not_silence_us() {
    let list = [(
        "SYSTEMD_BYPASS_USERDB",
        "io.systemd.NameServiceSwitch:io.systemd.Multiplexer:io.systemd.DropIn",
    )];
    alone(BOTH, &list, || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        assert_eq!(module.user("alice", &mut buffer).status, SUCCESS);
    });
}

#[test]
fn threads_and_forks_see_every_present_user_whatever_the_writer_does() {
    alone(BOTH, &[], || {
        let mut writer = writer();
        let dev = group("dev", 3000, GroupOrigin::Synthesized);
        let permanent = |version: u32| AccountSpec {
            groups: vec![dev.clone()],
            gecos: format!("version {version}"),
            ..spec("permanent", 1000)
        };
        writer.publish(&permanent(0)).unwrap();
        let module = Module::load();
        let stop = AtomicBool::new(false);
        let sees = |module: &Module| {
            let mut buffer = vec![0; 1 << 16];
            let by_name = module
                .user("permanent", &mut buffer)
                .entry
                .is_some_and(|user| user.uid == 1000);
            let by_id = module
                .user_by_id(1000, &mut buffer)
                .entry
                .is_some_and(|user| user.name == "permanent");
            let members = module
                .group("dev", &mut buffer)
                .entry
                .map_or(Vec::new(), |dev| dev.members);
            let groups = module.init_groups("permanent", 1000, &[1000], 1, -1).1;
            let listed = members.iter().filter(|login| *login == "permanent").count();
            by_name
                && by_id
                && listed == 1
                && groups == [1000, 3000]
                && module.user("nobody-is-this", &mut buffer).status == NOT_FOUND
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(sees(&module));
                    }
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(crate::rig::in_fork(|| sees(&module)));
                }
            });
            for round in 0..30_000u32 {
                let number = round % 1500;
                let user = AccountSpec {
                    groups: vec![dev.clone()],
                    ..spec(&format!("user{number}"), 10_000 + number)
                };
                match round / 1500 % 2 {
                    0 => writer.publish(&user).unwrap(),
                    _ => assert!(writer.withdraw(&user.login).unwrap()),
                }
                writer.publish(&permanent(round)).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

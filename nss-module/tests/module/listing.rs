//! Listing all users and groups, called as glibc calls it: of us where systemd does not list us, and each of ours once.

use std::collections::BTreeSet;
use std::thread;

use account_table::{AccountSpec, GroupOrigin};

use crate::rig::{
    BOTH, Module, NOT_FOUND, OURS_ONLY, SUCCESS, alone, group, process, spec, writer,
};

#[test]
fn nothing_is_listed_where_systemd_lists_us() {
    alone(BOTH, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        assert_eq!(module.next_user(&mut buffer).status, NOT_FOUND);
        module.start_users();
        module.start_groups();
        assert_eq!(module.next_user(&mut buffer).status, NOT_FOUND);
        assert_eq!(module.next_group(&mut buffer).status, NOT_FOUND);
    });
}

#[test]
fn a_long_nsswitch_conf_is_read_to_its_end() {
    alone(OURS_ONLY, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        let comments = "# Why this host looks users up as it does.\n".repeat(1000);
        for (lines, listed) in [(OURS_ONLY, SUCCESS), (BOTH, NOT_FOUND)] {
            let text = format!("{comments}{lines}{comments}");
            crate::rig::replace_file("/etc/nsswitch.conf", &text);
            module.start_users();
            assert_eq!(module.next_user(&mut buffer).status, listed);
            module.start_groups();
            assert_eq!(module.next_group(&mut buffer).status, listed);
        }
    });
}

#[test]
fn of_two_lines_of_a_database_the_last_counts() {
    alone(OURS_ONLY, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        let between = "# Why this host looks users up as it does.\n".repeat(100);
        for (first, last, listed) in [(BOTH, OURS_ONLY, SUCCESS), (OURS_ONLY, BOTH, NOT_FOUND)] {
            for between in ["", &between] {
                let text = format!("{first}{between}{last}{between}");
                crate::rig::replace_file("/etc/nsswitch.conf", &text);
                module.start_users();
                assert_eq!(module.next_user(&mut buffer).status, listed);
            }
        }
    });
}

#[test]
fn a_line_without_a_colon_counts_as_it_does_for_glibc() {
    alone(OURS_ONLY, &[], || {
        writer().publish(&spec("alice", 1000)).unwrap();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        for line in [
            "passwd files teleport systemd",
            "passwd : files teleport systemd",
            "passwd :systemd",
            "passwd::\tsystemd",
            " \tpasswd\tfiles teleport systemd # at last",
            "passwd\x0bfiles\x0bsystemd",
            "passwd:files[NOTFOUND=continue]systemd",
            "passwd: files\npasswd systemd",
        ] {
            crate::rig::replace_file("/etc/nsswitch.conf", &format!("{line}\ngroup files\n"));
            module.start_users();
            assert_eq!(module.next_user(&mut buffer).status, NOT_FOUND, "{line:?}");
        }
        for line in [
            "passwd files teleport",
            "passwd files teleport # systemd",
            "passwd files :systemd",
            "passwd# systemd",
            "passwd\ngroup systemd",
            "passwd_compat systemd",
            "passwd systemd\npasswd files teleport",
        ] {
            crate::rig::replace_file("/etc/nsswitch.conf", &format!("{line}\n"));
            module.start_users();
            assert_eq!(module.next_user(&mut buffer).status, SUCCESS, "{line:?}");
        }
    });
}

#[test]
fn a_listing_that_nobody_ends_costs_lookups_no_system_call() {
    alone(OURS_ONLY, &[], || {
        let user = AccountSpec {
            groups: vec![group("dev", 3000, GroupOrigin::Synthesized)],
            ..spec("alice", 1000)
        };
        writer().publish(&user).unwrap();
        process::use_only(c"teleport");
        let alice_is_found = || process::found_by_five_calls(c"alice", 1000) == [true; 5];
        assert!(alice_is_found(), "mapped from here on");
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        module.start_groups();
        while module.next_group(&mut buffer).status == SUCCESS {
            assert!(process::without_system_calls(alice_is_found), "amid it");
        }
        assert!(process::without_system_calls(alice_is_found));
    });
}

#[test]
fn where_nobody_else_lists_us_each_user_and_group_of_ours_is_listed_once() {
    alone(OURS_ONLY, &[], || {
        let mut writer = writer();
        let groups = vec![
            group("docker", 998, GroupOrigin::ForeignFiles),
            group("ldap", 70_000, GroupOrigin::Foreign),
            group("dev", 3000, GroupOrigin::Synthesized),
            group("ops", 3001, GroupOrigin::Synthesized),
        ];
        for number in 0..50 {
            let user = AccountSpec {
                groups: groups.clone(),
                ..spec(&format!("user{number}"), 1000 + number)
            };
            writer.publish(&user).unwrap();
        }
        let module = Module::load();
        for started in [false, true] {
            if started {
                module.start_users();
                module.start_groups();
            }
            let (mut users, mut group_names) = (Vec::new(), Vec::new());
            let mut length = 1;
            loop {
                let mut buffer = vec![0; length];
                match module.next_user(&mut buffer) {
                    reply if reply.status == SUCCESS => users.push(reply.entry.unwrap().name),
                    reply if reply.errno == libc::ERANGE => length += 1,
                    reply => break assert_eq!(reply.status, NOT_FOUND),
                }
            }
            length = 1;
            loop {
                let mut buffer = vec![0; length];
                match module.next_group(&mut buffer) {
                    reply if reply.status == SUCCESS => group_names.push(reply.entry.unwrap().name),
                    reply if reply.errno == libc::ERANGE => length += 1,
                    reply => break assert_eq!(reply.status, NOT_FOUND),
                }
            }
            assert_eq!(
                (users.len(), users.iter().collect::<BTreeSet<_>>().len()),
                (50, 50)
            );
            assert_eq!(group_names.len(), 52);
            let unique: BTreeSet<_> = group_names.iter().map(String::as_str).collect();
            assert!(unique.len() == 52 && unique.contains("dev") && !unique.contains("docker"));
            module.end_users();
            module.end_groups();
        }
    });
}

#[test]
fn threads_that_list_together_meet_each_user_once_and_a_fork_goes_on_alone() {
    alone(OURS_ONLY, &[], || {
        let mut writer = writer();
        for number in 0..1000 {
            writer
                .publish(&spec(&format!("user{number}"), 10_000 + number))
                .unwrap();
        }
        let module = Module::load();
        module.start_users();
        let lister = move || {
            let (mut users, mut buffer) = (Vec::new(), [0; 1024]);
            while let Some(user) = module.next_user(&mut buffer).entry {
                users.push(user.name);
            }
            users
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(lister)).collect();
        for _ in 0..20 {
            assert!(crate::rig::in_fork(|| {
                module.start_users();
                lister().len() == 1000
            }));
        }
        let mut users: Vec<String> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        users.sort();
        users.dedup();
        assert_eq!(users.len(), 1000);
    });
}

//! The same answers as programs get them: through glibc and a real nsswitch.conf.

use std::process::Command;

use crate::rig::{alone, glibc, group, spec, writer};
use account_table::{AccountSpec, GroupOrigin};

const USUAL: &str = "passwd: files teleport\ngroup: files teleport\n";

#[test]
fn glibc_finds_our_users_and_reports_others_as_absent_without_an_error() {
    alone(USUAL, &[], || {
        assert_eq!(glibc::user("alice"), Ok(None), "no table at all");
        let mut writer = writer();
        let dev = group("dev", 3000, GroupOrigin::Synthesized);
        writer
            .publish(&AccountSpec {
                groups: vec![dev],
                ..spec("alice", 54_321)
            })
            .unwrap();
        assert_eq!(glibc::user("alice").unwrap().unwrap().uid, 54_321);
        assert_eq!(
            glibc::user_by_id(54_321).unwrap().unwrap().home,
            "/run/teleport-userdb/home/alice"
        );
        assert_eq!(glibc::group("dev").unwrap().unwrap().members, ["alice"]);
        assert_eq!(glibc::group_by_id(54_321).unwrap().unwrap().name, "alice");
        assert_eq!(glibc::group_list("alice", 54_321), [54_321, 3000]);
        assert!(glibc::has_user_in_static_buffer("alice"));
        for absent in [glibc::user("bob"), glibc::user_by_id(54_322)] {
            assert_eq!(absent, Ok(None));
        }
        assert_eq!(glibc::group("nogroup-of-this-name"), Ok(None));
        assert!(
            glibc::user("root").unwrap().is_some(),
            "files still answers"
        );
        writer.withdraw("alice").unwrap();
        assert_eq!(glibc::user("alice"), Ok(None));
        assert_eq!(glibc::group("dev"), Ok(None));
    });
}

#[test]
fn glibc_grows_its_own_buffer_for_a_large_group() {
    alone(USUAL, &[], || {
        let mut writer = writer();
        let all = group("everyone", 3000, GroupOrigin::Synthesized);
        for number in 0..5000 {
            let user = AccountSpec {
                groups: vec![all.clone()],
                ..spec(&format!("user{number}"), 10_000 + number)
            };
            writer.publish(&user).unwrap();
        }
        assert_eq!(glibc::members_in_static_buffer("everyone"), Some(5000));
    });
}

#[test]
fn with_the_merge_option_members_of_ours_join_those_in_etc_group() {
    let merge = "passwd: files teleport\ngroup: files [SUCCESS=merge] teleport\n";
    alone(merge, &[], || {
        crate::rig::replace_file(
            "/etc/group",
            "root:x:0:\ndocker:x:998:carol\nwheel:x:10:carol\n",
        );
        let groups = vec![
            group("docker", 998, GroupOrigin::ForeignFiles),
            group("dev", 3000, GroupOrigin::Synthesized),
        ];
        writer()
            .publish(&AccountSpec {
                groups,
                ..spec("alice", 54_321)
            })
            .unwrap();
        assert_eq!(
            glibc::group("docker").unwrap().unwrap().members,
            ["carol", "alice"]
        );
        assert_eq!(
            glibc::group_by_id(998).unwrap().unwrap().members,
            ["carol", "alice"]
        );
        assert_eq!(glibc::group("wheel").unwrap().unwrap().members, ["carol"]);
        assert_eq!(glibc::group("dev").unwrap().unwrap().members, ["alice"]);
        assert_eq!(glibc::group_list("alice", 54_321), [54_321, 998, 3000]);
    });
}

#[test]
fn without_the_merge_option_etc_group_answers_for_its_groups_alone() {
    alone(USUAL, &[], || {
        crate::rig::replace_file("/etc/group", "root:x:0:\ndocker:x:998:carol\n");
        let groups = vec![group("docker", 998, GroupOrigin::ForeignFiles)];
        writer()
            .publish(&AccountSpec {
                groups,
                ..spec("alice", 54_321)
            })
            .unwrap();
        assert_eq!(glibc::group("docker").unwrap().unwrap().members, ["carol"]);
        assert_eq!(glibc::group_list("alice", 54_321), [54_321, 998]);
    });
}

#[test]
fn glibc_lists_each_of_our_users_once() {
    alone(USUAL, &[], || {
        let mut writer = writer();
        for number in 0..30 {
            writer
                .publish(&spec(&format!("listed{number}"), 54_000 + number))
                .unwrap();
        }
        for names in [glibc::all_users(), glibc::all_groups()] {
            let ours: Vec<_> = names
                .iter()
                .filter(|name| name.starts_with("listed"))
                .collect();
            assert_eq!(ours.len(), 30);
            assert!(names.iter().any(|name| name == "root"));
        }
    });
}

#[test]
fn getent_and_id_of_another_process_see_what_is_published() {
    alone(USUAL, &[], || {
        let dev = group("dev", 3000, GroupOrigin::Synthesized);
        writer()
            .publish(&AccountSpec {
                groups: vec![dev],
                ..spec("alice", 54_321)
            })
            .unwrap();
        let output = |command: &str, arguments: &[&str]| {
            let output = Command::new(command).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let line = "alice:*:54321:54321:User alice:/run/teleport-userdb/home/alice:/bin/bash\n";
        assert_eq!(output("getent", &["passwd", "alice"]), line);
        assert_eq!(output("getent", &["group", "dev"]), "dev:x:3000:alice\n");
        assert_eq!(
            output("id", &["alice"]),
            "uid=54321(alice) gid=54321(alice) groups=54321(alice),3000(dev)\n"
        );
    });
}

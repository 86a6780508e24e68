//! Who sees the user of a session, and what they see, after the account phase and after open_session.

use rig::{Login, Machine, Suite, node};
use serde_json::Value;

use crate::{members, passwd};

const SERVICE: &str = "com.goteleport.DynamicUser";
const SOCKET: &str = "/run/systemd/userdb/com.goteleport.DynamicUser";

/// A login of `alice` with roles `dev ops` that stops after the account phase and after open_session.
fn stopping(machine: &Machine, login: &str) -> Login {
    machine
        .login(login)
        .roles("dev ops")
        .hold("account")
        .hold("open")
        .start()
}

/// Runs `look` after the account phase and after open_session of `login`.
#[track_caller]
fn after_account_and_open(login: &str, look: impl Fn(&Machine)) {
    let node = node();
    let mut session = stopping(&node, login);
    session.reach("account");
    look(&node);
    session.go_on().reach("open");
    look(&node);
    session.finish().ran.must();
}

#[test]
fn getent_finds_the_user_by_name_and_by_uid() {
    after_account_and_open("lisa", |node| {
        let by_name = passwd(node, "lisa");
        assert_eq!(by_name[0], "lisa");
        assert_eq!(by_name[2], by_name[3], "UID and GID differ: {by_name:?}");
        let uid: u32 = by_name[2].parse().unwrap_or_default();
        assert!(
            (0x7000_0000..=0x7FFD_FFFF).contains(&uid),
            "UID {uid} is outside uids.range"
        );
        assert_eq!(passwd(node, &by_name[2]), by_name);
    });
}

#[test]
fn getent_finds_the_private_group_by_name_and_by_gid() {
    after_account_and_open("lena", |node| {
        let uid = passwd(node, "lena")[2].clone();
        let group = node.run(&["getent", "group", "lena"]);
        let fields: Vec<&str> = group.must().split(':').collect();
        assert_eq!(
            (fields[0], fields[2], fields[3]),
            ("lena", uid.as_str(), ""),
            "{group}"
        );
        assert_eq!(node.run(&["getent", "group", &uid]).must(), group.must());
    });
}

#[test]
fn id_tells_the_private_group_and_teleport_tmp() {
    after_account_and_open("linus", |node| {
        let id = node.run(&["id", "linus"]);
        let uid = passwd(node, "linus")[2].clone();
        assert!(
            id.must()
                .starts_with(&format!("uid={uid}(linus) gid={uid}(linus) ")),
            "{id}"
        );
        assert!(id.must().contains("(teleport-tmp)"), "{id}");
        let names = node.run(&["id", "-Gn", "linus"]);
        assert_eq!(names.must(), "linus teleport-tmp");
    });
}

#[test]
fn the_user_is_a_member_of_teleport_tmp_exactly_once() {
    after_account_and_open("lotte", |node| {
        let here = members(node, "teleport-tmp")
            .iter()
            .filter(|member| *member == "lotte")
            .count();
        assert_eq!(
            here,
            1,
            "{:?}",
            node.run(&["getent", "group", "teleport-tmp"])
        );
        let memberships = node.run(&["userdbctl", "groups-of-user", "lotte"]);
        assert!(memberships.must().contains("teleport-tmp"), "{memberships}");
        let users = node.run(&["userdbctl", "users-in-group", "teleport-tmp"]);
        assert!(users.must().contains("lotte"), "{users}");
    });
}

#[test]
fn userdbctl_shows_a_dynamic_user_of_our_service() {
    after_account_and_open("lukas", |node| {
        let shown = node.run(&["userdbctl", "user", "lukas"]);
        assert!(
            shown.must().contains(&format!("Service: {SERVICE}")),
            "{shown}"
        );
        assert!(shown.must().contains("Disposition: dynamic"), "{shown}");
        let json = node.run(&["userdbctl", "user", "lukas", "--output=json"]);
        let record: Value = serde_json::from_str(json.must()).unwrap_or_default();
        assert_eq!(record["userName"], "lukas", "{json}");
        assert_eq!(record["service"], SERVICE, "{json}");
        assert_eq!(record["disposition"], "dynamic", "{json}");
        assert_eq!(
            record["uid"].to_string(),
            passwd(node, "lukas")[2],
            "{json}"
        );
        let by_uid = node.run(&[
            "userdbctl",
            "user",
            &record["uid"].to_string(),
            "--output=json",
        ]);
        assert_eq!(
            serde_json::from_str::<Value>(by_uid.must()).unwrap_or_default(),
            record
        );
    });
}

#[test]
fn userdbctl_shows_the_private_group_and_teleport_tmp() {
    after_account_and_open("liv", |node| {
        for group in ["liv", "teleport-tmp"] {
            let json = node.run(&["userdbctl", "group", group, "--output=json"]);
            let record: Value = serde_json::from_str(json.must()).unwrap_or_default();
            assert_eq!(record["groupName"], group, "{json}");
            assert_eq!(record["service"], SERVICE, "{json}");
        }
    });
}

#[test]
fn lists_of_users_and_groups_have_each_of_ours_exactly_once() {
    after_account_and_open("lorenz", |node| {
        let lists: [(&[&str], &str, &[&str]); 4] = [
            (&["getent", "passwd"], ":", &["lorenz"]),
            (&["getent", "group"], ":", &["lorenz", "teleport-tmp"]),
            (&["userdbctl", "user", "--output=classic"], ":", &["lorenz"]),
            (
                &["userdbctl", "group", "--output=classic"],
                ":",
                &["lorenz", "teleport-tmp"],
            ),
        ];
        for (command, end, names) in lists {
            let list = node.run(command);
            for name in names {
                let count = list
                    .must()
                    .lines()
                    .filter(|line| line.starts_with(&format!("{name}{end}")))
                    .count();
                assert_eq!(count, 1, "{name}: {list}");
            }
        }
        let table = node.run(&["userdbctl", "user", "--no-legend", "--no-pager"]);
        let rows = table
            .must()
            .lines()
            .filter(|row| row.split_whitespace().any(|word| word == "lorenz"));
        assert_eq!(rows.count(), 1, "{table}");
    });
}

#[test]
fn gecos_names_the_teleport_user_and_the_roles() {
    after_account_and_open("luise", |node| {
        assert_eq!(
            passwd(node, "luise")[4],
            "User alice with roles dev ops created by Teleport."
        );
    });
}

#[test]
fn an_unprivileged_process_sees_the_same_as_root() {
    after_account_and_open("leo", |node| {
        let as_nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        for command in [
            ["getent", "passwd", "leo"],
            ["getent", "group", "leo"],
            ["userdbctl", "user", "leo"],
        ] {
            let theirs = node.run(&[&as_nobody[..], &command[..]].concat());
            assert_eq!(theirs.must(), node.run(&command).must());
        }
    });
}

#[test]
fn the_provider_is_listed_as_running_and_describes_itself() {
    let node = node();
    let services = node.run(&["userdbctl", "services", "--no-legend"]);
    let ours: Vec<&str> = services
        .must()
        .lines()
        .filter(|line| line.starts_with(SERVICE))
        .collect();
    assert!(
        matches!(ours[..], [line] if line.trim_end().ends_with("yes")),
        "{services}"
    );
    let asked = |method: &str, parameters: &str| {
        let method = format!("org.varlink.service.{method}");
        let call = ["call", "--socket", SOCKET, &method, parameters];
        node.run(&[&["/usr/local/bin/teleport-child"], &call[..]].concat())
    };
    let mut answers = vec![
        asked("GetInfo", "{}"),
        asked(
            "GetInterfaceDescription",
            r#"{"interface": "io.systemd.UserDatabase"}"#,
        ),
    ];
    // systemd's own tool came with 255: bookworm's 252 has none to ask.
    if node.suite() != Suite::Bookworm {
        answers.push(node.run(&["varlinkctl", "info", SOCKET]));
        answers.push(node.run(&[
            "varlinkctl",
            "introspect",
            SOCKET,
            "io.systemd.UserDatabase",
        ]));
    }
    for (index, answer) in answers.iter().enumerate() {
        let expected: &[&str] = if index % 2 == 0 {
            &["io.systemd.UserDatabase"]
        } else {
            &[
                "method GetUserRecord",
                "method GetGroupRecord",
                "method GetMemberships",
            ]
        };
        for word in expected {
            assert!(answer.must().contains(word), "{word}: {answer}");
        }
    }
}

#[test]
fn names_and_ids_that_nobody_has_are_unknown_at_once() {
    let node = node();
    for (command, status) in [
        (["getent", "passwd", "nobody-has-this-name"], 2),
        (["getent", "passwd", "1879048191"], 2),
        (["getent", "group", "nobody-has-this-name"], 2),
        (["userdbctl", "user", "nobody-has-this-name"], 1),
    ] {
        let ran = node.run(&command);
        ran.must_end_with(status);
        assert!(ran.elapsed.as_secs() < 10, "{ran}");
    }
}

//! Checklist rows 8 and 9: replies that the strictest client takes, and records that its strict loader takes.

use rig::{Machine, node};
use serde_json::{Value, json};

use crate::wire::{Wire, ask, ask_all, userdb};
use crate::{OURS, session, systemd, uid};

/// All replies to one call, as they came.
fn replies(machine: &Machine, method: &str, mut parameters: Value, more: bool) -> Vec<Value> {
    parameters["service"] = json!(OURS);
    let mut wire = Wire::to(machine, OURS);
    wire.send(&json!({"method": userdb(method), "parameters": parameters, "more": more}));
    wire.replies().into_iter().map(Option::unwrap).collect()
}

fn keys(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn replies_have_no_key_that_systemd_252_would_refuse() {
    let node = node();
    let _sessions = [session(&node, "ragna"), session(&node, "ralf")];
    let mut seen = 0;
    for (method, more) in [
        ("GetUserRecord", true),
        ("GetGroupRecord", true),
        ("GetMemberships", true),
        ("GetUserRecord", false),
        ("GetNothing", false),
    ] {
        let allowed: &[&str] = match method {
            "GetMemberships" => &["userName", "groupName"],
            _ => &["record", "incomplete"],
        };
        let replies = replies(&node, method, json!({}), more);
        let (last, others) = replies.split_last().unwrap();
        for reply in &replies {
            seen += 1;
            if reply.get("error").is_some() {
                assert_eq!(keys(reply), ["error", "parameters"], "{reply}");
                assert!(reply["error"].is_string(), "{reply}");
                continue;
            }
            assert!(
                keys(&reply["parameters"])
                    .iter()
                    .all(|key| allowed.contains(key)),
                "{reply}"
            );
            assert!(
                reply["parameters"]
                    .get("incomplete")
                    .is_none_or(Value::is_boolean),
                "{reply}"
            );
        }
        assert!(
            others
                .iter()
                .all(|reply| keys(reply) == ["continues", "parameters"]),
            "{others:?}"
        );
        assert!(last.get("continues").is_none(), "{last}");
    }
    assert!(seen > 8);
}

#[test]
fn no_value_is_null_and_no_number_is_a_string() {
    fn check(value: &Value, at: &str) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::String(text) => {
                let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                assert!(!number, "{at} is the number {text} as a string");
            }
            Value::Array(all) => all.iter().for_each(|one| check(one, at)),
            Value::Object(all) => all.iter().for_each(|(key, one)| check(one, key)),
            Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let node = node();
    let _session = session(&node, "rosa");
    for record in [
        ask_all(&node, "GetUserRecord", json!({"userName": "rosa"})),
        ask_all(&node, "GetGroupRecord", json!({"groupName": "rosa"})),
        ask_all(
            &node,
            "GetGroupRecord",
            json!({"groupName": "teleport-tmp"}),
        ),
    ] {
        assert_eq!(record.len(), 1);
        check(&record[0], "record");
        for section in [
            "privileged",
            "status",
            "perMachine",
            "binding",
            "signature",
            "secret",
        ] {
            assert!(record[0].get(section).is_none(), "{section}");
        }
    }
}

#[test]
fn the_record_says_all_that_its_consumers_look_for() {
    let node = node();
    let _session = session(&node, "rudi");
    let uid = uid(&node, "rudi");
    let record = ask(
        &node,
        "GetUserRecord",
        &json!({"uid": uid, "service": OURS}),
    )["parameters"]["record"]
        .clone();
    for (key, value) in [
        ("userName", json!("rudi")),
        ("uid", json!(uid)),
        ("gid", json!(uid)),
        (
            "realName",
            json!("User alice with roles dev ops created by Teleport."),
        ),
        ("homeDirectory", json!("/run/teleport-userdb/home/rudi")),
        ("disposition", json!("dynamic")),
        ("service", json!(OURS)),
        ("memberOf", json!(["teleport-tmp"])),
        ("locked", json!(false)),
        ("killProcesses", json!(false)),
        ("stopDelayUSec", json!(3_000_000)),
        ("teleportSessions", json!(1)),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert!(
        record["shell"]
            .as_str()
            .is_some_and(|shell| shell.starts_with('/')),
        "{record}"
    );
    assert!(
        record["lastChangeUSec"].is_u64() && record["uuid"].is_string(),
        "{record}"
    );
    let group = ask(
        &node,
        "GetGroupRecord",
        &json!({"gid": uid, "service": OURS}),
    )["parameters"]["record"]
        .clone();
    let expected =
        json!({"groupName": "rudi", "gid": uid, "disposition": "dynamic", "service": OURS});
    assert_eq!(group, expected, "the group of the primary GID");
}

#[test]
fn userdbctl_and_nss_systemd_pass_every_field_on() {
    let node = node();
    let _session = session(&node, "rita");
    let record = ask(
        &node,
        "GetUserRecord",
        &json!({"userName": "rita", "service": OURS}),
    )["parameters"]["record"]
        .clone();
    let shown = node.run(&["userdbctl", "user", "rita", "--output=json"]);
    let shown: Value = serde_json::from_str(shown.must()).unwrap();
    for key in keys(&record) {
        assert_eq!(shown[key], record[key], "{key}");
    }
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let uid = &record["uid"];
    for key in ["rita", &uid.to_string()] {
        let line = node.run(&["getent", "-s", "passwd:systemd", "passwd", key]);
        let expected = format!(
            "rita:x:{uid}:{uid}:{}:{}:{}",
            text("realName"),
            text("homeDirectory"),
            text("shell")
        );
        assert_eq!(line.must(), expected);
        let line = node.run(&["getent", "-s", "group:systemd", "group", key]);
        assert_eq!(line.must(), format!("rita:x:{uid}:"));
    }
    let line = node.run(&["getent", "-s", "group:systemd", "group", "teleport-tmp"]);
    let members = line.must().rsplit(':').next().unwrap_or_default();
    assert_eq!(
        members
            .split(',')
            .filter(|member| *member == "rita")
            .count(),
        1,
        "{line}"
    );
    let groups = node.run(&["getent", "-s", "initgroups:systemd", "initgroups", "rita"]);
    assert_eq!(groups.must().split_whitespace().count(), 2, "{groups}");
}

#[test]
fn userdbctl_loads_every_record_strictly() {
    let node = node();
    let _session = session(&node, "rike");
    if systemd(&node) < 258 {
        // No `-F` yet; that this userdbctl shows every field is held above.
        assert!(!node.run(&["userdbctl", "-F", "/dev/null"]).succeeded());
        return;
    }
    for (kind, method) in [("user", "GetUserRecord"), ("group", "GetGroupRecord")] {
        let records = ask_all(&node, method, json!({}));
        assert!(!records.is_empty());
        for record in records {
            node.write("/run/record.json", &record.to_string());
            let shown = node.sh(&format!(
                "userdbctl {kind} -F - --output=json </run/record.json"
            ));
            let shown: Value = serde_json::from_str(shown.must()).unwrap();
            for key in keys(&record) {
                assert_eq!(shown[key], record[key], "{key}");
            }
        }
    }
}

#[test]
fn a_process_without_rights_gets_the_same_record() {
    let node = node();
    let _session = session(&node, "renate");
    let message = json!({"method": userdb("GetUserRecord"), "parameters": {"userName": "renate", "service": OURS}});
    let mut wires = [Wire::to(&node, OURS), Wire::as_nobody(&node, OURS)];
    let [root, nobody] = wires.each_mut().map(|wire| {
        wire.send(&message);
        wire.next().unwrap()
    });
    assert_eq!(root, nobody);
    assert_eq!(root["parameters"]["incomplete"], false);
}

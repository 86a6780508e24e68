//! Records exactly as they are served, and the interface they are served by.

use std::collections::BTreeSet;

use account_table::AccountSpec;
use serde_json::json;
use userdb_service::data::protocol::GetUserRecord_Reply;
use uuid::Uuid;

use crate::host::{Host, MACHINE, bob, error};

#[test]
fn the_user_record_is_exactly_this() {
    let host = Host::with_two();
    let reply = host.user(json!({"userName": "alice"}));
    assert_eq!(
        reply,
        json!({"parameters": {"incomplete": false, "record": {
            "userName": "alice",
            "aliases": ["Alice"],
            "uid": 1_900_000_001,
            "gid": 1_900_000_001,
            "uuid": Uuid::new_v5(&MACHINE, b"alice").hyphenated().to_string(),
            "realName": "Alice \"A\" Müller",
            "homeDirectory": "/run/teleport-userdb/home/alice",
            "shell": "/bin/bash",
            "disposition": "dynamic",
            "service": "com.goteleport.DynamicUser",
            "memberOf": ["docker", "team"],
            "lastChangeUSec": 1_700_000_000_000_000_u64,
            "locked": false,
            "killProcesses": false,
            "stopDelayUSec": 3_000_000,
            "tasksMax": 512,
            "memoryMax": 1 << 30,
            "cpuWeight": 100,
            "umask": 0o027,
            "environment": ["TERM=dumb", "X=a=b"],
            "teleportSessions": 2,
        }}})
    );
    let typed: GetUserRecord_Reply = serde_json::from_value(reply["parameters"].clone()).unwrap();
    assert_eq!(typed.incomplete, Some(false));
}

#[test]
fn what_is_not_set_is_not_in_the_record() {
    let mut host = Host::bare();
    host.publish(&AccountSpec {
        groups: Vec::new(),
        locked: true,
        since_usec: u64::MAX,
        tasks_max: Some(0),
        memory_max: Some(u64::MAX),
        cpu_weight: Some(10_001),
        ..bob()
    });
    let record = &host.user(json!({"uid": 1_900_000_002}))["parameters"]["record"];
    let keys: BTreeSet<&str> = record
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "userName",
        "uid",
        "gid",
        "uuid",
        "realName",
        "homeDirectory",
        "shell",
        "disposition",
        "service",
        "lastChangeUSec",
        "locked",
        "killProcesses",
        "stopDelayUSec",
        "teleportSessions",
    ];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!(record["locked"], true);
    assert_eq!(record["disposition"], "regular");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(u128::from(record["lastChangeUSec"].as_u64().unwrap()) <= now.as_micros());
}

#[test]
fn the_group_record_is_exactly_this() {
    let host = Host::with_two();
    for (asked, name, gid) in [
        (json!({"groupName": "alice"}), "alice", 1_900_000_001),
        (json!({"gid": 1_900_000_002}), "bob", 1_900_000_002),
        (json!({"groupName": "team"}), "team", 1_900_000_100),
        (
            json!({"gid": 1_900_000_100, "groupName": "team"}),
            "team",
            1_900_000_100,
        ),
    ] {
        assert_eq!(
            host.group(asked),
            json!({"parameters": {"incomplete": false, "record": {
                "groupName": name,
                "gid": gid,
                "disposition": "dynamic",
                "service": "com.goteleport.DynamicUser",
            }}})
        );
    }
}

#[test]
fn a_group_of_others_is_a_membership_and_never_a_record() {
    let host = Host::with_two();
    assert_eq!(
        error(&host.group(json!({"groupName": "docker"}))),
        "NoRecordFound"
    );
    assert_eq!(error(&host.group(json!({"gid": 998}))), "NoRecordFound");
    assert_eq!(
        host.memberships(json!({"groupName": "docker"})),
        [("alice".into(), "docker".into())]
    );
    let listed = host.names("GetGroupRecord", "groupName", json!({}));
    assert!(!listed.contains(&"docker".into()));
}

#[test]
fn the_interface_served_is_the_one_in_the_tree_with_all_it_needs() {
    let host = Host::bare();
    let mut client = host.connect();
    let info = client.ask("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "teleport-userdbd");
    assert_eq!(
        info["parameters"]["interfaces"],
        json!(["org.varlink.service", "io.systemd.UserDatabase"])
    );
    let reply = client.ask(
        "org.varlink.service.GetInterfaceDescription",
        json!({"interface": "io.systemd.UserDatabase"}),
    );
    let text = reply["parameters"]["description"].as_str().unwrap();
    assert_eq!(
        text,
        include_str!("../../src/data/io.systemd.UserDatabase.varlink")
    );
    for needed in [
        "method GetUserRecord",
        "method GetGroupRecord",
        "method GetMemberships",
        "uuid: ?string",
        "error NoRecordFound",
        "error BadService",
        "error ServiceNotAvailable",
        "error ConflictingRecordFound",
        "error NonMatchingRecordFound",
        "error EnumerationNotSupported",
    ] {
        assert!(text.contains(needed), "{needed}");
    }
    let reply = client.ask("io.systemd.UserDatabase.GetShadow", json!({}));
    assert_eq!(
        reply["parameters"],
        json!({"method": "io.systemd.UserDatabase.GetShadow"})
    );
}

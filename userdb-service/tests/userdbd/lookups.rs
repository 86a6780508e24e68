//! One record by its keys: found, not found, in conflict, filtered out, refused. The rules are those of
//! systemd's user and group API.

use serde_json::json;
use uuid::Uuid;

use crate::host::{Host, MACHINE, alice, error};

#[test]
fn the_service_name_comes_first() {
    let host = Host::with_two();
    let mut client = host.connect();
    for method in ["GetUserRecord", "GetGroupRecord", "GetMemberships"] {
        for parameters in [
            json!({}),
            json!({"service": null}),
            json!({"service": ""}),
            json!({"service": 7}),
            json!({"service": "io.systemd.Multiplexer"}),
            json!({"service": "com.goteleport.DynamicUser2", "userName": "alice"}),
            json!({"service": "other", "unknown": 1}),
            json!({"service": "other", "userName": 7}),
        ] {
            let method = format!("io.systemd.UserDatabase.{method}");
            let reply = client.ask(&method, parameters.clone());
            assert_eq!(
                reply,
                json!({"error": "io.systemd.UserDatabase.BadService", "parameters": {}}),
                "{method} {parameters}"
            );
        }
    }
}

#[test]
fn names_aliases_and_ids_find_the_user() {
    let host = Host::with_two();
    for asked in [
        json!({"userName": "alice"}),
        json!({"userName": "Alice"}),
        json!({"uid": 1_900_000_001}),
        json!({"uid": 1_900_000_001, "userName": "alice"}),
        json!({"uid": 1_900_000_001, "userName": "Alice"}),
        json!({"uid": 1_900_000_001, "userName": null, "fuzzyNames": null, "dispositionMask": null,
            "uidMin": null, "uidMax": null, "uuid": null}),
    ] {
        let reply = host.user(asked.clone());
        assert_eq!(
            reply["parameters"]["record"]["userName"], "alice",
            "{asked}"
        );
    }
}

#[test]
fn what_is_not_ours_is_not_found() {
    let host = Host::with_two();
    for asked in [
        json!({"userName": "carol"}),
        json!({"userName": "root"}),
        json!({"userName": ""}),
        json!({"userName": "ALICE"}),
        json!({"userName": "alice\u{0}"}),
        json!({"userName": "x".repeat(60_000)}),
        json!({"uid": 0}),
        json!({"uid": -1}),
        json!({"uid": 65535}),
        json!({"uid": 4_294_967_295_u32}),
        json!({"uid": 1_900_000_001_i64 + (1 << 32)}),
        json!({"uid": 0, "userName": "carol"}),
    ] {
        assert_eq!(error(&host.user(asked.clone())), "NoRecordFound", "{asked}");
    }
    for asked in [
        json!({"groupName": "carol"}),
        json!({"gid": 0}),
        json!({"gid": -1}),
        json!({"groupName": "Alice"}),
    ] {
        assert_eq!(
            error(&host.group(asked.clone())),
            "NoRecordFound",
            "{asked}"
        );
    }
}

#[test]
fn a_name_and_an_id_of_different_records_conflict() {
    let host = Host::with_two();
    for asked in [
        json!({"userName": "alice", "uid": 1_900_000_002}),
        json!({"userName": "alice", "uid": 7}),
        json!({"userName": "alice", "uid": -1}),
        json!({"userName": "carol", "uid": 1_900_000_002}),
    ] {
        assert_eq!(
            error(&host.user(asked.clone())),
            "ConflictingRecordFound",
            "{asked}"
        );
    }
    for asked in [
        json!({"groupName": "team", "gid": 1_900_000_002}),
        json!({"groupName": "team", "gid": 7}),
        json!({"groupName": "carol", "gid": 1_900_000_100}),
    ] {
        assert_eq!(
            error(&host.group(asked.clone())),
            "ConflictingRecordFound",
            "{asked}"
        );
    }
    assert_eq!(
        error(&host.group(json!({"groupName": "docker", "gid": 998}))),
        "NoRecordFound"
    );
}

#[test]
fn a_filter_that_does_not_match_the_record_of_a_key_says_so() {
    let host = Host::with_two();
    let uuid = Uuid::new_v5(&MACHINE, b"alice").simple().to_string();
    for filter in [
        json!({"uidMin": 1_900_000_001, "uidMax": 1_900_000_001}),
        json!({"fuzzyNames": ["müller", "LICE"]}),
        json!({"fuzzyNames": []}),
        json!({"dispositionMask": ["intrinsic", "system", "dynamic", "regular", "container", "foreign", "reserved"]}),
        json!({"uuid": uuid}),
    ] {
        let mut asked = filter.clone();
        asked["userName"] = json!("alice");
        assert_eq!(error(&host.user(asked)), "none", "{filter}");
    }
    for filter in [
        json!({"uidMin": 1_900_000_002}),
        json!({"uidMax": 1_900_000_000}),
        json!({"fuzzyNames": ["bob"]}),
        json!({"dispositionMask": ["regular"]}),
        json!({"uuid": "00000000000000000000000000000001"}),
    ] {
        let mut asked = filter.clone();
        asked["uid"] = json!(1_900_000_001);
        assert_eq!(
            error(&host.user(asked)),
            "NonMatchingRecordFound",
            "{filter}"
        );
    }
    for filter in [
        json!({"gidMin": 1_900_000_101}),
        json!({"fuzzyNames": ["nope"]}),
        json!({"dispositionMask": ["system"]}),
    ] {
        let mut asked = filter.clone();
        asked["groupName"] = json!("team");
        assert_eq!(
            error(&host.group(asked)),
            "NonMatchingRecordFound",
            "{filter}"
        );
    }
    assert_eq!(
        error(&host.user(json!({"userName": "carol", "uidMin": 5}))),
        "NoRecordFound"
    );
}

#[test]
fn a_parameter_we_cannot_take_is_named() {
    let host = Host::with_two();
    for (parameters, name) in [
        (json!({"futureFilter": true}), "futureFilter"),
        (json!({"gidMin": 1}), "gidMin"),
        (json!({"uid": "1900000001"}), "uid"),
        (json!({"userName": 7}), "userName"),
        (json!({"dispositionMask": ["later"]}), "dispositionMask"),
        (json!({"dispositionMask": "regular"}), "dispositionMask"),
        (json!({"fuzzyNames": [1]}), "fuzzyNames"),
        (json!({"uuid": "nonsense"}), "uuid"),
        (json!({"uidMin": 1.5}), "uidMin"),
    ] {
        let reply = host.user(parameters);
        assert_eq!(reply["error"], "org.varlink.service.InvalidParameter");
        assert_eq!(reply["parameters"], json!({"parameter": name}));
    }
    let reply = host.group(json!({"uidMin": 1}));
    assert_eq!(reply["parameters"], json!({"parameter": "uidMin"}));
}

#[test]
fn a_parameter_that_cannot_even_be_read_is_named_too() {
    let host = Host::with_two();
    let mut client = host.connect();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (name, value) in [
        ("userName", r#""\ud800""#),
        ("futureFilter", &*deep),
        ("uid", "1e999"),
    ] {
        let service = userdb_service::USERDB_SERVICE;
        let call = format!(
            r#"{{"method":"io.systemd.UserDatabase.GetUserRecord","parameters":{{"{name}":{value},"service":"{service}"}}}}"#
        );
        client.send_raw(format!("{call}\0").as_bytes());
        let reply = client.receive().expect("an answer");
        assert_eq!(
            reply["error"], "org.varlink.service.InvalidParameter",
            "{name}"
        );
        assert_eq!(reply["parameters"], json!({"parameter": name}));
    }
}

#[test]
fn the_same_question_is_answered_by_the_table_as_it_is_now() {
    let mut host = Host::with_two();
    let mut client = host.connect();
    let method = "io.systemd.UserDatabase.GetUserRecord";
    let asked = json!({"userName": "alice", "service": userdb_service::USERDB_SERVICE});
    for sessions in 1..50 {
        let mut account = alice();
        account.sessions = sessions;
        host.publish(&account);
        for _ in 0..3 {
            let reply = client.ask(method, asked.clone());
            let record = &reply["parameters"]["record"];
            assert_eq!(record["teleportSessions"], sessions, "{reply}");
        }
        host.writer().withdraw("alice").unwrap();
        for _ in 0..3 {
            let reply = client.ask(method, asked.clone());
            assert_eq!(error(&reply), "NoRecordFound", "{reply}");
        }
    }
}

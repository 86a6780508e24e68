//! `io.systemd.UserDatabase` from a real table file over a real socket: what every client of systemd
//! relies on. The rules are those of systemd's user and group API.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use account_table::{AccountSpec, Disposition, GroupOrigin, GroupSpec, Trust, Writer};
use serde_json::{Value, json};
use userdb_service::data::protocol::{GetMemberships_Reply, GetUserRecord_Reply};
use userdb_service::data::{Accounts, Provider, SERVICE};
use userdb_service::runtime::transport::Limits;
use uuid::Uuid;

use crate::wire::{Client, Folder, Server};

const MACHINE: Uuid = Uuid::from_u128(0x3d12_19c7_c4c5_404a_aa1f_6d2a_48ad_fda4);

/// A provider and the writer of the table it reads.
struct Host {
    server: Server,
    writer: Option<Writer>,
    table: &'static CStr,
    trust: Trust,
    _folder: Folder,
}

impl Host {
    /// With no table yet.
    fn bare() -> Host {
        let folder = Folder::new();
        let path = folder.path().join("accounts");
        // The provider keeps the path for good; a test leaks a few bytes.
        let table: &'static CStr = Box::leak(
            CString::new(path.as_os_str().as_bytes())
                .unwrap()
                .into_boxed_c_str(),
        );
        let trust = Trust::Owner(nix::unistd::geteuid().as_raw());
        let server = Server::start(Limits::default(), move || {
            Provider::new(Accounts::at(table, trust), Some(MACHINE))
        });
        Host {
            server,
            writer: None,
            table,
            trust,
            _folder: folder,
        }
    }

    fn writer(&mut self) -> &mut Writer {
        let path = std::path::Path::new(self.table.to_str().unwrap());
        let trust = self.trust;
        self.writer
            .get_or_insert_with(|| Writer::open(path, trust).unwrap())
    }

    fn publish(&mut self, account: &AccountSpec) {
        self.writer().publish(account).unwrap();
    }

    /// alice (docker, team; an alias) and bob (team).
    fn with_two() -> Host {
        let mut host = Host::bare();
        host.publish(&alice());
        host.publish(&bob());
        host
    }

    fn connect(&self) -> Client {
        self.server.connect()
    }

    fn user(&self, parameters: Value) -> Value {
        self.connect().ask(
            "io.systemd.UserDatabase.GetUserRecord",
            with_service(parameters),
        )
    }

    fn group(&self, parameters: Value) -> Value {
        self.connect().ask(
            "io.systemd.UserDatabase.GetGroupRecord",
            with_service(parameters),
        )
    }

    fn memberships(&self, parameters: Value) -> Vec<(String, String)> {
        let replies = self.connect().ask_more(
            "io.systemd.UserDatabase.GetMemberships",
            with_service(parameters),
        );
        if error(&replies[0]) == "NoRecordFound" {
            return Vec::new();
        }
        replies
            .into_iter()
            .map(|reply| {
                let pair: GetMemberships_Reply =
                    serde_json::from_value(reply["parameters"].clone()).unwrap();
                (pair.userName, pair.groupName)
            })
            .collect()
    }

    fn names(&self, method: &str, key: &str, parameters: Value) -> Vec<String> {
        let method = format!("io.systemd.UserDatabase.{method}");
        self.connect()
            .ask_more(&method, with_service(parameters))
            .iter()
            .filter_map(|reply| Some(reply["parameters"]["record"][key].as_str()?.to_owned()))
            .collect()
    }
}

fn with_service(mut parameters: Value) -> Value {
    parameters["service"] = json!(SERVICE);
    parameters
}

fn error(reply: &Value) -> &str {
    let name = reply["error"].as_str().unwrap_or("none");
    name.rsplit('.').next().unwrap()
}

fn group(name: &str, gid: u32, origin: GroupOrigin) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        gid,
        origin,
    }
}

fn bob() -> AccountSpec {
    AccountSpec {
        login: "bob".into(),
        uid: 1_900_000_002,
        gid: 1_900_000_002,
        gecos: "Bob".into(),
        home: "/run/teleport-userdb/home/bob".into(),
        shell: "/bin/sh".into(),
        since_usec: 1_700_000_000_000_000,
        sessions: 1,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Regular,
        groups: vec![group("team", 1_900_000_100, GroupOrigin::Synthesized)],
        ..AccountSpec::default()
    }
}

fn alice() -> AccountSpec {
    AccountSpec {
        login: "alice".into(),
        aliases: vec!["Alice".into()],
        uid: 1_900_000_001,
        gid: 1_900_000_001,
        gecos: "Alice \"A\" Müller".into(),
        home: "/run/teleport-userdb/home/alice".into(),
        shell: "/bin/bash".into(),
        since_usec: 1_700_000_000_000_000,
        sessions: 2,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Dynamic,
        tasks_max: Some(512),
        memory_max: Some(1 << 30),
        cpu_weight: Some(100),
        umask: Some(0o027),
        environment: vec!["TERM=dumb".into(), "X=a=b".into()],
        groups: vec![
            group("docker", 998, GroupOrigin::ForeignFiles),
            group("team", 1_900_000_100, GroupOrigin::Synthesized),
        ],
        ..AccountSpec::default()
    }
}

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
fn enumeration_of_none_one_and_several_with_and_without_more() {
    let mut host = Host::bare();
    let user = "io.systemd.UserDatabase.GetUserRecord";
    let memberships = "io.systemd.UserDatabase.GetMemberships";
    let group = "io.systemd.UserDatabase.GetGroupRecord";
    // No table at all, and then an empty one, are both nobody.
    for _ in 0..2 {
        for method in [user, group, memberships] {
            let mut client = host.connect();
            assert_eq!(
                error(&client.ask(method, with_service(json!({})))),
                "NoRecordFound"
            );
            let replies = client.ask_more(method, with_service(json!({})));
            assert_eq!(replies.len(), 1);
            assert_eq!(error(&replies[0]), "NoRecordFound");
        }
        host.writer();
    }
    host.publish(&AccountSpec {
        groups: Vec::new(),
        ..alice()
    });
    assert_eq!(
        host.user(json!({}))["parameters"]["record"]["userName"],
        "alice"
    );
    assert_eq!(
        host.group(json!({}))["parameters"]["record"]["groupName"],
        "alice"
    );
    assert_eq!(
        host.names("GetUserRecord", "userName", json!({})),
        ["alice"]
    );
    host.publish(&alice());
    host.publish(&bob());
    for method in [user, group, memberships] {
        let reply = host.connect().ask(method, with_service(json!({})));
        assert_eq!(reply["error"], "org.varlink.service.ExpectedMore");
    }
    let all: BTreeSet<String> = host
        .names("GetUserRecord", "userName", json!({}))
        .into_iter()
        .collect();
    assert_eq!(all, BTreeSet::from(["alice".into(), "bob".into()]));
    let mut all = host.names("GetGroupRecord", "groupName", json!({}));
    all.sort();
    assert_eq!(all, ["alice", "bob", "team"]);
    // One that passes is one, though there are several.
    let one = host.user(json!({"uidMax": 1_900_000_001}));
    assert_eq!(one["parameters"]["record"]["userName"], "alice");
    assert_eq!(
        host.names("GetUserRecord", "userName", json!({"fuzzyNames": ["bo"]})),
        ["bob"]
    );
    assert_eq!(
        error(&host.user(json!({"uidMin": 2_000_000_000}))),
        "NoRecordFound"
    );
}

#[test]
fn memberships_are_each_pair_once_by_user_by_group_by_both_and_all() {
    let host = Host::with_two();
    let pair = |user: &str, group: &str| (user.to_owned(), group.to_owned());
    assert_eq!(
        host.memberships(json!({"userName": "alice"})),
        [pair("alice", "docker"), pair("alice", "team")]
    );
    assert_eq!(
        host.memberships(json!({"userName": "Alice"})),
        [pair("Alice", "docker"), pair("Alice", "team")]
    );
    let mut team = host.memberships(json!({"groupName": "team"}));
    team.sort();
    assert_eq!(team, [pair("alice", "team"), pair("bob", "team")]);
    let mut all = host.memberships(json!({}));
    all.sort();
    assert_eq!(
        all,
        [
            pair("alice", "docker"),
            pair("alice", "team"),
            pair("bob", "team")
        ]
    );
    assert!(host.memberships(json!({"userName": "carol"})).is_empty());
    assert!(host.memberships(json!({"groupName": "alice"})).is_empty());
    assert!(host.memberships(json!({"groupName": "wheel"})).is_empty());
    let method = "io.systemd.UserDatabase.GetMemberships";
    let ask = |user: &str, group: &str| {
        host.connect().ask(
            method,
            with_service(json!({"userName": user, "groupName": group})),
        )
    };
    let both = ask("bob", "team");
    assert_eq!(
        both,
        json!({"parameters": {"userName": "bob", "groupName": "team"}})
    );
    assert_eq!(error(&ask("bob", "docker")), "NoRecordFound");
    assert_eq!(error(&ask("carol", "team")), "NoRecordFound");
}

#[test]
fn what_is_published_and_withdrawn_is_seen_at_once_also_on_an_open_connection() {
    let mut host = Host::bare();
    let mut client = host.connect();
    let method = "io.systemd.UserDatabase.GetUserRecord";
    let asked = with_service(json!({"userName": "alice"}));
    assert_eq!(error(&client.ask(method, asked.clone())), "NoRecordFound");
    for _ in 0..20 {
        host.publish(&alice());
        assert_eq!(error(&client.ask(method, asked.clone())), "none");
        host.writer().withdraw("alice").unwrap();
        assert_eq!(error(&client.ask(method, asked.clone())), "NoRecordFound");
    }
}

#[test]
fn thousands_are_listed_once_each_while_the_table_grows_and_others_are_served() {
    let mut host = Host::bare();
    let many = 3000;
    for number in 0..many {
        host.publish(&AccountSpec {
            login: format!("user-{number}"),
            uid: 1_900_001_000 + number,
            gid: 1_900_001_000 + number,
            ..bob()
        });
    }
    // One who does not read meanwhile.
    let mut deaf = host.connect();
    deaf.send(&json!({"method": "io.systemd.UserDatabase.GetUserRecord",
        "parameters": with_service(json!({})), "more": true}));
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        let asked = Instant::now();
        let name = format!("user-{}", number * 7);
        assert_eq!(error(&host.user(json!({"userName": name}))), "none");
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
    for method in ["GetUserRecord", "GetGroupRecord"] {
        let key = if method == "GetUserRecord" {
            "userName"
        } else {
            "groupName"
        };
        let mut names = host.names(method, key, json!({}));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "listed twice");
        assert_eq!(
            count,
            many as usize + usize::from(method == "GetGroupRecord")
        );
    }
    assert_eq!(
        host.memberships(json!({"groupName": "team"})).len(),
        many as usize
    );
    assert_eq!(host.memberships(json!({})).len(), many as usize);
}

#[test]
fn a_busy_writer_never_makes_anybody_absent() {
    let mut host = Host::with_two();
    let server = host.server.path.clone();
    let mut writer = {
        host.writer();
        host.writer.take().unwrap()
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for sessions in 0..100 {
                    writer
                        .publish(&AccountSpec {
                            sessions,
                            ..alice()
                        })
                        .unwrap();
                }
            }
        });
        let mut client = Client::connect(&server);
        let method = "io.systemd.UserDatabase.GetUserRecord";
        for _ in 0..5000 {
            let reply = client.ask(method, with_service(json!({"userName": "alice"})));
            assert_eq!(error(&reply), "none");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
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

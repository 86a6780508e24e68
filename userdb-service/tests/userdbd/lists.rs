//! Enumeration, memberships, and all of it while the table changes.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use account_table::AccountSpec;
use serde_json::json;

use crate::host::{Host, alice, bob, error, with_service};
use crate::wire::Client;

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
fn what_passes_a_filter_far_apart_is_still_one_or_too_many() {
    let mut host = Host::bare();
    for number in 0..500 {
        let uid = 1_900_001_000 + number;
        let gecos = if number % 400 == 0 { "wanted" } else { "other" };
        host.publish(&AccountSpec {
            login: format!("user-{number}"),
            gecos: gecos.into(),
            uid,
            gid: uid,
            ..bob()
        });
    }
    let both = json!({"fuzzyNames": ["wanted"]});
    let reply = host.user(both.clone());
    assert_eq!(reply["error"], "org.varlink.service.ExpectedMore");
    assert_eq!(
        host.names("GetUserRecord", "userName", both),
        ["user-0", "user-400"]
    );
    let late = json!({"fuzzyNames": ["wanted"], "uidMin": 1_900_001_001});
    let reply = host.user(late);
    assert_eq!(reply["parameters"]["record"]["userName"], "user-400");
    assert!(reply.get("continues").is_none());
    // The interface lists groups likewise, private ones first.
    assert_eq!(error(&host.group(json!({"gidMin": 1_900_001_499}))), "none");
    let method = "io.systemd.UserDatabase.GetMemberships";
    let reply = host
        .connect()
        .ask(method, with_service(json!({"groupName": "team"})));
    assert_eq!(reply["error"], "org.varlink.service.ExpectedMore");
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
    // Who waits for the one who does not read waits for 10 s; a loaded machine alone makes nobody wait for half of that.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
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
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
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
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn lists_that_are_read_by_halves_cost_no_copy_each() {
    const USERS: u32 = 3000;
    const PIECE: usize = 64 << 10;
    const READERS: usize = 48;
    let mut host = Host::bare();
    for number in 0..USERS {
        let uid = 1_900_010_000 + number;
        host.publish(&AccountSpec {
            login: format!("u{number}"),
            uid,
            gid: uid,
            aliases: Vec::new(),
            ..alice()
        });
    }
    let mut readers: Vec<Client> = (0..READERS).map(|_| host.connect()).collect();
    let question = json!({
        "method": "io.systemd.UserDatabase.GetUserRecord",
        "parameters": with_service(json!({})),
        "more": true,
    });
    for reader in &mut readers {
        reader.send(&question);
    }
    let before = resident_kib();
    let mut piece = vec![0; PIECE];
    // A MiB each, in turn: nobody is cut off.
    for _ in 0..16 {
        for reader in &mut readers {
            reader.stream.read_exact(&mut piece).unwrap();
        }
    }
    let more = resident_kib().saturating_sub(before);
    assert!(more < 24 << 10, "{more} KiB more");
    // Nobody was refused for it, and a list that is read to its end is remembered again.
    readers.clear();
    for _ in 0..2 {
        assert_eq!(
            host.names("GetUserRecord", "userName", json!({})).len(),
            USERS as usize
        );
    }
}

#[test]
fn members_that_nobody_reads_cost_no_list_of_them_each() {
    const READERS: usize = 400;
    const MEMBERS: u32 = 12_000;
    userdb_service::runtime::raise_descriptor_limit();
    let mut host = Host::bare();
    for number in 0..MEMBERS {
        host.publish(&AccountSpec {
            login: format!("member-{number}"),
            uid: 1_900_100_000 + number,
            gid: 1_900_100_000 + number,
            ..bob()
        });
    }
    let of_team = with_service(json!({"groupName": "team"}));
    let method = "io.systemd.UserDatabase.GetMemberships";
    let question = json!({"method": method, "parameters": of_team, "more": true});
    let mut readers: Vec<Client> = (0..READERS).map(|_| host.connect()).collect();
    let before = resident_kib();
    for reader in &mut readers {
        reader.send(&question);
        let mut first = [0; 8];
        reader.stream.read_exact(&mut first).unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let more = resident_kib().saturating_sub(before);
    // A piece of 16 KiB each, and what others here are at.
    assert!(more < 15 << 10, "{more} KiB more");
    drop(readers);
    let mut members = host.memberships(json!({"groupName": "team"}));
    members.sort_unstable();
    members.dedup();
    assert_eq!(members.len(), MEMBERS as usize);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

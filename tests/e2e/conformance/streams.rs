//! Checklist rows 5 and 6: one reply or many, and none.

use rig::node;
use serde_json::{Value, json};

use crate::reference::{alike, compare, differs};
use crate::wire::{Wire, ask_all, userdb};
use crate::{OURS, session};

#[test]
fn one_record_answers_with_and_without_more_and_none_is_an_error_both_ways() {
    let mut questions = Vec::new();
    for (method, key) in [
        ("GetUserRecord", "userName"),
        ("GetGroupRecord", "groupName"),
    ] {
        for more in [false, true] {
            let flags = json!({"more": more});
            let one = json!({key: "$name", "service": "$service"});
            questions.push(alike(method, one, "record $name").flags(flags.clone()));
            let none = json!({key: "nobody-has-this", "service": "$service"});
            questions.push(alike(method, none, "NoRecordFound").flags(flags));
        }
        let all = json!({"service": "$service"});
        questions.push(alike(method, all, "record $name").more());
    }
    compare(&node(), questions);
}

#[test]
fn memberships_stream_and_their_absence_is_an_error() {
    let pair = json!({"userName": "$name", "groupName": "teleport-tmp", "service": "$service"});
    let of_user = json!({"userName": "$name", "service": "$service"});
    let in_no_group = json!({"userName": "$name", "groupName": "audio", "service": "$service"});
    let of_no_group = json!({"groupName": "nobody-has-this", "service": "$service"});
    let of_nobody = json!({"userName": "nobody-has-this", "service": "$service"});
    let found = "$name in teleport-tmp";
    let mut questions = Vec::new();
    for flags in [json!({}), json!({"more": true})] {
        let mut ask = |keys: &Value, outcome: &str| {
            let question = alike("GetMemberships", keys.clone(), outcome).flags(flags.clone());
            questions.push(question.of_drop_ins().since(258));
        };
        ask(&of_user, found);
        ask(&pair, found);
        ask(&in_no_group, "NoRecordFound");
        ask(&of_no_group, "NoRecordFound");
        ask(&of_nobody, "NoRecordFound");
    }
    compare(&node(), questions);
}

#[test]
fn several_records_for_a_caller_that_takes_one_are_too_many() {
    let node = node();
    let _sessions = [session(&node, "stina"), session(&node, "sten")];
    let whole = "userdbd 262 gives the first one as if it were all";
    let theirs = "ExpectedMore or record dora";
    let all = json!({"service": "$service"});
    let groups = differs(
        "GetGroupRecord",
        all.clone(),
        "record $name",
        "ExpectedMore",
        whole,
    );
    compare(
        &node,
        vec![
            differs("GetUserRecord", all.clone(), theirs, "ExpectedMore", whole).of_drop_ins(),
            groups.of_drop_ins(),
            alike("GetMemberships", all, "ExpectedMore").of_us(),
        ],
    );
}

#[test]
fn an_enumeration_has_each_record_once_and_its_last_does_not_continue() {
    let node = node();
    let _sessions = ["sina", "simon", "silke"].map(|login| session(&node, login));
    for (method, key, expected) in [
        ("GetUserRecord", "userName", &["sina", "simon", "silke"][..]),
        (
            "GetGroupRecord",
            "groupName",
            &["sina", "simon", "silke", "teleport-tmp"],
        ),
    ] {
        let records = ask_all(&node, method, json!({}));
        for name in expected {
            let count = records.iter().filter(|record| record[key] == *name).count();
            assert_eq!(count, 1, "{name} in {records:?}");
        }
    }
    let pairs = ask_all(
        &node,
        "GetMemberships",
        json!({"groupName": "teleport-tmp"}),
    );
    for name in ["sina", "simon", "silke"] {
        let pair = json!({"userName": name, "groupName": "teleport-tmp"});
        assert_eq!(
            pairs.iter().filter(|one| **one == pair).count(),
            1,
            "{pairs:?}"
        );
    }
}

#[test]
fn a_oneway_call_is_answered_by_nothing_and_the_next_one_is_answered() {
    let keys = json!({"userName": "$name", "service": "$service"});
    let oneway =
        |parameters| alike("GetUserRecord", parameters, "nothing").flags(json!({"oneway": true}));
    compare(
        &node(),
        vec![oneway(keys), oneway(json!({"service": "io.systemd.Other"}))],
    );
    let node = node();
    let mut wire = Wire::to(&node, OURS);
    let parameters = json!({"userName": "nobody-has-this", "service": OURS});
    wire.send(
        &json!({"method": userdb("GetUserRecord"), "parameters": parameters, "oneway": true}),
    );
    wire.send(&json!({"method": userdb("GetUserRecord"), "parameters": {}}));
    let reply = wire.next().unwrap();
    assert_eq!(reply["error"], userdb("BadService"), "{reply}");
}

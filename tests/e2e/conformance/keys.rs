//! Checklist rows 1, 2 and 4: the service name, the primary keys, null.

use rig::node;
use serde_json::{Value, json};

use crate::reference::{alike, compare, differs};

/// Method, name and ID of the two kinds of records.
const RECORDS: [(&str, &str, &str); 2] = [
    ("GetUserRecord", "userName", "uid"),
    ("GetGroupRecord", "groupName", "gid"),
];

fn of_service(mut keys: Value) -> Value {
    keys["service"] = json!("$service");
    keys
}

#[test]
fn the_service_name_is_judged_before_anything_else() {
    let described = "the API describes BadService for whatever is not the provider's name";
    let mut questions = Vec::new();
    for (method, key) in [
        ("GetUserRecord", "userName"),
        ("GetGroupRecord", "groupName"),
        ("GetMemberships", "userName"),
    ] {
        for wrong in ["", "io.systemd.Other"] {
            let keys = json!({key: "$name", "service": wrong});
            questions.push(alike(method, keys, "BadService"));
        }
        let missing = "InvalidParameter service";
        for keys in [
            json!({key: "$name"}),
            json!({key: "$name", "service": null}),
            json!({key: "$name", "service": 7}),
            json!(null),
        ] {
            questions.push(differs(method, keys, missing, "BadService", described));
        }
        let keys = json!({key: "$name", "service": "io.systemd.Other", "later": 1});
        let theirs = "InvalidParameter later";
        questions.push(differs(method, keys, theirs, "BadService", described));
    }
    compare(&node(), questions);
}

#[test]
fn a_record_is_found_by_name_by_id_and_by_both() {
    let mut questions = Vec::new();
    for (method, name, id) in RECORDS {
        let mut ask =
            |keys, outcome: String| questions.push(alike(method, of_service(keys), outcome));
        ask(json!({name: "$name"}), "record $name".into());
        ask(json!({id: "$id"}), "record $name".into());
        ask(json!({name: "$name", id: "$id"}), "record $name".into());
        ask(json!({name: "nobody-has-this"}), "NoRecordFound".into());
        ask(json!({id: 4242}), "NoRecordFound".into());
        let neither = json!({name: "nobody-has-this", id: 4242});
        ask(neither, "NoRecordFound".into());
        ask(json!({name: 7}), format!("InvalidParameter {name}"));
        ask(json!({id: 1.5}), format!("InvalidParameter {id}"));
    }
    compare(&node(), questions);
}

#[test]
fn a_name_and_an_id_of_different_records_are_a_conflict() {
    // PID 1 and userdbd 257 look by the ID, userdbd 262 by the name: what that does not find is no record to them.
    let one_key = "they look one key up and compare the other; we look at both";
    let theirs = "NoRecordFound or ConflictingRecordFound";
    let ours = "ConflictingRecordFound";
    let mut questions = Vec::new();
    for (method, name, id) in RECORDS {
        for keys in [
            json!({name: "$name", id: 4242}),
            json!({name: "nobody-has-this", id: "$id"}),
        ] {
            questions.push(differs(method, of_service(keys), theirs, ours, one_key));
        }
    }
    compare(&node(), questions);
}

#[test]
fn names_and_ids_that_cannot_be_are_nobodys() {
    let clean = "InvalidParameter is an I/O error to clients before 257, and it is nobody's anyway";
    let mut questions = Vec::new();
    for (method, name, id) in RECORDS {
        let names = ["", "a:b", "a/b", ".", "\u{1f431}"].map(|it| (name, json!(it)));
        let ids = [-1_i64, 65_535, 4_294_967_295, 4_294_967_296].map(|it| (id, json!(it)));
        for (key, value) in names.into_iter().chain(ids) {
            let theirs = format!("InvalidParameter {key} or NoRecordFound");
            let keys = of_service(json!({key: value}));
            questions.push(differs(method, keys, theirs, "NoRecordFound", clean));
        }
    }
    compare(&node(), questions);
}

#[test]
fn null_is_the_same_as_absent() {
    let mut questions = Vec::new();
    for (method, name, id) in RECORDS {
        // PID 1 and older versions of userdbd take no null for an ID.
        let keys = of_service(json!({name: "$name", id: null}));
        let question = alike(method, keys, "record $name");
        questions.push(question.of_drop_ins().since(262));
        let (least, most) = (format!("{id}Min"), format!("{id}Max"));
        let keys = of_service(json!({name: "$name", id: null, "fuzzyNames": null,
            "dispositionMask": null, least: null, most: null, "uuid": null}));
        questions.push(alike(method, keys, "record $name").of_us());
    }
    let keys = of_service(json!({"userName": "$name", "groupName": null}));
    let question = alike("GetMemberships", keys, "$name in teleport-tmp");
    questions.push(question.of_us());
    compare(&node(), questions);
}

//! Checklist row 3: the filters of systemd 258 and later, and parameters of the future.

use rig::node;
use serde_json::{Value, json};

use crate::reference::{Question, alike, compare, differs};
use crate::wire::{ask, ask_all};
use crate::{OURS, session, systemd, uid};

fn by_name(filters: Value, outcome: &str) -> Question {
    with(json!({"userName": "$name"}), filters, outcome)
}

fn of_all(filters: Value, outcome: &str) -> Question {
    with(json!({}), filters, outcome).more()
}

fn with(mut keys: Value, filters: Value, outcome: &str) -> Question {
    keys["service"] = json!("$service");
    if let (Some(keys), Some(filters)) = (keys.as_object_mut(), filters.as_object()) {
        keys.extend(filters.clone());
    }
    alike("GetUserRecord", keys, outcome)
        .of_drop_ins()
        .since(258)
}

#[test]
fn a_record_asked_for_by_its_key_is_held_against_each_filter() {
    let found = "record $name";
    let other = "NonMatchingRecordFound";
    compare(
        &node(),
        vec![
            by_name(json!({"uidMin": "$id", "uidMax": "$id"}), found),
            by_name(json!({"uidMin": "$above"}), other),
            by_name(json!({"uidMax": "$below"}), other),
            by_name(json!({"uidMin": "$above", "uidMax": "$below"}), other),
            by_name(json!({"dispositionMask": ["dynamic", "regular"]}), found),
            by_name(json!({"dispositionMask": ["system"]}), other),
            by_name(json!({"dispositionMask": []}), other),
            by_name(json!({"fuzzyNames": ["$name"]}), found),
            by_name(json!({"fuzzyNames": []}), found),
            by_name(json!({"fuzzyNames": ["zz"]}), other),
            by_name(
                json!({"uuid": "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"}),
                other,
            )
            .since(262),
        ],
    );
}

#[test]
fn an_enumeration_leaves_out_what_a_filter_does_not_match() {
    compare(
        &node(),
        vec![
            of_all(json!({"uidMin": "$id", "uidMax": "$id"}), "record $name"),
            of_all(json!({"uidMin": 7, "uidMax": 8}), "NoRecordFound"),
            of_all(json!({"uidMin": 8, "uidMax": 7}), "NoRecordFound"),
            of_all(json!({"fuzzyNames": ["$name"]}), "record $name"),
            of_all(
                json!({"fuzzyNames": ["no such name at all"]}),
                "NoRecordFound",
            ),
            of_all(json!({"dispositionMask": ["container"]}), "NoRecordFound"),
            of_all(
                json!({"uuid": "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"}),
                "NoRecordFound",
            )
            .since(262),
        ],
    );
}

#[test]
fn a_filter_that_cannot_be_used_is_refused_by_its_name() {
    for (key, value) in [
        ("later", json!(1)),
        ("uidMin", json!(-1)),
        ("uidMax", json!(4_294_967_296_i64)),
        ("dispositionMask", json!(["dynamic", "later"])),
        ("fuzzyNames", json!("lisbeth")),
        ("uuid", json!("seven")),
    ] {
        let refused = format!("InvalidParameter {key}");
        compare(&node(), vec![by_name(json!({key: value}), &refused)]);
    }
    // Before 258 nobody knew them, and refusing them by name is what tells clients of today.
    let old = "we know the filters of today whatever systemd runs";
    let keys = json!({"userName": "$name", "uidMin": 1, "service": "$service"});
    let refused = "InvalidParameter uidMin or record $name";
    compare(
        &node(),
        vec![differs("GetUserRecord", keys, refused, "record $name", old)],
    );
}

#[test]
fn all_seven_dispositions_and_a_uuid_of_ours_are_understood() {
    let node = node();
    let _session = session(&node, "friedel");
    let all = [
        "intrinsic",
        "system",
        "dynamic",
        "regular",
        "container",
        "foreign",
        "reserved",
    ];
    let keys = json!({"userName": "friedel", "dispositionMask": all, "service": OURS});
    let record = ask(&node, "GetUserRecord", &keys)["parameters"]["record"].clone();
    assert_eq!(record["userName"], "friedel");
    let by_uuid = ask_all(&node, "GetUserRecord", json!({"uuid": record["uuid"]}));
    assert_eq!(by_uuid, [record]);
}

#[test]
fn userdbctl_filters_our_users_by_range_name_and_disposition() {
    let node = node();
    if systemd(&node) < 257 {
        // Its userdbctl has none of these options: what a provider does with them is asked above.
        let unknown = node.run(&["userdbctl", "user", "--uid-min=1"]);
        assert!(!unknown.succeeded(), "{unknown}");
        return;
    }
    let _session = session(&node, "fabian");
    let uid = uid(&node, "fabian").to_string();
    let listed = |options: &[&str]| {
        let ran = node.run(
            &[
                &["userdbctl", "user", "--no-legend", "--output=classic"],
                options,
            ]
            .concat(),
        );
        let ours = |line: &&str| line.starts_with("fabian:");
        ran.stdout.lines().filter(ours).count()
    };
    assert_eq!(
        listed(&[&format!("--uid-min={uid}"), &format!("--uid-max={uid}")]),
        1
    );
    assert_eq!(listed(&["--uid-max=1000"]), 0);
    assert_eq!(listed(&["--disposition=dynamic"]), 1);
    assert_eq!(listed(&["--disposition=container"]), 0);
    assert_eq!(listed(&["--fuzzy", "abia"]), 1);
    assert_eq!(listed(&["--fuzzy", "fabain"]), 1);
    assert_eq!(listed(&["--fuzzy", "nothing-like-it"]), 0);
}

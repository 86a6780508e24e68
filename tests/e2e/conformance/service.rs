//! Checklist row 7: what the provider says it is, and systemd's own tool for that.

use rig::node;
use serde_json::{Value, json};

use crate::reference::{alike, compare};
use crate::wire::{Wire, socket_of};
use crate::{OURS, session, systemd};

const INTERFACE: &str = "io.systemd.UserDatabase";

#[test]
fn what_is_not_there_is_named_as_systemd_names_it() {
    let describe = "org.varlink.service.GetInterfaceDescription";
    compare(
        &node(),
        vec![
            alike("org.varlink.service.GetInfo", json!({}), "answer"),
            alike("org.varlink.service.GetInfo", json!({}), "answer").more(),
            alike(
                "org.varlink.service.GetInfo",
                json!({"x": 1}),
                "InvalidParameter x",
            ),
            alike(describe, json!({"interface": INTERFACE}), "answer"),
            alike(
                describe,
                json!({"interface": "org.varlink.service"}),
                "answer",
            ),
            alike(
                describe,
                json!({"interface": "a.b"}),
                "InterfaceNotFound a.b",
            ),
            alike(describe, json!({}), "InvalidParameter interface"),
            alike(
                "GetNothing",
                json!({}),
                "MethodNotFound io.systemd.UserDatabase.GetNothing",
            ),
            alike(
                "org.varlink.service.Nothing",
                json!({}),
                "MethodNotFound org.varlink.service.Nothing",
            ),
            alike(
                "org.example.Nothing.Get",
                json!({}),
                "MethodNotFound org.example.Nothing.Get",
            ),
        ],
    );
}

#[test]
fn what_is_no_request_ends_the_connection_without_a_word() {
    let keys = || json!({"userName": "$name", "service": "$service"});
    let ask = |flags| alike("GetUserRecord", keys(), "closed").flags(flags);
    compare(
        &node(),
        vec![
            ask(json!({"later": 1})),
            ask(json!({"more": null})),
            ask(json!({"more": 1})),
            ask(json!({"more": true, "oneway": true})),
            alike("GetUserRecord", json!([]), "closed"),
            alike("GetUserRecord", json!("x"), "closed"),
        ],
    );
    for raw in [
        "\0",
        "hello\0",
        "[]\0",
        "{}\0",
        "{\"method\":7}\0",
        "{}{}\0",
        "{\"method\":\"a.\u{fffd}\"\0",
    ] {
        let mut wire = Wire::to(&node(), OURS);
        wire.send_raw(raw.as_bytes());
        assert_eq!(wire.next(), None, "{raw:?}");
    }
}

#[test]
fn it_introduces_itself_with_all_that_varlinkctl_wants() {
    let mut wire = Wire::to(&node(), OURS);
    wire.send(&json!({"method": "org.varlink.service.GetInfo"}));
    let info = wire.next().unwrap()["parameters"].clone();
    for key in ["vendor", "product", "version", "url"] {
        assert!(
            info[key].as_str().is_some_and(|text| !text.is_empty()),
            "{info}"
        );
    }
    assert_eq!(
        info["interfaces"],
        json!(["org.varlink.service", INTERFACE])
    );
}

#[test]
fn varlinkctl_is_satisfied() {
    let node = node();
    let socket = socket_of(OURS);
    if systemd(&node) < 255 {
        // The tool came with 255; what it asks is asked of the socket above.
        assert!(!node.run(&["varlinkctl", "--version"]).succeeded());
        return;
    }
    let _session = session(&node, "viola");
    let info = node.run(&["varlinkctl", "info", &socket]);
    assert!(info.must().contains(INTERFACE), "{info}");
    let listed = node.run(&["varlinkctl", "list-interfaces", &socket]);
    assert_eq!(listed.must(), format!("{INTERFACE}\norg.varlink.service"));
    for interface in [INTERFACE, "org.varlink.service"] {
        let text = node.run(&["varlinkctl", "introspect", &socket, interface]);
        assert!(
            text.must().contains(&format!("interface {interface}")),
            "{text}"
        );
        let checked = node.sh(&format!(
            "varlinkctl introspect {socket} {interface} >/run/idl && varlinkctl validate-idl /run/idl"
        ));
        checked.must();
    }
    let call = |parameters: Value, options: &[&str]| {
        let method = format!("{INTERFACE}.GetUserRecord");
        let parameters = parameters.to_string();
        let words = [
            &["varlinkctl", "call", "--json=short"],
            options,
            &[&socket, &method, &parameters],
        ];
        node.run(&words.concat())
    };
    let one = call(json!({"userName": "viola", "service": OURS}), &[]);
    assert!(one.must().contains("\"userName\":\"viola\""), "{one}");
    let all = call(json!({"service": OURS}), &["--more"]);
    assert!(all.must().contains("\"userName\":\"viola\""), "{all}");
    let oneway = call(json!({"userName": "viola", "service": OURS}), &["--oneway"]);
    assert_eq!(oneway.must(), "");
    let bad = call(json!({"service": "io.systemd.Other"}), &[]);
    assert!(
        !bad.succeeded() && bad.stderr.contains("BadService"),
        "{bad}"
    );
    if systemd(&node) >= 257 {
        let graceful = "--graceful=io.systemd.UserDatabase.NoRecordFound";
        call(
            json!({"userName": "nobody-has-this", "service": OURS}),
            &[graceful],
        )
        .must();
    }
}

#[test]
fn userdbctl_lists_the_provider_as_running() {
    let services = node().run(&["userdbctl", "services", "--no-legend"]);
    let rows = services.must().lines();
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    let ours: Vec<_> = rows.iter().filter(|row| row[0] == OURS).collect();
    assert_eq!(ours, [&[OURS, "yes"]], "{services}");
}

//! Messages on the wire: how they may come, what is answered to them, in which order.

use serde_json::{Value, json};
use userdb_service::runtime::transport::Limits;

use crate::echo::{Echo, echo, start};
use crate::wire::Server;

fn message_of(size: usize) -> Vec<u8> {
    let frame = r#"{"method":"org.example.Echo.Echo","parameters":{"text":""}}"#;
    let text = "x".repeat(size - frame.len());
    let mut message = frame.replace(r#""""#, &format!("\"{text}\"")).into_bytes();
    assert_eq!(message.len(), size);
    message.push(0);
    message
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let server = start();
    let mut client = server.connect();
    for byte in b"{\"method\":\"org.example.Echo.Echo\",\"parameters\":{\"text\":\"slow\"}}\0" {
        client.send_raw(&[*byte]);
    }
    assert_eq!(
        client.receive(),
        Some(json!({"parameters": {"text": "slow"}}))
    );
    echo(&mut client, "again");
}

#[test]
fn pipelined_calls_are_answered_in_their_order() {
    let server = start();
    let mut client = server.connect();
    let mut burst = Vec::new();
    for number in 0..2000 {
        let text = number.to_string();
        let call = json!({"method": "org.example.Echo.Echo", "parameters": {"text": text}});
        burst.extend_from_slice(format!("{call}\0").as_bytes());
    }
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &burst));
    for number in 0..2000 {
        let text = number.to_string();
        assert_eq!(
            client.receive(),
            Some(json!({"parameters": {"text": text}}))
        );
    }
    sender.join().unwrap().unwrap();
}

#[test]
fn a_message_of_64_kib_is_answered_and_one_byte_more_closes_the_connection() {
    let server = start();
    let mut client = server.connect();
    client.send_raw(&message_of(65536));
    assert!(client.receive().is_some());
    client.send_raw(&message_of(65536));
    assert!(client.receive().is_some());
    client.send_raw(&message_of(65537)[..65537]);
    assert!(client.closed());
    let mut other = server.connect();
    other.send_raw(&message_of(65537));
    assert!(other.closed());
}

#[test]
fn a_larger_limit_takes_larger_messages() {
    let message = 1 << 20;
    let limits = Limits {
        message,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let mut client = server.connect();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &message_of(message)).unwrap();
    });
    let reply = client.receive().unwrap();
    assert!(reply["parameters"]["text"].as_str().unwrap().len() > message - 100);
    sender.join().unwrap();
}

#[test]
fn oneway_calls_hear_nothing_not_even_errors() {
    let server = start();
    let mut client = server.connect();
    for method in ["Echo", "Nope"] {
        let method = format!("org.example.Echo.{method}");
        client.send(&json!({"method": method, "parameters": {"text": "t"}, "oneway": true}));
    }
    client.send(&json!({"method": "org.varlink.service.GetInfo", "oneway": true}));
    client.send(&json!({"method": "no.such.Interface", "oneway": true}));
    echo(&mut client, "the first thing heard");
}

#[test]
fn what_is_no_request_closes_the_connection_without_a_word() {
    let server = start();
    for message in [
        "",
        "{}",
        "nonsense",
        r#"{"method":"org.example.Echo.Echo","parameters":[]}"#,
        r#"{"method":"org.example.Echo.Echo","parameters":{"text":"t"},"extra":true}"#,
        r#"{"method":"org.example.Echo.Echo","more":true,"oneway":true}"#,
    ] {
        let mut client = server.connect();
        client.send_raw(format!("{message}\0").as_bytes());
        assert!(client.closed(), "{message}");
    }
    let mut client = server.connect();
    client.send_raw(b"{\"method\":\"org.example.Echo.\xff\"}\0");
    assert!(client.closed());
}

#[test]
fn a_series_ends_without_continues_and_none_is_an_error() {
    let server = start();
    let mut client = server.connect();
    let many = "org.example.Echo.Many";
    let nothing = json!({"error": "org.example.Echo.Nothing", "parameters": {}});
    assert_eq!(client.ask(many, json!({"count": 0})), nothing);
    assert_eq!(client.ask_more(many, json!({"count": 0})), [nothing]);
    let one = client.ask(many, json!({"count": 1}));
    assert_eq!(one["parameters"]["number"], 0);
    assert!(one.get("continues").is_none());
    let expected = json!({"error": "org.varlink.service.ExpectedMore", "parameters": {}});
    assert_eq!(client.ask(many, json!({"count": 2})), expected);
    assert_eq!(client.ask(many, json!({"count": 5000})), expected);
    for count in [1, 2, 1000] {
        let replies = client.ask_more(many, json!({"count": count}));
        assert_eq!(replies.len(), count);
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(reply["parameters"]["number"], number);
            let keys = reply.as_object().unwrap().len();
            assert_eq!(keys, if number + 1 == count { 1 } else { 2 });
        }
    }
}

#[test]
fn the_service_introduces_itself() {
    let server = start();
    let mut client = server.connect();
    let info = client.ask("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "echo");
    for key in ["vendor", "version", "url"] {
        assert!(info["parameters"][key].is_string(), "{key}");
    }
    assert_eq!(
        info["parameters"]["interfaces"],
        json!(["org.varlink.service", "org.example.Echo"])
    );
    let describe = "org.varlink.service.GetInterfaceDescription";
    for interface in ["org.varlink.service", "org.example.Echo"] {
        let reply = client.ask(describe, json!({"interface": interface}));
        let text = reply["parameters"]["description"].as_str().unwrap();
        assert!(text.contains(&format!("interface {interface}\n")));
    }
    let itself = client.ask(describe, json!({"interface": "org.varlink.service"}));
    let text = itself["parameters"]["description"].as_str().unwrap();
    for error in [
        "InterfaceNotFound(interface: string)",
        "MethodNotFound(method: string)",
        "MethodNotImplemented(method: string)",
        "InvalidParameter(parameter: string)",
        "PermissionDenied()",
        "ExpectedMore()",
    ] {
        assert!(text.contains(&format!("error {error}\n")), "{error}");
    }
    let reply = client.ask(describe, json!({"interface": "org.example.Other"}));
    assert_eq!(reply["error"], "org.varlink.service.InterfaceNotFound");
    assert_eq!(
        reply["parameters"],
        json!({"interface": "org.example.Other"})
    );
}

#[test]
fn a_call_that_panics_ends_its_connection_and_no_other() {
    let server = start();
    let mut before = server.connect();
    echo(&mut before, "before");
    // The first call of a connection is answered where it is accepted, later ones in a task.
    let mut first = server.connect();
    first.send(&json!({"method": "org.example.Echo.Panic"}));
    assert!(first.closed());
    let mut later = server.connect();
    echo(&mut later, "not yet");
    later.send(&json!({"method": "org.example.Echo.Panic"}));
    assert!(later.closed());
    echo(&mut before, "still here");
    echo(&mut server.connect(), "after");
}

#[test]
fn what_is_not_there_is_named() {
    let server = start();
    let mut client = server.connect();
    let cases = [
        (
            "org.example.Echo.Nope",
            json!({}),
            "MethodNotFound",
            "method",
            "org.example.Echo.Nope",
        ),
        (
            "org.varlink.service.Nope",
            json!({}),
            "MethodNotFound",
            "method",
            "org.varlink.service.Nope",
        ),
        ("Nope", json!({}), "MethodNotFound", "method", "Nope"),
        (
            "org.other.Method",
            json!({}),
            "MethodNotFound",
            "method",
            "org.other.Method",
        ),
        (
            "org.example.Echo.Echo",
            json!({}),
            "InvalidParameter",
            "parameter",
            "text",
        ),
        (
            "org.example.Echo.Echo",
            json!({"text": null}),
            "InvalidParameter",
            "parameter",
            "text",
        ),
        (
            "org.example.Echo.Echo",
            json!({"text": "t", "b": 1}),
            "InvalidParameter",
            "parameter",
            "b",
        ),
        (
            "org.varlink.service.GetInfo",
            json!({"x": 1}),
            "InvalidParameter",
            "parameter",
            "x",
        ),
    ];
    for (method, parameters, error, key, value) in cases {
        let reply = client.ask(method, parameters);
        assert_eq!(
            reply["error"],
            format!("org.varlink.service.{error}"),
            "{method}"
        );
        assert_eq!(reply["parameters"], json!({key: value}), "{method}");
    }
    client.send(&json!({"method": "org.example.Echo.Echo", "upgrade": true}));
    let reply = client.receive().unwrap();
    assert_eq!(reply["error"], "org.varlink.service.MethodNotImplemented");
}

#[test]
fn a_method_that_forgets_to_reply_costs_its_connection_only() {
    let server = start();
    let mut client = server.connect();
    client.send(&json!({"method": "org.example.Echo.Mute"}));
    assert!(client.closed());
    echo(&mut server.connect(), "others");
}

#[test]
fn the_peer_is_who_the_kernel_says() {
    let server = Server::start(
        Limits {
            pidfd: true,
            ..Limits::default()
        },
        || Echo,
    );
    let reply = server.connect().ask("org.example.Echo.Peer", json!({}));
    assert_eq!(reply["parameters"]["pid"], std::process::id());
    assert_eq!(reply["parameters"]["uid"], nix::unistd::geteuid().as_raw());
    assert_eq!(reply["parameters"]["pidfd"], true);
    let server = start();
    let reply = server.connect().ask("org.example.Echo.Peer", json!({}));
    assert_eq!(reply["parameters"]["pidfd"], false);
}

#[test]
fn replies_have_no_keys_but_those_of_varlink() {
    let server = start();
    let mut client = server.connect();
    for call in [
        json!({"method": "org.example.Echo.Echo", "parameters": {"text": "t"}}),
        json!({"method": "org.example.Echo.Nope"}),
        json!({"method": "org.varlink.service.GetInfo"}),
        json!({"method": "org.example.Echo.Many", "parameters": {"count": 2}, "more": true}),
    ] {
        client.send(&call);
        let reply: Value = client.receive().unwrap();
        for (key, value) in reply.as_object().unwrap() {
            assert!(["parameters", "error", "continues"].contains(&key.as_str()));
            assert!(!value.is_null(), "{key}");
        }
        if call.get("more").is_some() {
            client.receive().unwrap();
        }
    }
}

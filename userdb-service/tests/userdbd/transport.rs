//! The varlink transport over real sockets: framing, limits, order, slow readers, the end.
//! The service is an echo; userdb has its own tests.

use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::wire::{Client, Server, as_uid};
use serde_derive::{Deserialize, Serialize};
use serde_json::{Value, json};
use userdb_service::runtime::peer::Peer;
use userdb_service::runtime::transport::{
    Call, Disconnect, Interface, Item, Limits, NoParameters, Replies, Service,
};

struct Echo;

#[derive(Serialize, Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Many {
    count: usize,
}

impl Service for Echo {
    const PRODUCT: &'static str = "echo";
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "org.example.Echo",
        description: "interface org.example.Echo\nmethod Echo(text: string) -> (text: string)\n",
    }];

    async fn call(
        &self,
        peer: &Rc<Peer>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        match call.name() {
            "Echo" => match call.arguments::<Text>() {
                Ok(text) => replies.reply(text).await,
                Err(invalid) => replies.invalid_parameter(&invalid).await,
            },
            "Wait" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                replies.reply(NoParameters {}).await
            }
            "Many" => {
                let Ok(Many { count }) = call.arguments() else {
                    return replies.error("org.example.Echo.No", NoParameters {}).await;
                };
                for number in 0..count {
                    match replies.item(json!({"number": number, "padding": "x".repeat(200)})) {
                        Item::Next => {}
                        Item::Drain => replies.drain().await?,
                        Item::Stop => break,
                    }
                }
                replies.end("org.example.Echo.Nothing").await
            }
            "Peer" => {
                let pidfd = peer.pidfd.is_some();
                replies
                    .reply(json!({"uid": peer.uid, "pid": peer.pid, "pidfd": pidfd}))
                    .await
            }
            "Mute" => Ok(()),
            _ => replies.method_not_found(&call).await,
        }
    }
}

fn limits() -> Limits {
    Limits {
        partial: Duration::from_millis(300),
        write: Duration::from_millis(300),
        idle: Duration::from_millis(1500),
        ..Limits::default()
    }
}

fn start() -> Server {
    Server::start(Limits::default(), || Echo)
}

fn echo(client: &mut Client, text: &str) {
    let reply = client.ask("org.example.Echo.Echo", json!({"text": text}));
    assert_eq!(reply, json!({"parameters": {"text": text}}));
}

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
    let reply = client.ask(describe, json!({"interface": "org.example.Other"}));
    assert_eq!(reply["error"], "org.varlink.service.InterfaceNotFound");
    assert_eq!(
        reply["parameters"],
        json!({"interface": "org.example.Other"})
    );
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
            "InterfaceNotFound",
            "interface",
            "org.other",
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
fn of_many_connections_of_one_uid_the_newest_are_served() {
    let server = start();
    let path = server.path.clone();
    as_uid(12345, move || {
        let mut clients: Vec<Client> = (0..200)
            .map(|_| {
                let mut client = Client::connect(&path);
                echo(&mut client, "hello");
                client
            })
            .collect();
        for client in &mut clients[72..] {
            echo(client, "still here");
        }
        for client in &mut clients[..72] {
            assert!(client.closed());
        }
    });
    echo(&mut server.connect(), "root is counted apart");
}

#[test]
fn connections_that_have_never_spoken_give_way_in_their_order() {
    let limits = Limits {
        per_uid: 4,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let path = server.path.clone();
    as_uid(12345, move || {
        let mut silent: Vec<Client> = (0..4).map(|_| Client::connect(&path)).collect();
        let mut fifth = Client::connect(&path);
        echo(&mut fifth, "served");
        assert!(silent[0].closed());
        for client in &mut silent[1..] {
            echo(client, "kept");
        }
    });
}

#[test]
fn where_all_are_taken_root_keeps_its_own_and_others_give_way() {
    let limits = Limits {
        total: 8,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let mut root: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut root {
        echo(client, "root");
    }
    let path = server.path.clone();
    as_uid(12345, move || {
        let mut others: Vec<Client> = (0..20).map(|_| Client::connect(&path)).collect();
        echo(others.last_mut().unwrap(), "newest");
        assert!(others[0].closed());
    });
    if nix::unistd::geteuid().is_root() {
        for client in &mut root {
            echo(client, "root still");
        }
    }
}

#[test]
fn half_a_message_is_waited_for_only_so_long_however_often_more_comes() {
    let server = Server::start(limits(), || Echo);
    let mut client = server.connect();
    let begin = Instant::now();
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut byte = [0];
    loop {
        let _ = std::io::Write::write(&mut client.stream, b" ");
        match client.stream.read(&mut byte) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "never closed");
    }
    assert!(begin.elapsed() >= Duration::from_millis(250));
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let server = Server::start(limits(), || Echo);
    let mut client = server.connect();
    let begin = Instant::now();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(800));
        echo(&mut client, "busy");
    }
    assert!(client.closed());
    assert!(begin.elapsed() > Duration::from_millis(3 * 800 + 1400));
}

#[test]
fn who_does_not_read_is_cut_off_and_holds_up_nobody() {
    let server = Server::start(limits(), || Echo);
    let mut deaf = server.connect();
    let many =
        json!({"method": "org.example.Echo.Many", "parameters": {"count": 100_000}, "more": true});
    deaf.send(&many);
    let mut client = server.connect();
    let mut slowest = Duration::ZERO;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(600) {
        let asked = Instant::now();
        echo(&mut client, "meanwhile");
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
    let mut heard = Vec::new();
    let cut = deaf.stream.read_to_end(&mut heard);
    assert!(cut.is_ok() || cut.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    let messages = heard.iter().filter(|byte| **byte == 0).count();
    assert!(messages < 100_000, "all was buffered");
}

#[test]
fn one_long_pipeline_does_not_starve_others() {
    let server = start();
    let flood = server.connect();
    let mut writer = flood.stream.try_clone().unwrap();
    let mut reader = flood.stream.try_clone().unwrap();
    let call = format!(
        "{}\0",
        json!({"method": "org.example.Echo.Echo", "parameters": {"text": "f"}})
    );
    let burst = call.repeat(500).into_bytes();
    let pouring =
        std::thread::spawn(
            move || {
                while std::io::Write::write_all(&mut writer, &burst).is_ok() {}
            },
        );
    let swallowing = std::thread::spawn(move || {
        let mut piece = vec![0; 1 << 16];
        while matches!(reader.read(&mut piece), Ok(count) if count > 0) {}
    });
    let mut client = server.connect();
    for _ in 0..200 {
        let asked = Instant::now();
        echo(&mut client, "between");
        assert!(asked.elapsed() < Duration::from_millis(200));
    }
    flood.stream.shutdown(std::net::Shutdown::Both).unwrap();
    pouring.join().unwrap();
    swallowing.join().unwrap();
}

#[test]
fn at_the_end_everything_accepted_is_answered_and_nothing_more_accepted() {
    let mut server = start();
    let mut waiting = server.connect();
    waiting.send(&json!({"method": "org.example.Echo.Wait"}));
    let mut pipelined = server.connect();
    pipelined.send(&json!({"method": "org.example.Echo.Wait"}));
    pipelined.send(&json!({"method": "org.example.Echo.Echo", "parameters": {"text": "second"}}));
    let mut idle = server.connect();
    echo(&mut idle, "before");
    let mut fresh = server.connect();
    echo(&mut server.connect(), "all the above are accepted now");
    server.wish_to_stop();
    std::thread::sleep(Duration::from_millis(100));
    assert!(idle.closed());
    echo(&mut fresh, "connected before the end, asked after it");
    assert!(fresh.closed());
    assert_eq!(waiting.receive(), Some(json!({"parameters": {}})));
    assert!(waiting.closed());
    assert_eq!(pipelined.receive(), Some(json!({"parameters": {}})));
    assert_eq!(
        pipelined.receive(),
        Some(json!({"parameters": {"text": "second"}}))
    );
    assert!(pipelined.closed());
    server.stopped();
    assert!(std::os::unix::net::UnixStream::connect(&server.path).is_err());
}

#[test]
fn the_end_does_not_wait_for_half_messages_or_deaf_readers() {
    let mut server = start();
    let mut half = server.connect();
    half.send_raw(b"{\"method\":");
    let mut deaf = server.connect();
    deaf.send(
        &json!({"method": "org.example.Echo.Many", "parameters": {"count": 100_000}, "more": true}),
    );
    echo(&mut server.connect(), "accepted");
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    server.wish_to_stop();
    server.stopped();
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    assert!(half.closed());
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

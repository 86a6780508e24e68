//! What connections may hold in memory all together, whatever they are doing.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use userdb_service::runtime::transport::Limits;

use crate::crowds;
use crate::echo::{Echo, echo, start};
use crate::wire::{Client, Server, as_uid};

/// A call with so many bytes around it that mean nothing.
fn padded(call: &serde_json::Value, bytes: usize) -> Vec<u8> {
    format!("{}{call}\0", " ".repeat(bytes)).into_bytes()
}

/// Those that have not been closed, whatever there is to be read in them.
fn kept(clients: &[Client]) -> usize {
    let is_kept = |client: &&Client| {
        let mut ends = [PollFd::new(client.stream.as_fd(), PollFlags::empty())];
        poll(&mut ends, PollTimeout::ZERO).unwrap() == 0
    };
    clients.iter().filter(is_kept).count()
}

/// So many clients of `uid` that each send `message`. The server may close some meanwhile.
fn senders(server: &Server, uid: u32, count: usize, message: Vec<u8>) -> Vec<Client> {
    let path: PathBuf = server.path.clone();
    as_uid(uid, move || {
        let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(&path)).collect();
        for client in &mut clients {
            let _ = std::io::Write::write_all(&mut client.stream, &message);
        }
        clients
    })
}

fn until_kept(clients: &[Client], most: usize) {
    let begin = Instant::now();
    while kept(clients) > most {
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{} are kept",
            kept(clients)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_long_message_counts_until_it_is_answered_and_who_holds_most_gives_way() {
    let limits = Limits {
        held: 1 << 20,
        ..Limits::default()
    };
    let (server, _) = crowds::start(limits);
    let search = json!({"method": "org.example.Slow.Search"});
    let small = senders(&server, 10_002, 20, padded(&search, 0));
    let middle = senders(&server, 10_003, 2, padded(&search, 60 << 10));
    let large = senders(&server, 10_001, 20, padded(&search, 60 << 10));
    // Each counts twice, since what is made of a message may be as large again.
    until_kept(&large, 8);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(kept(&small), 20);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(kept(&middle), 2, "of a UID that holds less");
        assert!(kept(&large) > 2, "no more than has to");
    }
}

#[test]
fn a_reply_that_nobody_reads_counts() {
    let limits = Limits {
        held: 256 << 10,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let many =
        json!({"method": "org.example.Echo.Many", "parameters": {"count": 100_000}, "more": true});
    let deaf = senders(&server, 10_001, 20, padded(&many, 0));
    until_kept(&deaf, 8);
    echo(&mut server.connect(), "others");
}

#[test]
fn a_long_message_that_has_been_answered_counts_no_more() {
    let limits = Limits {
        held: 256 << 10,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            echo(client, &"x".repeat(60 << 10));
        }
    }
}

#[test]
fn a_name_without_end_is_said_back_in_part() {
    let server = start();
    let name = "k".repeat(60_000);
    let part = "k".repeat(256);
    let cases = [
        ("org.example.Echo.Echo", json!({&name: 1}), "parameter"),
        (
            "org.varlink.service.GetInterfaceDescription",
            json!({"interface": name}),
            "interface",
        ),
        (name.as_str(), json!({}), "method"),
    ];
    let mut client = server.connect();
    for (method, parameters, key) in cases {
        let reply = client.ask(method, parameters);
        assert_eq!(reply["parameters"], json!({key: part}), "{key}");
    }
}

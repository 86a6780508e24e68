//! What no client can do to the others: connections, half messages, deaf readers, floods, and the end.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;
use userdb_service::runtime::transport::Limits;

use crate::echo::{Echo, echo, start};
use crate::wire::{Client, Server, as_uid};

fn limits() -> Limits {
    Limits {
        partial: Duration::from_millis(300),
        write: Duration::from_millis(300),
        idle: Duration::from_millis(1500),
        ..Limits::default()
    }
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
    // Of somebody else, and so many that it begins to matter whose they are only after some of the others have come.
    let elsewhere = path.clone();
    let count = if nix::unistd::geteuid().is_root() {
        3
    } else {
        0
    };
    let mut others: Vec<Client> = as_uid(23456, move || {
        (0..count).map(|_| Client::connect(&elsewhere)).collect()
    });
    as_uid(12345, move || {
        let mut silent: Vec<Client> = (0..4).map(|_| Client::connect(&path)).collect();
        let mut fifth = Client::connect(&path);
        echo(&mut fifth, "served");
        assert!(silent[0].closed());
        for client in &mut silent[1..] {
            echo(client, "kept");
        }
    });
    for client in &mut others {
        echo(client, "of another UID");
    }
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
fn where_all_are_taken_who_does_not_read_gives_way_before_who_idles() {
    let limits = Limits {
        total: 8,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let (path, other_path) = (server.path.clone(), server.path.clone());
    let mut idle = as_uid(23456, move || {
        let mut idle = Client::connect(&other_path);
        echo(&mut idle, "and then nothing");
        idle
    });
    as_uid(12345, move || {
        let many = json!({"method": "org.example.Echo.Many", "parameters": {"count": 100_000}, "more": true});
        let mut deaf: Vec<Client> = (0..7).map(|_| Client::connect(&path)).collect();
        deaf.iter_mut().for_each(|client| client.send(&many));
        std::thread::sleep(Duration::from_millis(500));
        let mut newcomers: Vec<Client> = (0..3).map(|_| Client::connect(&path)).collect();
        for client in &mut newcomers {
            echo(client, "let in");
        }
    });
    echo(&mut idle, "still here");
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
        assert!(begin.elapsed() < Duration::from_secs(30), "never closed");
    }
    assert!(begin.elapsed() >= Duration::from_millis(250));
}

#[test]
fn half_messages_of_all_together_take_no_more_than_their_share() {
    let limits = Limits {
        held: 256 << 10,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let mut small: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut small {
        client.send_raw(b"{\"method\":");
    }
    let mut large: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut large {
        // The server may close it while it is sending: that is the point.
        let _ = std::io::Write::write_all(&mut client.stream, &[b' '; 60 << 10]);
        echo(&mut server.connect(), "meanwhile");
    }
    assert!(large[0].closed());
    let rest = b"\"org.example.Echo.Echo\",\"parameters\":{\"text\":\"t\"}}\0";
    for client in &mut small {
        client.send_raw(rest);
        assert!(
            client.receive().is_some(),
            "small ones are nobody's trouble"
        );
    }
    let last = large.last_mut().unwrap();
    last.send_raw(b"{\"method\":");
    last.send_raw(rest);
    assert!(last.receive().is_some(), "the newest goes on");
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let server = Server::start(limits(), || Echo);
    let mut client = server.connect();
    let begin = Instant::now();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        echo(&mut client, "busy");
    }
    assert!(client.closed());
    assert!(begin.elapsed() > Duration::from_millis(3 * 500 + 1400));
}

#[test]
fn who_does_not_read_is_cut_off_and_holds_up_nobody() {
    let write = Duration::from_secs(1);
    let limits = Limits { write, ..limits() };
    let server = Server::start(limits, || Echo);
    let mut deaf = server.connect();
    let many =
        json!({"method": "org.example.Echo.Many", "parameters": {"count": 100_000}, "more": true});
    deaf.send(&many);
    let mut client = server.connect();
    let mut slowest = Duration::ZERO;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        echo(&mut client, "meanwhile");
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < write / 2, "{slowest:?}");
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
        // The pipeline never ends: who has to wait for it waits for good.
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
    flood.stream.shutdown(std::net::Shutdown::Both).unwrap();
    pouring.join().unwrap();
    swallowing.join().unwrap();
}

#[test]
fn at_the_end_each_is_answered_once_more_and_nothing_more_accepted() {
    let mut server = start();
    let mut waiting = server.connect();
    waiting.send(&json!({"method": "org.example.Echo.Wait"}));
    let mut pipelined = server.connect();
    pipelined.send(&json!({"method": "org.example.Echo.Wait"}));
    pipelined.send(&json!({"method": "org.example.Echo.Echo", "parameters": {"text": "second"}}));
    let mut idle = server.connect();
    echo(&mut idle, "before");
    let mut under_way = server.connect();
    echo(&mut under_way, "before");
    let mut fresh = server.connect();
    echo(&mut server.connect(), "all the above are accepted now");
    under_way.send(&json!({"method": "org.example.Echo.Wait"}));
    server.wish_to_stop();
    std::thread::sleep(Duration::from_millis(100));
    assert!(idle.closed());
    echo(&mut fresh, "connected before the end, asked after it");
    assert!(fresh.closed());
    assert_eq!(waiting.receive(), Some(json!({"parameters": {}})));
    assert!(waiting.closed());
    assert_eq!(under_way.receive(), Some(json!({"parameters": {}})));
    assert_eq!(pipelined.receive(), Some(json!({"parameters": {}})));
    assert!(
        pipelined.closed(),
        "the second call is for the next process"
    );
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
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert!(half.closed());
}

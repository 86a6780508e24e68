//! Checklist row 10: callers who write byte by byte, all at once, without end, or who neither ask nor read.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rig::{Machine, node, node_alone};
use serde_json::json;

use crate::wire::{Wire, socket_of, userdb};
use crate::{OURS, session};

/// Far more than a lookup takes on a busy machine, far less than one that waits for somebody.
const AT_ONCE: Duration = Duration::from_secs(5);

fn question(name: &str) -> Vec<u8> {
    let parameters = json!({"userName": name, "service": OURS});
    let message = json!({"method": userdb("GetUserRecord"), "parameters": parameters});
    format!("{message}\0").into_bytes()
}

#[test]
fn a_question_that_comes_byte_by_byte_is_answered() {
    let node = node();
    let _session = session(&node, "lydia");
    let mut wire = Wire::to(&node, OURS);
    for byte in question("lydia") {
        wire.send_raw(&[byte]);
    }
    let reply = wire.next().unwrap();
    assert_eq!(reply["parameters"]["record"]["userName"], "lydia");
}

#[test]
fn questions_sent_at_once_are_answered_one_by_one_in_their_order() {
    let node = node();
    let _session = session(&node, "liane");
    let mut wire = Wire::to(&node, OURS);
    let pair = [question("liane"), question("nobody-has-this")].concat();
    wire.send_raw(&pair.repeat(200));
    for number in 0..200 {
        let reply = wire.next().unwrap();
        assert_eq!(
            reply["parameters"]["record"]["userName"], "liane",
            "{number}: {reply}"
        );
        let reply = wire.next().unwrap();
        assert_eq!(reply["error"], userdb("NoRecordFound"), "{number}: {reply}");
    }
}

#[test]
fn a_message_without_end_ends_its_connection_and_costs_no_memory() {
    let node = node();
    let mut wire = Wire::to(&node, OURS);
    let begin = format!("{{\"method\":\"{}", "x".repeat(1 << 16));
    wire.send_raw(begin.as_bytes());
    for _ in 0..17 {
        wire.send_raw(&vec![b'x'; 1 << 20]);
    }
    assert_eq!(wire.next(), None);
    let resident = resident(&node);
    assert!(resident < 20 << 10, "{resident} KiB");
}

#[test]
fn five_thousand_idle_connections_and_a_deaf_reader_cost_the_others_nothing() {
    let node = node_alone();
    let _session = session(&node, "lasse");
    let mut idle = crowd(&node, &["--connections=5000", "--uids=50"]);
    let everything =
        json!({"method": userdb("GetUserRecord"), "parameters": {"service": OURS}, "more": true});
    let deaf = [
        "--connections=20",
        "--first-uid=300000",
        "--say",
        &everything.to_string(),
    ];
    let mut deaf = crowd(&node, &deaf);
    let half = [
        "--connections=100",
        "--first-uid=300001",
        "--say={\"method\":",
        "--half",
    ];
    let mut half = crowd(&node, &half);
    let mut slowest = Duration::ZERO;
    for name in ["lasse", "nobody-has-this"].into_iter().cycle().take(40) {
        let began = Instant::now();
        let mut wire = Wire::to(&node, OURS);
        wire.send_raw(&question(name));
        wire.next().unwrap();
        slowest = slowest.max(began.elapsed());
    }
    let resident = resident(&node);
    for crowd in [&mut idle, &mut deaf, &mut half] {
        drop(crowd.stdin.take());
        crowd.wait().unwrap();
    }
    println!("slowest lookup {slowest:?}, {resident} KiB resident");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    assert!(resident < 64 << 10, "{resident} KiB");
}

/// Connections made inside the machine that are there when this returns.
#[track_caller]
fn crowd(machine: &Machine, options: &[&str]) -> Child {
    let socket = socket_of(OURS);
    let program = [
        "prlimit",
        "--nofile=16384",
        "/usr/local/bin/teleport-child",
        "crowd",
    ];
    let mut crowd = machine
        .command(&[&program[..], options, &[&socket]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = crowd.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "there\n");
    crowd
}

/// Resident memory of the provider, in KiB.
#[track_caller]
fn resident(machine: &Machine) -> u64 {
    let pid = machine.run(&[
        "systemctl",
        "show",
        "--value",
        "-p",
        "MainPID",
        "teleport-userdbd.service",
    ]);
    let status = machine.run(&["cat", &format!("/proc/{}/status", pid.must())]);
    let line = status
        .must()
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

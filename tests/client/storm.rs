//! Many logins at once: processes that start at a common signal, and what their own lookups found.
//! A login itself is of `session`; this only starts many of them and adds up.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Storm;

/// Failures shown in full; there may be a thousand of the same kind.
const SHOWN: usize = 8;

/// Runs all rounds, prints one JSON object, gives 0 if no lookup was wrong.
pub(crate) fn run(storm: &Storm) -> i32 {
    let began = Instant::now();
    let (mut failures, mut refused) = (Vec::new(), 0);
    let mut rounds = 0;
    let more = |round: usize| match &storm.until {
        Some(file) => !file.exists(),
        None => round < storm.rounds,
    };
    while more(rounds) {
        let round = rounds;
        rounds += 1;
        for failure in one_round(storm) {
            refused += usize::from(failure.is_refusal);
            let what = format!("round {round}: {}", failure.what);
            failures.push((failure.is_refusal, what));
        }
    }
    // Wrong answers before refusals.
    failures.sort_by_key(|(is_refusal, _)| *is_refusal);
    let shown: Vec<&String> = failures.iter().take(SHOWN).map(|(_, what)| what).collect();
    println!(
        "{}",
        json!({
            "sessions": storm.logins * rounds, "failures": failures.len(), "refused": refused, "first_failures": shown,
            "seconds": began.elapsed().as_secs_f64(),
        })
    );
    i32::from(!failures.is_empty())
}

/// A login that was not as it should be.
struct Failure {
    /// It was refused, and nobody was seen: too slow an answer on a busy machine, but no wrong one.
    is_refusal: bool,
    what: String,
}

fn one_round(storm: &Storm) -> Vec<Failure> {
    let mut children = Vec::new();
    let mut failures = Vec::new();
    for index in 0..storm.logins {
        match start(storm, &format!("{}{index}", storm.prefix)) {
            Ok(child) => children.push(child),
            Err(error) => failures.push(Failure {
                is_refusal: false,
                what: format!("login {index} could not be started: {error}"),
            }),
        }
    }
    let mut waiting = Vec::new();
    for mut child in children {
        if let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) {
            let mut events = BufReader::new(stderr);
            let mut line = String::new();
            while matches!(events.read_line(&mut line), Ok(read) if read > 0)
                && !line.contains("\"reached\"")
            {
                line.clear();
            }
            waiting.push((child, stdin, events));
        }
    }
    // All have called pam_start and stand at the same place: now.
    for (_, stdin, _) in &mut waiting {
        let _ = stdin.write_all(b"\n");
    }
    for (child, stdin, events) in waiting {
        drop(stdin);
        failures.extend(judge(child, events, storm.only_in));
    }
    failures
}

fn start(storm: &Storm, login: &str) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .args([
            "exec",
            "--look",
            "--hold=start",
            "--login",
            login,
            "--service",
            &storm.service,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// Found after account and open with its UID and group, not found after close (unless that does not count); anything
/// else is a failure.
fn judge(mut child: Child, events: impl BufRead, only_in: bool) -> Option<Failure> {
    let events: Vec<Value> = events
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect();
    let status = child.wait().ok().and_then(|status| status.code());
    let right = |after: &str, here: bool| {
        events.iter().any(|event| {
            event["event"] == "lookup"
                && event["after"] == after
                && event["found"] == here
                && event["by_uid"].is_string() == here
                && event["group"].is_number() == here
        })
    };
    let all_right = status == Some(0)
        && right("account", true)
        && right("open", true)
        && (only_in || right("close", false));
    let account_failed = events
        .iter()
        .any(|event| event["phase"] == "account" && event["code"] != "SUCCESS");
    let nobody_seen = events
        .iter()
        .filter(|event| event["event"] == "lookup")
        .all(|event| event["found"] == false);
    (!all_right).then(|| Failure {
        is_refusal: account_failed && nobody_seen,
        what: format!("status {status:?}: {}", Value::from(events)),
    })
}

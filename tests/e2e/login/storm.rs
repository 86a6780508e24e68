//! Many logins at once, each judged by its own process right after account, open and close.

use std::time::Duration;

use rig::node_alone;
use serde_json::Value;

/// How often; `make check-storm` sets it.
const ROUNDS: &str = "TELEPORT_USERDB_STORM";

#[test]
fn of_64_logins_at_once_again_and_again_none_is_missing_and_none_is_left_over() {
    let long: Option<u64> = std::env::var(ROUNDS)
        .ok()
        .map(|rounds| rounds.parse().unwrap());
    let rounds = long.unwrap_or(20);
    let node = node_alone();
    let times = format!("--rounds={rounds}");
    let storm = ["teleport-child", "storm", "--logins=64", &times];
    let ran = node.run_for(Duration::from_secs(180 + 10 * rounds), &storm);
    let result: Value = serde_json::from_str(ran.stdout.trim()).unwrap_or_default();
    let count = |what: &str| result[what].as_u64().unwrap_or(u64::MAX);
    assert_eq!(count("sessions"), 64 * rounds, "{ran}");
    // In a quarter of an hour a busy machine may be too slow to let somebody in; nobody is told a wrong thing then.
    let refused = if long.is_some() { count("refused") } else { 0 };
    assert_eq!(count("failures"), refused, "{ran}");
    assert!(refused < count("sessions") / 20, "{ran}");
    println!("{result}");
    let left = node.sh("getent passwd | grep ^storm; getent group teleport-tmp");
    assert_eq!(
        left.stdout
            .lines()
            .filter(|line| line.contains("storm"))
            .count(),
        0,
        "{left}"
    );
}

/// PID 1 and logind have most to do then, and others are asked through them. Two hundred where TELEPORT_USERDB_SOAK is set.
#[test]
fn a_crowd_that_comes_at_once_through_the_whole_stack_comes_in_to_the_last() {
    let node = node_alone();
    // As it is shipped: with the time-out that people have.
    node.sh("sed -i 's/ timeout=[0-9]*//' /etc/pam.d/teleport")
        .must();
    let people = match std::env::var_os("TELEPORT_USERDB_SOAK") {
        Some(_) => 200,
        None => 30,
    };
    let logins = format!("--logins={people}");
    let storm = [
        "teleport-child",
        "storm",
        "--rounds=1",
        "--only-in",
        "--prefix=crowd",
    ];
    let storm = [&storm[..], &["--service=teleport", &logins]].concat();
    let ran = node.run_for(Duration::from_secs(300), &storm);
    let result: Value = serde_json::from_str(ran.stdout.trim()).unwrap_or_default();
    println!("{people} people came and went in {} s", result["seconds"]);
    assert_eq!(result["failures"], 0, "{ran}");
    assert_eq!(result["sessions"], people, "{ran}");
}

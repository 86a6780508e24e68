//! Many logins at once, each judged by its own process right after account, open and close.

use std::time::Duration;

use rig::node_alone;
use serde_json::Value;

/// How often; `make check-storm` sets it.
const ROUNDS: &str = "TELEPORT_USERDB_STORM";

#[test]
fn of_64_logins_at_once_again_and_again_none_is_missing_and_none_is_left_over() {
    let rounds: u64 = std::env::var(ROUNDS).map_or(20, |rounds| rounds.parse().unwrap());
    let node = node_alone();
    let times = format!("--rounds={rounds}");
    let storm = ["teleport-child", "storm", "--logins=64", &times];
    let ran = node.run_for(Duration::from_secs(120 + 6 * rounds), &storm);
    let result: Value = serde_json::from_str(ran.stdout.trim()).unwrap_or_default();
    assert_eq!(result["failures"], 0, "{ran}");
    assert_eq!(result["sessions"], 64 * rounds, "{ran}");
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

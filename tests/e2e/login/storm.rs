//! Many logins at once, each judged by its own process right after account, open and close.

use std::time::Duration;

use rig::node_alone;
use serde_json::Value;

#[test]
fn of_64_logins_at_once_in_20_rounds_none_is_missing_and_none_is_left_over() {
    let node = node_alone();
    let storm = ["teleport-child", "storm", "--logins=64", "--rounds=20"];
    let ran = node.run_for(Duration::from_secs(180), &storm);
    let result: Value = serde_json::from_str(ran.stdout.trim()).unwrap_or_default();
    assert_eq!(result["failures"], 0, "{ran}");
    assert_eq!(result["sessions"], 64 * 20, "{ran}");
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

//! Beside nscd, which keeps what it was once told for up to an hour: a login is there and gone as without it.

use rig::{Machine, Suite};

use crate::{groups_of, node_alone};

/// What nscd has in its cache, or finds now.
fn is_known(node: &Machine, login: &str) -> bool {
    node.run(&["getent", "passwd", login]).succeeded()
}

#[test]
fn a_login_is_there_at_once_and_gone_at_once_whatever_nscd_has_cached() {
    let node = node_alone();
    // What nscd of Debian unstable needs beside what is in every image.
    if matches!(Suite::chosen(), Ok(Suite::Sid)) {
        node.install("libcap2");
    }
    node.install("nscd");
    // The package's defaults, with times that no test waits for.
    node.sh(
        "sed -i -E 's/^(\\s*(positive|negative)-time-to-live\\s+(passwd|group)\\s+).*/\\13600/' /etc/nscd.conf && \
         grep -c '3600' /etc/nscd.conf && systemctl restart nscd",
    )
    .must();
    for round in 0..3 {
        // Absent, and nscd knows it for an hour.
        for _ in 0..2 {
            assert!(!is_known(&node, "nora"), "before round {round}");
            assert!(!node.run(&["getent", "group", "crew-nora"]).succeeded());
            assert!(!node.run(&["id", "nora"]).succeeded());
        }
        let mut login = node
            .login("nora")
            .roles("crew")
            .hold("account")
            .hold("open")
            .start();
        login.reach("account");
        assert!(is_known(&node, "nora"), "reserved, round {round}");
        // As Teleport looks it up between the phases, and nscd keeps: without its groups.
        assert_eq!(groups_of(&node, "nora"), ["nora", "teleport-tmp"]);
        login.go_on().reach("open");
        assert_eq!(
            groups_of(&node, "nora"),
            ["builders", "crew", "nora", "teleport-tmp"],
            "round {round}"
        );
        assert!(is_known(&node, "nora"));
        let uid = node.run(&["id", "-u", "nora"]).must().to_owned();
        assert!(is_known(&node, &uid));
        login.finish().ran.must();
        assert!(!is_known(&node, "nora"), "after round {round}");
        assert!(!is_known(&node, &uid) && !node.run(&["id", "nora"]).succeeded());
        assert!(!node.run(&["getent", "group", "nora"]).succeeded());
    }
    // It was asked all of this: it keeps something of users.
    let kept = node.sh(
        "nscd -g | grep -A30 '^passwd cache' | grep 'current number of cached values' | head -n1 | tr -dc 0-9",
    );
    assert_ne!(
        kept.must().parse::<u32>().unwrap_or(0),
        0,
        "nscd was not asked: {kept}"
    );
    node.sh("systemctl disable --now nscd && dpkg --purge nscd")
        .must();
}

//! Lookups while our services restart: a provider that does not answer would cost each one 45 s.

use std::process::Stdio;
use std::time::Duration;

use rig::{LOCAL_USER, node_alone};

/// Prints the milliseconds that each lookup of an unknown user takes, until told to stop.
const LOOKING: &str = "while [ ! -e /run/looked-enough ]; do began=$(date +%s%N); getent passwd nosuchuser; \
                       echo $((($(date +%s%N) - began) / 1000000)); done; rm /run/looked-enough";

#[test]
fn no_lookup_waits_while_a_service_restarts() {
    let node = node_alone();
    for unit in [
        "teleport-userdbd.service",
        "teleport-sessiond.service",
        "teleport-lookup.socket",
    ] {
        let looking = node
            .command(&["sh", "-c", LOOKING])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..10 {
            let ran = node.run(&["systemctl", "restart", unit]);
            ran.must();
            assert!(ran.elapsed < Duration::from_secs(5), "{ran}");
        }
        node.run(&["touch", "/run/looked-enough"]).must();
        let told = looking.wait_with_output().unwrap();
        let told: Vec<u64> = String::from_utf8_lossy(&told.stdout)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let longest = told.iter().max().copied().unwrap_or_default();
        println!(
            "{unit}: {} lookups, the longest took {longest} ms",
            told.len()
        );
        assert!(
            told.len() >= 10,
            "{unit}: only {} lookups were made",
            told.len()
        );
        assert!(longest < 2000, "{unit}: a lookup took {longest} ms");
    }
    node.run(&["getent", "passwd", LOCAL_USER]).must();
    node.login("rikard").command("true").run().ran.must();
}

//! Checklist rows 11 and 12: lookups while others hang, while we restart, are killed or hang ourselves.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rig::{Machine, node_alone};
use serde_json::json;

use crate::wire::{Wire, userdb};
use crate::{OURS, session};

const UNIT: &str = "teleport-userdbd.service";
/// `WatchdogSec=` of the unit.
const WATCHDOG: Duration = Duration::from_secs(10);
/// Ending the hung process, `RestartSec=`, starting, and a lookup, on a busy machine. Whoever waited for good would wait 45 s.
const REPLACED: Duration = Duration::from_secs(8);

/// Processes that are stopped until this is dropped.
struct Frozen<'m> {
    machine: &'m Machine,
    pids: Vec<String>,
}

impl<'m> Frozen<'m> {
    #[track_caller]
    fn new(machine: &'m Machine, units: &[&str]) -> Frozen<'m> {
        let pids: Vec<String> = units.iter().map(|unit| main_pid(machine, unit)).collect();
        let frozen = Frozen { machine, pids };
        frozen.signal("-STOP");
        frozen
    }

    fn signal(&self, signal: &str) {
        let pids: Vec<&str> = self.pids.iter().map(String::as_str).collect();
        self.machine.run(&[&["kill", signal], &pids[..]].concat());
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[track_caller]
fn main_pid(machine: &Machine, unit: &str) -> String {
    let shown = machine.run(&["systemctl", "show", "--value", "-p", "MainPID", unit]);
    assert_ne!(shown.must(), "0", "{unit} does not run");
    shown.must().to_owned()
}

/// Looks one name up again and again, in a process each time as everybody does; tells the status and the milliseconds.
struct Looking {
    child: Child,
    /// The status that is right.
    expected: &'static str,
}

/// What came of the lookups.
struct Looked {
    count: usize,
    /// Those that said otherwise than what is true.
    otherwise: usize,
    longest: Duration,
}

impl Looking {
    #[track_caller]
    fn up(machine: &Machine, lookup: &str, expected: &'static str) -> Looking {
        let line = format!(
            "while [ ! -e /run/looked-enough ]; do began=$(date +%s%N); {lookup} >/dev/null; status=$?; \
             echo $status $((($(date +%s%N) - began) / 1000000)); done"
        );
        let child = machine
            .command(&["sh", "-c", &line])
            .stdout(Stdio::piped())
            .spawn();
        let child = child.unwrap();
        Looking { child, expected }
    }

    /// Ends all that look on this machine.
    #[track_caller]
    fn enough<const N: usize>(machine: &Machine, all: [Looking; N]) -> [Looked; N] {
        machine.run(&["touch", "/run/looked-enough"]).must();
        let looked = all.map(|looking| {
            let told = looking.child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            let lookups: Vec<(&str, u64)> = told
                .lines()
                .map(|line| line.split_once(' ').unwrap())
                .map(|(status, time)| (status, time.parse().unwrap()))
                .collect();
            let longest = lookups
                .iter()
                .map(|(_, time)| *time)
                .max()
                .unwrap_or_default();
            Looked {
                count: lookups.len(),
                otherwise: lookups
                    .iter()
                    .filter(|(status, _)| *status != looking.expected)
                    .count(),
                longest: Duration::from_millis(longest),
            }
        });
        machine.run(&["rm", "/run/looked-enough"]).must();
        for one in &looked {
            println!(
                "{} lookups, {} failed, the longest took {:?}",
                one.count, one.otherwise, one.longest
            );
            assert!(one.count > 0);
        }
        looked
    }
}

/// As every process asks, as nss-systemd alone asks, and for a name that nobody has.
fn everybody(machine: &Machine, login: &str) -> [Looking; 3] {
    [
        (format!("getent passwd {login}"), "0"),
        (format!("getent -s passwd:systemd passwd {login}"), "0"),
        ("getent passwd nobody-has-this".to_owned(), "2"),
    ]
    .map(|(lookup, expected)| Looking::up(machine, &lookup, expected))
}

#[test]
fn lookups_are_answered_while_sessiond_logind_and_dbus_hang() {
    let node = node_alone();
    let _session = session(&node, "osmund");
    let mut wire = Wire::to(&node, OURS);
    let mut times = Vec::new();
    {
        let _frozen = Frozen::new(
            &node,
            &[
                "teleport-sessiond.service",
                "systemd-logind.service",
                "dbus.service",
            ],
        );
        let parameters = json!({"userName": "osmund", "service": OURS});
        let message = json!({"method": userdb("GetUserRecord"), "parameters": parameters});
        for _ in 0..1000 {
            let began = Instant::now();
            wire.send(&message);
            let reply = wire.next().unwrap();
            times.push(began.elapsed());
            assert_eq!(reply["parameters"]["record"]["userName"], "osmund");
        }
        node.run(&["getent", "passwd", "osmund"]).must();
        node.run(&["getent", "-s", "passwd:systemd", "passwd", "osmund"])
            .must();
        node.run(&["getent", "-s", "initgroups:systemd", "initgroups", "osmund"])
            .must();
    }
    times.sort();
    println!(
        "p50 {:?}, p99 {:?}, the relay into the machine included",
        times[500], times[990]
    );
    assert!(times[990] < Duration::from_millis(500), "{:?}", times[990]);
}

#[test]
fn with_sessiond_stopped_or_killed_lookups_are_as_before() {
    let node = node_alone();
    let _session = session(&node, "olga");
    let unit = "teleport-sessiond.service";
    let looking = everybody(&node, "olga");
    for _ in 0..3 {
        node.run(&["systemctl", "kill", "-s", "KILL", unit]).must();
        std::thread::sleep(Duration::from_millis(300));
    }
    node.run(&["systemctl", "stop", unit, "teleport-sessiond.socket"])
        .must();
    std::thread::sleep(Duration::from_millis(500));
    let looked = Looking::enough(&node, looking);
    node.run(&["systemctl", "start", "teleport-sessiond.socket", unit])
        .must();
    for one in looked {
        assert_eq!(one.otherwise, 0);
        assert!(one.longest < REPLACED, "{:?}", one.longest);
    }
}

#[test]
fn a_restart_under_load_makes_nobody_unknown() {
    let node = node_alone();
    let _session = session(&node, "ottilie");
    let looking = everybody(&node, "ottilie");
    for _ in 0..10 {
        node.run(&["systemctl", "restart", UNIT]).must();
    }
    for one in Looking::enough(&node, looking) {
        assert_eq!(one.otherwise, 0);
        assert!(one.longest < REPLACED, "{:?}", one.longest);
    }
}

#[test]
fn a_killed_provider_is_back_at_once_and_makes_nobody_unknown() {
    let node = node_alone();
    let _session = session(&node, "oskar");
    let looking = everybody(&node, "oskar");
    const KILLS: usize = 5;
    for _ in 0..KILLS {
        let killed = main_pid(&node, UNIT);
        node.run(&["kill", "-KILL", &killed]).must();
        node.within(REPLACED, "another one runs", |node| {
            let now = node.run(&[
                "systemctl",
                "show",
                "--value",
                "-p",
                "MainPID,SubState",
                UNIT,
            ]);
            let now = now.must().to_owned();
            now.contains("running") && !now.contains(&killed)
        });
    }
    let [everybody, systemd, nobody] = Looking::enough(&node, looking);
    assert_eq!(everybody.otherwise, 0);
    assert_eq!(nobody.otherwise, 0);
    // A caller whose question had been taken in when the process died hears nothing but the end of its connection;
    // whoever came later has waited in the queue that PID 1 keeps.
    assert!(systemd.otherwise <= KILLS, "{}", systemd.otherwise);
    for one in [everybody, systemd, nobody] {
        assert!(one.longest < REPLACED, "{:?}", one.longest);
    }
}

#[test]
fn a_provider_that_hangs_is_replaced_before_anybody_waits_longer_than_the_watchdog() {
    let node = node_alone();
    let _session = session(&node, "ortrud");
    let hung = main_pid(&node, UNIT);
    let looking = everybody(&node, "ortrud");
    node.run(&["kill", "-STOP", &hung]).must();
    let replaced = node.within(
        WATCHDOG + REPLACED,
        "the hung provider is replaced",
        |node| {
            let now = node.run(&["systemctl", "show", "--value", "-p", "MainPID", UNIT]);
            !["0", &hung].contains(&now.must())
        },
    );
    println!("replaced after {replaced:?}");
    std::thread::sleep(Duration::from_millis(500));
    let [everybody, systemd, nobody] = Looking::enough(&node, looking);
    assert_eq!(everybody.otherwise, 0);
    assert_eq!(nobody.otherwise, 0);
    assert!(systemd.otherwise <= 1, "{}", systemd.otherwise);
    for one in [everybody, systemd, nobody] {
        assert!(one.longest < WATCHDOG + REPLACED, "{:?}", one.longest);
    }
}

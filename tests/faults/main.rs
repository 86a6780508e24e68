//! Faults at each system call of the daemons in turn on a booted node: of teleport-sessiond while a login comes and goes, and while it
//! starts beside sessions; of teleport-userdbd in all its life; and of a process that logs in. Sampled by default. With TELEPORT_USERDB_FAULTS=all every point is tried and the result is written to
//! docs/faults.md; with names of system calls in it, such as `write,accept4`, every point of these.

mod answers;
mod callers;
mod invariants;
mod launch;
mod login;
mod point;
mod report;
mod restart;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use invariants::Watch;
use point::{Fault, Point};
use report::{Outcome, Report, Words};
use rig::{Machine, Result, Suite, boot_node};

/// Whose journal is shown where something did not hold.
const SESSIOND: &str = "teleport-sessiond.service";
/// How many points are tried where not all are; and of what is tried again only after ten seconds if it cannot start.
const SAMPLE: usize = 30;
const SMALL_SAMPLE: usize = 10;
/// Machines side by side where more are tried.
const MACHINES: usize = 3;

/// A short delay, so that the end of what is left comes into the same trace; and a role with sudo.
const CONFIG: &str = "retire-delay = \"100ms\"\nstop-timeout = \"1s\"\n[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudo = true\n";

/// What the daemon does while it meets a fault.
struct Scenario {
    words: Words,
    /// How many points are tried where not all are.
    sample: usize,
    node: fn() -> Result<Machine>,
    /// The calls of the daemon and its children without any fault.
    counts: fn(&Machine, &Watch<'_>) -> BTreeMap<String, usize>,
    /// It once more, under a fault; the number is of no other.
    attempt: fn(&Machine, &Watch<'_>, &Point, usize) -> Outcome,
}

#[test]
fn a_fault_at_any_system_call_of_a_login_leaves_everything_in_order() -> Result<()> {
    try_all(&Scenario {
        words: Words {
            name: "logins",
            well: "login admitted",
            otherwise: "login refused with a sentence",
            longest: "From the start of a login to the last of what it left",
        },
        sample: SAMPLE,
        node,
        counts: login::counts,
        attempt: login::attempt,
    })
}

#[test]
fn a_fault_at_any_system_call_of_a_start_costs_no_session_and_leaves_none() -> Result<()> {
    try_all(&Scenario {
        words: Words {
            name: "starts",
            well: "started",
            otherwise: "started the next time",
            longest: "From the start of the daemon to the last of what had ended before",
        },
        sample: SAMPLE,
        node: restart::node,
        counts: restart::counts,
        attempt: restart::attempt,
    })
}

#[test]
fn a_fault_at_any_system_call_of_who_logs_in_leaves_nothing() -> Result<()> {
    try_all(&Scenario {
        words: Words {
            name: "callers",
            well: "session opened",
            otherwise: "no session",
            longest: "From the start of a login to the last of what it left",
        },
        sample: SAMPLE,
        node,
        counts: callers::counts,
        attempt: callers::attempt,
    })
}

#[test]
fn a_fault_at_any_system_call_of_userdbd_makes_no_answer_wrong() -> Result<()> {
    try_all(&Scenario {
        words: Words {
            name: "answers",
            well: "every answer right",
            otherwise: "some plainly no answer",
            longest: "From the start of the daemon to its end",
        },
        sample: SMALL_SAMPLE,
        node: answers::node,
        counts: answers::counts,
        attempt: answers::attempt,
    })
}

fn try_all(scenario: &Scenario) -> Result<()> {
    let asked = std::env::var("TELEPORT_USERDB_FAULTS").ok();
    let everything = asked.as_deref() == Some("all");
    let began = Instant::now();
    let machine = (scenario.node)()?;
    let watch = Watch::begin(&machine);
    let counts = (scenario.counts)(&machine, &watch);
    let all = points(&counts);
    let chosen = match asked.as_deref() {
        Some("all") => all.clone(),
        Some(calls) => of_calls(&all, calls),
        None => sample(&all, scenario.sample),
    };
    println!(
        "{}: {} calls of {} kinds, {} points, of which {} are tried",
        scenario.words.name,
        counts.values().sum::<usize>(),
        counts.len(),
        all.len(),
        chosen.len()
    );
    let queue = Mutex::new(chosen.into_iter().enumerate().rev().collect::<Vec<_>>());
    let outcomes = Mutex::new(Vec::new());
    let work = |machine: &Machine, watch: &Watch<'_>| {
        while let Some((number, point)) = next(&queue) {
            let outcome = (scenario.attempt)(machine, watch, &point, number);
            if let Outcome::Broken(why) = &outcome {
                println!("{point}: {why}");
            }
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((point, outcome));
                if outcomes.len() % 500 == 0 {
                    println!("{} tried, {:.0?}", outcomes.len(), began.elapsed());
                }
            }
        }
    };
    if asked.is_some() {
        std::thread::scope(|scope| {
            for _ in 1..MACHINES {
                scope.spawn(|| {
                    let machine = (scenario.node)().expect("another machine");
                    work(&machine, &Watch::begin(&machine));
                });
            }
            // The first machine is this thread's: its watch cannot move.
            work(&machine, &watch);
        });
    } else {
        work(&machine, &watch);
    }
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let report = Report::of(scenario.words, &counts, &outcomes, began.elapsed());
    println!("{report}");
    if everything {
        report.write();
    }
    assert!(report.broken == 0, "{} points are broken", report.broken);
    assert!(report.held > 0, "no fault was delivered");
    Ok(())
}

fn next(queue: &Mutex<Vec<(usize, Point)>>) -> Option<(usize, Point)> {
    queue.lock().ok()?.pop()
}

fn node() -> Result<Machine> {
    let machine = boot_node(Suite::chosen()?)?;
    machine.write("/etc/teleport-userdb/config.d/10-faults.toml", CONFIG);
    // A daemon that was killed is asked again until the next one runs: on a loaded machine not within five seconds.
    machine
        .sh("sed -i 's/pam_teleport.so/& timeout=30/' /etc/pam.d/sshd")
        .must();
    machine
        .run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    Ok(machine)
}

fn points(counts: &BTreeMap<String, usize>) -> Vec<Point> {
    let mut points = Vec::new();
    for fault in Fault::ALL {
        for (call, count) in counts {
            points.extend((1..=*count).map(|nth| Point {
                fault,
                call: call.clone(),
                nth,
            }));
        }
    }
    points
}

/// Spread evenly over faults, calls and their order, and the same ones for the same daemon.
fn sample(all: &[Point], most: usize) -> Vec<Point> {
    let step = all.len().div_ceil(most).max(1);
    all.iter().step_by(step).cloned().collect()
}

/// Every point of the calls that are named.
fn of_calls(all: &[Point], calls: &str) -> Vec<Point> {
    let is_named = |point: &&Point| calls.split(',').any(|call| call == point.call);
    all.iter().filter(is_named).cloned().collect()
}

/// A login with sudo on its way to being open.
fn admin(machine: &Machine, login: &str) -> rig::Login {
    machine
        .login(login)
        .roles("admin")
        .service("sshd")
        .flag("--look")
        .hold("open")
        .start()
}

/// What the daemon has said last.
fn journal(machine: &Machine, unit: &str) -> String {
    let unit = format!("--unit={unit}");
    let last = [
        "journalctl",
        "-q",
        "--no-hostname",
        "-o",
        "short-precise",
        "-n",
        "12",
        &unit,
    ];
    machine.run(&last).stdout
}

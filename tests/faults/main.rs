//! Faults at each system call of teleport-sessiond in turn, while a login comes and goes on a booted node.
//! Sampled by default. With TELEPORT_USERDB_FAULTS=all every point is tried and the result is written to docs/faults.md; with names
//! of system calls in it, such as `write,accept4`, every point of these.

mod invariants;
mod point;
mod report;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use invariants::Watch;
use point::{Fault, Point, Trace, counted, was_delivered};
use report::Outcome;
use rig::{Machine, Result, Suite, boot_node};

/// How many points are tried where not all are.
const SAMPLE: usize = 30;
/// Machines side by side where more are tried.
const MACHINES: usize = 3;

/// A short delay, so that the end of what is left comes into the same trace; and a role with sudo.
const CONFIG: &str = "retire-delay = \"100ms\"\nstop-timeout = \"1s\"\n[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudo = true\n";

#[test]
fn a_fault_at_any_system_call_of_a_login_leaves_everything_in_order() -> Result<()> {
    let asked = std::env::var("TELEPORT_USERDB_FAULTS").ok();
    let everything = asked.as_deref() == Some("all");
    let began = Instant::now();
    let machine = node()?;
    let watch = Watch::begin(&machine);
    let counts = counts(&machine, &watch);
    let all = points(&counts);
    let chosen = match asked.as_deref() {
        Some("all") => all.clone(),
        Some(calls) => of_calls(&all, calls),
        None => sample(&all),
    };
    println!(
        "{} calls of {} kinds, {} points, of which {} are tried",
        counts.values().sum::<usize>(),
        counts.len(),
        all.len(),
        chosen.len()
    );
    let queue = Mutex::new(chosen.into_iter().enumerate().rev().collect::<Vec<_>>());
    let outcomes = Mutex::new(Vec::new());
    let work = |machine: &Machine, watch: &Watch<'_>| {
        while let Some((number, point)) = next(&queue) {
            let outcome = attempt(machine, watch, &point, number);
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
                    let machine = node().expect("another machine");
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
    let report = report::Report::of(&counts, &outcomes, began.elapsed());
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

/// The calls of the daemon and its children from the first word of a login to the end of what it left.
fn counts(machine: &Machine, watch: &Watch<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    // The first login of a daemon makes calls that later ones need not, and the other way round.
    for login in ["first", "second"] {
        let trace = Trace::recording(machine, &daemon(machine));
        let mut session = start(machine, login);
        session.reach("open");
        session.finish().ran.must();
        watch
            .withdrawn_in_time(login)
            .and_then(|()| watch.converges())
            .unwrap_or_else(|why| panic!("without any fault: {why}"));
        for (call, count) in counted(&trace.end()) {
            let most: &mut usize = counts.entry(call).or_default();
            *most = count.max(*most);
        }
    }
    counts
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
fn sample(all: &[Point]) -> Vec<Point> {
    let step = all.len().div_ceil(SAMPLE).max(1);
    all.iter().step_by(step).cloned().collect()
}

/// Every point of the calls that are named.
fn of_calls(all: &[Point], calls: &str) -> Vec<Point> {
    let is_named = |point: &&Point| calls.split(',').any(|call| call == point.call);
    all.iter().filter(is_named).cloned().collect()
}

fn start(machine: &Machine, login: &str) -> rig::Login {
    machine
        .login(login)
        .roles("admin")
        .service("sshd")
        .flag("--look")
        .hold("open")
        .start()
}

fn daemon(machine: &Machine) -> String {
    let pid = || {
        let shown = machine.run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
        shown.must().to_owned()
    };
    let began = Instant::now();
    loop {
        let pid = pid();
        if pid != "0" {
            return pid;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "sessiond does not run"
        );
    }
}

/// One login under one fault.
fn attempt(machine: &Machine, watch: &Watch<'_>, point: &Point, number: usize) -> Outcome {
    let login = format!("f{number}");
    let trace = Trace::delivering(machine, &daemon(machine), point);
    let began = Instant::now();
    let mut session = start(machine, &login);
    let open = session.try_reach("open");
    let resolved = match open {
        true => watch.open_session(&login, session.events()),
        false => Ok(()),
    };
    let ended = session.finish();
    let withdrawn = watch.withdrawn_in_time(&login);
    // Its remains are ended under the same strace, but not for ever: each new child would meet the fault anew.
    watch.may_converge();
    let trace = trace.end();
    let converged = watch.converges();
    let held = resolved.and(withdrawn).and(converged);
    if let Err(why) = held {
        let told = journal(machine);
        // What is left over must not be taken for the work of the next point.
        let _ = machine.run(&["systemctl", "restart", "teleport-sessiond"]);
        return Outcome::Broken(format!("{why}\n{told}"));
    }
    let refused = ended.code("account") != Some("SUCCESS") || ended.code("open") != Some("SUCCESS");
    if refused && point.fault == Fault::Kill {
        return Outcome::Broken(format!("the login did not outlive the daemon: {ended:?}"));
    }
    if refused && ended.messages().is_empty() {
        return Outcome::Broken(format!("refused without a word: {ended:?}"));
    }
    if !was_delivered(&trace, point) {
        return match refused {
            // A fault of before has left something behind.
            true => Outcome::Broken(format!("refused without a fault: {ended:?}")),
            false => Outcome::NotReached,
        };
    }
    let took = began.elapsed();
    match refused {
        true => Outcome::Refused(took),
        false => Outcome::Admitted(took),
    }
}

/// What the daemon has said last.
fn journal(machine: &Machine) -> String {
    machine
        .sh("journalctl -q --no-hostname -o short-precise -n 12 -u teleport-sessiond")
        .stdout
}

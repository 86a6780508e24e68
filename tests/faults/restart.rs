//! A start of the daemon under one fault, beside two sessions: one goes on, and the leader of the other has ended while there was no
//! daemon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rig::{Machine, Result};

use crate::invariants::Watch;
use crate::launch::Launch;
use crate::point::{Fault, Point, counted, was_delivered};
use crate::report::Outcome;
use crate::{admin, journal};

const SESSIOND: Launch = Launch {
    unit: "teleport-sessiond.service",
    program: "/usr/libexec/teleport-sessiond",
    // The sandbox lets it, and the daemon looks into folders of this folder only.
    trace: "run/teleport-sessiond/trace",
    room: "",
};
/// Until a daemon answers, after one that could not start.
const ANSWERED: Duration = Duration::from_secs(30);

/// How a start went.
struct Start {
    trace: String,
    /// At once, and not the next time.
    was_first: bool,
    held: std::result::Result<(), String>,
}

pub(crate) fn node() -> Result<Machine> {
    let machine = crate::node()?;
    SESSIOND.prepare(&machine);
    Ok(machine)
}

pub(crate) fn counts(machine: &Machine, watch: &Watch<'_>) -> BTreeMap<String, usize> {
    let start = start(machine, watch, "first", "-e trace=all");
    start
        .held
        .unwrap_or_else(|why| panic!("without any fault: {why}"));
    counted(&start.trace)
}

pub(crate) fn attempt(
    machine: &Machine,
    watch: &Watch<'_>,
    point: &Point,
    number: usize,
) -> Outcome {
    let began = Instant::now();
    let start = start(machine, watch, &format!("r{number}"), &point.options());
    if let Err(why) = start.held {
        let told = journal(machine, SESSIOND.unit);
        // What is left over must not be taken for the work of the next point.
        let _ = machine.run(&["systemctl", "restart", SESSIOND.unit]);
        return Outcome::Broken(format!("{why}\n{told}"));
    }
    // systemd ends what is left of a start that was killed, the strace among it.
    let was_killed = point.fault == Fault::Kill && !start.was_first;
    let was_delivered = was_killed || was_delivered(&start.trace, point);
    match (was_delivered, start.was_first) {
        (true, true) => Outcome::Well(began.elapsed()),
        (true, false) => Outcome::Otherwise(began.elapsed()),
        (false, true) => Outcome::NotReached,
        (false, false) => Outcome::Broken("not started, without a fault".to_owned()),
    }
}

/// Where the start before could not read its configuration, nobody is let in until it has tried again.
fn comes_in(machine: &Machine, login: &str) -> rig::Login {
    let began = Instant::now();
    loop {
        let mut session = admin(machine, login);
        if began.elapsed() > ANSWERED {
            session.reach("open");
        }
        if session.try_reach("open") {
            return session;
        }
    }
}

fn start(machine: &Machine, watch: &Watch<'_>, login: &str, options: &str) -> Start {
    let mut session = comes_in(machine, login);
    let leader = session.pid();
    machine.run(&["systemctl", "stop", SESSIOND.unit]).must();
    machine.run(&["kill", "-KILL", &leader]).must();
    drop(session);
    SESSIOND.order(machine, options);
    let was_first = SESSIOND.start(machine);
    let began = Instant::now();
    let answers = || {
        let asked = ["timeout", "5", "teleport-userdbctl", "sessions"];
        machine.run(&asked).succeeded()
    };
    while !answers() && began.elapsed() < ANSWERED {
        std::thread::sleep(Duration::from_millis(20));
    }
    let withdrawn = watch.withdrawn_in_time(login);
    // Remains are ended under the same strace, but not for ever: each new child would meet the fault anew.
    watch.may_converge();
    SESSIOND.let_go(machine);
    let converged = watch.converges();
    Start {
        trace: SESSIOND.trace(machine),
        was_first,
        held: withdrawn.and(converged),
    }
}

//! A login under one fault: it comes and goes while a strace is attached to the daemon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rig::Machine;

use crate::invariants::Watch;
use crate::point::{Fault, Point, Trace, counted, was_delivered};
use crate::report::Outcome;
use crate::{SESSIOND, admin, journal};

/// The calls of the daemon and its children from the first word of a login to the end of what it left.
pub(crate) fn counts(machine: &Machine, watch: &Watch<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    // The first login of a daemon makes calls that later ones need not, and the other way round.
    for login in ["first", "second"] {
        let trace = Trace::recording(machine, &daemon(machine));
        let mut session = admin(machine, login);
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
pub(crate) fn attempt(
    machine: &Machine,
    watch: &Watch<'_>,
    point: &Point,
    number: usize,
) -> Outcome {
    let login = format!("f{number}");
    let trace = Trace::delivering(machine, &daemon(machine), point);
    let began = Instant::now();
    let mut session = admin(machine, &login);
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
        let told = journal(machine, SESSIOND);
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
        true => Outcome::Otherwise(took),
        false => Outcome::Well(took),
    }
}

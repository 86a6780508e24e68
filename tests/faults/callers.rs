//! A login whose own process meets the fault: in the program that calls libpam, in libpam or one of its modules, ours among them.
//! The daemon lives; what it has begun for the login has to end with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rig::{LoginBuilder, Machine};

use crate::invariants::Watch;
use crate::point::{Point, counted, was_delivered};
use crate::report::Outcome;
use crate::{SESSIOND, journal};

/// Where strace writes, in the machine.
const TRACE: &str = "/var/tmp/caller.trace";
/// How long a login may take: our module waits for 30 s. Who takes longer hangs, and is killed. (Nobody looks users up here: nss-systemd
/// waits for ever where a call of its event loop fails.)
const LIMIT: Duration = Duration::from_secs(40);

pub(crate) fn counts(machine: &Machine, watch: &Watch<'_>) -> BTreeMap<String, usize> {
    let ended = under_strace(machine, "first", "-e trace=all").run();
    ended.ran.must();
    watch
        .withdrawn_in_time("first")
        .and_then(|()| watch.converges())
        .unwrap_or_else(|why| panic!("without any fault: {why}"));
    counted(&trace(machine))
}

pub(crate) fn attempt(
    machine: &Machine,
    watch: &Watch<'_>,
    point: &Point,
    number: usize,
) -> Outcome {
    let login = format!("c{number}");
    let began = Instant::now();
    // Without a stop: what it says at one may be what meets the fault.
    let ended = under_strace(machine, &login, &point.options()).run();
    let open = ended.code("open") == Some("SUCCESS");
    let hangs = match began.elapsed() > LIMIT {
        true => Err("it hangs".to_owned()),
        false => Ok(()),
    };
    let withdrawn = watch.withdrawn_in_time(&login);
    let held = hangs.and(withdrawn).and_then(|()| watch.converges());
    if let Err(why) = held {
        let told = journal(machine, SESSIOND);
        // What is left over must not be taken for the work of the next point.
        let _ = machine.run(&["systemctl", "restart", SESSIOND]);
        return Outcome::Broken(format!("{why}\n{ended:?}\n{told}"));
    }
    match (was_delivered(&trace(machine), point), open) {
        (true, true) => Outcome::Well(began.elapsed()),
        (true, false) => Outcome::Otherwise(began.elapsed()),
        (false, true) => Outcome::NotReached,
        (false, false) => Outcome::Broken(format!("refused without a fault: {ended:?}")),
    }
}

/// The program that calls libpam is started by strace, and met by the fault from its first call on.
fn under_strace<'m>(machine: &'m Machine, login: &str, options: &str) -> LoginBuilder<'m> {
    let limit = LIMIT.as_secs().to_string();
    let limit = ["timeout", "-k", "1", &limit];
    let strace = ["strace", "--kill-on-exit", "-f", "-q", "-o", TRACE];
    let options: Vec<&str> = options.split(' ').collect();
    let login = machine.login(login).roles("admin").service("sshd");
    login.inside(&[&limit[..], &strace, &options].concat())
}

fn trace(machine: &Machine) -> String {
    let path = machine.root().join(TRACE.trim_start_matches('/'));
    std::fs::read_to_string(path).unwrap_or_default()
}

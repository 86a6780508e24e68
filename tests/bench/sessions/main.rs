//! `make bench-sessions`: what a login and a logout cost, beside the useradd script and the least a session daemon can do.
//! Puts the parts together; each of them is a file. With TELEPORT_USERDB_BENCH=short it takes two or three minutes, shows what
//! it has measured and leaves docs/benchmarks.md as it is.

mod counts;
mod flat;
mod node;
mod report;

use std::process::ExitCode;

use bench::Rounds;
use node::{Node, SUBJECTS};

/// Whatever goes wrong ends the benchmark: half a measurement is none.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Users that exist beside those who log in.
const SIZES: [usize; 2] = [30, 10_000];
/// Logins one after the other, in each round; the script takes half a second for each among 10,000 users.
const SERIAL: usize = 20;
const SERIAL_OF_THE_SCRIPT: usize = 4;
/// At once, again and again, each looked up after login and after logout.
const STORM: usize = 64;

/// How much is measured.
struct Form {
    rounds: usize,
    /// Logins at once, in each round.
    parallel: usize,
    /// Existing users, and rounds of the storm among them.
    storms: [(usize, usize); 2],
    is_whole: bool,
}

const WHOLE: Form = Form {
    rounds: 5,
    parallel: 16,
    storms: [(10_000, 10), (30, 100)],
    is_whole: true,
};
const SHORT: Form = Form {
    rounds: 2,
    parallel: 4,
    storms: [(10_000, 2), (30, 10)],
    is_whole: false,
};

/// What was measured among so many users.
pub(crate) struct Measured {
    pub(crate) users: usize,
    /// Milliseconds.
    pub(crate) login: Rounds,
    pub(crate) logout: Rounds,
    pub(crate) all_in: Rounds,
    pub(crate) all_out: Rounds,
    /// Logins that were refused, or whose user was not there afterwards.
    pub(crate) wrong: Vec<(String, usize)>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-sessions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result {
    let short = std::env::var("TELEPORT_USERDB_BENCH").is_ok_and(|form| form == "short");
    let form = if short { SHORT } else { WHOLE };
    let mut node = Node::boot()?;
    let counts = counts::count(&node)?;
    node.retire_soon();
    let mut measured = Vec::new();
    for users in SIZES {
        node.have_users(users)?;
        measured.push(measure(&node, users, &form)?);
    }
    let flat = flat::measure(&mut node, form.rounds)?;
    let mut storm = Vec::new();
    for (users, rounds) in form.storms {
        if users <= 30 {
            node.have_only_few()?;
        }
        let mut wrong = 0;
        for round in 0..rounds {
            // Under new names every few rounds: coming back and coming anew are both in it.
            let prefix = format!("storm{users}r{}s", round / 10);
            wrong += node.logins("ours", &prefix, STORM, true, true)?.wrong;
        }
        eprintln!(
            "{users} users: {wrong} of {} wrong in the storm",
            rounds * STORM
        );
        storm.push((users, rounds, wrong));
    }
    let text = report::text(&report::Results {
        measured: &measured,
        counts: &counts,
        flat: &flat,
        storm: &storm,
        at_once: form.parallel,
    });
    println!("{text}");
    if form.is_whole {
        bench::write_section("sessions", &text)?;
    }
    Ok(())
}

fn measure(node: &Node, users: usize, form: &Form) -> Result<Measured> {
    let mut measured = Measured {
        users,
        login: Rounds::default(),
        logout: Rounds::default(),
        all_in: Rounds::default(),
        all_out: Rounds::default(),
        wrong: SUBJECTS.iter().map(|s| ((*s).to_owned(), 0)).collect(),
    };
    for round in 0..form.rounds {
        for at in 0..SUBJECTS.len() {
            let index = (at + round) % SUBJECTS.len();
            let subject = SUBJECTS[index];
            let serial = if subject.starts_with("script") {
                SERIAL_OF_THE_SCRIPT
            } else {
                SERIAL
            };
            // Warm: a lookup worker that has idled for a minute has ended.
            node.logins(
                subject,
                &format!("warm{users}r{round}s{index}n"),
                1,
                false,
                false,
            )?;
            let one = node.logins(
                subject,
                &format!("u{users}r{round}s{index}n"),
                serial,
                false,
                false,
            )?;
            measured.login.add(subject, one.login);
            measured.logout.add(subject, one.logout);
            let all = node.logins(
                subject,
                &format!("p{users}r{round}s{index}n"),
                form.parallel,
                true,
                false,
            )?;
            measured.all_in.add(subject, all.login);
            measured.all_out.add(subject, all.logout);
            measured.wrong[index].1 += one.wrong + all.wrong;
            eprintln!(
                "{users} users, round {round}: {subject} {:.2} ms, {:.2} ms",
                one.login, one.logout
            );
            // What ends a user's remains is not to run beside somebody else's turn.
            node.settle(0)?;
        }
    }
    Ok(measured)
}

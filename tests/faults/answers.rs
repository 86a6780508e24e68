//! teleport-userdbd under one fault, from its first word to its last: what it says meanwhile has to be right, or plainly no answer.
//! Nobody does anything for it but ask: it has to come to itself.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rig::{Machine, Result};
use serde_json::{Value, json};

use crate::invariants::{KEEPER, Watch};
use crate::launch::Launch;
use crate::point::{Fault, Point, counted, was_delivered};
use crate::report::Outcome;

const USERDBD: Launch = Launch {
    unit: "teleport-userdbd.service",
    program: "/usr/libexec/teleport-userdbd",
    trace: "var/tmp/userdbd.trace",
    room: "CapabilityBoundingSet=CAP_SYS_PTRACE\nReadWritePaths=/var/tmp",
};
const SERVICE: &str = "com.goteleport.DynamicUser";
const SOCKET: &str = "run/systemd/userdb/com.goteleport.DynamicUser";
/// The keeper's role has this group, which is made for it.
const GROUP: &str = "sailors";
/// Every user of ours is in this one.
const MARK: &str = "teleport-tmp";
/// A name that nobody has, and an ID.
const GHOST: (&str, u32) = ("ghost", 1_879_048_191);
const USER: &str = "GetUserRecord";
const GROUPS: &str = "GetGroupRecord";
const MEMBERS: &str = "GetMemberships";
/// `WatchdogSec=` of the unit, and the time to end and start it.
const ANSWER: Duration = Duration::from_secs(15);
/// What cannot start has its socket closed and is tried again every ten seconds.
const CURED: Duration = Duration::from_secs(30);

pub(crate) fn node() -> Result<Machine> {
    let machine = crate::node()?;
    let config = format!("{}groups = [\"{GROUP}\"]\n", crate::CONFIG);
    machine.write("/etc/teleport-userdb/config.d/10-faults.toml", &config);
    machine
        .run(&["systemctl", "reload", "teleport-sessiond"])
        .must();
    USERDBD.prepare(&machine);
    Ok(machine)
}

pub(crate) fn counts(machine: &Machine, _: &Watch<'_>) -> BTreeMap<String, usize> {
    let run = run(machine, "-e trace=all");
    match run.said {
        Said::Right => counted(&run.trace),
        said => panic!("without any fault: {said:?}"),
    }
}

pub(crate) fn attempt(machine: &Machine, _: &Watch<'_>, point: &Point, _: usize) -> Outcome {
    let began = Instant::now();
    let run = run(machine, &point.options());
    // systemd ends what is left of a daemon that was killed, the strace among it.
    let was_killed = point.fault == Fault::Kill && run.was_restarted;
    match (run.said, was_killed || was_delivered(&run.trace, point)) {
        (Said::Wrong(what), _) => Outcome::Broken(format!("{what}\n{}", journal(machine))),
        (Said::Right, true) => Outcome::Well(began.elapsed()),
        (Said::Nothing(_), true) => Outcome::Otherwise(began.elapsed()),
        (Said::Right, false) => Outcome::NotReached,
        (Said::Nothing(why), false) => Outcome::Broken(format!("no answer without a fault: {why}")),
    }
}

/// What has become of one life of the daemon.
struct Run {
    trace: String,
    /// It ended before it was told to.
    was_restarted: bool,
    said: Said,
}

/// What questions were answered with, the worst of them all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Right,
    /// An asker learns that there was no answer, and why.
    Nothing(String),
    /// An asker takes it for the truth, or waits for ever.
    Wrong(String),
}

fn run(machine: &Machine, options: &str) -> Run {
    // First: whoever asks starts it, too.
    USERDBD.order(machine, options);
    machine.run(&["systemctl", "stop", USERDBD.unit]).must();
    let was_first = USERDBD.start(machine);
    let questions = questions(machine);
    let began = Instant::now();
    let mut said = asked(machine, &questions);
    // Who asks again gets the answer, and it is not left to chance which of them is the last.
    while began.elapsed() < CURED && asked(machine, &questions) != Said::Right {
        std::thread::sleep(Duration::from_millis(100));
    }
    let restarts = ["systemctl", "show", "-P", "NRestarts", USERDBD.unit];
    let was_restarted = !was_first || machine.run(&restarts).must() != "0";
    // Its end is under the same strace.
    let _ = machine.run(&["systemctl", "stop", USERDBD.unit]);
    USERDBD.let_go(machine);
    let last = match asked(machine, &questions) {
        Said::Nothing(why) => Said::Wrong(format!("there is still no answer: {why}")),
        said => said,
    };
    said = said.max(last);
    Run {
        trace: USERDBD.trace(machine),
        was_restarted,
        said,
    }
}

/// A question and what is right.
struct Question {
    method: &'static str,
    parameters: Value,
    /// What is looked at in each reply, and what it has to be there, in any order. None at all: nobody is found.
    found: &'static str,
    expected: Vec<Value>,
}

fn questions(machine: &Machine) -> Vec<Question> {
    let uid = machine.run(&["id", "-u", KEEPER]);
    let uid: u32 = uid.must().parse().expect("the keeper's UID");
    let (ghost, nobody) = GHOST;
    let (user, group) = ("/record/userName", "/record/groupName");
    let asked: [(_, _, _, &[&str]); 11] = [
        (USER, json!({"userName": KEEPER}), user, &[KEEPER]),
        (USER, json!({"uid": uid}), user, &[KEEPER]),
        (USER, json!({"userName": ghost}), user, &[]),
        (USER, json!({"uid": nobody}), user, &[]),
        (USER, json!({}), user, &[KEEPER]),
        (GROUPS, json!({"groupName": GROUP}), group, &[GROUP]),
        (GROUPS, json!({"gid": uid}), group, &[KEEPER]),
        (GROUPS, json!({"groupName": ghost}), group, &[]),
        (
            MEMBERS,
            json!({"userName": KEEPER}),
            "/groupName",
            &[GROUP, MARK],
        ),
        (MEMBERS, json!({"groupName": GROUP}), "/userName", &[KEEPER]),
        (MEMBERS, json!({"userName": ghost}), "/userName", &[]),
    ];
    asked
        .into_iter()
        .map(|(method, parameters, found, expected)| Question {
            method,
            parameters,
            found,
            expected: expected.iter().map(|name| json!(name)).collect(),
        })
        .collect()
}

/// Each question over a connection of its own, as nss-systemd asks.
fn asked(machine: &Machine, questions: &[Question]) -> Said {
    let socket = machine.root().join(SOCKET);
    questions
        .iter()
        .map(|question| match ask(&socket, question) {
            Ok(replies) => question.judge(&replies),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Said::Wrong(format!("{question} has no answer within {ANSWER:?}"))
            }
            Err(error) => Said::Nothing(format!("{question}: {error}")),
        })
        .max()
        .unwrap_or(Said::Right)
}

/// All replies to a question.
fn ask(socket: &Path, question: &Question) -> io::Result<Vec<Value>> {
    let mut parameters = question.parameters.clone();
    parameters["service"] = json!(SERVICE);
    let message = json!({
        "method": format!("io.systemd.UserDatabase.{}", question.method),
        "parameters": parameters,
        "more": true,
    });
    let mut connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(ANSWER))?;
    connection.write_all(format!("{message}\0").as_bytes())?;
    let (mut heard, mut replies) = (Vec::new(), Vec::new());
    loop {
        let mut piece = [0; 4096];
        let count = connection.read(&mut piece)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        heard.extend_from_slice(&piece[..count]);
        while let Some(end) = heard.iter().position(|byte| *byte == 0) {
            let reply: Value = serde_json::from_slice(&heard[..end])?;
            heard.drain(..=end);
            let goes_on = reply["continues"] == true;
            replies.push(reply);
            if !goes_on {
                return Ok(replies);
            }
        }
    }
}

impl Question {
    fn judge(&self, replies: &[Value]) -> Said {
        let error = replies.iter().find_map(|reply| reply["error"].as_str());
        let found: Vec<&Value> = replies
            .iter()
            .filter_map(|reply| reply["parameters"].pointer(self.found))
            .collect();
        let is_all = found.len() == self.expected.len()
            && self.expected.iter().all(|name| found.contains(&name));
        match error {
            None if is_all && !found.is_empty() => Said::Right,
            Some("io.systemd.UserDatabase.NoRecordFound") if is_all && found.is_empty() => {
                Said::Right
            }
            Some(error) if error != "io.systemd.UserDatabase.NoRecordFound" => {
                Said::Nothing(format!("{self}: {error}"))
            }
            _ => Said::Wrong(format!("{self} was answered by {replies:?}")),
        }
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.parameters)
    }
}

/// What the daemon has said last.
fn journal(machine: &Machine) -> String {
    crate::journal(machine, USERDBD.unit)
}

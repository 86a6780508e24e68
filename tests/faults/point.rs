//! One fault: a system call, which of its calls, and what becomes of it; and the strace that delivers it.
//! What must hold afterwards is of `invariants`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rig::Machine;

/// Where strace writes, in the machine.
const TRACE: &str = "/var/tmp/faults.trace";

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process is killed as it makes it.
    Kill,
    /// It fails with this error, without having been made.
    Fails(&'static str),
}

impl Fault {
    /// All that are delivered.
    pub(crate) const ALL: [Fault; 5] = [
        Fault::Kill,
        Fault::Fails("EIO"),
        Fault::Fails("ENOSPC"),
        Fault::Fails("EINTR"),
        Fault::Fails("ENOMEM"),
    ];

    fn injection(self) -> String {
        match self {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Fails(error) => format!("error={error}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill => f.write_str("SIGKILL"),
            Fault::Fails(error) => f.write_str(error),
        }
    }
}

/// The `nth` call (from 1) of `call` by a thread or child of the daemon, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) fault: Fault,
    pub(crate) call: String,
    pub(crate) nth: usize,
}

impl Point {
    /// What strace is told, without blanks in an option.
    pub(crate) fn options(&self) -> String {
        let Point { fault, call, nth } = self;
        format!(
            "-e trace={call} -e inject={call}:{}:when={nth}",
            fault.injection()
        )
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} number {}", self.fault, self.call, self.nth)
    }
}

/// A strace that is attached to the daemon.
pub(crate) struct Trace<'m> {
    machine: &'m Machine,
    strace: Child,
}

impl<'m> Trace<'m> {
    /// Attaches to `pid` and all its threads and children, writing down every call.
    pub(crate) fn recording(machine: &'m Machine, pid: &str) -> Trace<'m> {
        Trace::attach(machine, pid, &[])
    }

    /// The same, delivering a fault.
    pub(crate) fn delivering(machine: &'m Machine, pid: &str, point: &Point) -> Trace<'m> {
        let options = point.options();
        let options: Vec<&str> = options.split(' ').collect();
        Trace::attach(machine, pid, &options)
    }

    fn attach(machine: &'m Machine, pid: &str, options: &[&str]) -> Trace<'m> {
        let attach = ["strace", "-f", "-o", TRACE, "-p", pid];
        let mut strace = machine
            .command(&[&attach[..], options].concat())
            .stderr(Stdio::piped())
            .spawn()
            .expect("entering the machine");
        let mut told = String::new();
        if let Some(stderr) = strace.stderr.take() {
            let mut lines = BufReader::new(stderr);
            while !told.contains("attached") {
                let before = told.len();
                let _ = lines.read_line(&mut told);
                assert!(told.len() > before, "strace does not attach: {told}");
            }
            // Whatever else it says must find a reader.
            std::thread::spawn(move || lines.lines().for_each(drop));
        }
        Trace { machine, strace }
    }

    /// Detaches; gives what was written down.
    pub(crate) fn end(mut self) -> String {
        // It has ended already if the daemon has been killed.
        let _ = self.machine.run(&["pkill", "-INT", "-x", "strace"]);
        let _ = self.strace.wait();
        let path = self.machine.root().join(TRACE.trim_start_matches('/'));
        std::fs::read_to_string(path).expect("what strace has written")
    }
}

/// Whether the trace says that the fault was delivered.
pub(crate) fn was_delivered(trace: &str, point: &Point) -> bool {
    match point.fault {
        Fault::Kill => trace.contains("killed by SIGKILL"),
        Fault::Fails(_) => trace.contains("(INJECTED)"),
    }
}

/// How often each call was made, at most by one thread or child.
pub(crate) fn counted(trace: &str) -> BTreeMap<String, usize> {
    let mut each: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        // "4711  openat(AT_FDCWD, ..."; resumed calls, signals and exits begin otherwise.
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        let is_a_name = !call.is_empty()
            && call
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_a_name {
            *each.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, call), count) in each {
        let known = most.entry(call.to_owned()).or_default();
        *known = count.max(*known);
    }
    most
}

//! What a login and logout do that costs more elsewhere than here: syncs, new processes, files written outside /run.
//! Counted by strace, never timed under it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::Result;
use crate::node::Node;

const LOGINS: usize = 10;
const TRACE: &str = "/var/tmp/bench.trace";
const CALLS: &str = "trace=fsync,fdatasync,clone,clone3,fork,vfork,openat,creat";

/// For one login and logout.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) syncs: f64,
    pub(crate) forks: f64,
    pub(crate) files: f64,
}

/// Of each subject that is counted.
pub(crate) fn count(node: &Node) -> Result<Vec<(&'static str, Counts)>> {
    let mut counts = Vec::new();
    for subject in ["ours", "ours, with home"] {
        node.logins(subject, "unseen", 1, false, false)?;
        let pid = node
            .machine
            .run(&["systemctl", "show", "-P", "MainPID", "teleport-sessiond"]);
        let mut strace = node
            .machine
            .command(&[
                "strace",
                "-f",
                "-y",
                "-e",
                CALLS,
                "-o",
                TRACE,
                "-p",
                pid.must(),
            ])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut attached = String::new();
        if let Some(stderr) = strace.stderr.take() {
            let mut told = BufReader::new(stderr);
            told.read_line(&mut attached)?;
            // Without a reader it would die of what it says next.
            std::thread::spawn(move || told.lines().for_each(drop));
        }
        if !attached.contains("attached") {
            return Err(format!("strace: {attached}").into());
        }
        node.logins(subject, "counted", LOGINS, false, false)?;
        // Before retire-delay is over: what ends a user comes later and is nobody's wait.
        node.machine.run(&["pkill", "-INT", "-x", "strace"]).must();
        strace.wait()?;
        counts.push((subject, counted(node)?));
        node.settle(0)?;
    }
    let logins = LOGINS.to_string();
    node.machine
        .run(&[
            "strace",
            "-f",
            "-y",
            "-e",
            CALLS,
            "-o",
            TRACE,
            "/usr/local/bin/pam_logins",
            "script",
            "counted",
            &logins,
            "serial",
            "no",
        ])
        .must();
    let mut script = counted(node)?;
    // The processes that play the Teleport child.
    script.forks -= 1.0;
    counts.push(("script", script));
    Ok(counts)
}

fn counted(node: &Node) -> Result<Counts> {
    let trace = fs::read_to_string(node.machine.root().join(&TRACE[1..]))?;
    let mut counts = Counts::default();
    for line in trace.lines() {
        let call = line
            .split_once(' ')
            .map_or(line, |(_, call)| call.trim_start());
        if call.starts_with("fsync(") || call.starts_with("fdatasync(") {
            counts.syncs += 1.0;
        } else if ["clone(", "clone3(", "fork(", "vfork("]
            .iter()
            .any(|new| call.starts_with(new))
        {
            counts.forks += f64::from(!call.contains("CLONE_THREAD"));
        } else if call.contains("O_CREAT") || call.contains("O_TMPFILE") {
            // "openat(AT_FDCWD</somewhere>, "/run/…", …": a path of its own, or one below a descriptor's.
            let elsewhere = ["\"/run/", "\"/dev/", "\"/proc/", "</run/"];
            let failed = call.contains(" = -1 ");
            counts.files +=
                f64::from(!failed && !elsewhere.iter().any(|place| call.contains(place)));
        }
    }
    let logins = LOGINS as f64;
    Ok(Counts {
        syncs: counts.syncs / logins,
        forks: counts.forks / logins,
        files: counts.files / logins,
    })
}

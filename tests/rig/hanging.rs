//! A file system in a machine that never answers: the client of the tests serves it, and does not.
//! What is made of that is for the tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::Machine;

/// Mounts on `point` what never answers, as the user's, until this is killed or the user is ended.
#[track_caller]
pub fn hang(machine: &Machine, point: &str, uid: &str) -> Child {
    // The machine's /dev lacks it, and only its host may make it.
    let device = machine.root().join("dev/fuse");
    if !device.exists() {
        let made = std::process::Command::new("mknod")
            .args(["-m", "0666"])
            .arg(&device)
            .args(["c", "10", "229"])
            .status();
        assert!(made.is_ok_and(|made| made.success()) || device.exists());
    }
    let mut arguments = vec!["teleport-child", "hang", "--on", point, "--uid", uid];
    // logind itself looks at everything in /dev/shm whenever a user ends (RemoveIPC=), and hangs with what hangs there.
    if point.starts_with("/dev/shm") {
        arguments.push("--closed");
    }
    let mut child = machine
        .command(&arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("entering the machine: {error}"));
    let mut line = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = BufReader::new(stderr).read_line(&mut line);
    }
    assert!(line.contains("mounted"), "{line}");
    child
}

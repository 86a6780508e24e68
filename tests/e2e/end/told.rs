//! Something to leave behind that writes down when it is told to end.

use rig::Machine;

use crate::common::{add_config, regular};

/// Writes down when it has SIGTERM, and goes on. What it starts ends by the same signal, so the shell itself writes.
const TOLD: &str = "#!/bin/sh
# told NAME SECONDS: writes that it lives every so many seconds.
trap '' HUP
trap 'read up idle </proc/uptime; echo $up >>/var/tmp/$1.term' TERM
while :; do read up idle </proc/uptime; echo $up >>/var/tmp/$1.alive; sleep $2; done
";

/// A machine with `told`, and with these times.
#[track_caller]
pub(crate) fn configure(machine: &Machine, stop_timeout: &str, retire_delay: &str) {
    let regular = regular(machine);
    let times = format!("stop-timeout = \"{stop_timeout}\"\nretire-delay = \"{retire_delay}\"\n");
    add_config(machine, "10-told", &format!("{regular}{times}"));
    machine.write("/usr/local/bin/told", TOLD);
    machine
        .run(&["chmod", "0755", "/usr/local/bin/told"])
        .must();
}

/// Seconds since the boot that were written down.
#[track_caller]
pub(crate) fn times(machine: &Machine, file: &str) -> Vec<f64> {
    let text = machine.sh(&format!("cat /var/tmp/{file} 2>/dev/null; :"));
    let times = text.must().lines().map(str::parse);
    times.collect::<Result<_, _>>().expect("seconds")
}

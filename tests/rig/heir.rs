//! Another process under the PID of one that has ended.
//! What is made of that is for the tests.

use crate::Machine;

/// Starts root's `sleep` under this very PID: the kernel is told which one it gave last.
#[track_caller]
pub fn takes_pid(machine: &Machine, pid: &str) {
    let before: u32 = pid.parse::<u32>().expect("a PID") - 1;
    // /proc/sys of a container is read-only; a /proc of its own is not.
    let take = format!(
        "mount -t proc proc /mnt && until [ \"$!\" = {pid} ]; do \
         [ -z \"$!\" ] || kill $!; echo {before} >/mnt/sys/kernel/ns_last_pid; sleep 1000 >/dev/null 2>&1 & done"
    );
    machine
        .run(&["timeout", "20", "unshare", "--mount", "sh", "-c", &take])
        .must();
}

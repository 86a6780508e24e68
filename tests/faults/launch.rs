//! Daemons that are started under strace once, when there is an order for it, and as ever otherwise.
//! What is to go wrong in them is of `point`.

use rig::Machine;

/// What strace is to do at the next start.
const ORDER: &str = "/run/strace.order";

/// A service whose starts can be met by a fault.
pub(crate) struct Launch {
    pub(crate) unit: &'static str,
    pub(crate) program: &'static str,
    /// Where strace writes, below `/`.
    pub(crate) trace: &'static str,
    /// What of the sandbox has to give way to strace, as lines of the unit.
    pub(crate) room: &'static str,
}

impl Launch {
    /// Makes it possible on this machine.
    pub(crate) fn prepare(&self, machine: &Machine) {
        let Launch {
            unit,
            program,
            trace,
            room,
        } = self;
        let drop_ins = format!("/run/systemd/system/{unit}.d");
        // `-D`: the daemon stays the process that systemd has started. `-I1`: strace can be told to end.
        let lines = format!(
            "[Service]
SystemCallFilter=
{room}
ExecStartPre=+/bin/sh -c 'mv -f {ORDER} /run/strace.now 2>/dev/null || rm -f /run/strace.now'
ExecStart=
ExecStart=/bin/sh -c '[ ! -e /run/strace.now ] || exec strace -I1 -D -f -q -o /{trace} $$(cat /run/strace.now) {program}; \
exec {program}'
"
        );
        machine.run(&["mkdir", "-p", &drop_ins]).must();
        machine.write(&format!("{drop_ins}/strace.conf"), &lines);
        machine.run(&["systemctl", "daemon-reload"]).must();
    }

    /// Has the next start run under strace with these options.
    pub(crate) fn order(&self, machine: &Machine, options: &str) {
        machine.write(ORDER, options);
    }

    /// False: this start has failed. systemd makes others, without strace.
    pub(crate) fn start(&self, machine: &Machine) -> bool {
        machine
            .run(&["timeout", "30", "systemctl", "start", self.unit])
            .succeeded()
    }

    /// Ends the strace, if it has not ended.
    pub(crate) fn let_go(&self, machine: &Machine) {
        let _ = machine.run(&["pkill", "-TERM", "-x", "strace"]);
    }

    /// What has been written down of the last start.
    pub(crate) fn trace(&self, machine: &Machine) -> String {
        let path = machine.root().join(self.trace);
        let trace = std::fs::read_to_string(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        trace
    }
}

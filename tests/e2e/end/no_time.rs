//! Ends that take systemd itself longer than a user's processes are given: it is not killed with them.

use rig::{Suite, boot_node};

use crate::common::{IN_THE_END, add_config, regular};

/// As on a disk that is slow, or for a folder with a million files.
const SLOW: &str = "[Service]
ExecStop=
ExecStop=/bin/sleep 2
ExecStop=/usr/lib/systemd/systemd-user-runtime-dir stop %i
";

#[test]
fn systemd_has_all_the_time_it_needs_to_remove_the_runtime_directory() {
    let machine = boot_node(Suite::chosen().expect("a release")).expect("a machine");
    let config = "stop-timeout = \"1s\"\nretire-delay = \"100ms\"\n";
    add_config(
        &machine,
        "10-no-time",
        &format!("{}{config}", regular(&machine)),
    );
    let drop_in = "/run/systemd/system/user-runtime-dir@.service.d";
    machine.run(&["mkdir", "-p", drop_in]).must();
    machine.write(&format!("{drop_in}/slow.conf"), SLOW);
    machine.run(&["systemctl", "daemon-reload"]).must();
    for login in ["zoe", "zack"] {
        // With what ends at once, and with what has to be killed.
        let ignores = match login {
            "zoe" => "",
            _ => "trap '' TERM HUP; ",
        };
        let leaves = format!("({ignores}setsid sleep 1000 >/dev/null 2>&1) & id -u");
        let uid = machine.login(login).command(&leaves).run().must_write();
        machine.within(IN_THE_END, "nothing of it is left", |machine| {
            let left = format!("test ! -e /run/user/{uid} && ! pgrep -u {uid}");
            machine.sh(&left).succeeded()
        });
        machine.within(IN_THE_END, "the same login comes again", |machine| {
            machine.login(login).command("true").run().ran.succeeded()
        });
    }
    // A failed one that empties the folder would stay, and the folder with it until somebody unmounts it by hand.
    machine.within(IN_THE_END, "no unit has failed", |machine| {
        let failed = ["systemctl", "--failed", "--no-legend", "list-units"];
        machine.run(&failed).must().is_empty()
    });
}

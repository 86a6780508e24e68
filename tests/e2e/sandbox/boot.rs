//! A machine that boots with the package installed waits for nothing of ours: a provider that listens and
//! does not answer costs whoever looks a user up in the boot 45 s.

use std::time::Duration;

use rig::{Machine, Result, Suite};

/// From the start of PID 1 to the end of the boot; about one second on an idle machine.
const BOOT: Duration = Duration::from_secs(40);
const UNIT: Duration = Duration::from_secs(30);

/// A duration as systemd writes it: `1min 2.345s`, `812ms`.
#[track_caller]
fn duration<'w>(words: impl Iterator<Item = &'w str>) -> Duration {
    let factors = [("min", 60.0), ("ms", 0.001), ("us", 0.000_001), ("s", 1.0)];
    words
        .map(|word| {
            let part = factors.iter().find_map(|(unit, seconds)| {
                Some(word.strip_suffix(unit)?.parse::<f64>().ok()? * seconds)
            });
            Duration::from_secs_f64(part.unwrap_or_else(|| panic!("{word:?} is no duration")))
        })
        .sum()
}

#[track_caller]
fn has_not_waited(machine: &Machine, how: &str) {
    let took = machine.run(&["systemd-analyze", "time"]);
    let line = took.must().lines().next().unwrap_or_default();
    // "Startup finished in 912ms (userspace)", or "... = 912ms".
    let userspace = line.split(" in ").nth(1).unwrap_or_default();
    let userspace = userspace.split(" (").next().unwrap_or_default();
    let whole = duration(userspace.split_whitespace());
    let blame = machine.run(&["systemd-analyze", "blame", "--no-pager"]);
    let mut slowest = (Duration::ZERO, "nothing");
    for line in blame.must().lines() {
        let Some((took, unit)) = line.trim().rsplit_once(' ') else {
            continue;
        };
        slowest = slowest.max((duration(took.split_whitespace()), unit));
    }
    println!("{how}: {whole:?}, the slowest unit is {slowest:?}");
    assert!(whole < BOOT, "{how}: {took}{blame}");
    assert!(slowest.0 < UNIT, "{how}: {took}{blame}");
    for unit in ["teleport-sessiond.service", "teleport-userdbd.service"] {
        machine.run(&["systemctl", "is-active", unit]).must();
    }
    let nobody = machine.run(&["getent", "passwd", "nosuchuser"]);
    assert!(nobody.elapsed < Duration::from_secs(5), "{nobody}");
}

#[test]
fn the_boot_waits_for_nothing_of_ours_with_and_without_dbus_and_userdbd() -> Result<()> {
    let mut machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.power_cycle()?;
    has_not_waited(&machine, "as installed");
    machine.login("bodil").command("true").run().ran.must();

    let userdbd = ["systemd-userdbd.service", "systemd-userdbd.socket"];
    machine
        .run(&[&["systemctl", "mask"], &userdbd[..]].concat())
        .must();
    machine.power_cycle()?;
    has_not_waited(&machine, "without systemd-userdbd");
    machine.login("bodil").command("true").run().ran.must();
    machine
        .run(&[&["systemctl", "unmask"], &userdbd[..]].concat())
        .must();

    // logind cannot run without it, and would leave the machine degraded.
    let bus = ["dbus.service", "dbus.socket", "systemd-logind.service"];
    machine
        .run(&[&["systemctl", "mask"], &bus[..]].concat())
        .must();
    machine.power_cycle()?;
    has_not_waited(&machine, "without D-Bus");
    machine.login("bodil").command("true").run().ran.must();
    Ok(())
}

/// Started in the boot before our daemons can be; PID 1 looks its group up, in a child that it waits for.
const EARLY_SOCKET: &str = "\
[Socket]
ListenStream=/run/early.socket
SocketGroup=crew
Accept=yes
[Install]
WantedBy=sockets.target
";
const EARLY_SERVICE: &str = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n";

#[test]
fn a_socket_whose_group_is_looked_up_before_our_daemon_runs_does_not_hold_the_boot_up() -> Result<()>
{
    let mut machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.run(&["groupadd", "crew"]).must();
    // As some distributions have it: a group that is found in files is asked of everybody else, too.
    machine
        .sh("sed -i 's/^group:.*/group: files [SUCCESS=merge] teleport [SUCCESS=merge] systemd/' /etc/nsswitch.conf")
        .must();
    machine.write("/etc/systemd/system/early.socket", EARLY_SOCKET);
    machine.write("/etc/systemd/system/early@.service", EARLY_SERVICE);
    machine.run(&["systemctl", "enable", "early.socket"]).must();
    for userdbd in ["enable", "mask"] {
        let units = ["systemd-userdbd.service", "systemd-userdbd.socket"];
        machine.run(&[&["systemctl", userdbd], &units[..]].concat());
        machine.power_cycle()?;
        has_not_waited(
            &machine,
            &format!("an early lookup, systemd-userdbd {userdbd}d"),
        );
        let group = machine.run(&["stat", "-c", "%G", "/run/early.socket"]);
        assert_eq!(group.must(), "crew");
        machine.login("bodil").command("true").run().ran.must();
    }
    Ok(())
}

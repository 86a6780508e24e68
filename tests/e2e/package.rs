//! The Debian package on a plain machine: what installing switches on, and that purging takes all of it back.

use std::time::Duration;

use rig::{Disk, Etc, Machine, Ran, Result, Suite, hang};

const UNITS: [&str; 4] = [
    "teleport-sessiond.socket",
    "teleport-userdbd.socket",
    "teleport-sessiond.service",
    "teleport-userdbd.service",
];

const ADMIN_FILE: &str = "/etc/teleport-userdb/config.d/50-admin.toml";
const ADMIN: &str =
    "[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudoers = [\"ALL=(ALL) NOPASSWD: ALL\"]\n";

/// Content, modes and owners of /etc, without what account tools leave beside their files.
fn etc(machine: &Machine) -> Etc {
    [
        "passwd-",
        "group-",
        "shadow-",
        "gshadow-",
        ".pwd.lock",
        "ld.so.cache",
    ]
    .iter()
    .fold(Etc::of(machine).without_times(), |etc, name| {
        etc.without(&format!("/etc/{name}"))
    })
}

fn line_of<'t>(nsswitch: &'t str, database: &str) -> Vec<&'t str> {
    let line = nsswitch
        .lines()
        .find(|line| line.starts_with(&format!("{database}:")));
    line.unwrap_or_default().split_whitespace().collect()
}

#[test]
fn installing_switches_everything_on() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_package()?.must();
    let nsswitch = machine.run(&["cat", "/etc/nsswitch.conf"]);
    assert_eq!(
        line_of(nsswitch.must(), "passwd"),
        ["passwd:", "files", "teleport", "systemd"]
    );
    assert_eq!(
        line_of(nsswitch.must(), "group"),
        ["group:", "files", "teleport", "systemd"]
    );
    for unit in UNITS {
        assert_eq!(
            machine.run(&["systemctl", "is-active", unit]).stdout.trim(),
            "active",
            "{unit}"
        );
        assert_eq!(
            machine
                .run(&["systemctl", "is-enabled", unit])
                .stdout
                .trim(),
            "enabled",
            "{unit}"
        );
    }
    assert_eq!(
        machine
            .run(&["systemctl", "is-system-running"])
            .stdout
            .trim(),
        "running"
    );
    machine.run(&["test", "-s", "/etc/pam.d/teleport"]).must();
    Ok(())
}

#[test]
fn installing_twice_is_like_installing_once() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_package()?.must();
    let once = etc(&machine);
    machine.install_package()?.must();
    once.must_equal(&etc(&machine));
    for unit in UNITS {
        assert_eq!(
            machine.run(&["systemctl", "is-active", unit]).stdout.trim(),
            "active",
            "{unit}"
        );
    }
    Ok(())
}

#[test]
fn purging_takes_everything_back() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    let before = etc(&machine);
    let nsswitch = machine.run(&["cat", "/etc/nsswitch.conf"]).stdout;
    machine
        .sh("! command -v sudo-rs && ! test -e /run/sudo-rs")
        .must();
    machine.install_package()?.must();
    machine.login("quentin").command("true").run().ran.must();
    machine.run(&["dpkg", "--purge", "teleport-userdb"]).must();
    assert_eq!(machine.run(&["cat", "/etc/nsswitch.conf"]).stdout, nsswitch);
    before.must_equal(&etc(&machine));
    // That of sudo, which is installed, may be sudo's own.
    machine
        .sh("test -e /run/sudo/ts && ! test -e /run/sudo-rs")
        .must();
    let units = machine.run(&[
        "systemctl",
        "list-units",
        "--all",
        "--no-legend",
        "--plain",
        "teleport-*",
    ]);
    assert_eq!(units.must(), "", "{units}");
    // Outside /etc: nothing of ours but dpkg's and the journal's memory of it, and what this test put there.
    let left = machine.sh(
        "find / -xdev -name '*teleport*' ! -path '/proc/*' ! -path '/var/log/*' ! -path '/var/tmp/*' \
         ! -path '/usr/local/*' ! -path '/sys/*'; find /run -name '*teleport*' ! -name '*teleport.service*' ! -path '*/credentials/*'",
    );
    assert_eq!(left.must(), "", "{left}");
    machine.run(&["getent", "passwd", "root"]).must();
    Ok(())
}

/// A machine with the package, and a role that gives sudo.
fn with_admins() -> Result<Machine> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.write(ADMIN_FILE, ADMIN);
    machine.sh("systemctl reload teleport-sessiond").must();
    Ok(machine)
}

/// Nobody of ours runs, answers or has a right, and none comes back.
#[track_caller]
fn must_be_gone(machine: &Machine, purged: &Ran) {
    println!("{purged}");
    purged.must();
    assert!(!purged.stderr.contains("by hand"), "{purged}");
    // Longer than PID 1 takes to start something again.
    machine.run(&["sleep", "1"]).must();
    let left = machine.sh(
        "pgrep -af ^/usr/libexec/teleport-; ls -d /run/systemd/userdb/*teleport* /run/*teleport* /run/systemd/system/*teleport* \
         /etc/sudoers.d/teleport-* /var/lib/teleport-userdb 2>/dev/null | grep -v teleport.service; \
         grep teleport-userdb /etc/passwd; getent passwd quentin",
    );
    assert_eq!(left.stdout, "", "{left}");
}

#[test]
fn a_purge_stops_the_daemons_whatever_policy_rc_d_says() -> Result<()> {
    let machine = with_admins()?;
    let mut login = machine.login("quentin").roles("admin").hold("open").start();
    login.reach("open");
    let policy = "/usr/sbin/policy-rc.d";
    machine.write(policy, "#!/bin/sh\nexit 101\n");
    machine.run(&["chmod", "+x", policy]).must();
    let purged = machine.run(&["dpkg", "--purge", "teleport-userdb"]);
    must_be_gone(&machine, &purged);
    login.finish();
    machine.run(&["rm", policy]).must();
    machine.install_package()?.must();
    machine.login("quirin").command("true").run().ran.must();
    Ok(())
}

#[test]
fn a_purge_that_cannot_ask_pid_1_ends_the_daemons_itself() -> Result<()> {
    let machine = with_admins()?;
    let mut login = machine.login("quentin").roles("admin").hold("open").start();
    login.reach("open");
    machine
        .sh("mv /usr/bin/systemctl /usr/bin/systemctl.away")
        .must();
    let purged = machine.run(&["dpkg", "--purge", "teleport-userdb"]);
    must_be_gone(&machine, &purged);
    login.finish();
    machine
        .sh("mv /usr/bin/systemctl.away /usr/bin/systemctl")
        .must();
    machine.install_package()?.must();
    machine.login("quirin").command("true").run().ran.must();
    Ok(())
}

#[test]
fn a_version_that_was_unpacked_and_not_configured_is_taken_back_as_a_whole() -> Result<()> {
    let machine = with_admins()?;
    let mut login = machine.login("quentin").roles("admin").hold("open").start();
    login.reach("open");
    // As an upgrade ends that lacks what it depends on: dpkg removes such a package without its prerm.
    machine
        .sh("dpkg --unpack /var/tmp/teleport-userdb.deb")
        .must();
    let purged = machine.run(&["dpkg", "--purge", "teleport-userdb"]);
    must_be_gone(&machine, &purged);
    let removed = "removed /etc/sudoers.d/teleport-quentin\n";
    assert_eq!(purged.stderr, removed, "{purged}");
    machine
        .sh("! grep teleport /etc/nsswitch.conf && ! test -e /etc/pam.d/teleport")
        .must();
    login.finish();
    machine.install_package()?.must();
    machine.login("quirin").command("true").run().ran.must();
    // One that never was has nothing to take back.
    let never = "dpkg --purge teleport-userdb && dpkg --unpack /var/tmp/teleport-userdb.deb";
    machine.sh(never).must();
    let purged = machine.run(&["dpkg", "--purge", "teleport-userdb"]);
    must_be_gone(&machine, &purged);
    Ok(())
}

#[test]
fn a_removal_in_a_chroot_leaves_daemons_and_users_of_the_host_alone() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    let mut login = machine.login("quentin").hold("open").start();
    login.reach("open");
    let daemons = "systemctl show -p MainPID teleport-sessiond teleport-userdbd";
    let before = machine.sh(daemons);
    // Its /proc, /run and /dev are the host's, as they are for whoever repairs a system in it.
    machine
        .sh(
            "mkdir -p /image/var/lib && cd /image && mkdir usr proc run dev && ln -s usr/bin usr/sbin usr/lib usr/lib64 . && cp -a /etc . && \
             for folder in usr proc run dev; do mount --rbind /$folder $folder || exit; done && cp -a /var/lib/teleport-userdb var/lib && \
             cp /var/lib/dpkg/info/teleport-userdb.p* . && chroot . sh /teleport-userdb.prerm remove && \
             for task in remove purge; do chroot . sh /teleport-userdb.postrm $task || exit; done",
        )
        .must();
    let nsswitch = machine.sh("! grep teleport /image/etc/nsswitch.conf");
    nsswitch.must();
    assert_eq!(machine.sh(daemons).must(), before.must());
    for kept in ["getent passwd quentin", "touch ~quentin/file"] {
        machine.sh(kept).must();
    }
    login.finish().ran.must();
    machine.login("quirin").command("true").run().ran.must();
    Ok(())
}

#[test]
fn a_user_that_cannot_be_removed_is_named_and_goes_with_a_later_removal() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_package()?.must();
    // userdel leaves a user alone that has processes.
    machine
        .sh("setpriv --reuid teleport-userdb --clear-groups sleep 1000 >/dev/null 2>&1 &")
        .must();
    let purge = ["dpkg", "--purge", "teleport-userdb"];
    let purged = machine.run(&purge);
    purged.must();
    assert!(
        purged.stderr.contains("could not be removed and stays")
            && purged.stderr.contains("userdel teleport-userdb"),
        "{purged}"
    );
    machine
        .run(&["pkill", "-KILL", "-u", "teleport-userdb"])
        .must();
    machine.install_package()?.must();
    let purged = machine.run(&purge);
    must_be_gone(&machine, &purged);
    Ok(())
}

#[test]
fn a_removed_package_can_be_installed_again() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.run(&["dpkg", "--remove", "teleport-userdb"]).must();
    let nsswitch = machine.run(&["cat", "/etc/nsswitch.conf"]);
    assert!(!nsswitch.must().contains("teleport"), "{nsswitch}");
    machine.install_package()?.must();
    machine.login("quirin").command("true").run().ran.must();
    Ok(())
}

#[test]
fn removing_names_the_rights_that_stay_and_leaves_no_failed_unit() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.write(ADMIN_FILE, ADMIN);
    machine
        .sh("mount --bind /etc/sudoers.d /etc/sudoers.d && systemctl restart teleport-sessiond")
        .must();
    let logins = ["quentin", "quirin"].map(|login| {
        let mut login = machine.login(login).roles("admin").hold("open").start();
        login.reach("open");
        login
    });
    let of_others = "/etc/sudoers.d/teleport-admins";
    machine
        .sh(&format!("echo '# of an administrator' >{of_others}"))
        .must();
    // Nor can the user database be started.
    let drop_in = "/etc/systemd/system/teleport-userdbd.service.d";
    machine
        .sh(&format!(
            "mkdir -p {drop_in}; printf '[Service]\\nBindPaths=/no/such/folder\\n' >{drop_in}/bound.conf; systemctl daemon-reload; \
             systemctl restart teleport-userdbd; mount -o remount,bind,ro /etc/sudoers.d"
        ))
        .must();
    let removed = machine.run(&["dpkg", "--remove", "teleport-userdb"]);
    removed.must();
    for login in ["quentin", "quirin"] {
        let file = format!("/etc/sudoers.d/teleport-{login}");
        machine.run(&["test", "-e", &file]).must();
        assert!(removed.stderr.contains(&file), "{removed}");
    }
    assert!(removed.stderr.contains("by hand"), "{removed}");
    assert!(!removed.stderr.contains(of_others), "{removed}");
    let units = ["systemctl", "list-units", "--all", "--no-legend", "--plain"];
    let left = machine.run(&[&units[..], &["teleport-*"]].concat());
    assert_eq!(left.must(), "", "{left}");
    for login in logins {
        login.finish();
    }
    Ok(())
}

/// A removal that waits for a disk for a while; one that waits until it answers takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Once the disk has answered.
#[track_caller]
fn nobody_is_left_behind(machine: &Machine) {
    let sweeps = &["pgrep", "-f", "[s]weep-patiently"];
    machine.within(
        Duration::from_secs(10),
        "nobody is left behind",
        |machine| !machine.run(sweeps).succeeded(),
    );
}

#[test]
fn a_purge_ends_while_the_disk_of_sudoers_d_stalls_and_every_right_goes_when_it_answers()
-> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine.write(ADMIN_FILE, ADMIN);
    let disk = Disk::mounted(&machine, "/etc/sudoers.d");
    // As shipped, PID 1 takes half a minute to see that it cannot stop the daemon. That is not of this test.
    let drop_in = "/etc/systemd/system/teleport-sessiond.service.d";
    machine
        .sh(&format!(
            "mkdir -p {drop_in}; printf '[Service]\\nTimeoutStopSec=1s\\n' >{drop_in}/quick.conf; systemctl daemon-reload; \
             systemctl restart teleport-sessiond"
        ))
        .must();
    let names = ["quentin", "quirin", "quinta"];
    let logins = names.map(|login| {
        let mut login = machine.login(login).roles("admin").hold("open").start();
        login.reach("open");
        login
    });
    let files = names.map(|login| format!("/etc/sudoers.d/teleport-{login}"));
    disk.freeze();
    let removed = machine.run(&["dpkg", "--purge", "teleport-userdb"]);
    println!("{removed}");
    removed.must();
    assert!(removed.elapsed < PATIENCE, "{removed}");
    assert!(removed.stderr.contains("does not answer"), "{removed}");
    for file in &files {
        machine.run(&["test", "-e", file]).must();
        assert!(removed.stderr.contains(file), "{removed}");
    }
    disk.thaw();
    let took = machine.within(Duration::from_secs(10), "every right goes", |machine| {
        files
            .iter()
            .all(|file| !machine.run(&["test", "-e", file]).succeeded())
    });
    println!("gone after {took:?}");
    nobody_is_left_behind(&machine);
    for login in logins {
        login.finish();
    }
    Ok(())
}

#[test]
fn a_removal_ends_while_sudoers_d_cannot_even_be_read() -> Result<()> {
    let machine = Machine::boot(Suite::chosen()?)?;
    machine.install_client()?;
    machine.install_package()?.must();
    machine
        .run(&[
            "systemctl",
            "stop",
            "teleport-sessiond.socket",
            "teleport-sessiond.service",
        ])
        .must();
    let mut hanging = hang(&machine, "/etc/sudoers.d", "0");
    let removed = machine.run(&["dpkg", "--remove", "teleport-userdb"]);
    println!("{removed}");
    removed.must();
    assert!(removed.elapsed < PATIENCE, "{removed}");
    assert!(removed.stderr.contains("does not answer"), "{removed}");
    assert!(
        removed.stderr.contains("# teleport-userdb v1: "),
        "{removed}"
    );
    machine
        .run(&["pkill", "-KILL", "-f", "teleport-chil[d] hang"])
        .must();
    let _ = hanging.wait();
    nobody_is_left_behind(&machine);
    Ok(())
}

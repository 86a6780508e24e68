//! The rig itself, on plain Debian without the package: it boots every suite, enters it, and logs in through PAM.
//! Nothing of the product is tested here; what fails here makes every other end-to-end test fail.

use rig::{Etc, Journal, Machine, Result, Suite};

/// A machine of `suite` with the container client and a local user.
fn plain(suite: Suite) -> Result<Machine> {
    let machine = Machine::boot(suite)?;
    machine.install_client()?;
    machine
        .run(&["useradd", "-m", "-s", "/bin/sh", "walter"])
        .must();
    Ok(machine)
}

fn systemd_runs_and_a_local_user_logs_in(suite: Suite) -> Result<()> {
    let machine = plain(suite)?;
    assert_eq!(machine.run(&["cat", "/proc/1/comm"]).must(), "systemd");
    assert_eq!(
        machine.run(&["systemctl", "is-system-running"]).must(),
        "running"
    );
    let login = machine
        .login("walter")
        .service("local")
        .command("id -un; cat /proc/self/cgroup; exit 7");
    let ended = login.run();
    ended.ran.must_end_with(7);
    assert!(ended.ran.stdout.starts_with("walter\n"), "{}", ended.ran);
    assert!(
        ended.ran.stdout.contains("/user.slice/user-"),
        "logind made no session: {}",
        ended.ran
    );
    Ok(())
}

#[test]
fn bookworm_boots_and_a_local_user_logs_in() -> Result<()> {
    systemd_runs_and_a_local_user_logs_in(Suite::Bookworm)
}

#[test]
fn trixie_boots_and_a_local_user_logs_in() -> Result<()> {
    systemd_runs_and_a_local_user_logs_in(Suite::Trixie)
}

#[test]
fn sid_boots_and_a_local_user_logs_in() -> Result<()> {
    systemd_runs_and_a_local_user_logs_in(Suite::Sid)
}

#[test]
fn a_login_can_be_stopped_at_each_step_and_looked_at_from_outside() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    let mut login = machine
        .login("walter")
        .service("local")
        .hold("account")
        .hold("command")
        .hold("close");
    login = login.command("sleep 100");
    let mut login = login.start();
    login.reach("account").go_on().reach("command");
    let pid = login.pid();
    let sessions = machine.run(&["loginctl", "list-sessions", "--no-legend"]);
    assert!(sessions.must().contains("walter"), "{sessions}");
    machine
        .run(&["pkill", "-u", "walter", "-x", "sleep"])
        .must();
    login.go_on().reach("close");
    machine.run(&["kill", "-0", &pid]).must();
    login.finish().ran.must_end_with(128 + 15);
    Ok(())
}

#[test]
fn a_forwarding_child_closes_as_the_user_and_a_killed_one_does_not_close() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    let ended = machine.forwarding("walter").service("local").run();
    assert_eq!(ended.code("open"), Some("SUCCESS"), "{:?}", ended);
    let mut login = machine
        .login("walter")
        .service("local")
        .hold("open")
        .start();
    let pid = login.reach("open").pid();
    machine.run(&["kill", "-KILL", &pid]).must();
    let ended = login.finish();
    assert_eq!(ended.code("close"), None, "{:?}", ended);
    ended.ran.must_end_with(128 + 9);
    Ok(())
}

#[test]
fn a_change_of_one_byte_mode_or_time_in_etc_is_seen() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    let before = Etc::of(&machine);
    machine.run(&["cat", "/etc/passwd"]).must();
    before.must_equal(&Etc::of(&machine));
    machine.run(&["touch", "/etc/hostname"]).must();
    machine.run(&["chmod", "0600", "/etc/issue"]).must();
    machine
        .sh("echo >>/etc/motd; rm /etc/debian_version; mkdir /etc/new")
        .must();
    let changes = before.changes(&Etc::of(&machine)).join("\n");
    for path in [
        "hostname",
        "issue",
        "motd",
        "debian_version is gone",
        "new is new",
    ] {
        assert!(
            changes.contains(&format!("/etc/{path}")),
            "{path}: {changes}"
        );
    }
    Ok(())
}

#[test]
fn an_error_in_the_journal_is_seen_and_one_of_before_is_not() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    machine
        .sh("echo earlier | systemd-cat -t rig -p err")
        .must();
    let journal = Journal::now(&machine);
    journal.must_have_no_errors();
    machine
        .sh("echo 'a bad thing' | systemd-cat -t rig -p err")
        .must();
    assert_eq!(journal.lines(&["-p", "err"]), ["rig: a bad thing"]);
    Ok(())
}

#[test]
fn a_dropped_machine_leaves_no_process_and_no_cgroup() -> Result<()> {
    let machine = Machine::boot(Suite::Trixie)?;
    let root = machine.root();
    assert!(root.join("etc/os-release").exists());
    drop(machine);
    assert!(
        !root.join("etc").exists(),
        "PID 1 of the machine is still there"
    );
    Ok(())
}

#[test]
fn what_modules_say_reaches_the_terminal_and_what_they_set_reaches_the_command() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    machine.write(
        "/etc/pam.d/talkative",
        "auth required pam_permit.so\naccount required pam_permit.so\n\
         session optional pam_echo.so welcome, %u\nsession optional pam_systemd.so\n",
    );
    let login = machine
        .login("walter")
        .service("talkative")
        .flag("--auth")
        .env("COLOUR=blue");
    let ended = login
        .command(r#"echo "$COLOUR $TELEPORT_ROLES"; test -O "$XDG_RUNTIME_DIR""#)
        .run();
    assert_eq!(ended.ran.must(), "welcome, walter\nblue dev");
    assert_eq!(ended.messages(), ["welcome, walter"]);
    assert_eq!(ended.code("authenticate"), Some("SUCCESS"), "{ended:?}");
    Ok(())
}

#[test]
fn a_refusal_of_each_phase_has_a_status_of_its_own_and_closes_nothing() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    for (phase, status) in [("account", 251), ("auth", 252), ("session", 253)] {
        let stack: String = ["account", "auth", "session"]
            .iter()
            .map(|of| {
                format!(
                    "{of} required {}\n",
                    if *of == phase {
                        "pam_deny.so"
                    } else {
                        "pam_permit.so"
                    }
                )
            })
            .collect();
        machine.write("/etc/pam.d/refusing", &stack);
        let ended = machine
            .login("walter")
            .service("refusing")
            .flag("--auth")
            .command("true")
            .run();
        ended.ran.must_end_with(status);
        assert_eq!(ended.code("close"), None, "{ended:?}");
        assert_eq!(ended.code("end"), Some("SUCCESS"), "{ended:?}");
    }
    machine
        .login("nobody-has-this")
        .service("talkless")
        .command("true")
        .run()
        .ran
        .must_end_with(251);
    machine.write(
        "/etc/pam.d/talkless",
        "account required pam_permit.so\nsession required pam_permit.so\n",
    );
    machine
        .login("nobody-has-this")
        .service("talkless")
        .command("true")
        .run()
        .ran
        .must_end_with(254);
    Ok(())
}

#[test]
fn a_storm_finds_nobody_where_nobody_is_made() -> Result<()> {
    let machine = plain(Suite::Trixie)?;
    machine.write(
        "/etc/pam.d/sshd",
        "account required pam_permit.so\nsession required pam_permit.so\n",
    );
    let ran = machine.run(&["teleport-child", "storm", "--logins=8", "--rounds=2"]);
    ran.must_end_with(1);
    assert!(ran.stdout.contains("\"failures\":16"), "{ran}");
    Ok(())
}

//! Files in sudoers.d that are somebody else's, under names that ours could have: nothing ever touches them.

use rig::{Machine, Result, Suite, boot_node};

use crate::configure;

/// Everything but ours: name, inode, kind, mode, owner, links, time, target, and the content by its sum.
#[track_caller]
fn others(machine: &Machine) -> String {
    let listed = machine.sh(
        "cd /etc/sudoers.d && find . -mindepth 1 -printf '%p %i %y %m %U %G %n %T@ %l\\n' | sort && \
         find . -type f -exec sha256sum {} + | sort",
    );
    listed.must().to_owned()
}

/// Teleport's own file, an administrator's, and every kind of thing that a file of ours could be mistaken for.
fn plant(machine: &Machine) {
    machine
        .sh("cd /etc/sudoers.d && \
             echo 'walter ALL=(ALL) NOPASSWD: /usr/bin/id' >teleport-2f1d2c9e-6b3f-4a57-9a51-0d9a6f1c7e11-walter && \
             echo '%crew ALL=(ALL) NOPASSWD: /usr/bin/id' >teleport-admins && \
             header='# teleport-userdb v1: written for a live session, removed with it; do not edit' && \
             echo \"$header\" >/etc/elsewhere && ln -s ../elsewhere teleport-link && \
             mkfifo teleport-fifo && \
             mkdir teleport-folder && echo \"$header\" >teleport-folder/teleport-x && \
             echo \"$header\" >/etc/twin && ln /etc/twin teleport-hard && \
             echo \"$header\" >teleport-owned && chown walter teleport-owned && \
             echo \"#$header\" >teleport-like && \
             : >teleport-empty && \
             chmod 0440 teleport-*-walter teleport-admins teleport-hard teleport-owned teleport-like teleport-empty")
        .must();
}

/// Starts or stops the daemon that writes there, with the socket that would start it again.
#[track_caller]
fn daemon(machine: &Machine, verb: &str) {
    machine
        .run(&[
            "systemctl",
            verb,
            "teleport-sessiond.socket",
            "teleport-sessiond.service",
        ])
        .must();
}

#[test]
fn files_of_others_in_sudoers_d_survive_everything() -> Result<()> {
    let mut machine = boot_node(Suite::chosen()?)?;
    configure(&machine);
    plant(&machine);
    let planted = others(&machine);
    let unharmed =
        |machine: &Machine, what: &str| assert_eq!(others(machine), planted, "after {what}");

    for login in [
        "admins", "link", "fifo", "folder", "hard", "owned", "like", "empty",
    ] {
        let mut session = machine
            .login(login)
            .roles("admin")
            .hold("open")
            .command("sudo -n true")
            .start();
        session.reach("open");
        unharmed(&machine, &format!("{login} has come"));
        let ended = session.finish();
        // It has no right, is told so, and is in.
        ended.ran.must_end_with(1);
        let told = ended.messages().join(" ");
        assert!(
            told.contains("no sudo rights") && told.contains(&format!("teleport-{login}")),
            "{ended:?}"
        );
        unharmed(&machine, &format!("{login} has gone"));
    }

    let mut session = machine.login("bea").roles("admin").hold("open").start();
    session.reach("open");
    daemon(&machine, "stop");
    unharmed(&machine, "a stop of the daemon");
    daemon(&machine, "start");
    machine
        .run(&["test", "-f", "/etc/sudoers.d/teleport-bea"])
        .must();
    machine
        .run(&["systemctl", "restart", "teleport-sessiond.service"])
        .must();
    session.finish().ran.must();
    unharmed(&machine, "a restart of the daemon");

    let mut session = machine.login("bea").roles("admin").hold("open").start();
    session.reach("open");
    machine.run(&["sync"]).must();
    machine.power_cycle()?;
    drop(session);
    unharmed(&machine, "a power cut during a session");

    daemon(&machine, "stop");
    machine
        .run(&["/usr/libexec/teleport-sessiond", "--sweep"])
        .must();
    unharmed(&machine, "a sweep");
    daemon(&machine, "start");
    let mut session = machine.login("bea").roles("admin").hold("open").start();
    session.reach("open");
    machine
        .run(&["test", "-f", "/etc/sudoers.d/teleport-bea"])
        .must();
    machine.run(&["dpkg", "--purge", "teleport-userdb"]).must();
    unharmed(&machine, "removal of the package during a session");
    session.finish();
    Ok(())
}

#[test]
fn a_power_cut_leaves_no_right_behind_even_where_the_daemons_are_disabled() -> Result<()> {
    let mut machine = boot_node(Suite::chosen()?)?;
    configure(&machine);
    machine
        .run(&[
            "systemctl",
            "disable",
            "teleport-sessiond.service",
            "teleport-sessiond.socket",
            "teleport-userdbd.service",
            "teleport-userdbd.socket",
        ])
        .must();
    let mut session = machine.login("bodo").roles("admin").hold("open").start();
    session.reach("open");
    machine
        .run(&["test", "-f", "/etc/sudoers.d/teleport-bodo"])
        .must();
    // And what a crash between two steps of a write can leave.
    machine.sh("cd /etc/sudoers.d && head -c 20 teleport-bodo >.teleport-bodo.new && chmod 0440 .teleport-bodo.new").must();
    machine.power_cycle()?;
    drop(session);
    // Some releases of sudo bring a README.
    let left = machine.sh("ls -A /etc/sudoers.d | grep -vx README || :");
    assert_eq!(left.must(), "");
    let swept = machine.run(&[
        "systemctl",
        "show",
        "-P",
        "Result,ActiveState",
        "teleport-sudoers-sweep.service",
    ]);
    assert!(swept.must().contains("success"), "{swept}");
    Ok(())
}

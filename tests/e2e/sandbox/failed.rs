//! What a failure leaves behind: no right, no unit that stays failed though all is well again, no job that never ends.

use std::time::Duration;

use rig::{Machine, node_alone};

const SESSIOND: [&str; 2] = ["teleport-sessiond.socket", "teleport-sessiond.service"];
const WITHDRAWAL: &str = "teleport-sudoers-withdrawal.service";
const AGAIN: &str = "teleport-userdbd-again.service";
const LIMIT: Duration = Duration::from_secs(30);

#[track_caller]
fn is_there(node: &Machine, file: &str) -> bool {
    node.run(&["test", "-e", file]).succeeded()
}

/// `active`, `failed`, ...
#[track_caller]
fn state(node: &Machine, unit: &str) -> String {
    let shown = node.run(&["systemctl", "show", "-P", "ActiveState", unit]);
    shown.must().to_owned()
}

/// Whose login is `admin` may use sudo; `/etc/sudoers.d` is a mount of its own. Taken back when dropped.
struct Rights<'m>(&'m Machine);

impl<'m> Rights<'m> {
    #[track_caller]
    fn on(node: &'m Machine) -> Rights<'m> {
        let role = "[[role]]\nmatch = \"admin\"\ncreate-user = true\nsudoers = [\"ALL=(ALL) NOPASSWD: ALL\"]\n";
        node.write("/etc/teleport-userdb/config.d/50-admin.toml", role);
        node.sh(
            "mount --bind /etc/sudoers.d /etc/sudoers.d && systemctl restart teleport-sessiond",
        )
        .must();
        Rights(node)
    }

    #[track_caller]
    fn become_read(&self, how: &str) {
        let options = format!("remount,bind,{how}");
        self.0
            .run(&["mount", "-o", &options, "/etc/sudoers.d"])
            .must();
    }
}

impl Drop for Rights<'_> {
    fn drop(&mut self) {
        self.0.sh("umount /etc/sudoers.d; rm /etc/teleport-userdb/config.d/50-admin.toml; systemctl restart teleport-sessiond");
    }
}

#[test]
fn a_right_that_cannot_be_removed_at_a_stop_is_removed_as_soon_as_it_can() {
    let node = node_alone();
    let rights = Rights::on(&node);
    let files = ["rikke", "runa"].map(|login| format!("/etc/sudoers.d/teleport-{login}"));
    let logins = ["rikke", "runa"].map(|login| {
        let mut login = node.login(login).roles("admin").hold("open").start();
        login.reach("open");
        login
    });
    rights.become_read("ro");
    node.run(&[&["systemctl", "stop"], &SESSIOND[..]].concat());
    node.within(LIMIT, "it is tried again", |node| {
        state(node, WITHDRAWAL) == "active"
    });
    // Longer than a try takes.
    std::thread::sleep(Duration::from_secs(2));
    assert!(files.iter().all(|file| is_there(&node, file)));
    rights.become_read("rw");
    let took = node.within(LIMIT, "the rights go", |node| {
        !files.iter().any(|file| is_there(node, file))
    });
    println!("gone after {took:?}");
    node.within(LIMIT, "nobody tries any more", |node| {
        state(node, WITHDRAWAL) == "inactive"
    });
    node.run(&[&["systemctl", "start"], &SESSIOND[..]].concat())
        .must();
    node.within(LIMIT, "they come back", |node| {
        files.iter().all(|file| is_there(node, file))
    });
    for login in logins {
        login.finish().ran.must();
    }
}

#[test]
fn a_crash_while_rights_cannot_be_removed_leaves_nothing_failed() {
    let node = node_alone();
    let rights = Rights::on(&node);
    let mut login = node.login("rikke").roles("admin").hold("open").start();
    login.reach("open");
    rights.become_read("ro");
    let daemon = ["systemctl", "kill", "-s", "KILL", "--kill-whom=main"];
    let restarts = ["systemctl", "show", "-P", "NRestarts", SESSIOND[1]];
    let before = node.run(&restarts).must().to_owned();
    node.run(&[&daemon[..], &SESSIOND[1..]].concat()).must();
    node.within(LIMIT, "the daemon is back", |node| {
        node.run(&restarts).must() != before && state(node, SESSIOND[1]) == "active"
    });
    node.within(LIMIT, "nobody tries any more", |node| {
        state(node, WITHDRAWAL) == "inactive"
    });
    rights.become_read("rw");
    // In the sandbox of a start the folder stays as it was then.
    node.run(&["systemctl", "restart", SESSIOND[1]]).must();
    login.finish().ran.must();
    assert!(!is_there(&node, "/etc/sudoers.d/teleport-rikke"));
    assert_eq!(state(&node, SESSIOND[1]), "active");
}

#[test]
fn the_retry_of_the_user_database_leaves_no_job_and_can_be_stopped() {
    let node = node_alone();
    let drop_in = "/run/systemd/system/teleport-userdbd.service.d";
    node.sh(&format!(
        "mkdir -p {drop_in}; printf '[Service]\\nBindPaths=/no/such/folder\\n' >{drop_in}/bound.conf; systemctl daemon-reload"
    ))
    .must();
    node.run(&["systemctl", "restart", "teleport-userdbd.service"]);
    node.within(LIMIT, "it is tried again", |node| {
        state(node, AGAIN) == "active"
    });
    // A boot is over, and is-system-running says so, once no job is left.
    let jobs = node.run(&["systemctl", "list-jobs", "--no-legend", AGAIN]);
    assert_eq!(jobs.must(), "", "{jobs}");
    // As the manual page says.
    node.run(&["systemctl", "stop", AGAIN]).must();
    assert_eq!(state(&node, AGAIN), "inactive");
    node.sh(&format!("rm -r {drop_in}; systemctl daemon-reload"))
        .must();
    let userdbd = ["teleport-userdbd.socket", "teleport-userdbd.service"];
    node.run(&[&["systemctl", "start"], &userdbd[..]].concat())
        .must();
}

//! What the tests of the end share: a machine with roles, something to leave behind, and what is left of a user.
//! What must hold is for the tests to say.

use std::sync::{Once, RwLockReadGuard};
use std::time::{Duration, Instant};

use rig::{Ended, Machine, Suite};

/// Where ephemeral homes are.
pub(crate) const BASE: &str = "/run/teleport-userdb/home";

/// How much longer logind may keep the user: `retire-delay` is its stop delay, too.
const LET_GO: Duration = Duration::from_secs(3 + 2);
/// For ends that others hold up, as a test has made them.
pub(crate) const IN_THE_END: Duration = Duration::from_secs(40);

/// Roles of the tests. Everybody may log in by the role of the package's file.
const ROLES: &str = r#"
[[role]]
match = "admin"
sudo = true
groups = ["builders"]

[[role]]
match = "keeper"
home = "persistent"

[[role]]
match = "chief"
home = "persistent"
sudo = true
groups = ["builders"]

[[role]]
match = "bounded"
tasks-max = 77
memory-max = "96M"
cpu-weight = 33
umask = "0027"
environment = ["FROM_ROLE=yes"]

[[role]]
match = "lingerer"
linger = true
sudo = true
"#;

/// Tries for root, again and again, and writes down that it lives and that it had it: in /var/tmp, because homes go.
const LEFT: &str = r#"#!/bin/sh
# left NAME [SIGNAL...]: goes on whatever becomes of its session; ignores the signals.
name=$1; shift
trap '' HUP "$@"
while :; do
    echo x >>/var/tmp/$name.alive
    sudo -n true 2>/dev/null && echo x >>/var/tmp/$name.root
    if command -v sg >/dev/null; then sg builders -c 'echo x >>/var/tmp/'$name.group </dev/null 2>/dev/null
    # Debian unstable has no sg by default: what can be had is then what name services say.
    elif id -Gn $name 2>/dev/null | grep -qw builders; then echo x >>/var/tmp/$name.group; fi
    sleep 0.3
done
"#;

/// The node with the roles above.
#[track_caller]
pub(crate) fn node() -> RwLockReadGuard<'static, Machine> {
    let node = rig::node();
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| configure(&node));
    node
}

#[track_caller]
fn configure(machine: &Machine) {
    add_config(machine, "10-end", &format!("{}{ROLES}", regular(machine)));
    machine.write("/usr/local/bin/left", LEFT);
    machine
        .run(&["chmod", "0755", "/usr/local/bin/left"])
        .must();
}

/// On systemd 258 and newer only a regular user gets a manager of its own, as one gets anyway before.
pub(crate) fn regular(machine: &Machine) -> &'static str {
    match machine.suite() {
        Suite::Sid => "disposition = \"regular\"\n",
        Suite::Bookworm | Suite::Trixie => "",
    }
}

#[track_caller]
pub(crate) fn add_config(machine: &Machine, name: &str, text: &str) {
    machine.write(&format!("/etc/teleport-userdb/config.d/{name}.toml"), text);
    machine
        .run(&["systemctl", "reload", "teleport-sessiond"])
        .must();
    // systemctl waits only until the daemon is told, on systemd 252.
    std::thread::sleep(Duration::from_millis(300));
}

/// UID of a login that is on.
#[track_caller]
pub(crate) fn uid(machine: &Machine, login: &str) -> String {
    machine.run(&["id", "-u", login]).must().to_owned()
}

/// Bob comes at once, and again until he is in; he may be told to wait.
#[track_caller]
pub(crate) fn bob(node: &Machine, login: &str, roles: &str, command: &str) -> Ended {
    let began = Instant::now();
    loop {
        let ended = node
            .login(login)
            .user("bob")
            .roles(roles)
            .command(command)
            .run();
        if ended.code("account") == Some("SUCCESS") {
            return ended;
        }
        let told = ended.messages().join(" ");
        assert!(told.contains("still being ended"), "{ended:?}");
        assert!(began.elapsed() < IN_THE_END, "{ended:?}");
    }
}

/// What is there of a UID and a login, a line each: processes, IPC objects, a home, files of the system's.
/// A shell line, so that a look costs one way into the machine.
pub(crate) fn remains(machine: &Machine, login: &str, uid: &str) -> String {
    let look = format!(
        "pgrep -l -u {uid}; pgrep -l -U {uid}; \
         for t in shm sem msg; do awk -v u={uid} 'NR==1 {{ for (i=1;i<=NF;i++) if ($i==\"cuid\") c=i }} \
             NR>1 && $c==u {{ print \"sysv\", FILENAME, $2 }}' /proc/sysvipc/$t; done; \
         find /dev/shm /dev/mqueue /var/spool /var/lib/systemd/linger -uid {uid} 2>/dev/null; \
         ls -d {BASE}/{login} /var/spool/cron/crontabs/{login} /var/lib/systemd/linger/{login} \
             /etc/sudoers.d/teleport-{login} 2>/dev/null; \
         for ts in /run/sudo/ts /run/sudo-rs/ts; do ls -d $ts/{login} $ts/{uid} 2>/dev/null; done; grep -F user_id={uid} /proc/self/mountinfo; :"
    );
    machine.sh(&look).must().to_owned()
}

/// What logind and systemd hold of a UID.
fn held(machine: &Machine, uid: &str) -> String {
    let look = format!(
        "ls -d /run/systemd/users/{uid} /run/user/{uid} /sys/fs/cgroup/user.slice/user-{uid}.slice 2>/dev/null; :"
    );
    machine.sh(&look).must().to_owned()
}

/// Waits until nothing is left; the time it took from `closed`.
#[track_caller]
pub(crate) fn ends(
    machine: &Machine,
    login: &str,
    uid: &str,
    closed: Instant,
    limit: Duration,
) -> Duration {
    let mut first = None;
    loop {
        // logind's user goes its stop delay after its last process.
        let (left, limit) = match first {
            None => (remains(machine, login, uid), limit),
            Some(_) => (held(machine, uid), limit + LET_GO),
        };
        let took = closed.elapsed();
        if left.is_empty() {
            match first {
                None => first = Some(took),
                Some(first) => {
                    println!(
                        "{login}: nothing left after {first:.1?}, logind let go after {took:.1?}"
                    );
                    return first;
                }
            }
            continue;
        }
        assert!(
            took < limit,
            "left of {login} after {took:.1?}:\n{left}\n{}",
            machine
                .sh("journalctl -n 40 -o short-precise -u teleport-sessiond -u systemd-logind -u 'user@*'")
                .stdout
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

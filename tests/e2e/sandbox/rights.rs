//! What a running service owns, as the kernel says it, and how exposed systemd thinks it is.

use rig::{Machine, Ran, node, node_alone};

/// `systemd-analyze security` of a whole unit, 0 (nothing can happen) to 10.
#[track_caller]
fn exposure(machine: &Machine, unit: &str) -> f64 {
    let ran = machine.run(&["systemd-analyze", "security", "--no-pager", unit]);
    let level = ran
        .must()
        .lines()
        .find_map(|line| line.split("Overall exposure level for ").nth(1))
        .and_then(|line| line.split_whitespace().nth(1));
    match level.and_then(|level| level.parse().ok()) {
        Some(level) => level,
        None => panic!("no exposure level was told: {ran}"),
    }
}

/// The main process of a unit.
#[track_caller]
fn main_pid(machine: &Machine, unit: &str) -> String {
    let pid = machine.run(&["systemctl", "show", "-P", "MainPID", unit]);
    assert_ne!(pid.must(), "0", "{unit} does not run");
    pid.must().to_owned()
}

/// A field of `/proc/PID/status`.
#[track_caller]
fn status(machine: &Machine, pid: &str, field: &str) -> String {
    let all = machine.run(&["cat", &format!("/proc/{pid}/status")]);
    let value = all
        .must()
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{field}:")));
    match value {
        Some(value) => value.trim().to_owned(),
        None => panic!("no {field} in {all}"),
    }
}

#[track_caller]
fn has_no_capability(machine: &Machine, pid: &str) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(machine, pid, set), "0000000000000000", "{set}");
    }
}

#[track_caller]
fn network(machine: &Machine, pid: &str) -> String {
    let link = machine.run(&["readlink", &format!("/proc/{pid}/ns/net")]);
    link.must().to_owned()
}

#[test]
fn both_daemons_are_less_exposed_than_systemds_own() {
    let node = node();
    for (unit, most) in [
        ("teleport-userdbd.service", 1.3),
        ("teleport-sessiond.service", 2.0),
    ] {
        let level = exposure(&node, unit);
        println!("{unit}: {level}");
        assert!(level <= most, "{unit} is exposed {level}, more than {most}");
    }
}

#[test]
fn the_data_plane_owns_nothing_once_it_runs() {
    let node = node();
    let pid = main_pid(&node, "teleport-userdbd.service");
    let its = |id: &str| {
        let id = node.run(&["id", id, "teleport-userdb"]).must().to_owned();
        [id.as_str(); 4].join("\t")
    };
    assert_eq!(status(&node, &pid, "Uid"), its("-u"));
    assert_eq!(status(&node, &pid, "Gid"), its("-g"));
    assert_eq!(status(&node, &pid, "Groups"), "");
    has_no_capability(&node, &pid);
    assert_eq!(status(&node, &pid, "NoNewPrivs"), "1");
    assert_eq!(status(&node, &pid, "Seccomp"), "2");
    assert_ne!(network(&node, &pid), network(&node, "1"));
}

#[test]
fn the_control_plane_has_four_capabilities_and_no_network() {
    let node = node();
    let pid = main_pid(&node, "teleport-sessiond.service");
    // CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID: bits 0, 5, 6, 7.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&node, &pid, set), "00000000000000e1", "{set}");
    }
    assert_eq!(status(&node, &pid, "NoNewPrivs"), "1");
    assert_ne!(network(&node, &pid), network(&node, "1"));
}

/// What is written to a tmpfs counts for who has written it, also when that belongs to somebody else: the daemon was killed
/// for the skeletons in the homes of a few dozen users.
#[test]
fn the_skeletons_of_all_ephemeral_homes_together_leave_the_control_plane_memory() {
    let node = node();
    let bytes = |command: &[&str]| -> u64 { node.run(command).must().trim().parse().unwrap() };
    let unit = "teleport-sessiond.service";
    let most = bytes(&["systemctl", "show", "-P", "MemoryMax", unit]);
    let homes = bytes(&["findmnt", "-bno", "SIZE", "/run/teleport-userdb/home"]);
    assert!(most > homes + homes / 4, "{most} {homes}");
}

/// A command in the mount namespace of a process, as uid 0 without any capability.
#[track_caller]
fn inside(machine: &Machine, pid: &str, command: &[&str]) -> Ran {
    let enter = [
        "nsenter",
        "-m",
        "-t",
        pid,
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--no-new-privs",
    ];
    machine.run(&[&enter, command].concat())
}

#[test]
fn the_control_plane_writes_where_it_must_and_nowhere_else() {
    let node = node();
    let pid = main_pid(&node, "teleport-sessiond.service");
    for folder in [
        "/run/teleport-userdb",
        "/run/teleport-userdb/home",
        "/run/teleport-sessiond",
        "/etc/sudoers.d",
        "/run/sudo",
    ] {
        let file = format!("{folder}/.of-a-test");
        inside(&node, &pid, &["touch", &file]).must();
        node.run(&["rm", &file]).must();
    }
    inside(&node, &pid, &["touch", "/etc/.pwd.lock"]).must();
    for folder in [
        "/run",
        "/run/systemd",
        "/run/systemd/userdb",
        "/etc",
        "/var",
        "/usr",
    ] {
        let made = inside(&node, &pid, &["touch", &format!("{folder}/.of-a-test")]);
        assert!(made.stderr.contains("Read-only"), "{made}");
    }
}

/// The worker that a login has left warm.
#[track_caller]
fn a_worker(node: &Machine) -> String {
    node.login("rasmus").command("true").run().ran.must();
    let workers = node.run(&["pgrep", "-f", "^[^ ]*teleport-sessiond --lookup-worker"]);
    workers.must().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_runs_the_modules_of_others_has_the_network_and_no_capability() {
    let node = node();
    let pid = a_worker(&node);
    has_no_capability(&node, &pid);
    assert_eq!(status(&node, &pid, "NoNewPrivs"), "1");
    assert_eq!(network(&node, &pid), network(&node, "1"));
    for path in ["/etc", "/home", "/tmp", "/run", "/var"] {
        let inside = format!("/proc/{pid}/root{path}/of-a-module");
        let made = node.run(&["touch", &inside]);
        assert!(!made.succeeded(), "{made}");
    }
    for hidden in ["/run/teleport-sessiond", "/run/teleport-userdb"] {
        let inside = format!("/proc/{pid}/root{hidden}");
        assert_eq!(node.run(&["ls", &inside]).stdout, "", "{hidden}");
    }
}

/// Sockets of daemons that do anything for uid 0, and of name services, which modules of others need.
const NOT_FOR_MODULES: [&str; 3] = [
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/snapd.socket",
];
const FOR_MODULES: [&str; 3] = [
    "/var/lib/sss/pipes/nss",
    "/run/samba/winbindd/pipe",
    "/run/nslcd/socket",
];
/// systemd's own: of dynamic users.
const USERDB: &str = "/run/systemd/userdb/io.systemd.DynamicUser";
const CONNECT: &str = "IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"$!\\n\"";

#[test]
fn modules_of_others_reach_name_services_and_nothing_that_obeys_uid_0() {
    let node = node_alone();
    let bus = "/run/dbus/system_bus_socket";
    for (index, path) in NOT_FOR_MODULES.iter().chain(&FOR_MODULES).enumerate() {
        let listen = format!("--socket-property=ListenStream={path}");
        let unit = format!("--unit=listener-{index}");
        node.run(&[
            "systemd-run",
            &unit,
            &listen,
            "--socket-property=Accept=yes",
            "-p",
            "StandardInput=socket",
            "cat",
        ])
        .must();
    }
    // A worker of before knows nothing of these.
    node.run(&["systemctl", "restart", "teleport-sessiond.service"])
        .must();
    let pid = a_worker(&node);
    let connect = |path| ["perl", "-MIO::Socket::UNIX", "-e", CONNECT, path];
    for path in NOT_FOR_MODULES.iter().chain(&[bus]) {
        node.run(&connect(path)).must();
        let ran = inside(&node, &pid, &connect(path));
        assert!(!ran.succeeded(), "{ran}");
    }
    for path in FOR_MODULES.iter().chain(&[USERDB]) {
        inside(&node, &pid, &connect(path)).must();
    }
    for secret in ["/etc/shadow", "/etc/gshadow"] {
        let ran = inside(&node, &pid, &["grep", "-c", "^root:", secret]);
        assert!(!ran.succeeded(), "{ran}");
    }
    inside(&node, &pid, &["grep", "-q", "^root:", "/etc/passwd"]).must();
    // Of systemd's own, whatever this release has: some run anything for uid 0.
    let there = node.sh("find /run/systemd -type s ! -path '*/inaccessible/*'");
    let open: Vec<&str> = there
        .must()
        .lines()
        .filter(|path| inside(&node, &pid, &["test", "-w", path]).succeeded())
        .collect();
    let harmless = |path: &&&str| {
        path.starts_with("/run/systemd/userdb/")
            || [
                "/run/systemd/journal/dev-log",
                "/run/systemd/journal/socket",
            ]
            .contains(path)
    };
    let others: Vec<&&str> = open.iter().filter(|path| !harmless(path)).collect();
    assert!(others.is_empty(), "within reach of modules: {others:?}");
    assert!(open.contains(&USERDB), "{open:?}");
    node.sh("systemctl stop 'listener-*'").must();
    for path in NOT_FOR_MODULES.iter().chain(&FOR_MODULES) {
        node.run(&["rm", "-f", path]);
    }
}

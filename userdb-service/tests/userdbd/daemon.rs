//! The real teleport-userdbd, started as systemd starts it: socket passed in, readiness and watchdog
//! told, root given away, ended by SIGTERM.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use userdb_service::data::privileges::FALLBACK;

use crate::wire::{Client, Folder};

struct Daemon {
    child: Child,
    /// systemd keeps a copy, and with it the queue of callers.
    _listener: UnixListener,
    socket: PathBuf,
    notified: UnixDatagram,
    folder: Folder,
}

impl Daemon {
    fn start(name: &str) -> Daemon {
        let folder = Folder::new();
        let (socket, listener) = folder.listen();
        Daemon::on(folder, socket, listener, name)
    }

    /// Passes it `listener` under `name`.
    fn on(folder: Folder, socket: PathBuf, listener: UnixListener, name: &str) -> Daemon {
        Daemon::limited(folder, socket, listener, name, "true")
    }

    /// After what a shell is told by `limit`.
    fn limited(
        folder: Folder,
        socket: PathBuf,
        listener: UnixListener,
        name: &str,
        limit: &str,
    ) -> Daemon {
        let notify = folder.path().join("notify");
        let notified = UnixDatagram::bind(&notify).unwrap();
        std::fs::set_permissions(&notify, PermissionsExt::from_mode(0o666)).unwrap();
        notified
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // The shell becomes the daemon, so its PID is the one the socket is meant for.
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "exec 3<&0 </dev/null; {limit}; LISTEN_PID=$$ exec \"$0\""
            ))
            .arg(env!("CARGO_BIN_EXE_teleport-userdbd"))
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", name)
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "300000")
            .env("TELEPORT_USERDB_LOG", "off")
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
            .spawn()
            .unwrap();
        Daemon {
            child,
            _listener: listener,
            socket,
            notified,
            folder,
        }
    }

    /// The next thing systemd would hear.
    fn heard(&self) -> String {
        let mut message = [0; 4096];
        let length = self.notified.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Fills the queue, for as long as nobody hears what is in it: with what such strangers have sent.
    fn deafen(&self) -> Vec<UnixDatagram> {
        let path = self.folder.path().join("notify");
        let mut strangers = Vec::new();
        loop {
            let stranger = UnixDatagram::unbound().unwrap();
            stranger.set_nonblocking(true).unwrap();
            match (0..)
                .take_while(|_| stranger.send_to(b"x", &path).is_ok())
                .count()
            {
                0 => return strangers,
                _ => strangers.push(stranger),
            }
        }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
    }

    fn wait_for(&self, line: &str) {
        while !self.heard().lines().any(|heard| heard == line) {}
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_is_ready_answers_feeds_the_watchdog_and_ends_on_sigterm() {
    let mut daemon = Daemon::start("userdb");
    daemon.wait_for("READY=1");
    let mut client = Client::connect(&daemon.socket);
    let info = client.ask("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "teleport-userdbd");
    let parameters = json!({"userName": "no such:user", "service": "com.goteleport.DynamicUser"});
    let reply = client.ask("io.systemd.UserDatabase.GetUserRecord", parameters);
    assert_eq!(reply["error"], "io.systemd.UserDatabase.NoRecordFound");
    daemon.wait_for("WATCHDOG=1");
    daemon.wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("STOPPING=1");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    assert!(client.closed());
}

#[test]
fn it_answers_while_strangers_keep_systemd_from_hearing_it_and_tells_later() {
    let mut daemon = Daemon::start("userdb");
    daemon.wait_for("READY=1");
    let strangers = daemon.deafen();
    // Several signs of life would be due.
    std::thread::sleep(Duration::from_millis(500));
    let mut client = Client::connect(&daemon.socket);
    let info = client.ask("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "teleport-userdbd");
    for _ in 0..3 {
        daemon.wait_for("WATCHDOG=1");
    }
    drop(strangers);
    let strangers = daemon.deafen();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    drop(strangers);
}

#[test]
fn it_has_given_everything_away_by_the_time_it_is_ready() {
    let daemon = Daemon::start("userdb");
    daemon.wait_for("READY=1");
    let proc = PathBuf::from(format!("/proc/{}", daemon.child.id()));
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let line = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(line(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(line("NoNewPrivs:"), ["1"]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(line("CapBnd:"), ["0000000000000000"]);
        assert_eq!(line("Groups:"), [""; 0]);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        if !passwd
            .lines()
            .any(|line| line.starts_with("teleport-userdb:"))
        {
            let id = FALLBACK.to_string();
            assert_eq!(line("Uid:"), [id.as_str(); 4]);
            assert_eq!(line("Gid:"), [id.as_str(); 4]);
        }
        assert!(line("Uid:").iter().all(|uid| *uid != "0"));
    }
    assert_eq!(line("Threads:"), ["1"]);
}

#[test]
fn the_memory_that_a_crowd_has_needed_is_given_back_when_it_has_gone() {
    userdb_service::runtime::raise_descriptor_limit();
    let daemon = Daemon::start("userdb");
    daemon.wait_for("READY=1");
    let before = daemon.resident_kib();
    let crowd: Vec<Client> = (0..400)
        .map(|_| {
            let mut client = Client::connect(&daemon.socket);
            client.send_raw(&[b' '; 60 << 10]);
            client
        })
        .collect();
    let begin = Instant::now();
    while daemon.resident_kib() < before + (20 << 10) {
        assert!(begin.elapsed() < Duration::from_secs(4), "they take little");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(crowd);
    let begin = Instant::now();
    while daemon.resident_kib() > before + (8 << 10) {
        let kib = daemon.resident_kib() - before;
        assert!(begin.elapsed() < Duration::from_secs(10), "{kib} KiB more");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_watchdog_hears_nothing_from_a_stopped_daemon() {
    let daemon = Daemon::start("userdb");
    daemon.wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    daemon.notified.set_nonblocking(true).unwrap();
    let mut message = [0; 4096];
    while daemon.notified.recv(&mut message).is_ok() {}
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.notified.recv(&mut message).is_err());
    daemon.notified.set_nonblocking(false).unwrap();
    daemon.signal(Signal::SIGCONT);
    daemon.wait_for("WATCHDOG=1");
}

#[test]
fn without_its_socket_it_fails_at_once() {
    let mut daemon = Daemon::start("sessions");
    let status = daemon.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn for_want_of_descriptors_it_asks_for_another_start() {
    let folder = Folder::new();
    let (socket, listener) = folder.listen();
    let mut daemon = Daemon::limited(folder, socket, listener, "userdb", "ulimit -n 5");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(75));
}

#[test]
fn who_has_queued_before_it_started_is_answered() {
    let folder = Folder::new();
    let (socket, listener) = folder.listen();
    let mut queued = Client::connect(&socket);
    queued.send(&json!({"method": "org.varlink.service.GetInfo"}));
    let _daemon = Daemon::on(folder, socket, listener, "userdb");
    assert!(queued.receive().is_some());
}

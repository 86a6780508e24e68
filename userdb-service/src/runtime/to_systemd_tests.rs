//! Tests of `to_systemd` against a socket that is read when the test says so.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::*;
use crate::runtime::block_on;
use tokio::time::{sleep, timeout};

/// A socket of systemd's, and where it is; the file goes with it.
struct Systemd(UnixDatagram, PathBuf);

impl Systemd {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("systemd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket, path)
    }

    fn teller(&self) -> ToSystemd {
        ToSystemd::at(&self.1).unwrap()
    }

    fn read(&self) -> Option<String> {
        let mut message = [0; 512];
        let length = self.0.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    /// Strangers fill it: who, and with how many.
    fn fill(&self) -> (Vec<UnixDatagram>, usize) {
        let (mut strangers, mut all) = (Vec::new(), 0);
        loop {
            let stranger = UnixDatagram::unbound().unwrap();
            stranger.set_nonblocking(true).unwrap();
            let sent = (0..).take_while(|_| stranger.send_to(b"x", &self.1).is_ok());
            match sent.count() {
                0 => return (strangers, all),
                sent => all += sent,
            }
            strangers.push(stranger);
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.1);
    }
}

/// Tells it all, as the daemon does on its event loop.
fn tell_much(to: &ToSystemd) {
    let ready = |status| [NotifyState::Ready, NotifyState::Status(status)];
    to.tell(Kind::Status, &[NotifyState::Status("starting")]);
    to.tell(Kind::Ready, &ready("one"));
    to.tell(Kind::Watchdog, &[NotifyState::Watchdog]);
    to.tell(Kind::Reloading, &[NotifyState::Reloading]);
    to.tell(Kind::Ready, &ready("two"));
    to.tell(Kind::Status, &[NotifyState::Status("three")]);
    to.tell(Kind::Status, &[NotifyState::Status("four")]);
    to.tell(Kind::Watchdog, &[NotifyState::Watchdog]);
    to.tell(Kind::Stopping, &[NotifyState::Stopping]);
}

#[test]
fn what_there_is_room_for_is_told_at_once_and_whole() {
    let systemd = Systemd::new("room");
    let to = systemd.teller();
    tell_much(&to);
    let told: Vec<String> = std::iter::from_fn(|| systemd.read()).collect();
    assert_eq!(told.len(), 9, "{told:?}");
    assert_eq!(told[1], "READY=1\nSTATUS=one\n");
}

#[test]
fn nobody_waits_for_a_full_queue_and_what_matters_arrives_when_it_is_read() {
    let systemd = Systemd::new("full");
    let (_strangers, of_strangers) = systemd.fill();
    let to = systemd.teller();
    let began = Instant::now();
    tell_much(&to);
    assert!(began.elapsed() < LAST_PATIENCE, "{:?}", began.elapsed());
    let reading = async {
        sleep(NAP * 20).await;
        for _ in 0..of_strangers {
            assert_eq!(systemd.read().as_deref(), Some("x"));
        }
        let mut told = String::new();
        while !told.contains("STOPPING") {
            told.extend(systemd.read());
            sleep(NAP).await;
        }
        told
    };
    let told = block_on(async {
        tokio::select! {
            () = to.keep_telling() => unreachable!("it never ends"),
            told = timeout(Duration::from_secs(20), reading) => told,
        }
    });
    assert_eq!(
        told.unwrap().expect("in time"),
        "READY=1\nSTATUS=two\nSTATUS=four\nWATCHDOG=1\nSTOPPING=1\n"
    );
    assert_eq!(systemd.read(), None);
}

#[test]
fn one_that_comes_back_is_told_and_an_ending_process_waits_a_moment_only() {
    let systemd = Systemd::new("away");
    let to = systemd.teller();
    std::fs::remove_file(&systemd.1).unwrap();
    to.tell(Kind::Stopping, &[NotifyState::Stopping]);
    let began = Instant::now();
    to.tell_last();
    let took = began.elapsed();
    assert!(took >= LAST_PATIENCE, "{took:?}");
    assert!(took < LAST_PATIENCE * 50, "{took:?}");
    drop(systemd);
    let systemd = Systemd::new("away");
    to.tell_last();
    assert_eq!(systemd.read().as_deref(), Some("STOPPING=1\n"));
}

//! Whether teleport-userdbd is a userdb provider by systemd's own measure, on a booted node: raw bytes on its
//! socket, systemd's tools and nss-systemd, and the same questions to systemd's own providers first.

mod combinations;
mod filters;
mod ids;
mod keys;
mod limits;
mod lists;
mod outages;
mod records;
mod reference;
mod service;
mod streams;
mod wire;

use rig::{Login, Machine};

/// Our provider: the name of its socket, and the `service` of its records.
const OURS: &str = "com.goteleport.DynamicUser";

/// A session of `login` that stays until it is dropped.
#[track_caller]
fn session(machine: &Machine, login: &str) -> Login {
    let mut session = machine
        .login(login)
        .service("sshd")
        .roles("dev ops")
        .hold("open")
        .start();
    session.reach("open");
    session
}

/// UID (and GID) of a login.
#[track_caller]
fn uid(machine: &Machine, login: &str) -> u32 {
    machine.run(&["id", "-u", login]).must().parse().unwrap()
}

/// Version of systemd on the machine.
#[track_caller]
fn systemd(machine: &Machine) -> u32 {
    let version = machine.run(&["systemctl", "--version"]);
    let word = version.must().split_whitespace().nth(1).unwrap_or_default();
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

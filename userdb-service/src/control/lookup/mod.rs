//! Asking the *other* providers of users and groups, and the host, what is already taken.
//! Their code may hang or crash, so it runs in processes apart; no decision is taken in here.
//!
//! [`client::Lookups`] is the daemon's side, [`worker::run`] the other. systemd starts a worker for each
//! connection to a socket, in a sandbox of its own: theirs needs the network, the daemon's does not.

mod asking;
pub mod client;
mod glibc;
pub mod host_facts;
mod lines;
mod local_files;
mod local_users;
pub mod named;
pub(crate) mod nsswitch;
mod stamp;
mod twins;
mod userdb;
mod wire;
pub mod worker;

pub use client::{LookupFailed, Lookups, Settings, absorb, local};

/// Who is to blame where a worker cannot find out what the host itself says, such as in sudoers.
pub(crate) const THE_HOST: &str = "the host";

/// The first argument with which the daemon's binary is run as a lookup worker.
pub const WORKER_ARGUMENT: &str = "--lookup-worker";

//! The control plane: sessions, their leaders, and everything that is done for them.
//!
//! [`registry`] is the state machine and knows nothing of the outside; every other file here is a part
//! of its rim. Nobody's lookup waits for anything in this folder.

pub mod admission;
mod alone;
mod arrivals;
mod aside;
mod burst;
pub mod children;
pub mod clock;
pub mod config_files;
mod configuration;
mod daemon;
mod descriptors;
mod dwellings;
mod effects;
mod endings;
mod home_mount;
pub mod homes;
pub mod janitor;
mod kept_homes;
pub mod leader;
mod leftovers;
pub mod logind;
mod look;
pub mod lookup;
mod messages;
pub mod mounts;
mod nscd;
mod parents;
mod passwd_lock;
mod proc_files;
mod publish;
pub mod registry;
mod regular;
pub mod remains;
mod restart;
mod server;
mod socket_mark;
mod start;
pub mod state;
mod stranded;
pub mod sudo;
mod written;

pub(crate) use arrivals::home_base;
pub use start::main;

//! The built module under the real libpam, against a real varlink server of the registry's interface.
//! Each test has a mount namespace of its own, so that sockets stand at their real paths. Needs root.

mod away;
mod cases;
mod login;
mod object;
mod registry;
mod rig;
mod terminal;

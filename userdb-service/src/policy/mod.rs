//! Who is made, under which name, UID, groups and rights: pure functions, no I/O.
//! Nothing here opens a file, asks a name service, reads the clock or writes to the journal.

mod allocate;
pub mod config;
pub mod decide;
mod desk;
mod evaluate;
pub mod explain;
pub mod given;
pub mod glob;
pub mod ids;
pub mod names;
pub mod plan;
mod protected;
mod quoting;
pub mod repair;
mod request;
mod rights;
mod roles;
pub mod room;
mod sentences;
pub(crate) mod shortfalls;
pub mod sudoers;
pub mod text;
mod trace;

pub use config::{Config, ConfigError};
pub use decide::{
    Decision, Facts, LoginRequest, Occupancy, Refusal, decide, may_open, same_request, undecided,
};
pub use ids::{Gid, Uid};
pub use names::{Alias, GroupName, Login};
pub use plan::{Plan, combine};
pub(crate) use protected::{DOAS_GROUP, MARKER, SUDO_GROUP};
pub(crate) use quoting::escaped;
pub(crate) use sentences::{
    cannot_be_made, configuration_wrong, ended_meanwhile, lookup_failed, old_rights, remains,
    stranded, waiting, withdrawn_meanwhile,
};
pub use sudoers::SudoersSpec;
pub use trace::Step;

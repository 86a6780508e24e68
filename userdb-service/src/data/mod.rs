//! The data plane: `io.systemd.UserDatabase` from the published table alone.
//!
//! Every process of the host that looks up a name `files` does not know waits for this answer, so
//! nothing here may wait for anything: no NSS, no D-Bus, no file, no lock; neither policy nor control
//! plane. Names and IDs that are not in the table are never answered: whatever a provider says first
//! is believed by everybody.

mod accounts;
pub mod daemon;
mod filters;
mod groups;
mod json;
mod members;
mod memberships;
mod memo;
pub mod privileges;
mod provider;
mod record;
mod rendered;
mod users;

pub use accounts::Accounts;
pub use provider::{Provider, machine_id};

/// Types generated from `io.systemd.UserDatabase.varlink`.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod protocol {
    include!(concat!(env!("OUT_DIR"), "/io.systemd.UserDatabase.rs"));
}

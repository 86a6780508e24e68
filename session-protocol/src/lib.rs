//! The varlink interface `com.goteleport.Sessions`: its IDL, the types generated from it, a blocking client, and which
//! characters of a text are not shown as they are. No policy, no server, and nothing that outlives a call.

pub mod client;
pub mod invisible;
mod message;
mod stream;

/// Types and client generated from `com.goteleport.Sessions.varlink`.
#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub mod sessions {
    include!(concat!(env!("OUT_DIR"), "/com.goteleport.Sessions.rs"));
}

/// The interface definition, as served by `org.varlink.service.GetInterfaceDescription`.
pub const INTERFACE: &str = include_str!("com.goteleport.Sessions.varlink");

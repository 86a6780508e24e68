//! From a call of `com.goteleport.Sessions` to the registry and back: who may call, and what comes of it.
//! `server` speaks varlink, `admission` knows the callers, `arrivals` lets a login in.

mod admission;
pub(super) mod arrivals;
pub(super) mod passwd_lock;
pub(super) mod server;

//! `libnss_teleport.so.2`: glibc's view of the published account table, in whatever process looks a user up.
//! Nothing here may wait, allocate (but for initgroups' own array), print, keep a descriptor or panic; there is no other way to
//! answers than the table. Two exceptions, both of listings: when one begins, nsswitch.conf is read (`enumerate`); and then, and for a
//! group by name while systemd lists groups, too, the loader is asked whether nss-systemd is there (`host::systemd_is_asking`), which
//! takes its lock and may allocate, and where it is not looks for its file and leaves dlerror() to the caller.
//!
//! `abi` holds the entry points glibc calls, `room` the caller's buffer; these two and `host` contain all the unsafe code.
#![deny(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[allow(unsafe_code)]
mod abi;
mod answer;
mod enumerate;
#[allow(unsafe_code)]
mod host;
mod nsswitch;
#[allow(unsafe_code)]
mod room;

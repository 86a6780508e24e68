//! The end: of sessions that nobody closes, and after the last one of all that a user leaves on the machine.
//! `endings` says when; the others know what there may be, processes above all, and how it is ended.

pub(super) mod endings;
pub mod janitor;
mod leftovers;
pub(super) mod lingering;
pub mod logind;
pub mod mounts;
mod polling;
pub mod remains;
mod silence;
mod units;
mod walk;

//! The end of a user, where that takes minutes or the whole machine: see `make check-end`.

mod again;
mod common;
mod crowd;
mod held_up;
mod minute;
mod race;
mod room;
mod told;

use common::*;

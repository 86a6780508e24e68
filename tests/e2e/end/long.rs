//! The end of a user, where that takes minutes or the whole machine: see `make check-end`.

mod again;
mod common;
mod held_up;
mod minute;
mod race;
mod room;

use common::*;

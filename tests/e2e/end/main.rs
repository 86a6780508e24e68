//! The end of a user: nothing of it outlives it, nobody is harmed by it, nobody inherits from it.
//! One machine with one configuration for all tests of this binary; each test uses logins of its own. Those that take
//! the machine for themselves, or minutes, are in `long.rs`.

mod common;
mod kinds;
mod limits;
mod linger;
mod mounts;
mod no_time;
mod others;
mod sigterm;
mod told;
mod trash;

use common::*;

/// Runs tests that mostly wait at the same time, however few threads the harness has. Names those that failed.
#[track_caller]
fn side_by_side(tests: &[(&str, fn())]) {
    let running: Vec<_> = tests
        .iter()
        .map(|(name, test)| (name, std::thread::spawn(*test)))
        .collect();
    let failed: Vec<&str> = running
        .into_iter()
        .filter_map(|(name, test)| test.join().is_err().then_some(*name))
        .collect();
    assert!(
        failed.is_empty(),
        "failed (see above): {}",
        failed.join(", ")
    );
}

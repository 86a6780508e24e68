//! Lets the writer die before its n-th store, as a crash would. Tests only.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static STEPS_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Death;

/// Passed before each store and each change of the folder.
pub(crate) fn step() {
    STEPS_LEFT.with(|left| match left.get() {
        None => (),
        Some(0) => panic::resume_unwind(Box::new(Death)),
        Some(n) => left.set(Some(n - 1)),
    });
}

/// Runs `work` with `steps` steps to live; `None` if it died of it.
#[cfg(not(loom))]
pub(crate) fn after<T>(steps: u64, work: impl FnOnce() -> T) -> Option<T> {
    STEPS_LEFT.with(|left| left.set(Some(steps)));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    STEPS_LEFT.with(|left| left.set(None));
    match outcome {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Death>() => None,
        Err(cause) => panic::resume_unwind(cause),
    }
}

//! The guard around everything libpam calls: no panic crosses into C, nothing is printed, errno is kept.
//! It knows nothing of PAM.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use account_table::KeepErrno;

/// Runs `body`; if it panics, its message goes to `report` and the answer is None.
pub(super) fn guarded<R>(body: impl FnOnce() -> R, report: impl FnOnce(&str)) -> Option<R> {
    let _errno = KeepErrno::of_the_caller();
    silence();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let reported = catch_unwind(AssertUnwindSafe(|| report(message(payload.as_ref()))));
            // A payload that panics when it is dropped would get past us: leak it.
            std::mem::forget((payload, reported));
            None
        }
    }
}

/// Keeps panic messages off the login program's stderr. The module has a copy of the standard library to
/// itself, so the hook is the module's too and the host keeps its own.
#[cfg(not(test))]
fn silence() {
    static SILENT: AtomicBool = AtomicBool::new(false);
    if !SILENT.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// The unit tests share their standard library, and want to see what fails.
#[cfg(test)]
fn silence() {
    static CALLED: AtomicBool = AtomicBool::new(false);
    CALLED.store(true, Ordering::Relaxed);
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_ends_in_the_guard_with_its_message() {
        let mut reported = String::new();
        let answer: Option<()> = guarded(|| panic!("number {}", 7), |why| reported.push_str(why));
        assert_eq!((answer, reported.as_str()), (None, "number 7"));
        assert_eq!(guarded(|| 7, |_| ()), Some(7));
    }

    #[test]
    fn a_panic_while_another_is_reported_ends_there_too() {
        let answer: Option<()> = guarded(|| panic!("first"), |_| panic!("second"));
        assert_eq!(answer, None);
    }

    #[test]
    fn errno_is_what_it_was_whatever_happened_inside() {
        // SAFETY: errno of this thread can always be written.
        unsafe { *libc::__errno_location() = libc::ENOTTY };
        guarded(
            || {
                // SAFETY: errno of this thread can always be written.
                unsafe { *libc::__errno_location() = libc::EIO };
            },
            |_| (),
        );
        let errno = std::io::Error::last_os_error().raw_os_error();
        assert_eq!(errno, Some(libc::ENOTTY));
    }
}

//! Whether a user is one of this host's own, asked without the daemon.
//! The registry decides this itself while it answers; here is only what is left when it does not.

use std::thread;
use std::time::Duration;

use account_table::{Lookup, process_table};

use crate::pam::user_exists;

/// How often a table that is busy is asked again, a millisecond apart: it is busy for microseconds.
const ATTEMPTS: u32 = 100;

/// True if the user exists and is not one we have published. In doubt it is ours, and nobody logs in as it.
pub(crate) fn known_to_others(login: &str) -> bool {
    is_of_others(|| published(login), || user_exists(login))
}

/// What is found may be ours, and come or go meanwhile: so the table is looked at before and after.
fn is_of_others(is_published: impl Fn() -> bool, exists: impl FnOnce() -> bool) -> bool {
    !is_published() && exists() && !is_published()
}

/// True if the table has the user, under its name or an alias, or cannot be asked.
fn published(login: &str) -> bool {
    for _ in 0..ATTEMPTS {
        let Some(table) = process_table() else {
            return false;
        };
        match table.user_by_name(login.as_bytes()) {
            Lookup::Found(_) => return true,
            Lookup::Absent => return false,
            Lookup::Busy => thread::sleep(Duration::from_millis(1)),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::is_of_others;

    #[test]
    fn a_user_of_ours_who_comes_or_goes_while_others_are_asked_is_not_theirs() {
        let told = |before, exists, after| {
            let published = Cell::new(before);
            let asked = || {
                published.set(after);
                exists
            };
            is_of_others(|| published.get(), asked)
        };
        assert!(told(false, true, false));
        assert!(!told(false, false, false));
        assert!(!told(true, true, true));
        assert!(!told(true, true, false), "gone before the second look");
        assert!(!told(false, true, true), "come after the first look");
    }
}

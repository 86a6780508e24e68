//! Files for sudoers.d that are made before they are ordered, while who logs in is between two calls.
//! Which there are; made and named they are by the thread.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::files::Prepared;
use crate::policy::{Login, SudoersSpec};

/// How long one is kept for somebody who has not come back: nearly all do within milliseconds.
const KEPT: Duration = Duration::from_secs(60);
/// Each takes a descriptor.
const MOST: usize = 64;

/// Files that are wanted, and files that are ready.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    wanted: VecDeque<(Login, Vec<SudoersSpec>)>,
    ready: BTreeMap<Login, (Instant, Prepared)>,
}

impl Ahead {
    /// One is wanted, unless there are too many.
    pub(super) fn want(&mut self, login: Login, specs: Vec<SudoersSpec>) {
        self.forget(&login);
        if self.wanted.len() + self.ready.len() < MOST {
            self.wanted.push_back((login, specs));
        }
    }

    /// The next to be made.
    pub(super) fn next(&mut self) -> Option<(Login, Vec<SudoersSpec>)> {
        self.wanted.pop_front()
    }

    /// Whether nothing is wanted.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether the login's is ready.
    pub(super) fn has(&self, login: &Login) -> bool {
        self.ready.contains_key(login)
    }

    /// One has been made.
    pub(super) fn has_made(&mut self, login: Login, prepared: Prepared) {
        self.ready.insert(login, (Instant::now(), prepared));
    }

    /// The login's, whose order has come.
    pub(super) fn take(&mut self, login: &Login) -> Option<Prepared> {
        self.wanted.retain(|(wanted, _)| wanted != login);
        self.ready.remove(login).map(|(_, prepared)| prepared)
    }

    /// The login's is not wanted any more.
    pub(super) fn forget(&mut self, login: &Login) {
        drop(self.take(login));
    }

    /// Lets go of those that nobody has come for.
    pub(super) fn age(&mut self) {
        self.ready.retain(|_, (made, _)| made.elapsed() < KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_wanted_once_for_each_login_and_not_more_than_there_is_room_for() {
        let mut ahead = Ahead::default();
        let login = |number: usize| Login::try_from(format!("u{number}").as_str()).unwrap();
        let specs = vec![SudoersSpec::full()];
        ahead.want(login(0), Vec::new());
        ahead.want(login(0), specs.clone());
        assert_eq!(ahead.next(), Some((login(0), specs.clone())));
        assert!(ahead.is_done());
        for number in 0..2 * MOST {
            ahead.want(login(number), specs.clone());
        }
        ahead.forget(&login(1));
        let wanted = std::iter::from_fn(|| ahead.next());
        let expected = (0..MOST).filter(|number| *number != 1).map(login);
        assert!(wanted.map(|(login, _)| login).eq(expected));
    }
}

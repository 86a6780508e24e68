//! When homes that are kept for somebody to come back are thrown away: a time for each, and one task for all of them.
//! A task for each would take several KiB for minutes, for every user of a day.
//!
//! How long a home is kept stands beside it; here is only when to look again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::control::host::clock::{Boottime, LONGEST_SLEEP};
use crate::policy::Login;

/// Kept homes by their logins, each with when it is to be looked at.
#[derive(Debug, Default)]
pub(in crate::control) struct KeptHomes {
    times: RefCell<Times>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Times {
    of: HashMap<Login, Boottime>,
    in_order: BTreeSet<(Boottime, Login)>,
}

impl KeptHomes {
    /// The home of `login` is to be looked at after `rest`, and no longer at another time.
    pub(in crate::control) fn look_after(&self, login: Login, rest: Duration) {
        let at = Boottime::now() + rest;
        let mut times = self.times.borrow_mut();
        if let Some(before) = times.of.insert(login.clone(), at) {
            times.in_order.remove(&(before, login.clone()));
        }
        times.in_order.insert((at, login));
        drop(times);
        self.sooner.notify_one();
    }

    /// Waits for the next whose time has come, and takes it out.
    pub(in crate::control) async fn next(&self) -> Login {
        loop {
            if let Some(login) = self.take_due(Boottime::now()) {
                return login;
            }
            match self.first() {
                // Looked at again meanwhile: the clock that is slept by stands still in suspend.
                Some(at) => {
                    let rest = at.since(Boottime::now()).min(LONGEST_SLEEP);
                    let _ = timeout(rest, self.sooner.notified()).await;
                }
                None => self.sooner.notified().await,
            }
        }
    }

    fn first(&self) -> Option<Boottime> {
        let times = self.times.borrow();
        times.in_order.first().map(|(at, _)| *at)
    }

    fn take_due(&self, now: Boottime) -> Option<Login> {
        let mut times = self.times.borrow_mut();
        let is_due = times.in_order.first().is_some_and(|(at, _)| *at <= now);
        let (_, login) = is_due.then(|| times.in_order.pop_first()).flatten()?;
        times.of.remove(&login);
        Some(login)
    }

    /// Holds no more memory than what is kept needs, and has it together: each piece that lies where it was made, amid what came
    /// and went, keeps a page from being given back.
    pub(in crate::control) fn shrink(&self) {
        let mut times = self.times.borrow_mut();
        let of = |(login, at): (&Login, &Boottime)| (login.clone(), *at);
        *times = Times {
            of: times.of.iter().map(of).collect(),
            in_order: times.in_order.iter().cloned().collect(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Login {
        Login::try_from(name).expect("valid")
    }

    fn tenths(number: u64) -> Duration {
        Duration::from_millis(number * 100)
    }

    #[tokio::test]
    async fn homes_come_in_the_order_of_their_times_each_once_and_at_its_last_time() {
        let kept = KeptHomes::default();
        let began = std::time::Instant::now();
        kept.look_after(login("never"), Duration::MAX);
        kept.look_after(login("late"), tenths(6));
        kept.look_after(login("soon"), tenths(2));
        // It was kept, its user came back, and it is kept again.
        kept.look_after(login("again"), tenths(1));
        kept.look_after(login("again"), tenths(4));
        for (name, after) in [("soon", 2), ("again", 4), ("late", 6)] {
            assert_eq!(kept.next().await, login(name));
            assert!(began.elapsed() >= tenths(after), "{name}");
        }
        assert_eq!(kept.times.borrow().of.len(), 1);
        assert_eq!(kept.times.borrow().in_order.len(), 1);
    }

    #[tokio::test]
    async fn who_waits_hears_of_a_home_whose_time_is_sooner() {
        let kept = KeptHomes::default();
        kept.look_after(login("late"), tenths(6000));
        let soon = async {
            tokio::time::sleep(tenths(1)).await;
            kept.look_after(login("soon"), Duration::ZERO);
        };
        let (first, ()) = tokio::join!(kept.next(), soon);
        assert_eq!(first, login("soon"));
    }
}

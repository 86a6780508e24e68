//! When memory is given back that a burst of logins has needed: maps and heap stay as large as they ever were, unless told
//! otherwise.
//! How it is given back is not known here.

/// Of fewer sessions and logins it does not matter how much memory they have needed.
const MANY: usize = 64;

/// How many there were since memory was given back.
#[derive(Debug, Default)]
pub(in crate::control) struct Burst {
    most: usize,
    /// Some of many are left.
    goes_on: bool,
}

impl Burst {
    /// So many sessions and logins are there now. Whether most of a burst is over, or the last of it.
    pub(in crate::control) fn is_over(&mut self, now: usize) -> bool {
        self.most = self.most.max(now);
        let most_of_it = self.most >= MANY && now <= self.most / 4;
        let all_of_it = self.goes_on && now == 0;
        if !most_of_it && !all_of_it {
            return false;
        }
        *self = Burst {
            most: now,
            goes_on: now > 0,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_each_time_three_quarters_are_over_and_when_the_last_one_is() {
        let mut burst = Burst::default();
        let up = (0..=1000).filter(|now| burst.is_over(*now)).count();
        let down: Vec<usize> = (0..1000).rev().filter(|now| burst.is_over(*now)).collect();
        assert_eq!((up, down), (0, vec![250, 62, 0]));
    }

    #[test]
    fn a_few_logins_that_come_and_go_give_nothing_back() {
        let mut burst = Burst::default();
        let mut few = (0..MANY).chain((0..MANY).rev()).cycle().take(MANY * 10);
        assert!(!few.any(|now| burst.is_over(now)));
    }
}

//! When a crowd has gone that has needed memory: the heap stays as large as it ever was, unless it is given back.
//! How it is given back is not known here.

use std::cell::Cell;

/// Bytes that a connection takes, whatever it holds; about.
const EACH: usize = 4 << 10;
/// Of less it does not matter.
const MUCH: usize = 1 << 20;

/// The most that there has been at a time since memory was given back.
#[derive(Debug, Default)]
pub(super) struct Crowd(Cell<usize>);

impl Crowd {
    /// There are so many connections, which hold so many bytes together.
    pub(super) fn sees(&self, count: usize, held: usize) {
        self.0.update(|most| most.max(count * EACH + held));
    }

    /// Whether three quarters of a crowd have gone; it is told once.
    pub(super) fn has_gone(&self, count: usize, held: usize) -> bool {
        let (most, now) = (self.0.get(), count * EACH + held);
        let has_gone = most >= MUCH && now <= most / 4;
        if has_gone {
            self.0.set(now);
        }
        has_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_gone_each_time_three_quarters_have_and_a_few_are_none() {
        let crowd = Crowd::default();
        crowd.sees(4000, 0);
        let over: Vec<usize> = (0..4000).rev().filter(|n| crowd.has_gone(*n, 0)).collect();
        assert_eq!(over, [1000, 250]);
        crowd.sees(100, 0);
        assert!(!crowd.has_gone(0, 0));
        crowd.sees(100, 8 << 20);
        assert!(!crowd.has_gone(100, 4 << 20));
        assert!(crowd.has_gone(100, 0));
    }
}

//! Who gives way next, for several newcomers in a row: to look at thousands of claims for each of them takes longer than to
//! answer him.

use super::giving_way::Claim;

/// One of so many connections is among those who give way next.
const SHARE: usize = 16;

/// Those with the least claims as of a while ago, the least of them last; and the greatest of these claims.
#[derive(Debug, Default)]
pub(super) struct Next {
    ids: Vec<u64>,
    bound: Option<Claim>,
}

impl Next {
    pub(super) fn of(mut claims: Vec<(Claim, u64)>) -> Next {
        let count = (claims.len() / SHARE).max(1);
        if count < claims.len() {
            claims.select_nth_unstable(count);
            claims.truncate(count);
        }
        claims.sort_unstable_by(|one, other| other.cmp(one));
        Next {
            bound: claims.first().map(|(claim, _)| *claim),
            ids: claims.into_iter().map(|(_, id)| id).collect(),
        }
    }

    /// The next one that still has no more to lose than one of these had, by its `claim` of now.
    pub(super) fn take(&mut self, claim: impl Fn(u64) -> Option<Claim>) -> Option<u64> {
        while let Some(id) = self.ids.pop() {
            if claim(id).is_some_and(|claim| Some(claim) <= self.bound) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::runtime::transport::giving_way::Activity;

    const MANY: u64 = 64;

    /// Of a UID that has `of_its_uid`; who has been at it for longest has the least number.
    fn claim(begin: Instant, of_its_uid: usize, id: u64) -> Claim {
        let (since, now) = (
            begin + Duration::from_millis(id),
            begin + Duration::from_secs(9),
        );
        Claim::of(false, of_its_uid, Activity::Idle, since, now).unwrap()
    }

    fn next(begin: Instant) -> Next {
        Next::of(
            (0..MANY)
                .rev()
                .map(|id| (claim(begin, 8, id), id))
                .collect(),
        )
    }

    #[test]
    fn claims_are_looked_at_once_for_several_who_go_in_their_order() {
        let begin = Instant::now();
        let mut next = next(begin);
        let looks = Cell::new(0);
        let take = || {
            next.take(|id| {
                looks.set(looks.get() + 1);
                Some(claim(begin, 8, id))
            })
        };
        let taken: Vec<u64> = std::iter::from_fn(take).collect();
        assert_eq!((taken, looks.get()), (vec![0, 1, 2, 3], 4));
        let one = vec![(claim(begin, 8, 7), 7), (claim(begin, 8, 6), 6)];
        assert_eq!(Next::of(one).take(|id| Some(claim(begin, 8, id))), Some(6));
        assert_eq!(Next::of(Vec::new()).take(|_| None), None);
    }

    #[test]
    fn who_has_gone_or_has_more_to_lose_by_now_is_passed_over() {
        let begin = Instant::now();
        let now = |id| match id {
            0 => None,
            1 => Some(claim(begin, 7, id)),
            2 => Some(claim(begin, 8, MANY)),
            _ => Some(claim(begin, 8, id)),
        };
        let mut next = next(begin);
        assert_eq!((next.take(now), next.take(now)), (Some(3), None));
    }
}

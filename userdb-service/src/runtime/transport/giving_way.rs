//! Which connection gives way to a newcomer where there are too many.
//! It closes none; what a connection is doing and how many its UID has is told it.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// Connected, nothing sent yet.
    New,
    /// Between two calls.
    Idle,
    /// Half a message has come.
    Partial,
    /// A reply is not being taken.
    Writing,
    /// Others have their turn, in the middle of a call that may as well be made again, or before the next of several.
    Paused,
    /// The service is at work, and is not to be disturbed.
    Busy,
}

/// How long a reader may take for a piece of a reply before its place is the first to be given to somebody else, and how long
/// somebody new may be silent before it counts as idle.
const MOMENT: Duration = Duration::from_millis(100);

/// What is lost with a connection: who would lose least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    /// A list that nobody reads is what is held most cheaply, and costs most.
    Unread,
    Idle,
    Partial,
    Paused,
    Reading,
}

/// The claim of a connection to its place: the least is the one that gives way.
///
/// What counts most is how many connections a UID has. Otherwise whoever has enough UIDs to take all places, each of them at
/// work, would have everybody else's given up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// Root's, or our own, by which the watchdog is told: only where there is no other.
    is_spared: bool,
    /// About to ask: to close it is to tell a process that there is nobody of that name.
    is_fresh: bool,
    of_its_uid: Reverse<usize>,
    loss: Loss,
    since: Instant,
}

impl Claim {
    /// That of a connection which is at something `since` then; `None` if it cannot give way.
    pub(super) fn of(
        is_spared: bool,
        of_its_uid: usize,
        activity: Activity,
        since: Instant,
        now: Instant,
    ) -> Option<Claim> {
        let is_recent = now.saturating_duration_since(since) < MOMENT;
        let loss = match activity {
            Activity::New | Activity::Idle => Loss::Idle,
            Activity::Partial => Loss::Partial,
            Activity::Writing if is_recent => Loss::Reading,
            Activity::Writing => Loss::Unread,
            Activity::Paused => Loss::Paused,
            Activity::Busy => return None,
        };
        Some(Claim {
            is_spared,
            is_fresh: activity == Activity::New && is_recent,
            of_its_uid: Reverse(of_its_uid),
            loss,
            since,
        })
    }

    /// It is not better than that of anybody whose UID has fewer.
    pub(super) fn goes_by_count(&self) -> bool {
        !self.is_spared && !self.is_fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a connection that has been at it for 0.2 s.
    fn claim(is_spared: bool, of_its_uid: usize, activity: Activity) -> Option<Claim> {
        let since = Instant::now();
        Claim::of(is_spared, of_its_uid, activity, since, since + 2 * MOMENT)
    }

    #[test]
    fn the_uid_with_most_gives_way_and_root_and_we_only_where_there_is_no_other() {
        let (paused, idle) = (Activity::Paused, Activity::Idle);
        assert!(claim(false, 128, paused) < claim(false, 127, idle));
        assert!(claim(false, 1, paused) < claim(true, 4000, idle));
        assert!(claim(true, 2, paused) < claim(true, 1, paused));
        assert_eq!(claim(false, 128, Activity::Busy), None);
    }

    #[test]
    fn of_one_uid_who_does_not_read_comes_first_and_who_is_at_work_late() {
        let order = [
            Activity::Writing,
            Activity::Idle,
            Activity::Partial,
            Activity::Paused,
        ];
        let claims = order.map(|activity| claim(false, 8, activity));
        assert!(claims.is_sorted_by(|before, after| before < after));
        let now = Instant::now();
        let reading = Claim::of(false, 8, Activity::Writing, now, now);
        assert!(claims[3] < reading, "a list that is being read");
    }

    #[test]
    fn who_has_just_connected_comes_after_all_others_but_root() {
        let now = Instant::now();
        let fresh = |of_its_uid, since| Claim::of(false, of_its_uid, Activity::New, since, now);
        assert!(claim(false, 1, Activity::Paused) < fresh(100, now));
        assert!(fresh(2, now) < fresh(1, now - MOMENT / 2));
        assert!(fresh(1, now - MOMENT / 2) < fresh(1, now));
        assert!(fresh(100, now) < claim(true, 1, Activity::Idle));
        let silent = claim(false, 1, Activity::New);
        assert!(silent < claim(false, 1, Activity::Paused));
    }
}

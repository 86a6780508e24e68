//! Polling, for what nothing tells of: whether somebody is gone is looked at again and again, and less often where it takes long.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two looks at whether a user is gone.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Looks until `is_gone` or the limit.
pub(super) async fn gone(limit: Duration, is_gone: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_gone() {
        let waited = began.elapsed();
        if waited >= limit {
            return false;
        }
        // Where many take long, they are looked at less and less often: it costs each a tenth of its time at most.
        sleep(LOOK.max(waited / 10)).await;
    }
    true
}

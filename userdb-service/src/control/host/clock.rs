//! Points in time on CLOCK_BOOTTIME, which neither jumps nor stops in suspend.
//!
//! Nothing here decides by the wall clock; that one is read to be shown to people, and where nothing but the time of a file's last
//! change tells what came first.

use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nobody sleeps for longer towards a point in time: what sleeps is woken by a clock that stands still in suspend, and looks at this
/// one then.
pub(in crate::control) const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Microseconds since boot, suspend included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boottime(u64);

impl Boottime {
    /// The point `usec` microseconds after boot.
    pub const fn from_usec(usec: u64) -> Self {
        Self(usec)
    }

    /// Now, as the kernel says.
    pub fn now() -> Self {
        Self(read(ClockId::CLOCK_BOOTTIME))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Boottime {
    type Output = Self;
    fn add(self, length: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(length.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Boottime {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The wall clock in microseconds, for records and listings.
pub fn realtime_usec() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every kernel that runs systemd; a failing read would mean a broken
    // seccomp filter, and time standing still is then the harmless answer.
    clock_gettime(clock).map_or(0, |time| {
        let sec = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nsec = u64::try_from(time.tv_nsec()).unwrap_or(0);
        sec.saturating_mul(1_000_000).saturating_add(nsec / 1_000)
    })
}

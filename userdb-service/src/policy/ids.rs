//! User and group numbers: the types that cannot hold a reserved one, and how one is chosen for a
//! name. Whether a number is free is a question for the caller; nobody is asked here.

use std::fmt;
use std::hash::Hasher;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

/// The key that numbers are hashed under unless `uids.key` says otherwise. It is published so that
/// all nodes agree without being told: what it protects against is accident, not an adversary.
pub const DEFAULT_KEY: [u8; 16] = *b"teleport-userdb\x01";

/// What systemd gives to services by itself: `DynamicUser=` has 61184 to 65519 (systemd.exec(5)).
pub const OF_SERVICES: RangeInclusive<u32> = 61_184..=65_535;

/// A number that is reserved on every Linux system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedId(pub u32);

impl fmt::Display for ReservedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is reserved: 0 to 999 belong to the system, 65534 is nobody, 65535 and 4294967295 mean \"none\"",
            self.0
        )
    }
}

impl std::error::Error for ReservedId {}

/// May `id` be given to a user or a group of ours?
pub const fn is_usable(id: u32) -> bool {
    id > 999 && id != 65534 && id != 65535 && id != u32::MAX
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl TryFrom<u32> for $name {
            type Error = ReservedId;
            fn try_from(id: u32) -> Result<Self, ReservedId> {
                if is_usable(id) { Ok(Self(id)) } else { Err(ReservedId(id)) }
            }
        }

        impl From<$name> for u32 {
            fn from(id: $name) -> u32 {
                id.0
            }
        }

        impl $name {
            /// The number.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_type! {
    /// A UID that may be given to a user of ours: never 0 to 999, 65534, 65535 or 2^32-1.
    Uid
}

id_type! {
    /// A GID that may be given to a group of ours: never 0 to 999, 65534, 65535 or 2^32-1.
    Gid
}

impl From<Uid> for Gid {
    /// The private group of a user has its user's number.
    fn from(uid: Uid) -> Gid {
        Gid(uid.0)
    }
}

/// The numbers that a name tries, in order: SipHash-2-4 of the name says where in the range to begin
/// and how far to step. The step shares no divisor with the size of the range, so each number of the
/// range comes up exactly once; and it differs from name to name, so that a dense block of numbers of
/// somebody else is left at once instead of being walked through.
#[derive(Clone, Debug)]
pub struct Candidates {
    first: u32,
    size: u64,
    at: u64,
    step: u64,
    left: u64,
}

impl Candidates {
    /// The candidates of `name` in `range` under `key`. `name` is the login as it was given (the
    /// original spelling) or `group:NAME`.
    pub fn new(key: &[u8; 16], name: &str, range: &RangeInclusive<u32>) -> Candidates {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(name.as_bytes());
        let hash = hasher.finish();
        let size = u64::from(*range.end()).saturating_sub(u64::from(*range.start())) + 1;
        let mut step = (hash >> 32) % size;
        while gcd(step, size) != 1 {
            step += 1;
        }
        Candidates {
            first: *range.start(),
            size,
            at: hash % size,
            step,
            left: size,
        }
    }
}

impl Iterator for Candidates {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        // Below 2^32, because `at < size` and the range ends below 2^32.
        let id = self.first + self.at as u32;
        self.at = (self.at + self.step) % self.size;
        Some(id)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_are_not_ids() {
        for id in [0, 1, 999, 65534, 65535, u32::MAX] {
            assert!(
                Uid::try_from(id).is_err() && Gid::try_from(id).is_err(),
                "{id}"
            );
            assert!(
                serde_json::from_str::<Uid>(&id.to_string()).is_err(),
                "{id}"
            );
        }
        assert!(Uid::try_from(1000).is_ok());
        assert!(Gid::try_from(0x7000_0000).is_ok());
    }

    #[test]
    fn candidates_visit_each_number_of_the_range_once() {
        for size in [1, 2, 3, 4, 6, 12, 97, 1000] {
            for name in ["alice", "bob", "group:teleport-tmp", ""] {
                let range = 70_000..=70_000 + size - 1;
                let mut seen: Vec<u32> = Candidates::new(&DEFAULT_KEY, name, &range).collect();
                seen.sort_unstable();
                assert_eq!(seen, range.collect::<Vec<_>>(), "{name} in {size}");
            }
        }
    }

    #[test]
    fn a_name_has_the_same_numbers_on_every_node_and_others_under_another_key() {
        let range = 0x7000_0000..=0x7FFD_FFFF;
        let first = |key: &[u8; 16], name| Candidates::new(key, name, &range).next();
        // Published: a change would give every user of every node another UID.
        assert_eq!(first(&DEFAULT_KEY, "alice"), first(&DEFAULT_KEY, "alice"));
        assert_ne!(first(&DEFAULT_KEY, "alice"), first(&[7; 16], "alice"));
        assert_ne!(first(&DEFAULT_KEY, "alice"), first(&DEFAULT_KEY, "Alice"));
    }
}

//! Who is measured: the name services, and the sizes each of them is given.
//! How one is set up is `world`'s business.

use std::fmt;
use std::str::FromStr;

/// Numbers of users.
pub(crate) const SIZES: [u32; 5] = [10, 30, 1_000, 10_000, 100_000];

/// A name service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Teleport,
    /// The bare C module over shared memory.
    Shm,
    /// The C module that knows the answer: glibc's own part.
    Null,
    /// `/etc/passwd` and `/etc/group`.
    Files,
    /// nss-systemd over drop-in files, inside the process: nobody is there to ask.
    Systemd,
    /// nss-systemd over the same files, asking systemd-userdbd, as on a booted machine.
    Userdbd,
    /// nscd's cache, warm.
    Nscd,
    /// SSSD's memory cache, warm.
    Sss,
    /// Our writer, not a name service.
    Publisher,
}

impl Kind {
    pub(crate) const ALL: [Kind; 9] = [
        Kind::Teleport,
        Kind::Shm,
        Kind::Null,
        Kind::Files,
        Kind::Systemd,
        Kind::Userdbd,
        Kind::Nscd,
        Kind::Sss,
        Kind::Publisher,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Teleport => "teleport",
            Kind::Shm => "shm",
            Kind::Null => "null",
            Kind::Files => "files",
            Kind::Systemd => "systemd",
            Kind::Userdbd => "userdbd",
            Kind::Nscd => "nscd",
            Kind::Sss => "sss",
            Kind::Publisher => "publisher",
        }
    }

    /// What nsswitch.conf calls it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Kind::Userdbd => "systemd",
            kind => kind.name(),
        }
    }

    /// Sizes it is measured at. SSSD's cost of a hit does not depend on them, and filling its cache takes long; of
    /// systemd-userdbd it is the first lookup that is asked about.
    pub(crate) fn sizes(self) -> &'static [u32] {
        match self {
            Kind::Sss => &SIZES[1..3],
            Kind::Userdbd => &SIZES[2..3],
            _ => &SIZES,
        }
    }
}

/// A name service with so many users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) users: u32,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind.name(), self.users)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("{name} is no subject"))
    }
}

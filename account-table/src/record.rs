//! What the words of a record mean: the layout of user and group records, and the values their fields can have.
//! Reading and checking them is `account.rs`' and `group.rs`' business, writing them the writer's.

/// The words of a user record. First what glibc's questions are about: three words, then the groups (one word each), then the
/// strings, so that who it is stands in the first cache line. The numbers that only userdb tells are the last words.
pub(crate) mod user {
    /// `kind | flags << 8 | aliases << 16 | environment << 24 | groups << 32 | words << 48`.
    pub(crate) const SHAPE: usize = 0;
    /// `uid | gid << 32`.
    pub(crate) const IDS: usize = 1;
    /// Lengths of login, GECOS, home and shell, 16 bits each.
    pub(crate) const LENGTHS: usize = 2;
    /// From here: `gid | (slot + 1) << 32` for each group.
    pub(crate) const GROUPS: usize = 3;

    /// How many words there are behind the strings; which is which, counted from the first of them, follows.
    pub(crate) const NUMBERS: usize = 6;
    pub(crate) const SINCE: usize = 0;
    pub(crate) const STOP_DELAY: usize = 1;
    pub(crate) const TASKS_MAX: usize = 2;
    pub(crate) const MEMORY_MAX: usize = 3;
    pub(crate) const CPU_WEIGHT: usize = 4;
    /// `sessions | umask << 32`.
    pub(crate) const SESSIONS: usize = 5;

    pub(crate) const KIND: u64 = 1;
    pub(crate) const LOCKED: u64 = 1 << 8;
    pub(crate) const REGULAR: u64 = 1 << 9;
    pub(crate) const HAS_TASKS_MAX: u64 = 1 << 10;
    pub(crate) const HAS_MEMORY_MAX: u64 = 1 << 11;
    pub(crate) const HAS_CPU_WEIGHT: u64 = 1 << 12;
    pub(crate) const HAS_UMASK: u64 = 1 << 13;
}

/// The words of a group record; the name follows.
pub(crate) mod group {
    /// `kind | origin << 8 | length of the name << 16`.
    pub(crate) const SHAPE: usize = 0;
    pub(crate) const GID: usize = 1;
    /// Place of the first member chunk.
    pub(crate) const MEMBERS: usize = 2;
    pub(crate) const NAME: usize = 3;

    pub(crate) const KIND: u64 = 2;
}

/// Longest login, alias and group name, in bytes.
pub const MAX_NAME: usize = 255;

/// How systemd is to treat the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Made for its sessions: logind starts no full user manager (systemd 258 and newer).
    #[default]
    Dynamic,
    /// Like a user from passwd.
    Regular,
}

/// Whose a shared group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupOrigin {
    /// Exists only through its members here.
    Synthesized,
    /// Stands in `/etc/group`; members here are members in addition.
    ForeignFiles,
    /// Comes from another name service.
    Foreign,
}

impl GroupOrigin {
    #[cfg(feature = "writer")]
    pub(crate) const fn code(self) -> u64 {
        match self {
            GroupOrigin::Synthesized => 1,
            GroupOrigin::ForeignFiles => 2,
            GroupOrigin::Foreign => 3,
        }
    }

    pub(crate) const fn from_code(code: u64) -> Option<GroupOrigin> {
        match code {
            1 => Some(GroupOrigin::Synthesized),
            2 => Some(GroupOrigin::ForeignFiles),
            3 => Some(GroupOrigin::Foreign),
            _ => None,
        }
    }
}

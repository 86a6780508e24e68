//! A group as readers have it: a checked copy of its record, or what a user's record implies about its private group.
//! Its members are not in it; `reader.rs` finds them.

use core::fmt;
use core::str;

use crate::memory::Buffer;
use crate::record::{GroupOrigin, MAX_NAME, group};

/// A group: the private one of a user, or one that users of the table share.
#[derive(Clone)]
pub struct Group {
    name: [u8; MAX_NAME],
    length: u8,
    gid: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Shared {
        origin: GroupOrigin,
        slot: u32,
        head: u64,
        members: u64,
    },
}

/// How to find the members of a shared group.
#[derive(Clone, Copy)]
pub(crate) struct Roster {
    pub(crate) slot: u32,
    /// The head of the incarnation that was looked up.
    pub(crate) head: u64,
    /// Link to the first member chunk.
    pub(crate) first: u64,
}

impl Group {
    /// The private group of the user with this login.
    pub(crate) fn private_of(login: &[u8], gid: u32) -> Option<Group> {
        Group::new(login, gid, Kind::Private)
    }

    #[inline]
    fn new(name: &[u8], gid: u32, kind: Kind) -> Option<Group> {
        let mut group = Group {
            name: [0; MAX_NAME],
            length: u8::try_from(name.len()).ok()?,
            gid,
            kind,
        };
        group.name.get_mut(..name.len())?.copy_from_slice(name);
        Some(group)
    }

    /// The group in a private copy of its record; `None` if that is no sound group record.
    pub(crate) fn of_record(buffer: &Buffer, slot: u32, head: u64) -> Option<Group> {
        let words = buffer.words();
        let (&shape, &gid, &members) = (
            words.get(group::SHAPE)?,
            words.get(group::GID)?,
            words.get(group::MEMBERS)?,
        );
        if shape & 0xff != group::KIND {
            return None;
        }
        let origin = GroupOrigin::from_code(shape >> 8 & 0xff)?;
        let length = (shape >> 16) as usize;
        if length == 0 || length > MAX_NAME {
            return None;
        }
        let name = buffer.bytes().get(group::NAME * 8..)?.get(..length)?;
        if name.contains(&0) || str::from_utf8(name).is_err() {
            return None;
        }
        Group::new(
            name,
            u32::try_from(gid).ok()?,
            Kind::Shared {
                origin,
                slot,
                head,
                members,
            },
        )
    }

    /// Name of the group.
    pub fn name(&self) -> &str {
        str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    /// [`Group::name`] as bytes, without the cost of a second UTF-8 check.
    #[inline]
    pub fn name_bytes(&self) -> &[u8] {
        self.name
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// GID.
    #[inline]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whose the group is; private groups are ours.
    #[inline]
    pub fn origin(&self) -> GroupOrigin {
        match self.kind {
            Kind::Private => GroupOrigin::Synthesized,
            Kind::Shared { origin, .. } => origin,
        }
    }

    /// Whether this is the private group of a user: named like its login, without listed members.
    #[inline]
    pub fn private(&self) -> bool {
        self.kind == Kind::Private
    }

    pub(crate) fn roster(&self) -> Option<Roster> {
        match self.kind {
            Kind::Private => None,
            Kind::Shared {
                slot,
                head,
                members,
                ..
            } => Some(Roster {
                slot,
                head,
                first: members,
            }),
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name())
            .field("gid", &self.gid)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

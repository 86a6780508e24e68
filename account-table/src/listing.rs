//! Lists over a mapped table: the members of a group, all users, all shared groups, while they come and go.
//! How one of them is read is `reader`'s business.

use core::ops::ControlFlow;

use crate::account::{Account, Version};
use crate::atomic::{Ordering, fence};
use crate::group::Group;
use crate::layout::{LINE_WORDS, MAX_LINES, Place, header, hint};
use crate::reader::{Lookup, Slot};
use crate::table::Table;

/// Where an enumeration stands. Starts before the first entry; stays good while the table changes and grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(u32);

impl Cursor {
    /// The position as a number, for who must keep it in one.
    pub fn position(self) -> u32 {
        self.0
    }

    /// The cursor at a position that [`Cursor::position`] gave.
    pub fn at(position: u32) -> Cursor {
        Cursor(position)
    }
}

/// Tells a damaged chain that comes back to where it has been, after at most three times its links (Brent's way): in a large
/// file the length alone would let it go round for long.
struct Circle {
    seen: u64,
    steps: u64,
    until: u64,
}

impl Circle {
    fn new(link: u64) -> Circle {
        Circle {
            seen: link,
            steps: 0,
            until: 1,
        }
    }

    fn is_closed_by(&mut self, link: u64) -> bool {
        self.steps += 1;
        let closed = link == self.seen;
        if self.steps == self.until {
            (self.seen, self.steps, self.until) = (link, 0, 2 * self.until);
        }
        closed
    }
}

impl Table {
    /// Hands the members of a shared group to `f`, until it breaks. Weakly consistent: who is a member throughout is seen exactly
    /// once, nobody is seen twice, who joins meanwhile is not seen. `Absent`: the group vanished meanwhile (or vanished and came
    /// back), what was seen is void. A private group has no listed members.
    pub fn members(&self, group: &Group, f: impl FnMut(&Account) -> ControlFlow<()>) -> Lookup<()> {
        self.walk_members(group, |slot, account| self.read_user(slot, account), f)
    }

    /// The logins of a group's members; otherwise as [`Table::members`], and several times as fast.
    pub fn member_logins(
        &self,
        group: &Group,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Lookup<()> {
        self.walk_members(
            group,
            |slot, account| self.read_membership(slot, account),
            |account| f(account.login_bytes()),
        )
    }

    fn walk_members(
        &self,
        group: &Group,
        read: impl Fn(u32, &mut Account) -> Slot,
        mut f: impl FnMut(&Account) -> ControlFlow<()>,
    ) -> Lookup<()> {
        let Some(roster) = group.roster() else {
            return Lookup::Found(());
        };
        let Some(head_at) = self.geometry().group_head(roster.slot) else {
            return Lookup::Absent;
        };
        if self.is_unreachable() {
            return Lookup::Busy;
        }
        // Who joined later is left out; so a member that leaves and joins again behind our back is not met a second time.
        let latest = self.word_acquire(header::GENERATION);
        let mut account = Account::empty();
        let mut link = roster.first;
        // Chunks are only ever added for members that are there at once, so a sound chain is no longer than this.
        let mut lines_left = self.geometry().slots() / (LINE_WORDS - 1) + 2 * MAX_LINES as usize;
        let mut circle = Circle::new(link);
        while link != 0 {
            let Some((first, count)) = self.geometry().words_of(Place::from_bits(link)) else {
                break;
            };
            let Some(left) = lines_left.checked_sub(count / LINE_WORDS) else {
                break;
            };
            lines_left = left;
            for at in first + 1..first + count {
                let word = self.word_acquire(at);
                let Some(slot) = hint::slot(word) else {
                    continue;
                };
                if hint::joined(word) > latest {
                    continue;
                }
                match read(slot, &mut account) {
                    Slot::Copied(_) if account.is_member_of(roster.slot, group.gid()) => {
                        if f(&account).is_break() {
                            return Lookup::Found(());
                        }
                    }
                    Slot::Copied(_) | Slot::Empty => (),
                    Slot::Busy => return Lookup::Busy,
                }
            }
            link = self.word_acquire(first);
            if self.word(head_at) != roster.head {
                return Lookup::Absent;
            }
            if circle.is_closed_by(link) {
                break;
            }
        }
        fence(Ordering::Acquire);
        if self.word(head_at) == roster.head {
            Lookup::Found(())
        } else {
            Lookup::Absent
        }
    }

    /// The next user of an enumeration; `Absent` at its end. Who is there throughout is seen exactly once. Who leaves and comes back
    /// meanwhile may be seen in the slot he had and in the one he gets; the generation in a head would not tell, for it is that of
    /// the record, and who has only changed is not to be left out.
    pub fn next_user(&self, cursor: &mut Cursor) -> Lookup<Account> {
        let mut account = Account::empty();
        match self.find_next_user(cursor, &mut account) {
            Lookup::Found(()) => Lookup::Found(account),
            Lookup::Absent => Lookup::Absent,
            Lookup::Busy => Lookup::Busy,
        }
    }

    /// [`Table::next_user`] into room the caller has.
    pub fn find_next_user(&self, cursor: &mut Cursor, account: &mut Account) -> Lookup<()> {
        self.find_next(header::USERS_HIGH, cursor, |slot| {
            match self.read_user(slot, account) {
                Slot::Copied(_) => Lookup::Found(()),
                Slot::Empty => Lookup::Absent,
                Slot::Busy => Lookup::Busy,
            }
        })
    }

    /// Which record comes next in an enumeration of users, without a look into it: enough for who has met that very one before.
    pub fn next_version(&self, cursor: &mut Cursor) -> Lookup<Version> {
        self.find_next(header::USERS_HIGH, cursor, |slot| {
            let head_at = self.geometry().user_head(slot);
            match head_at.map_or(0, |head_at| self.word_acquire(head_at)) {
                0 => Lookup::Absent,
                head => Lookup::Found(Version { slot, head }),
            }
        })
    }

    /// The next shared group of an enumeration; `Absent` at its end. Private groups come with their users.
    pub fn next_group(&self, cursor: &mut Cursor) -> Lookup<Group> {
        self.find_next(header::GROUPS_HIGH, cursor, |slot| self.read_group(slot))
    }

    fn find_next<T>(
        &self,
        high: usize,
        cursor: &mut Cursor,
        mut read: impl FnMut(u32) -> Lookup<T>,
    ) -> Lookup<T> {
        if self.is_unreachable() {
            return Lookup::Busy;
        }
        let end = self.word_acquire(high).min(self.geometry().slots() as u64) as u32;
        while cursor.0 < end {
            match read(cursor.0) {
                Lookup::Busy => return Lookup::Busy,
                Lookup::Found(value) => {
                    cursor.0 += 1;
                    return Lookup::Found(value);
                }
                Lookup::Absent => cursor.0 += 1,
            }
        }
        Lookup::Absent
    }
}

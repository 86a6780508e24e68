//! Lookups over a mapped table: finding hints in the indexes, copying records, deciding whether a copy is whole.
//! Safe code only, no allocation, no system call but sched_yield when the writer is in the way; nothing read is believed unchecked.

use core::ops::ControlFlow;
use core::sync::atomic::{Ordering, fence};

use crate::account::{Account, MembershipRef};
use crate::group::Group;
use crate::layout::{
    Head, Index, LINE_WORDS, MAX_LINES, MAX_PROBE, Place, entry, hash_id, hash_name, header, hint,
};
use crate::memory::{Buffer, load_acquire, yield_now};
use crate::record::GroupOrigin;
use crate::table::Table;

/// The answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lookup<T> {
    /// Here it is.
    Found(T),
    /// There is none.
    Absent,
    /// Not known now, ask again later: the writer was in the way too often, or the process lacks descriptors or memory. Never to
    /// be reported as [`Lookup::Absent`].
    Busy,
}

impl<T> Lookup<T> {
    /// The answer, if there is one; gives up the difference between absent and busy.
    pub fn found(self) -> Option<T> {
        match self {
            Lookup::Found(value) => Some(value),
            Lookup::Absent | Lookup::Busy => None,
        }
    }

    /// Applies `f` to the answer.
    #[inline]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Lookup::Found(value) => Lookup::Found(f(value)),
            Lookup::Absent => Lookup::Absent,
            Lookup::Busy => Lookup::Busy,
        }
    }
}

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

/// How often a reader starts again before it says busy.
const ATTEMPTS: u32 = 64;
/// From this attempt on it lets others run in between.
const PATIENCE: u32 = 4;

fn between_attempts(attempt: u32) {
    if attempt >= PATIENCE {
        yield_now();
    } else {
        core::hint::spin_loop();
    }
}

/// What became of reading one slot.
enum Slot {
    /// Copied, whole; the head it was copied under.
    Copied(u64),
    Empty,
    Busy,
}

/// What a lookup makes of a slot an index entry points to.
enum Verdict<T> {
    Hit(T),
    Other,
    Busy,
}

impl Table {
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.cells()
            .get(index)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    #[inline]
    fn word_acquire(&self, index: usize) -> u64 {
        self.cells().get(index).map_or(0, load_acquire)
    }

    /// Whether a newer file may lie under the path. Whoever keeps a [`Table`] opens it anew then; [`crate::TableCell`]
    /// does so by itself.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.word_acquire(header::RETIRED) != 0
    }

    #[inline]
    fn seed(&self) -> u64 {
        self.word(header::SEED)
    }

    /// How many publications and withdrawals there have been, counted after each: while two readings are equal, what was looked
    /// up after the first still holds. Starts anew with each file.
    pub fn changes(&self) -> u64 {
        self.word_acquire(header::CHANGES)
    }

    /// Copies the record of a live slot. The copy is whole if the head is the same before and after: the writer fills only blocks
    /// no head points to, and never uses a block again before the head that pointed to it has changed. (Word by word in
    /// docs/account-table.md.)
    #[inline]
    fn read(&self, head_at: usize, buffer: &mut Buffer) -> Slot {
        for attempt in 0..ATTEMPTS {
            let head = self.word_acquire(head_at);
            if head == 0 {
                return Slot::Empty;
            }
            let place = self.geometry().words_of(Head(head).place());
            let source = place.and_then(|(first, count)| self.cells().get(first..first + count));
            let Some(source) = source else {
                return Slot::Empty; // a damaged head, pointing nowhere
            };
            buffer.fill(source);
            fence(Ordering::Acquire);
            if self.word(head_at) == head {
                return Slot::Copied(head);
            }
            between_attempts(attempt);
        }
        Slot::Busy
    }

    #[inline]
    fn read_user(&self, slot: u32, account: &mut Account) -> Slot {
        let Some(head_at) = self.geometry().user_head(slot) else {
            return Slot::Empty;
        };
        match self.read(head_at, account.buffer_mut()) {
            Slot::Copied(_) if !account.settle() => Slot::Empty,
            outcome => outcome,
        }
    }

    /// A shared group, or an empty slot, or busy.
    fn read_group(&self, slot: u32) -> Lookup<Group> {
        let Some(head_at) = self.geometry().group_head(slot) else {
            return Lookup::Absent;
        };
        let mut buffer = Buffer::new();
        match self.read(head_at, &mut buffer) {
            Slot::Copied(head) => {
                Group::of_record(&buffer, slot, head).map_or(Lookup::Absent, Lookup::Found)
            }
            Slot::Empty => Lookup::Absent,
            Slot::Busy => Lookup::Busy,
        }
    }

    /// Walks the entries that may belong to `hash` and lets `accept` look at their slots; `at_end` is what a walk without a hit
    /// comes to. An entry may be moved towards its place while we walk, past us: then the index's move counter has been raised
    /// before the old place was cleared, and the walk is made again.
    #[inline]
    fn probe<T>(
        &self,
        index: Index,
        hash: u64,
        mut accept: impl FnMut(u32) -> Verdict<T>,
        mut at_end: impl FnMut() -> Option<T>,
    ) -> Lookup<T> {
        if self.is_unreachable() {
            return Lookup::Busy;
        }
        let (base, size) = (
            self.geometry().index_base(index),
            self.geometry().index_size(index),
        );
        for attempt in 0..ATTEMPTS {
            let moves = self.word_acquire(index.moves());
            let mut at = entry::home(hash, size);
            for _ in 0..MAX_PROBE.min(size) {
                let word = self.word(base + at);
                if word == 0 {
                    break;
                }
                if entry::has_tag_of(word, hash)
                    && let Some(slot) = entry::slot(word)
                {
                    match accept(slot) {
                        Verdict::Hit(value) => return Lookup::Found(value),
                        Verdict::Other => (),
                        Verdict::Busy => return Lookup::Busy,
                    }
                }
                at = (at + 1) & (size - 1);
            }
            if let Some(value) = at_end() {
                return Lookup::Found(value);
            }
            fence(Ordering::Acquire);
            if self.word(index.moves()) == moves {
                return Lookup::Absent;
            }
            between_attempts(attempt);
        }
        Lookup::Busy
    }

    #[inline]
    fn find_user(
        &self,
        index: Index,
        hash: u64,
        account: &mut Account,
        is_it: impl Fn(&Account) -> bool,
    ) -> Lookup<()> {
        self.probe(
            index,
            hash,
            |slot| match self.read_user(slot, account) {
                Slot::Copied(_) if is_it(account) => Verdict::Hit(()),
                Slot::Copied(_) | Slot::Empty => Verdict::Other,
                Slot::Busy => Verdict::Busy,
            },
            || None,
        )
    }

    /// [`Table::user_by_name`] into room the caller has: saves moving 4 KiB. What `account` holds afterwards is of use only if the
    /// answer is `Found`.
    #[inline]
    pub fn find_user_by_name(&self, name: &[u8], account: &mut Account) -> Lookup<()> {
        self.find_user(
            Index::Names,
            hash_name(self.seed(), name),
            account,
            |account| account.is_called(name),
        )
    }

    /// [`Table::user_by_uid`] into room the caller has.
    #[inline]
    pub fn find_user_by_uid(&self, uid: u32, account: &mut Account) -> Lookup<()> {
        self.find_user(Index::Ids, hash_id(self.seed(), uid), account, |account| {
            account.uid() == uid
        })
    }

    /// The user with this login or alias.
    pub fn user_by_name(&self, name: &[u8]) -> Lookup<Account> {
        let mut account = Account::empty();
        match self.find_user_by_name(name, &mut account) {
            Lookup::Found(()) => Lookup::Found(account),
            Lookup::Absent => Lookup::Absent,
            Lookup::Busy => Lookup::Busy,
        }
    }

    /// The user with this uid.
    pub fn user_by_uid(&self, uid: u32) -> Lookup<Account> {
        let mut account = Account::empty();
        match self.find_user_by_uid(uid, &mut account) {
            Lookup::Found(()) => Lookup::Found(account),
            Lookup::Absent => Lookup::Absent,
            Lookup::Busy => Lookup::Busy,
        }
    }

    /// A shared group; where several have the same name or gid, a synthesized one before one of others.
    fn find_shared_group(
        &self,
        index: Index,
        hash: u64,
        is_it: impl Fn(&Group) -> bool,
    ) -> Lookup<Group> {
        let foreign = core::cell::RefCell::new(None);
        self.probe(
            index,
            hash,
            |slot| match self.read_group(slot) {
                Lookup::Found(group) if is_it(&group) => {
                    if group.origin() == GroupOrigin::Synthesized {
                        return Verdict::Hit(group);
                    }
                    foreign.replace(Some(group));
                    Verdict::Other
                }
                Lookup::Found(_) | Lookup::Absent => Verdict::Other,
                Lookup::Busy => Verdict::Busy,
            },
            || foreign.take(),
        )
    }

    /// The user whose private group has this name, that is, the one with this login; its gid is the group's.
    #[inline]
    pub fn find_private_group_by_name(&self, name: &[u8], account: &mut Account) -> Lookup<()> {
        let hash = hash_name(self.seed(), name);
        self.find_user(Index::Names, hash, account, |account| {
            account.login_bytes() == name
        })
    }

    /// The user whose private group has this gid.
    #[inline]
    pub fn find_private_group_by_gid(&self, gid: u32, account: &mut Account) -> Lookup<()> {
        let hash = hash_id(self.seed(), gid);
        self.find_user(Index::Ids, hash, account, |account| account.gid() == gid)
    }

    /// The shared group with this name; of several, a synthesized one.
    pub fn shared_group_by_name(&self, name: &[u8]) -> Lookup<Group> {
        let hash = hash_name(self.seed(), name);
        self.find_shared_group(Index::GroupNames, hash, |group| group.name_bytes() == name)
    }

    /// The shared group with this gid; of several, a synthesized one.
    pub fn shared_group_by_gid(&self, gid: u32) -> Lookup<Group> {
        let hash = hash_id(self.seed(), gid);
        self.find_shared_group(Index::Gids, hash, |group| group.gid() == gid)
    }

    /// The group with this name: the private one of the user with that login, or a shared one.
    pub fn group_by_name(&self, name: &[u8]) -> Lookup<Group> {
        let mut account = Account::empty();
        match self.find_private_group_by_name(name, &mut account) {
            Lookup::Found(()) => account
                .private_group()
                .map_or(Lookup::Absent, Lookup::Found),
            Lookup::Absent => self.shared_group_by_name(name),
            Lookup::Busy => Lookup::Busy,
        }
    }

    /// The group with this gid: the private one of the user who has it, or a shared one.
    pub fn group_by_gid(&self, gid: u32) -> Lookup<Group> {
        let mut account = Account::empty();
        match self.find_private_group_by_gid(gid, &mut account) {
            Lookup::Found(()) => account
                .private_group()
                .map_or(Lookup::Absent, Lookup::Found),
            Lookup::Absent => self.shared_group_by_gid(gid),
            Lookup::Busy => Lookup::Busy,
        }
    }

    /// The group behind one membership of an account; absent if it has vanished since the account was read.
    pub fn group_of(&self, membership: &MembershipRef) -> Lookup<Group> {
        if self.is_unreachable() {
            return Lookup::Busy;
        }
        match self.read_group(membership.slot) {
            Lookup::Found(group) if group.gid() != membership.gid => Lookup::Absent,
            outcome => outcome,
        }
    }

    /// Hands the members of a shared group to `f`, until it breaks. Weakly consistent: who is a member throughout is seen exactly
    /// once, nobody is seen twice, who joins meanwhile is not seen. `Absent`: the group vanished meanwhile (or vanished and came
    /// back), what was seen is void. A private group has no listed members.
    pub fn members(
        &self,
        group: &Group,
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
                match self.read_user(slot, &mut account) {
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
        }
        fence(Ordering::Acquire);
        if self.word(head_at) == roster.head {
            Lookup::Found(())
        } else {
            Lookup::Absent
        }
    }

    /// The next user of an enumeration; `Absent` at its end. Who is there throughout is seen exactly once.
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

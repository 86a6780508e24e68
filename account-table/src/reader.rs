//! Lookups over a mapped table: finding hints in the indexes, copying records, deciding whether a copy is whole.
//! Safe code only, no allocation, no system call but sched_yield when the writer is in the way; nothing read is believed unchecked.

use crate::account::{Account, MembershipRef};
use crate::atomic::{AtomicU64, Ordering, fence, pause};
use crate::group::Group;
use crate::layout::{
    Geometry, Head, Index, LINE_WORDS, MAX_PROBE, MAX_RECORD_WORDS, entry, hash_id, hash_name,
    header,
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
    /// Not known now, ask again later: the writer was in the way too often, or the file could not be mapped. Never to
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

/// How often a reader starts again before it says busy.
const ATTEMPTS: u32 = 64;
/// From this attempt on it lets others run in between.
const PATIENCE: u32 = 4;

fn between_attempts(attempt: u32) {
    if attempt >= PATIENCE {
        yield_now();
    } else {
        pause();
    }
}

/// What became of reading one slot.
pub(crate) enum Slot {
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

/// A walk along the entries of an index that may belong to one hash.
pub(crate) struct Walk {
    index: Index,
    base: usize,
    size: usize,
    hash: u64,
    moves: u64,
    at: usize,
    left: usize,
}

#[inline(always)]
fn word_at(cells: &[AtomicU64], at: usize) -> u64 {
    cells.get(at).map_or(0, |cell| cell.load(Ordering::Relaxed))
}

impl Walk {
    /// Begins to walk the entries that may belong to `hash`.
    #[inline(always)]
    pub(crate) fn begin(cells: &[AtomicU64], geometry: Geometry, index: Index, hash: u64) -> Walk {
        let size = geometry.index_size();
        Walk {
            index,
            base: geometry.index_base(index),
            size,
            hash,
            moves: cells.get(index.moves()).map_or(0, load_acquire),
            at: entry::home(hash, size),
            left: MAX_PROBE,
        }
    }

    /// The slot the next entry with our tag points to.
    #[inline(always)]
    pub(crate) fn next(&mut self, cells: &[AtomicU64]) -> Option<u32> {
        while self.left > 0 {
            let word = word_at(cells, self.base + self.at);
            if word == 0 {
                return None;
            }
            self.at = (self.at + 1) & (self.size - 1);
            self.left -= 1;
            if entry::has_tag_of(word, self.hash) {
                return Some(entry::slot(word));
            }
        }
        None
    }

    /// Whether who was not met is not there. An entry may be moved towards its place while we walk, past us: then the index's
    /// move counter has been raised before the old place was cleared, and the walk is to be made again.
    #[inline(always)]
    pub(crate) fn missed_nobody(&self, cells: &[AtomicU64]) -> bool {
        fence(Ordering::Acquire);
        word_at(cells, self.index.moves()) == self.moves
    }
}

/// The words a head points to. None if nobody is there, or if the head is damaged and points nowhere.
#[inline(always)]
pub(crate) fn record_under(
    cells: &[AtomicU64],
    geometry: Geometry,
    head: u64,
) -> Option<&[AtomicU64]> {
    // An empty head has no lines.
    let (first, count) = geometry.words_of(Head(head).place())?;
    cells.get(first..first + count)
}

impl Table {
    #[inline]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.cells()
            .get(index)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn word_acquire(&self, index: usize) -> u64 {
        self.cells().get(index).map_or(0, load_acquire)
    }

    /// Whether a newer file may lie under the path. Whoever keeps a [`Table`] opens it anew then; [`crate::TableCell`]
    /// does so by itself.
    #[inline]
    pub fn is_retired(&self) -> bool {
        self.word_acquire(header::RETIRED) != 0
    }

    #[inline]
    pub(crate) fn seed(&self) -> u64 {
        self.word(header::SEED)
    }

    /// How often what can be looked up has changed. Counted after each store that changes something, some publications and
    /// withdrawals several times: what was looked up between two readings that are equal holds for as long as a later one is equal, too
    /// (or is of a change that was made by then and not counted yet). Starts anew with each file.
    pub fn changes(&self) -> u64 {
        self.word_acquire(header::CHANGES)
    }

    /// Which file this is, and its [`Table::changes`]: while two readings are equal, what was looked up after the first still
    /// holds, whatever has been mapped in between. `None` where nothing can be known now.
    pub fn state(&self) -> Option<(u64, u64)> {
        (!self.is_unreachable()).then(|| (self.word(header::EPOCH), self.changes()))
    }

    /// Copies the record of a live slot. The copy is whole if the head is the same before and after: the writer fills only blocks
    /// no head points to, and never uses a block again before the head that pointed to it has changed. (Word by word in
    /// docs/account-table.md.) No more than `most` words are copied.
    #[inline]
    fn read(&self, head_at: usize, buffer: &mut Buffer, most: usize) -> Slot {
        for attempt in 0..ATTEMPTS {
            let head = self.word_acquire(head_at);
            let Some(record) = record_under(self.cells(), self.geometry(), head) else {
                return Slot::Empty;
            };
            buffer.fill(record.get(..most).unwrap_or(record));
            fence(Ordering::Acquire);
            if self.word(head_at) == head {
                return Slot::Copied(head);
            }
            between_attempts(attempt);
        }
        Slot::Busy
    }

    #[inline]
    pub(crate) fn read_user(&self, slot: u32, account: &mut Account) -> Slot {
        let Some(head_at) = self.geometry().user_head(slot) else {
            return Slot::Empty;
        };
        match self.read(head_at, account.buffer_mut(), MAX_RECORD_WORDS) {
            Slot::Copied(_) if !account.trim_and_check() => Slot::Empty,
            Slot::Copied(head) => {
                account.set_version(slot, head);
                Slot::Copied(head)
            }
            outcome => outcome,
        }
    }

    /// As much of a user's record as says who it is and which groups it lists: two cache lines, for most.
    #[inline]
    pub(crate) fn read_membership(&self, slot: u32, account: &mut Account) -> Slot {
        let Some(head_at) = self.geometry().user_head(slot) else {
            return Slot::Empty;
        };
        match self.read(head_at, account.buffer_mut(), 2 * LINE_WORDS) {
            Slot::Copied(_) if !account.has_sound_login() => self.read_user(slot, account),
            outcome => outcome,
        }
    }

    /// A shared group, or an empty slot, or busy.
    pub(crate) fn read_group(&self, slot: u32) -> Lookup<Group> {
        let Some(head_at) = self.geometry().group_head(slot) else {
            return Lookup::Absent;
        };
        let mut buffer = Buffer::new();
        match self.read(head_at, &mut buffer, MAX_RECORD_WORDS) {
            Slot::Copied(head) => {
                Group::of_record(&buffer, slot, head).map_or(Lookup::Absent, Lookup::Found)
            }
            Slot::Empty => Lookup::Absent,
            Slot::Busy => Lookup::Busy,
        }
    }

    /// Lets `accept` look at the slots a walk comes to; `at_end` is what a walk without a hit comes to, if it has missed nobody.
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
        for attempt in 0..ATTEMPTS {
            let mut walk = Walk::begin(self.cells(), self.geometry(), index, hash);
            while let Some(slot) = walk.next(self.cells()) {
                match accept(slot) {
                    Verdict::Hit(value) => return Lookup::Found(value),
                    Verdict::Other => (),
                    Verdict::Busy => return Lookup::Busy,
                }
            }
            // Taken in any case: another walk begins without it.
            let second_best = at_end();
            if walk.missed_nobody(self.cells()) {
                return second_best.map_or(Lookup::Absent, Lookup::Found);
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
    pub(crate) fn find_shared_group(
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

    /// The user whose private group has this name, that is, the one with this login; not with this alias.
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
}

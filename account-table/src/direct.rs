//! Lookups that write their answer straight into the caller's buffer: one pass over the record, no copy of our own in between.
//! They accept plain records alone; what is unusual about one is left to `reader` and `account`, which read everything.

use core::mem::MaybeUninit;

use crate::account::Account;
use crate::atomic::{AtomicU64, Ordering, fence};
use crate::layout::{Index, hash_id, hash_name};
use crate::memory::{copy_out, load_acquire};
use crate::reader::{ATTEMPTS, Lookup, Slot, Verdict, Walk, between_attempts, record_under};
use crate::record::user;
use crate::table::Table;

/// What was written: login, GECOS, home and shell from the start of the buffer, one behind the other, each ended by a NUL.
/// Two words, as they stand in the record: taken apart where they are used, they stay in registers until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passwd {
    ids: u64,
    lengths: u64,
    is_locked: bool,
}

impl Passwd {
    /// UID.
    #[inline]
    pub fn uid(self) -> u32 {
        self.ids as u32
    }

    /// GID of the private group.
    #[inline]
    pub fn gid(self) -> u32 {
        (self.ids >> 32) as u32
    }

    /// Whether nobody logs in as the user: no session is left, and processes go on.
    #[inline]
    pub fn is_locked(self) -> bool {
        self.is_locked
    }

    /// Length of one of the four strings.
    #[inline]
    const fn length(self, which: usize) -> usize {
        (self.lengths >> (16 * which) & 0xffff) as usize
    }

    /// Where GECOS, home and shell begin; the login begins at 0.
    #[inline]
    pub fn starts(self) -> [usize; 3] {
        let gecos = self.length(0) + 1;
        let home = gecos + self.length(1) + 1;
        [gecos, home, home + self.length(2) + 1]
    }
}

/// A private group; its name was written to the start of the buffer, with a NUL behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateGroup {
    /// GID.
    pub gid: u32,
}

/// The caller's buffer is too small for what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// The answer, if it fits.
pub type Fitting<T> = Result<T, TooSmall>;

/// Who is looked for.
#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a [u8]),
    Id(u32),
}

/// What one look at a record comes to. Worth nothing before the head has been found unchanged.
enum Look<T> {
    Hit(Fitting<T>),
    /// Somebody else's.
    Other,
    /// Damaged, found by an alias, not ASCII: to be read in full.
    Unusual,
}

#[inline]
fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// The beginning of a user record: each word is loaded once, so what is decided from it stays true.
struct Beginning<'a> {
    numbers: Passwd,
    has_aliases: bool,
    groups: &'a [AtomicU64],
    strings: &'a [AtomicU64],
}

impl<'a> Beginning<'a> {
    #[inline(always)]
    fn of(record: &'a [AtomicU64]) -> Option<Beginning<'a>> {
        let fixed = record.first_chunk::<{ user::GROUPS }>()?;
        let shape = load(&fixed[user::SHAPE]);
        let variable = record.get(user::GROUPS..(shape >> 48) as usize)?;
        let (groups, strings) = variable.split_at_checked((shape >> 32 & 0xffff) as usize)?;
        (shape & 0xff == user::KIND).then_some(Beginning {
            numbers: Passwd {
                ids: load(&fixed[user::IDS]),
                lengths: load(&fixed[user::LENGTHS]),
                is_locked: shape & user::LOCKED != 0,
            },
            has_aliases: shape >> 16 & 0xff != 0,
            groups,
            strings,
        })
    }

    /// Whether the login is `name`, compared a word at a time where both lie.
    #[inline(always)]
    fn is_called(&self, name: &[u8]) -> bool {
        let (words, rest) = name.as_chunks::<8>();
        let Some(cells) = self.strings.get(..name.len().div_ceil(8)) else {
            return false;
        };
        let same = |cell: &AtomicU64, word: &[u8; 8]| load(cell) == u64::from_ne_bytes(*word);
        if self.numbers.length(0) != name.len()
            || !cells.iter().zip(words).all(|(cell, word)| same(cell, word))
        {
            return false;
        }
        let Some(cell) = cells.get(words.len()) else {
            return true;
        };
        let rest_bits = 8 * rest.len();
        // Where there is a whole word before the end, it is loaded at once.
        let expected = match name.last_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word) >> (64 - rest_bits),
            None => rest
                .iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        u64::from_le(load(cell)) & ((1 << rest_bits) - 1) == expected
    }
}

/// What can be looked for.
trait Answer: Sized {
    /// What the caller provides for it.
    type Room: ?Sized;

    /// One pass over a record that may be changing meanwhile.
    fn look(record: &[AtomicU64], key: Key<'_>, room: &mut Self::Room) -> Look<Self>;

    /// The same from a full copy; None if it is somebody else's.
    fn in_full(account: &Account, key: Key<'_>, room: &mut Self::Room) -> Option<Fitting<Self>>;
}

impl Answer for Passwd {
    type Room = [MaybeUninit<u8>];

    #[inline(always)]
    fn look(record: &[AtomicU64], key: Key<'_>, room: &mut [MaybeUninit<u8>]) -> Look<Passwd> {
        let Some(user) = Beginning::of(record) else {
            return Look::Unusual;
        };
        let is_it = match key {
            Key::Name(name) => user.is_called(name),
            Key::Id(id) => user.numbers.uid() == id,
        };
        match (is_it, key) {
            (true, _) => (),
            (false, Key::Name(_)) if user.has_aliases => return Look::Unusual,
            (false, _) => return Look::Other,
        }
        let [gecos, home, shell] = user.numbers.starts();
        let length = shell + user.numbers.length(3) + 1;
        // What cannot be right is looked at before the room: it needs none.
        if gecos == 1 || length > 8 * user.strings.len() {
            return Look::Unusual;
        }
        let Some(room) = room.get_mut(..length) else {
            return Look::Hit(Err(TooSmall));
        };
        let Some(copy) = copy_out(user.strings, room) else {
            return Look::Unusual;
        };
        let ended = [gecos, home, shell, length]
            .iter()
            .all(|&next| copy.bytes.get(next - 1) == Some(&0));
        if !ended || copy.zeros != 4 {
            return Look::Unusual;
        }
        Look::Hit(Ok(user.numbers))
    }

    fn in_full(
        account: &Account,
        key: Key<'_>,
        room: &mut [MaybeUninit<u8>],
    ) -> Option<Fitting<Passwd>> {
        let is_it = match key {
            Key::Name(name) => account.is_called(name),
            Key::Id(id) => account.uid() == id,
        };
        is_it.then(|| {
            put(account.passwd_strings(), room)?;
            let (ids, lengths) = account.passwd_numbers();
            Ok(Passwd {
                ids,
                lengths,
                is_locked: account.locked(),
            })
        })
    }
}

impl Answer for PrivateGroup {
    type Room = [MaybeUninit<u8>];

    #[inline(always)]
    fn look(
        record: &[AtomicU64],
        key: Key<'_>,
        room: &mut [MaybeUninit<u8>],
    ) -> Look<PrivateGroup> {
        let Some(user) = Beginning::of(record) else {
            return Look::Unusual;
        };
        let is_it = match key {
            Key::Name(name) => user.is_called(name),
            Key::Id(id) => user.numbers.gid() == id,
        };
        if !is_it {
            return Look::Other;
        }
        let length = user.numbers.length(0) + 1;
        if length == 1 || length > 8 * user.strings.len() {
            return Look::Unusual;
        }
        let Some(room) = room.get_mut(..length) else {
            return Look::Hit(Err(TooSmall));
        };
        match copy_out(user.strings, room) {
            Some(copy) if copy.zeros == 1 && copy.bytes.last() == Some(&0) => {
                Look::Hit(Ok(PrivateGroup {
                    gid: user.numbers.gid(),
                }))
            }
            _ => Look::Unusual,
        }
    }

    fn in_full(
        account: &Account,
        key: Key<'_>,
        room: &mut [MaybeUninit<u8>],
    ) -> Option<Fitting<PrivateGroup>> {
        let is_it = match key {
            Key::Name(name) => account.login_bytes() == name,
            Key::Id(id) => account.gid() == id,
        };
        is_it.then(|| {
            let length = put(account.login_bytes(), room)?;
            put(b"\0", room.get_mut(length..).ok_or(TooSmall)?)?;
            Ok(PrivateGroup { gid: account.gid() })
        })
    }
}

/// The gids of a user's supplementary groups, as many as there are, written to the start of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memberships {
    /// How many were written.
    pub count: usize,
}

impl Memberships {
    fn put(gids: impl Iterator<Item = u32>, room: &mut [u32]) -> Fitting<Memberships> {
        let mut count = 0;
        for gid in gids {
            *room.get_mut(count).ok_or(TooSmall)? = gid;
            count += 1;
        }
        Ok(Memberships { count })
    }
}

impl Answer for Memberships {
    type Room = [u32];

    #[inline(always)]
    fn look(record: &[AtomicU64], key: Key<'_>, room: &mut [u32]) -> Look<Memberships> {
        let (Some(user), Key::Name(name)) = (Beginning::of(record), key) else {
            return Look::Unusual;
        };
        if !user.is_called(name) {
            return if user.has_aliases {
                Look::Unusual
            } else {
                Look::Other
            };
        }
        let mut count = 0;
        for word in user.groups.iter().map(load) {
            let Some(gid) = room.get_mut(count) else {
                return Look::Hit(Err(TooSmall));
            };
            // Without a slot it is no membership.
            *gid = word as u32;
            count += usize::from(word >> 32 != 0);
        }
        Look::Hit(Ok(Memberships { count }))
    }

    fn in_full(account: &Account, key: Key<'_>, room: &mut [u32]) -> Option<Fitting<Memberships>> {
        let Key::Name(name) = key else {
            return None;
        };
        let gids = account.groups().map(|group| group.gid);
        account
            .is_called(name)
            .then(|| Memberships::put(gids, room))
    }
}

/// Writes what a full copy says.
fn put(text: &[u8], room: &mut [MaybeUninit<u8>]) -> Fitting<usize> {
    let room = room.get_mut(..text.len()).ok_or(TooSmall)?;
    for (to, &from) in room.iter_mut().zip(text) {
        to.write(from);
    }
    Ok(text.len())
}

impl Table {
    /// Looks a key up. No closures, nothing that goes through memory on the way: that took as long as the rest.
    #[inline(always)]
    fn direct<T: Answer>(&self, key: Key<'_>, room: &mut T::Room) -> Lookup<Fitting<T>> {
        if self.is_unreachable() {
            return Lookup::Busy;
        }
        let (cells, geometry) = (self.cells(), self.geometry());
        let (index, hash) = match key {
            Key::Name(name) => (Index::Names, hash_name(self.seed(), name)),
            Key::Id(id) => (Index::Ids, hash_id(self.seed(), id)),
        };
        for attempt in 0..ATTEMPTS {
            let mut walk = Walk::begin(cells, geometry, index, hash);
            while let Some(slot) = walk.next(cells) {
                let Some(head_at) = geometry.user_head(slot).and_then(|at| cells.get(at)) else {
                    continue;
                };
                // The head is the same before and after: all that was loaded in between is then what was written under it,
                // as with a copy; see docs/account-table.md.
                let head = load_acquire(head_at);
                let Some(record) = record_under(cells, geometry, head) else {
                    continue;
                };
                let seen = T::look(record, key, room);
                fence(Ordering::Acquire);
                let verdict = if load(head_at) != head {
                    self.read_in_full(slot, key, room)
                } else {
                    match seen {
                        Look::Hit(answer) => return Lookup::Found(answer),
                        Look::Other => continue,
                        Look::Unusual => self.read_in_full(slot, key, room),
                    }
                };
                match verdict {
                    Verdict::Hit(answer) => return Lookup::Found(answer),
                    Verdict::Other => (),
                    Verdict::Busy => return Lookup::Busy,
                }
            }
            if walk.missed_nobody(cells) {
                return Lookup::Absent;
            }
            between_attempts(attempt);
        }
        Lookup::Busy
    }

    /// Apart, so that nobody else pays for a stack frame with a record in it.
    #[cold]
    #[inline(never)]
    fn read_in_full<T: Answer>(
        &self,
        slot: u32,
        key: Key<'_>,
        room: &mut T::Room,
    ) -> Verdict<Fitting<T>> {
        let mut account = Account::empty();
        match self.read_user(slot, &mut account) {
            Slot::Copied(_) => T::in_full(&account, key, room).map_or(Verdict::Other, Verdict::Hit),
            Slot::Empty => Verdict::Other,
            Slot::Busy => Verdict::Busy,
        }
    }

    /// The user with this login or alias, written as passwd's strings into `room`.
    #[inline]
    pub fn passwd_by_name(
        &self,
        name: &[u8],
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<Passwd>> {
        self.direct(Key::Name(name), room)
    }

    /// The user with this uid, written as passwd's strings into `room`.
    #[inline]
    pub fn passwd_by_uid(&self, uid: u32, room: &mut [MaybeUninit<u8>]) -> Lookup<Fitting<Passwd>> {
        self.direct(Key::Id(uid), room)
    }

    /// The private group of the user with this login, its name written into `room`.
    #[inline]
    pub fn private_group_by_name(
        &self,
        name: &[u8],
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<PrivateGroup>> {
        self.direct(Key::Name(name), room)
    }

    /// The private group with this gid, its name written into `room`.
    #[inline]
    pub fn private_group_by_gid(
        &self,
        gid: u32,
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<PrivateGroup>> {
        self.direct(Key::Id(gid), room)
    }

    /// The groups of the user with this login or alias, if no more than `room` is long.
    #[inline]
    pub fn memberships_by_name(
        &self,
        name: &[u8],
        room: &mut [u32],
    ) -> Lookup<Fitting<Memberships>> {
        self.direct(Key::Name(name), room)
    }
}

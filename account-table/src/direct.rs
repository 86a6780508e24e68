//! Lookups that write their answer straight into the caller's buffer: one pass over the record, no copy of our own in between.
//! This is the way of what is plain and stands still; everything else is left to `reader` and `account`, which read all of it.

use core::mem::MaybeUninit;

use crate::account::Account;
use crate::atomic::{AtomicU64, Ordering, fence};
use crate::layout::{Index, hash_id, hash_name};
use crate::memory::{copy_out, load_acquire};
use crate::reader::{Lookup, Walk, record_under};
use crate::record::user;
use crate::table::Table;

/// What was written: login, GECOS, home and shell from the start of the buffer, one behind the other, each ended by a NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passwd {
    /// UID.
    pub uid: u32,
    /// GID of the private group.
    pub gid: u32,
    /// Whether nobody logs in as the user: no session is left, and processes go on.
    pub is_locked: bool,
    /// Where GECOS, home and shell begin; the login begins at 0.
    pub starts: [usize; 3],
}

impl Passwd {
    /// From the first three words of a record, and how many bytes its strings take.
    #[inline(always)]
    fn of([shape, ids, lengths]: [u64; 3]) -> (Passwd, usize) {
        let end =
            |start: usize, which: u32| start + (lengths >> (16 * which) & 0xffff) as usize + 1;
        let gecos = end(0, 0);
        let home = end(gecos, 1);
        let shell = end(home, 2);
        let passwd = Passwd {
            uid: ids as u32,
            gid: (ids >> 32) as u32,
            is_locked: shape & user::LOCKED != 0,
            starts: [gecos, home, shell],
        };
        (passwd, end(shell, 3))
    }
}

/// A private group; its name was written to the start of the buffer, with a NUL behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivateGroup {
    /// GID.
    pub gid: u32,
}

/// The caller's buffer is too small for what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// The answer, if it fits.
pub type Fitting<T> = Result<T, TooSmall>;

/// Who is looked for: somebody of a name, or of an ID. A type for each, so that a key stays in registers.
trait Key: Copy {
    const INDEX: Index;

    fn hash(self, seed: u64) -> u64;

    /// Whether it is the user's login, or the ID given.
    fn is_of(self, user: &Beginning<'_>, id: u32) -> bool;

    fn find_user(self, table: &Table, account: &mut Account) -> Lookup<()>;

    fn find_private_group(self, table: &Table, account: &mut Account) -> Lookup<()>;
}

impl Key for &[u8] {
    const INDEX: Index = Index::Names;

    #[inline(always)]
    fn hash(self, seed: u64) -> u64 {
        hash_name(seed, self)
    }

    #[inline(always)]
    fn is_of(self, user: &Beginning<'_>, _: u32) -> bool {
        user.is_called(self)
    }

    fn find_user(self, table: &Table, account: &mut Account) -> Lookup<()> {
        table.find_user_by_name(self, account)
    }

    fn find_private_group(self, table: &Table, account: &mut Account) -> Lookup<()> {
        table.find_private_group_by_name(self, account)
    }
}

impl Key for u32 {
    const INDEX: Index = Index::Ids;

    #[inline(always)]
    fn hash(self, seed: u64) -> u64 {
        hash_id(seed, self)
    }

    #[inline(always)]
    fn is_of(self, _: &Beginning<'_>, id: u32) -> bool {
        self == id
    }

    fn find_user(self, table: &Table, account: &mut Account) -> Lookup<()> {
        table.find_user_by_uid(self, account)
    }

    fn find_private_group(self, table: &Table, account: &mut Account) -> Lookup<()> {
        table.find_private_group_by_gid(self, account)
    }
}

#[inline]
fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

/// The beginning of a user record: each word is loaded once, so what is decided from it stays true.
struct Beginning<'a> {
    /// Shape, IDs and lengths.
    fixed: [u64; user::GROUPS],
    groups: &'a [AtomicU64],
    /// From the first string on; behind the strings stands something else.
    strings: &'a [AtomicU64],
    /// How many bytes of them are strings.
    length: usize,
}

impl<'a> Beginning<'a> {
    #[inline(always)]
    fn of(record: &'a [AtomicU64]) -> Option<Beginning<'a>> {
        let (fixed, variable) = record.split_first_chunk::<{ user::GROUPS }>()?;
        let fixed @ [shape, ..] = fixed.each_ref().map(load);
        let (groups, strings) = variable.split_at_checked((shape >> 32 & 0xffff) as usize)?;
        let words = (shape >> 48) as usize;
        let length = words.checked_sub(user::GROUPS + user::NUMBERS + groups.len())?;
        (shape & 0xff == user::KIND && words <= record.len()).then_some(Beginning {
            fixed,
            groups,
            strings,
            length: 8 * length,
        })
    }

    #[inline(always)]
    fn login_length(&self) -> usize {
        (self.fixed[user::LENGTHS] & 0xffff) as usize
    }

    #[inline(always)]
    fn uid(&self) -> u32 {
        self.fixed[user::IDS] as u32
    }

    #[inline(always)]
    fn gid(&self) -> u32 {
        (self.fixed[user::IDS] >> 32) as u32
    }

    /// Whether the login is `name`, compared a word at a time where both lie.
    #[inline(always)]
    fn is_called(&self, name: &[u8]) -> bool {
        let (words, rest) = name.as_chunks::<8>();
        let Some(cells) = self.strings.get(..name.len().div_ceil(8)) else {
            return false;
        };
        let same = |cell: &AtomicU64, word: &[u8; 8]| load(cell) == u64::from_ne_bytes(*word);
        if self.login_length() != name.len()
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
trait Answer: Copy + Default {
    /// What the caller provides for it.
    type Room: ?Sized;

    /// One pass over a record that may be changing meanwhile: worth nothing before the head has been found unchanged. None if it is
    /// somebody else's, damaged, found by an alias, not ASCII, or does not fit.
    fn look(record: &[AtomicU64], key: impl Key, room: &mut Self::Room) -> Option<Self>;

    /// Finds a full copy.
    fn find(table: &Table, key: impl Key, account: &mut Account) -> Lookup<()> {
        key.find_user(table, account)
    }

    /// The answer from that.
    fn in_full(account: &Account, room: &mut Self::Room) -> Fitting<Self>;
}

impl Answer for Passwd {
    type Room = [MaybeUninit<u8>];

    #[inline(always)]
    fn look(record: &[AtomicU64], key: impl Key, room: &mut [MaybeUninit<u8>]) -> Option<Passwd> {
        let user = Beginning::of(record)?;
        let (found, length) = Passwd::of(user.fixed);
        let [gecos, home, shell] = found.starts;
        if !key.is_of(&user, user.uid()) || gecos == 1 || length > user.length {
            return None;
        }
        let copy = copy_out(user.strings, length, room)?;
        let ended = [gecos, home, shell, length]
            .iter()
            .all(|&next| copy.bytes.get(next - 1) == Some(&0));
        (ended && copy.letters == length - 4).then_some(found)
    }

    fn in_full(account: &Account, room: &mut [MaybeUninit<u8>]) -> Fitting<Passwd> {
        put(account.passwd_strings(), room)?;
        Ok(Passwd::of(account.first_words()).0)
    }
}

impl Answer for PrivateGroup {
    type Room = [MaybeUninit<u8>];

    #[inline(always)]
    fn look(
        record: &[AtomicU64],
        key: impl Key,
        room: &mut [MaybeUninit<u8>],
    ) -> Option<PrivateGroup> {
        let user = Beginning::of(record)?;
        let length = user.login_length() + 1;
        if !key.is_of(&user, user.gid()) || length == 1 || length > user.length {
            return None;
        }
        let copy = copy_out(user.strings, length, room)?;
        (copy.letters == length - 1 && copy.bytes.last() == Some(&0))
            .then_some(PrivateGroup { gid: user.gid() })
    }

    fn find(table: &Table, key: impl Key, account: &mut Account) -> Lookup<()> {
        key.find_private_group(table, account)
    }

    fn in_full(account: &Account, room: &mut [MaybeUninit<u8>]) -> Fitting<PrivateGroup> {
        let length = put(account.login_bytes(), room)?;
        put(b"\0", room.get_mut(length..).ok_or(TooSmall)?)?;
        Ok(PrivateGroup { gid: account.gid() })
    }
}

/// The gids of a user's supplementary groups, as many as there are, written to the start of the array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    /// How many were written.
    pub count: usize,
}

impl Answer for Memberships {
    type Room = [u32];

    #[inline(always)]
    fn look(record: &[AtomicU64], key: impl Key, room: &mut [u32]) -> Option<Memberships> {
        let user = Beginning::of(record)?;
        if !key.is_of(&user, user.uid()) {
            return None;
        }
        let mut count = 0;
        for word in user.groups.iter().map(load) {
            // Without a slot it is no membership.
            *room.get_mut(count)? = word as u32;
            count += usize::from(word >> 32 != 0);
        }
        Some(Memberships { count })
    }

    fn in_full(account: &Account, room: &mut [u32]) -> Fitting<Memberships> {
        let mut count = 0;
        for group in account.groups() {
            *room.get_mut(count).ok_or(TooSmall)? = group.gid;
            count += 1;
        }
        Ok(Memberships { count })
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
    /// Looks a key up: straight on for as long as nothing is out of the ordinary. No loop but over the index, no closures, nothing
    /// that goes through memory on the way: that took as long as the rest.
    #[inline(always)]
    fn direct<K: Key, T: Answer>(&self, key: K, room: &mut T::Room) -> Lookup<Fitting<T>> {
        let hash = key.hash(self.seed());
        let mut walk = Walk::begin(self.cells(), self.geometry(), K::INDEX, hash);
        match walk.next(self.cells()) {
            Some(slot) => {
                if let Some(found) = self.look_at(slot, key, room) {
                    return Lookup::Found(Ok(found));
                }
            }
            None if self.is_unreachable() => return Lookup::Busy,
            None if walk.missed_nobody(self.cells()) => return Lookup::Absent,
            None => (),
        }
        let mut found = T::default();
        let fits = self.the_long_way(key, room, &mut found);
        fits.map(|fits| fits.map(|()| found))
    }

    #[inline(always)]
    fn look_at<T: Answer>(&self, slot: u32, key: impl Key, room: &mut T::Room) -> Option<T> {
        let (cells, geometry) = (self.cells(), self.geometry());
        let head_at = cells.get(geometry.user_head(slot)?)?;
        // The head is the same before and after: all that was loaded in between is then what was written under it, as with a
        // copy; see docs/account-table.md.
        let head = load_acquire(head_at);
        let found = T::look(record_under(cells, geometry, head)?, key, room)?;
        fence(Ordering::Acquire);
        (load(head_at) == head).then_some(found)
    }

    /// Apart, so that nobody else pays for a stack frame with a record in it, nor for an answer that comes by way of memory.
    #[cold]
    #[inline(never)]
    fn the_long_way<T: Answer>(
        &self,
        key: impl Key,
        room: &mut T::Room,
        found: &mut T,
    ) -> Lookup<Fitting<()>> {
        let mut account = Account::empty();
        T::find(self, key, &mut account).map(|()| {
            *found = T::in_full(&account, room)?;
            Ok(())
        })
    }

    /// The user with this login or alias, written as passwd's strings into `room`.
    #[inline]
    pub fn passwd_by_name(
        &self,
        name: &[u8],
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<Passwd>> {
        self.direct(name, room)
    }

    /// The user with this uid, written as passwd's strings into `room`.
    #[inline]
    pub fn passwd_by_uid(&self, uid: u32, room: &mut [MaybeUninit<u8>]) -> Lookup<Fitting<Passwd>> {
        self.direct(uid, room)
    }

    /// The private group of the user with this login, its name written into `room`.
    #[inline]
    pub fn private_group_by_name(
        &self,
        name: &[u8],
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<PrivateGroup>> {
        self.direct(name, room)
    }

    /// The private group with this gid, its name written into `room`.
    #[inline]
    pub fn private_group_by_gid(
        &self,
        gid: u32,
        room: &mut [MaybeUninit<u8>],
    ) -> Lookup<Fitting<PrivateGroup>> {
        self.direct(gid, room)
    }

    /// The groups of the user with this login or alias, if no more than `room` is long.
    #[inline]
    pub fn memberships_by_name(
        &self,
        name: &[u8],
        room: &mut [u32],
    ) -> Lookup<Fitting<Memberships>> {
        self.direct(name, room)
    }
}

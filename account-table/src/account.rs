//! An account as readers have it: a private copy of a user record, checked once, then only read.
//! Knows nothing of slots being live, indexes or mappings.

use core::fmt;
use core::str;

use crate::group::Group;
use crate::memory::Buffer;
use crate::record::{Disposition, user};

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// A word with a 1 in each byte where the given one has a 0 byte.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    // A byte's high bit survives in neither term only if all its bits are 0.
    (!(((word & !HIGH_BITS) + !HIGH_BITS) | word) & HIGH_BITS) >> 7
}

/// The sum of the eight bytes of a word.
#[inline]
fn sum_of_bytes(word: u64) -> usize {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let pairs = (word & EVEN) + (word >> 8 & EVEN);
    (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize
}

/// A private, checked copy of one account, about 4 KiB: nobody changes it any more. All strings are UTF-8 without NUL.
///
/// Make it once with [`Account::empty`] and hand it to the `find_*` methods where its size matters; a fresh one has no content.
pub struct Account {
    buffer: Buffer,
    version: Version,
}

/// Which record an account is a copy of: in one file, records of equal versions are equal, and a slot has one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The place in the table that the user keeps while it lives, from 0.
    pub slot: u32,
    /// What was published there, different each time.
    pub head: u64,
}

impl Default for Account {
    fn default() -> Account {
        Account::empty()
    }
}

impl Account {
    /// Room for an account, holding none: names are empty and numbers 0.
    #[inline]
    pub fn empty() -> Account {
        Account {
            buffer: Buffer::new(),
            version: Version::default(),
        }
    }

    /// Which record this is a copy of. For who keeps what was made of an account, until there is another version.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn set_version(&mut self, slot: u32, head: u64) {
        self.version = Version { slot, head };
    }

    pub(crate) fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.buffer.words().get(index).copied().unwrap_or(0)
    }

    /// One of the last words.
    #[inline]
    fn number(&self, which: usize) -> u64 {
        let words = self.buffer.words();
        let first = words.len().checked_sub(user::NUMBERS);
        first
            .and_then(|first| words.get(first + which))
            .copied()
            .unwrap_or(0)
    }

    /// Offset in bytes and length of one of the four leading strings.
    #[inline]
    fn span(&self, which: usize) -> (usize, usize) {
        let lengths = self.word(user::LENGTHS);
        let mut start = self.strings_start();
        for earlier in 0..which {
            start += (lengths >> (16 * earlier) & 0xffff) as usize + 1;
        }
        (start, (lengths >> (16 * which) & 0xffff) as usize)
    }

    #[inline]
    fn strings_start(&self) -> usize {
        (user::GROUPS + self.group_count()) * 8
    }

    #[inline]
    fn group_count(&self) -> usize {
        (self.word(user::SHAPE) >> 32 & 0xffff) as usize
    }

    #[inline]
    fn raw(&self, which: usize) -> &[u8] {
        let (start, length) = self.span(which);
        self.buffer
            .bytes()
            .get(start..start + length)
            .unwrap_or_default()
    }

    #[inline]
    fn text(&self, which: usize) -> &str {
        str::from_utf8(self.raw(which)).unwrap_or_default()
    }

    /// Where the strings and their padding end, in bytes.
    #[inline]
    fn strings_end(&self) -> usize {
        self.buffer.bytes().len().saturating_sub(user::NUMBERS * 8)
    }

    /// Everything after the shell's NUL: aliases, then environment, each ended by a NUL.
    fn tail(&self) -> &[u8] {
        let (start, length) = self.span(3);
        self.buffer
            .bytes()
            .get(start + length + 1..self.strings_end())
            .unwrap_or_default()
    }

    fn counts(&self) -> (usize, usize) {
        let shape = self.word(user::SHAPE);
        ((shape >> 16 & 0xff) as usize, (shape >> 24 & 0xff) as usize)
    }

    /// Cuts a fresh copy to the length it states, and says whether it is a sound user record: one pass over its words.
    #[inline]
    pub(crate) fn trim_and_check(&mut self) -> bool {
        let shape = self.word(user::SHAPE);
        if shape & 0xff != user::KIND || !self.buffer.truncate((shape >> 48) as usize) {
            return false;
        }
        let Some(bytes) = self.buffer.bytes().get(..self.strings_end()) else {
            return false;
        };
        let (aliases, environment) = self.counts();
        let (shell, length) = self.span(3);
        let fixed_end = shell + length + 1;
        let ended = (1..4).all(|which| bytes.get(self.span(which).0 - 1) == Some(&0))
            && bytes.get(fixed_end - 1) == Some(&0);
        let strings = user::GROUPS + self.group_count();
        let Some(words) = self.buffer.words().get(strings..bytes.len() / 8) else {
            return false;
        };
        // Where there are only the four strings, all that may follow is less than a word of padding, and the zero bytes there are
        // must be their ends and the padding. Otherwise the tail is walked for its strings' ends.
        let mut zeros = bytes.len().wrapping_sub(fixed_end);
        if aliases + environment > 0 {
            let tail = self.tail();
            zeros = tail.iter().filter(|&&byte| byte == 0).count();
            if zeros < aliases + environment {
                return false;
            }
        }
        let (mut high_bits, mut found) = (0, 0);
        // So few words at a time that no byte of the counter overflows.
        for words in words.chunks(255) {
            let mut columns = 0;
            for &word in words {
                high_bits |= word;
                columns += zero_bytes(word);
            }
            found += sum_of_bytes(columns);
        }
        let is_text = high_bits & HIGH_BITS == 0
            || bytes
                .get(strings * 8..)
                .is_some_and(|text| str::from_utf8(text).is_ok());
        ended && found == zeros + 4 && is_text && !self.raw(0).is_empty()
    }

    /// Whether the beginning of a record holds the whole login and list of groups.
    #[inline]
    pub(crate) fn has_sound_login(&self) -> bool {
        let (start, length) = self.span(0);
        let login = self.raw(0);
        self.word(user::SHAPE) & 0xff == user::KIND
            && self.buffer.bytes().get(start + length) == Some(&0)
            && !login.is_empty()
            && login.iter().all(|&byte| byte != 0)
            && str::from_utf8(login).is_ok()
    }

    /// Login, GECOS, home and shell as they lie one behind the other, each ended by a NUL.
    #[inline]
    pub fn passwd_strings(&self) -> &[u8] {
        let (shell, length) = self.span(3);
        self.buffer
            .bytes()
            .get(self.strings_start()..shell + length + 1)
            .unwrap_or_default()
    }

    /// Shape, IDs and lengths of the strings, as they stand in the record.
    pub(crate) fn first_words(&self) -> [u64; user::GROUPS] {
        [user::SHAPE, user::IDS, user::LENGTHS].map(|at| self.word(at))
    }

    /// The login: the user's name.
    pub fn login(&self) -> &str {
        self.text(0)
    }

    /// [`Account::login`] as bytes, without the cost of a second UTF-8 check.
    #[inline]
    pub fn login_bytes(&self) -> &[u8] {
        self.raw(0)
    }

    /// Other names the user resolves under.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        let (aliases, _) = self.counts();
        self.tail()
            .split(|&byte| byte == 0)
            .take(aliases)
            .map(|name| str::from_utf8(name).unwrap_or_default())
    }

    /// Whether `name` is the login or an alias.
    #[inline]
    pub fn is_called(&self, name: &[u8]) -> bool {
        self.raw(0) == name || (self.has_aliases() && self.has_alias(name))
    }

    /// Whether there are aliases at all.
    #[inline]
    pub(crate) fn has_aliases(&self) -> bool {
        self.counts().0 > 0
    }

    fn has_alias(&self, name: &[u8]) -> bool {
        let mut aliases = self.tail().split(|&byte| byte == 0).take(self.counts().0);
        !name.is_empty() && aliases.any(|alias| alias == name)
    }

    /// UID.
    #[inline]
    pub fn uid(&self) -> u32 {
        self.word(user::IDS) as u32
    }

    /// GID of the private group, which is named like the login.
    #[inline]
    pub fn gid(&self) -> u32 {
        (self.word(user::IDS) >> 32) as u32
    }

    /// The comment field, passwd's fifth.
    pub fn gecos(&self) -> &str {
        self.text(1)
    }

    /// [`Account::gecos`] as bytes.
    #[inline]
    pub fn gecos_bytes(&self) -> &[u8] {
        self.raw(1)
    }

    /// Home directory.
    pub fn home(&self) -> &str {
        self.text(2)
    }

    /// [`Account::home`] as bytes.
    #[inline]
    pub fn home_bytes(&self) -> &[u8] {
        self.raw(2)
    }

    /// Login shell.
    pub fn shell(&self) -> &str {
        self.text(3)
    }

    /// [`Account::shell`] as bytes.
    #[inline]
    pub fn shell_bytes(&self) -> &[u8] {
        self.raw(3)
    }

    fn flag(&self, flag: u64) -> bool {
        self.word(user::SHAPE) & flag != 0
    }

    /// Whether logging in is barred (what remains of a lingering user).
    pub fn locked(&self) -> bool {
        self.flag(user::LOCKED)
    }

    /// When the account was made: microseconds of CLOCK_REALTIME.
    pub fn since_usec(&self) -> u64 {
        self.number(user::SINCE)
    }

    /// Live sessions.
    pub fn sessions(&self) -> u32 {
        self.number(user::SESSIONS) as u32
    }

    /// How long logind is to wait after the last session before it stops the user's manager, in microseconds.
    pub fn stop_delay_usec(&self) -> u64 {
        self.number(user::STOP_DELAY)
    }

    /// How systemd is to treat the user.
    pub fn disposition(&self) -> Disposition {
        if self.flag(user::REGULAR) {
            Disposition::Regular
        } else {
            Disposition::Dynamic
        }
    }

    /// Limit on tasks, if one is set.
    pub fn tasks_max(&self) -> Option<u64> {
        self.flag(user::HAS_TASKS_MAX)
            .then(|| self.number(user::TASKS_MAX))
    }

    /// Limit on memory in bytes, if one is set.
    pub fn memory_max(&self) -> Option<u64> {
        self.flag(user::HAS_MEMORY_MAX)
            .then(|| self.number(user::MEMORY_MAX))
    }

    /// CPU weight, if one is set.
    pub fn cpu_weight(&self) -> Option<u64> {
        self.flag(user::HAS_CPU_WEIGHT)
            .then(|| self.number(user::CPU_WEIGHT))
    }

    /// File mode creation mask, if one is set.
    pub fn umask(&self) -> Option<u32> {
        self.flag(user::HAS_UMASK)
            .then(|| (self.number(user::SESSIONS) >> 32) as u32)
    }

    /// Environment for the sessions, as `NAME=value`.
    pub fn environment(&self) -> impl Iterator<Item = &str> {
        let (aliases, environment) = self.counts();
        let lines = self
            .tail()
            .split(|&byte| byte == 0)
            .skip(aliases)
            .take(environment);
        lines.map(|line| str::from_utf8(line).unwrap_or_default())
    }

    /// Supplementary groups, without the private one.
    #[inline]
    pub fn groups(&self) -> impl Iterator<Item = MembershipRef> + '_ {
        let words = self
            .buffer
            .words()
            .iter()
            .skip(user::GROUPS)
            .take(self.group_count());
        words.filter_map(|&word| {
            Some(MembershipRef {
                gid: word as u32,
                slot: ((word >> 32) as u32).checked_sub(1)?,
            })
        })
    }

    /// The private group; `None` only of an empty account.
    pub fn private_group(&self) -> Option<Group> {
        Group::private_of(self.login_bytes(), self.gid())
    }

    pub(crate) fn is_member_of(&self, slot: u32, gid: u32) -> bool {
        self.groups()
            .any(|group| group.slot == slot && group.gid == gid)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("login", &self.login())
            .field("uid", &self.uid())
            .finish_non_exhaustive()
    }
}

/// One group of an account: its gid, and the way to its name ([`crate::Table::group_of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipRef {
    /// GID of the group.
    pub gid: u32,
    pub(crate) slot: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_bytes_are_counted_at_every_place_and_up_to_a_full_counter() {
        for zeros in 0..=0xff_u64 {
            let bytes: [u8; 8] =
                core::array::from_fn(|at| if zeros >> at & 1 == 1 { 0 } else { 0x80 >> at });
            let word = u64::from_le_bytes(bytes);
            let count = zeros.count_ones() as usize;
            assert_eq!(sum_of_bytes(zero_bytes(word)), count);
            assert_eq!(sum_of_bytes(255 * zero_bytes(word)), 255 * count);
        }
    }
}

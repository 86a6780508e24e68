//! getpwent and getgrent: whether they list anything, and where they stand.
//! One word of state each, so that there is no lock a fork could leave behind.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use account_table::{Account, Cursor, GroupOrigin, KeepErrno, Lookup, Table};
use libnss::group::CGroup;
use libnss::passwd::CPasswd;

use crate::answer::{Outcome, pack_account, pack_group, pack_private_group, table};
use crate::host;
use crate::nsswitch;
use crate::room::Room;

const NSSWITCH: &CStr = c"/etc/nsswitch.conf";

/// The lower half is the position; these say more.
const STARTED: u64 = 1 << 63;
const LISTING: u64 = 1 << 62;
/// getgrent only: the private groups are through, the shared ones follow.
const SHARED: u64 = 1 << 61;

/// The enumeration of one database, common to all threads of the process as C wants it.
pub(crate) struct Enumeration {
    database: &'static [u8],
    state: AtomicU64,
}

pub(crate) static PASSWD: Enumeration = Enumeration {
    database: b"passwd",
    state: AtomicU64::new(0),
};
pub(crate) static GROUP: Enumeration = Enumeration {
    database: b"group",
    state: AtomicU64::new(0),
};

/// How often a record the writer keeps changing is tried again before a listing breaks off.
const ATTEMPTS: u32 = 16;

impl Enumeration {
    /// `setpwent`, `setgrent`.
    pub(crate) fn start(&self) {
        self.state.store(self.beginning(), Ordering::Release);
    }

    /// `endpwent`, `endgrent`.
    pub(crate) fn end(&self) {
        self.state.store(0, Ordering::Release);
    }

    /// Whether somebody in this process is between set and end, and systemd has its part in that. Where we list ourselves it has
    /// none; where it has, we are through before it begins, so only the end tells when it is over.
    pub(crate) fn is_shared_with_systemd(&self) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        state != 0 && state & LISTING == 0
    }

    /// Where `systemd` is asked too, it lists our users through userdb: listing them here would show each twice. So it would
    /// where systemd's own library asks NSS for its list, as in userdbctl and systemd-userdbd: it lists our socket as well.
    fn beginning(&self) -> u64 {
        let _errno = KeepErrno::of_the_caller();
        if host::is_userdb_worker() || host::systemd_is_asking() {
            return STARTED;
        }
        let mut buffer = [0; 2048];
        let mut is_listed = false;
        let shown = host::show_lines(NSSWITCH, &mut buffer, |lines| {
            is_listed = nsswitch::lists(lines, self.database, b"systemd").unwrap_or(is_listed);
        });
        match shown {
            Some(()) if !is_listed => STARTED | LISTING,
            _ => STARTED,
        }
    }

    /// The state, started if nobody did: glibc does not for the first service of a line.
    fn state(&self) -> u64 {
        match self.state.load(Ordering::Acquire) {
            0 => {
                let beginning = self.beginning();
                let set =
                    self.state
                        .compare_exchange(0, beginning, Ordering::AcqRel, Ordering::Acquire);
                set.err().unwrap_or(beginning)
            }
            state => state,
        }
    }

    /// Hands out what `step` finds at the current state, and moves on, unless another thread did meanwhile. What does not fit the
    /// caller's buffer is found again by the next call.
    fn next<T>(
        &self,
        mut step: impl FnMut(&Table, u64) -> Result<(T, u64), Outcome>,
    ) -> Result<T, Outcome> {
        let mut attempts = 0;
        loop {
            let state = self.state();
            if state & LISTING == 0 {
                return Err(Outcome::NotFound);
            }
            let table = table().ok_or(Outcome::NotFound)?;
            match step(&table, state) {
                Ok((found, after)) => {
                    if self
                        .state
                        .compare_exchange(state, after, Ordering::AcqRel, Ordering::Acquire)
                        .is_ok()
                    {
                        return Ok(found);
                    }
                }
                Err(Outcome::Busy) if attempts < ATTEMPTS => attempts += 1,
                Err(outcome) => return Err(outcome),
            }
        }
    }

    /// `getpwent_r`.
    pub(crate) fn next_account(&self, mut room: impl FnMut() -> Room) -> Result<CPasswd, Outcome> {
        let mut account = Account::empty();
        self.next(|table, state| {
            let mut cursor = Cursor::at(state as u32);
            match Outcome::from(table.find_next_user(&mut cursor, &mut account)) {
                Outcome::Success => Ok((pack_account(&account, room())?, at(state, cursor))),
                outcome => Err(outcome),
            }
        })
    }

    /// `getgrent_r`: the private groups, then the synthesized ones; those of others are theirs to list.
    pub(crate) fn next_group(&self, mut room: impl FnMut() -> Room) -> Result<CGroup, Outcome> {
        let mut account = Account::empty();
        self.next(|table, state| {
            let mut state = state;
            let mut cursor = Cursor::at(state as u32);
            if state & SHARED == 0 {
                match Outcome::from(table.find_next_user(&mut cursor, &mut account)) {
                    Outcome::Success => {
                        return Ok((pack_private_group(&account, room())?, at(state, cursor)));
                    }
                    Outcome::NotFound => {
                        state |= SHARED;
                        cursor = Cursor::default();
                    }
                    outcome => return Err(outcome),
                }
            }
            loop {
                let group = match table.next_group(&mut cursor) {
                    Lookup::Found(group) if group.origin() == GroupOrigin::Synthesized => group,
                    Lookup::Found(_) => continue,
                    Lookup::Absent => return Err(Outcome::NotFound),
                    Lookup::Busy => return Err(Outcome::Busy),
                };
                match pack_group(table, &group, room()) {
                    Err(Outcome::NotFound) => (), // gone meanwhile
                    packed => return Ok((packed?, at(state, cursor))),
                }
            }
        })
    }
}

/// The state that stands at a cursor.
fn at(state: u64, cursor: Cursor) -> u64 {
    state & (STARTED | LISTING | SHARED) | u64::from(cursor.position())
}

//! The entry points glibc calls, in its signatures: pointers become slices and rooms, outcomes become status and errno.
//! What is answered is decided elsewhere.

use core::ffi::{CStr, c_char, c_int, c_long};
use std::panic::{AssertUnwindSafe, catch_unwind};

use account_table::{Account, Lookup, Table, TooSmall};
use libc::{gid_t, size_t, uid_t};
use libnss::group::CGroup;
use libnss::interop::NssStatus;
use libnss::passwd::CPasswd;

use crate::answer::{self, Outcome};
use crate::enumerate::{GROUP, PASSWD};
use crate::room::Room;

/// Names longer than this are nobody's.
const LONGEST_NAME: usize = account_table::MAX_NAME;
/// More groups than this are read another way.
const USUAL_GROUPS: usize = 16;

/// Runs the body of an entry point and tells glibc what came of it. errno is set with TRYAGAIN alone, where glibc looks at it:
/// ERANGE makes it come back with a larger buffer, so nothing else may leave that there. In the module as shipped nothing can
/// panic (the linker finds no panic machinery to link), and a panic would end the process: its profile has nothing that could be
/// caught. In a build in which panics unwind one ends here, and "try again" is not a false answer.
#[inline(always)]
fn answer(errnop: *mut c_int, body: impl FnOnce() -> Outcome) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Outcome::Success) => NssStatus::Success as c_int,
        Ok(Outcome::NotFound) => NssStatus::NotFound as c_int,
        Ok(Outcome::TooSmall) => try_again(errnop, libc::ERANGE),
        Ok(Outcome::Busy) | Err(_) => try_again(errnop, libc::EAGAIN),
        Ok(Outcome::NoMemory) => try_again(errnop, libc::ENOMEM),
    }
}

#[cold]
fn try_again(errnop: *mut c_int, errno: c_int) -> c_int {
    if !errnop.is_null() {
        // SAFETY: glibc passes a valid pointer to an int, usually errno itself.
        unsafe { errnop.write(errno) };
    }
    NssStatus::TryAgain as c_int
}

/// Writes the answer where the caller wants it, and only a complete one.
///
/// # Safety
/// `result` must be valid for a write of `T`.
unsafe fn deliver<T>(result: *mut T, answer: Result<T, Outcome>) -> Outcome {
    match answer {
        Ok(value) => {
            // SAFETY: the caller of this function vouches for result.
            unsafe { result.write(value) };
            Outcome::Success
        }
        Err(outcome) => outcome,
    }
}

/// A name to look up; `None` for what cannot be one.
///
/// # Safety
/// `name` must be null or a NUL-terminated string that outlives the use of the slice.
unsafe fn name_of<'a>(name: *const c_char) -> Option<&'a [u8]> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and NUL-terminated as the caller vouches.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    (!name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}

/// # Safety
/// As getpwnam_r: a NUL-terminated name, `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getpwnam_r(
    name: *const c_char,
    result: *mut CPasswd,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above.
        let Some(name) = (unsafe { name_of(name) }) else {
            return Outcome::NotFound;
        };
        // SAFETY: as above; the buffer is ours alone during the call.
        let room = unsafe { Room::new(buffer, length) };
        let found = answer::account(|table, room| table.passwd_by_name(name, room), room);
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

/// # Safety
/// As getpwuid_r: `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getpwuid_r(
    uid: uid_t,
    result: *mut CPasswd,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above; the buffer is ours alone during the call.
        let room = unsafe { Room::new(buffer, length) };
        let found = answer::account(|table, room| table.passwd_by_uid(uid, room), room);
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

/// # Safety
/// As getgrnam_r: a NUL-terminated name, `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getgrnam_r(
    name: *const c_char,
    result: *mut CGroup,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above.
        let Some(name) = (unsafe { name_of(name) }) else {
            return Outcome::NotFound;
        };
        // SAFETY: as above; the buffer is ours alone during the call, and one room of it is in use at a time.
        let room = || unsafe { Room::new(buffer, length) };
        let found = answer::group_by_name(name, room);
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

/// # Safety
/// As getgrgid_r: `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getgrgid_r(
    gid: gid_t,
    result: *mut CGroup,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above; the buffer is ours alone, and one room of it is in use at a time.
        let room = || unsafe { Room::new(buffer, length) };
        let found = answer::group(
            |table, room| table.private_group_by_gid(gid, room),
            |table| table.shared_group_by_gid(gid),
            room,
        );
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

/// The supplementary groups of a user, of ours and of others, added to an array that grows as needed.
///
/// # Safety
/// `*groupsp` must be an array from malloc of `*size` gids of which `*start` are in use; all pointers valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_initgroups_dyn(
    user: *const c_char,
    primary: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above.
        let Some(user) = (unsafe { name_of(user) }) else {
            return Outcome::NotFound;
        };
        let Some(table) = answer::table() else {
            return Outcome::NotFound;
        };
        let mut gids = [0; USUAL_GROUPS];
        let found = match table.memberships_by_name(user, &mut gids) {
            Lookup::Found(Ok(found)) => gids.get(..found.count).unwrap_or_default(),
            Lookup::Found(Err(TooSmall)) => {
                // SAFETY: as above.
                return unsafe {
                    add_many_groups(&table, user, primary, start, size, groupsp, limit)
                };
            }
            Lookup::Absent => return Outcome::NotFound,
            Lookup::Busy => return Outcome::Busy,
        };
        for &gid in found {
            // SAFETY: as above.
            match unsafe { add_group(gid, primary, start, size, groupsp, limit) } {
                Outcome::Success => (),
                outcome => return outcome,
            }
        }
        Outcome::Success
    })
}

/// The groups of a user who has more than most; apart, for the sake of its stack frame.
///
/// # Safety
/// As [`_nss_teleport_initgroups_dyn`].
#[cold]
#[inline(never)]
unsafe fn add_many_groups(
    table: &Table,
    user: &[u8],
    primary: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
) -> Outcome {
    let mut account = Account::empty();
    match Outcome::from(table.find_user_by_name(user, &mut account)) {
        Outcome::Success => (),
        outcome => return outcome,
    }
    for membership in account.groups() {
        // SAFETY: as above.
        match unsafe { add_group(membership.gid, primary, start, size, groupsp, limit) } {
            Outcome::Success => (),
            outcome => return outcome,
        }
    }
    Outcome::Success
}

/// Adds one gid, unless it is the primary one, already there, or beyond the limit.
///
/// # Safety
/// As [`_nss_teleport_initgroups_dyn`].
unsafe fn add_group(
    gid: gid_t,
    primary: gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groupsp: *mut *mut gid_t,
    limit: c_long,
) -> Outcome {
    // SAFETY: the caller vouches for all three pointers and for `used` initialised gids behind the last.
    let (used, room, array) = unsafe { (*start, *size, *groupsp) };
    let Ok(filled) = usize::try_from(used) else {
        return Outcome::NoMemory;
    };
    let known = if array.is_null() {
        &[][..]
    } else {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(array, filled) }
    };
    if gid == primary || known.contains(&gid) || (limit > 0 && used >= limit) {
        return Outcome::Success;
    }
    let mut array = array;
    if used >= room {
        let wanted = room.saturating_mul(2).max(used.saturating_add(8));
        let wanted = if limit > 0 { wanted.min(limit) } else { wanted };
        let bytes = usize::try_from(wanted)
            .ok()
            .and_then(|wanted| wanted.checked_mul(size_of::<gid_t>()));
        let Some(bytes) = bytes else {
            return Outcome::NoMemory;
        };
        // SAFETY: the array came from malloc; after a failure the old one stays valid and in place.
        let grown = unsafe { libc::realloc(array.cast(), bytes) }.cast::<gid_t>();
        if grown.is_null() {
            return Outcome::NoMemory;
        }
        // SAFETY: as above.
        unsafe {
            *groupsp = grown;
            *size = wanted;
        }
        array = grown;
    }
    // SAFETY: used < *size now, so the element is within the array.
    unsafe {
        array.add(filled).write(gid);
        *start = used + 1;
    }
    Outcome::Success
}

#[unsafe(no_mangle)]
extern "C" fn _nss_teleport_setpwent(_stayopen: c_int) -> c_int {
    answer(core::ptr::null_mut(), || {
        PASSWD.start();
        Outcome::Success
    })
}

#[unsafe(no_mangle)]
extern "C" fn _nss_teleport_endpwent() -> c_int {
    PASSWD.end();
    NssStatus::Success as c_int
}

/// # Safety
/// As getpwent_r: `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getpwent_r(
    result: *mut CPasswd,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above; the buffer is ours alone, and one room of it is in use at a time.
        let found = PASSWD.next_account(|| unsafe { Room::new(buffer, length) });
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn _nss_teleport_setgrent(_stayopen: c_int) -> c_int {
    answer(core::ptr::null_mut(), || {
        GROUP.start();
        Outcome::Success
    })
}

#[unsafe(no_mangle)]
extern "C" fn _nss_teleport_endgrent() -> c_int {
    GROUP.end();
    NssStatus::Success as c_int
}

/// # Safety
/// As getgrent_r: `buffer` writable for `length` bytes, `result` and `errnop` valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn _nss_teleport_getgrent_r(
    result: *mut CGroup,
    buffer: *mut c_char,
    length: size_t,
    errnop: *mut c_int,
) -> c_int {
    answer(errnop, || {
        // SAFETY: glibc's contract, see above; the buffer is ours alone, and one room of it is in use at a time.
        let found = GROUP.next_group(|| unsafe { Room::new(buffer, length) });
        // SAFETY: as above.
        unsafe { deliver(result, found) }
    })
}

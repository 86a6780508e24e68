//! Answers in glibc's types: which accounts and groups are told, and how they are laid out in the caller's buffer.
//! Safe code; pointers come from `room` and are not followed.

use core::ffi::c_char;
use core::mem::MaybeUninit;
use core::ops::ControlFlow;

use account_table::{
    Account, Fitting, Group, GroupOrigin, Lookup, Passwd, PrivateGroup, Table, TableRef, TooSmall,
    process_table,
};
use libnss::group::CGroup;
use libnss::passwd::CPasswd;

use crate::enumerate::GROUP;
use crate::host;
use crate::room::Room;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    NotFound,
    /// The caller's buffer is too small: it comes back with a larger one.
    TooSmall,
    /// No answer now: never to be taken for "no such user".
    Busy,
    /// The array of groups could not grow.
    NoMemory,
}

/// What stands in the field of the password. For a user with sessions `*`: no password fits. For one that lingers `x`:
/// without a shadow entry that makes pam_unix take the account for locked, so that sudo and doas refuse the processes that
/// are left, whatever groups these were started with.
const fn password(is_locked: bool) -> &'static [u8] {
    if is_locked { b"x\0" } else { b"*\0" }
}

/// Either is as long.
const ANY_PASSWORD: &[u8] = password(false);
/// What `files` and nss-systemd say of groups: nobody looks a group's password up, and none fits.
const PASSWORD_OF_GROUPS: &[u8] = b"x\0";

/// The room for strings that leaves enough at its end for `last`. Whether anybody is there does not depend on the room: without
/// any, who is found does not fit.
#[inline(always)]
fn free_before<'a>(last: &[u8], free: &'a mut [MaybeUninit<u8>]) -> &'a mut [MaybeUninit<u8>] {
    let length = free.len().saturating_sub(last.len());
    free.get_mut(..length).unwrap_or_default()
}

/// How often a group that vanished while its members were listed is looked up again.
const ATTEMPTS: u32 = 16;

/// The table, unless this process is to see everybody but us.
pub(crate) fn table() -> Option<TableRef> {
    if host::is_bypassed() {
        None
    } else {
        process_table()
    }
}

impl From<Lookup<()>> for Outcome {
    fn from(lookup: Lookup<()>) -> Outcome {
        match lookup {
            Lookup::Found(()) => Outcome::Success,
            Lookup::Absent => Outcome::NotFound,
            Lookup::Busy => Outcome::Busy,
        }
    }
}

/// Looks an account up; the table writes its strings into the room.
#[inline(always)]
pub(crate) fn account(
    find: impl FnOnce(&Table, &mut [MaybeUninit<u8>]) -> Lookup<Fitting<Passwd>>,
    mut room: Room,
) -> Result<CPasswd, Outcome> {
    let table = table().ok_or(Outcome::NotFound)?;
    let free = free_before(ANY_PASSWORD, room.free(None));
    let strings = free.as_mut_ptr().cast::<c_char>();
    match find(&table, free) {
        Lookup::Found(Ok(found)) => {
            let [gecos, home, shell] = found.starts;
            Ok(CPasswd {
                name: strings,
                passwd: room
                    .bytes(password(found.is_locked))
                    .ok_or(Outcome::TooSmall)?,
                uid: found.uid,
                gid: found.gid,
                gecos: strings.wrapping_add(gecos),
                dir: strings.wrapping_add(home),
                shell: strings.wrapping_add(shell),
            })
        }
        Lookup::Found(Err(TooSmall)) => Err(Outcome::TooSmall),
        Lookup::Absent => Err(Outcome::NotFound),
        Lookup::Busy => Err(Outcome::Busy),
    }
}

pub(crate) fn pack_account(account: &Account, mut room: Room) -> Result<CPasswd, Outcome> {
    let strings = room
        .bytes(account.passwd_strings())
        .ok_or(Outcome::TooSmall)?;
    let passwd = room
        .bytes(password(account.locked()))
        .ok_or(Outcome::TooSmall)?;
    let mut start = 0;
    let mut next = |text: &[u8]| {
        start += text.len() + 1;
        strings.wrapping_add(start)
    };
    Ok(CPasswd {
        name: strings,
        passwd,
        uid: account.uid(),
        gid: account.gid(),
        gecos: next(account.login_bytes()),
        dir: next(account.gecos_bytes()),
        shell: next(account.home_bytes()),
    })
}

/// Whether we answer for a group when asked by name or gid. What others than `files` provide we must not hide from them, for we
/// stand before them; a group of `/etc/group` stands before us and is asked of us only to merge the members, or when it has been
/// deleted there while somebody still is in it.
fn is_answered(group: &Group) -> bool {
    match group.origin() {
        GroupOrigin::Synthesized | GroupOrigin::ForeignFiles => true,
        GroupOrigin::Foreign => false,
    }
}

/// Looks a group up by name. While groups are being listed, nss-systemd asks every other module, by name, for the groups that it
/// has met in memberships, and shows one more line for each member of those it finds. It has listed ours from userdb already.
pub(crate) fn group_by_name(name: &[u8], room: impl FnMut() -> Room) -> Result<CGroup, Outcome> {
    let found = group(
        |table, room| table.private_group_by_name(name, room),
        |table| table.shared_group_by_name(name),
        room,
    );
    match found {
        Ok(_) if GROUP.is_shared_with_systemd() && host::systemd_is_asking() => {
            Err(Outcome::NotFound)
        }
        found => found,
    }
}

/// Looks a group up and packs it: a private one by way of its user, else a shared one with its members.
pub(crate) fn group(
    find_private: impl FnOnce(&Table, &mut [MaybeUninit<u8>]) -> Lookup<Fitting<PrivateGroup>>,
    find_shared: impl Fn(&Table) -> Lookup<Group>,
    mut room: impl FnMut() -> Room,
) -> Result<CGroup, Outcome> {
    if let Some(group) = private_group(find_private, room())? {
        return Ok(group);
    }
    for _ in 0..ATTEMPTS {
        let table = table().ok_or(Outcome::NotFound)?;
        let group = match find_shared(&table) {
            Lookup::Found(group) if is_answered(&group) => group,
            Lookup::Found(_) | Lookup::Absent => return Err(Outcome::NotFound),
            Lookup::Busy => return Err(Outcome::Busy),
        };
        match pack_group(&table, &group, room()) {
            Err(Outcome::NotFound) => (), // gone while we looked at its members: is there one again?
            packed => return packed,
        }
    }
    Err(Outcome::Busy)
}

/// Looks a private group up; the table writes its name into the room.
#[inline(always)]
fn private_group(
    find: impl FnOnce(&Table, &mut [MaybeUninit<u8>]) -> Lookup<Fitting<PrivateGroup>>,
    mut room: Room,
) -> Result<Option<CGroup>, Outcome> {
    let table = table().ok_or(Outcome::NotFound)?;
    let array = room.array();
    let free = match &array {
        Some(array) => free_before(PASSWORD_OF_GROUPS, room.free(Some(array))),
        None => &mut [],
    };
    let name = free.as_mut_ptr().cast::<c_char>();
    match find(&table, free) {
        Lookup::Found(Ok(PrivateGroup { gid })) => Ok(Some(CGroup {
            name,
            passwd: room.bytes(PASSWORD_OF_GROUPS).ok_or(Outcome::TooSmall)?,
            gid,
            members: array
                .and_then(|array| room.finish(array))
                .ok_or(Outcome::TooSmall)?,
        })),
        Lookup::Found(Err(TooSmall)) => Err(Outcome::TooSmall),
        Lookup::Absent => Ok(None),
        Lookup::Busy => Err(Outcome::Busy),
    }
}

/// The group every user of ours has to itself; it lists no members, like those useradd makes.
pub(crate) fn pack_private_group(account: &Account, mut room: Room) -> Result<CGroup, Outcome> {
    let array = room.array().ok_or(Outcome::TooSmall)?;
    let name = room
        .string(account.login_bytes())
        .ok_or(Outcome::TooSmall)?;
    let passwd = room.bytes(PASSWORD_OF_GROUPS).ok_or(Outcome::TooSmall)?;
    let members = room.finish(array).ok_or(Outcome::TooSmall)?;
    Ok(CGroup {
        name,
        passwd,
        gid: account.gid(),
        members,
    })
}

pub(crate) fn pack_group(table: &Table, group: &Group, mut room: Room) -> Result<CGroup, Outcome> {
    let array = room.array().ok_or(Outcome::TooSmall)?;
    let mut string = |text: &[u8]| room.string(text).ok_or(Outcome::TooSmall);
    let name = string(group.name_bytes())?;
    let passwd = room.bytes(PASSWORD_OF_GROUPS).ok_or(Outcome::TooSmall)?;
    let mut fits = true;
    let listed = table.member_logins(group, |login| {
        // GetMemberships tells them.
        if host::is_userdb_worker() {
            return ControlFlow::Break(());
        }
        match room.string(login).and_then(|s| room.push(s)) {
            Some(()) => ControlFlow::Continue(()),
            None => {
                fits = false;
                ControlFlow::Break(())
            }
        }
    });
    match listed {
        Lookup::Found(()) if !fits => Err(Outcome::TooSmall),
        Lookup::Found(()) => {
            let members: *mut *mut c_char = room.finish(array).ok_or(Outcome::TooSmall)?;
            Ok(CGroup {
                name,
                passwd,
                gid: group.gid(),
                members,
            })
        }
        Lookup::Absent => Err(Outcome::NotFound),
        Lookup::Busy => Err(Outcome::Busy),
    }
}

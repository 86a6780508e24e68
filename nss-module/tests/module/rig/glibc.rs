//! What glibc answers, through nsswitch.conf and its own search for the module.
//! Thin wrappers; the process must have been put into its world before the first of them is called.

use std::ffi::{CString, c_char, c_int};
use std::{mem, ptr};

use super::entry_points::{Entry, Group, User};

fn with_buffer<T: Entry>(
    call: impl Fn(*mut T::Raw, *mut c_char, usize, *mut *mut T::Raw) -> c_int,
) -> Result<Option<T>, c_int> {
    let mut buffer = vec![0u8; 1 << 20];
    let mut raw = mem::MaybeUninit::<T::Raw>::uninit();
    let mut found = ptr::null_mut();
    let code = call(
        raw.as_mut_ptr(),
        buffer.as_mut_ptr().cast(),
        buffer.len(),
        &mut found,
    );
    if code != 0 {
        return Err(code);
    }
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: glibc has filled raw with pointers to NUL-terminated strings that live in buffer.
    Ok(Some(unsafe { T::of(&*found, &|_, _| ()) }))
}

pub(crate) fn user(name: &str) -> Result<Option<User>, c_int> {
    let name = CString::new(name).expect("a name");
    // SAFETY: all pointers are valid.
    with_buffer(|raw, buffer, length, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), raw, buffer, length, found)
    })
}

pub(crate) fn user_by_id(uid: u32) -> Result<Option<User>, c_int> {
    // SAFETY: all pointers are valid.
    with_buffer(|raw, buffer, length, found| unsafe {
        libc::getpwuid_r(uid, raw, buffer, length, found)
    })
}

pub(crate) fn group(name: &str) -> Result<Option<Group>, c_int> {
    let name = CString::new(name).expect("a name");
    // SAFETY: all pointers are valid.
    with_buffer(|raw, buffer, length, found| unsafe {
        libc::getgrnam_r(name.as_ptr(), raw, buffer, length, found)
    })
}

pub(crate) fn group_by_id(gid: u32) -> Result<Option<Group>, c_int> {
    // SAFETY: all pointers are valid.
    with_buffer(|raw, buffer, length, found| unsafe {
        libc::getgrgid_r(gid, raw, buffer, length, found)
    })
}

/// getpwnam, whose buffer is glibc's own and grows by itself.
pub(crate) fn has_user_in_static_buffer(name: &str) -> bool {
    let name = CString::new(name).expect("a name");
    // SAFETY: called by one thread only; the result is not followed.
    unsafe { !libc::getpwnam(name.as_ptr()).is_null() }
}

/// getgrnam likewise: the number of members.
pub(crate) fn members_in_static_buffer(name: &str) -> Option<usize> {
    let name = CString::new(name).expect("a name");
    // SAFETY: called by one thread only; the result is used before the next call.
    unsafe {
        let group = libc::getgrnam(name.as_ptr()).as_ref()?;
        Some(Group::of(group, &|_, _| ()).members.len())
    }
}

pub(crate) fn group_list(user: &str, primary: u32) -> Vec<u32> {
    let user = CString::new(user).expect("a name");
    let mut groups = vec![0; 1024];
    let mut count = groups.len() as c_int;
    // SAFETY: the array has room for `count` gids.
    let found =
        unsafe { libc::getgrouplist(user.as_ptr(), primary, groups.as_mut_ptr(), &mut count) };
    assert!(found >= 0, "more than a thousand groups");
    groups.truncate(count as usize);
    groups
}

pub(crate) fn all_users() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: called by one thread only; each entry is used before the next call.
    unsafe {
        libc::setpwent();
        while let Some(entry) = libc::getpwent().as_ref() {
            names.push(User::of(entry, &|_, _| ()).name);
        }
        libc::endpwent();
    }
    names
}

pub(crate) fn all_groups() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: called by one thread only; each entry is used before the next call.
    unsafe {
        libc::setgrent();
        while let Some(entry) = libc::getgrent().as_ref() {
            names.push(Group::of(entry, &|_, _| ()).name);
        }
        libc::endgrent();
    }
    names
}

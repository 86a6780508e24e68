//! Whose a file is, in a user namespace in which there is no root: the kernel shows the files of everybody who is not mapped
//! there as one UID's. docs/account-table.md says why the table is believed there.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use super::Unopened;

/// As whom the kernel shows those who are not mapped, unless it was told another. (Where it was, nobody is believed.)
const UNMAPPED: u32 = 65_534;
const ROOT: u32 = 0;

/// More than 31 ranges are not looked at.
const LONGEST_MAP: usize = 1024;
const LONGEST_PATH: usize = 128;

/// Whether a file at `path` that is shown as `found`'s is to be believed for `owner`'s: it is his, or it may be root's as far as
/// can be told. That is where the namespace has neither root nor the UID that stands for the unmapped, and the folders on the
/// path, too, belong to somebody who is not mapped and alone can write them.
#[inline]
pub(super) fn is_owned(found: u32, owner: u32, path: &CStr) -> Result<(), Unopened> {
    if found == owner {
        Ok(())
    } else if owner == ROOT && found == UNMAPPED {
        may_be_roots(path)
    } else {
        Err(Unopened::Absent)
    }
}

#[cold]
#[inline(never)]
fn may_be_roots(path: &CStr) -> Result<(), Unopened> {
    let path = path.to_bytes();
    for end in (1..path.len()).filter(|&end| path.get(end) == Some(&b'/')) {
        is_folder_of_the_unmapped(path.get(..end).unwrap_or_default())?;
    }
    let mut buffer = [0; LONGEST_MAP];
    let map = read_whole(c"/proc/self/uid_map", &mut buffer)?;
    absent_unless(has_none_of(map, [ROOT, UNMAPPED]))
}

fn absent_unless(believed: bool) -> Result<(), Unopened> {
    if believed {
        Ok(())
    } else {
        Err(Unopened::Absent)
    }
}

fn is_folder_of_the_unmapped(path: &[u8]) -> Result<(), Unopened> {
    let mut name = [0; LONGEST_PATH];
    absent_unless(path.len() < name.len())?;
    for (to, &byte) in name.iter_mut().zip(path) {
        *to = byte;
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is shorter than the name, so a NUL ends it; stat points to room for one struct stat.
    if unsafe { libc::lstat(name.as_ptr().cast(), stat.as_mut_ptr()) } != 0 {
        return Err(Unopened::from_errno());
    }
    // SAFETY: lstat succeeded and has filled it.
    let stat = unsafe { stat.assume_init() };
    let writable_by_others = stat.st_mode & (libc::S_IWGRP | libc::S_IWOTH) != 0;
    let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    absent_unless(is_folder && stat.st_uid == UNMAPPED && !writable_by_others)
}

/// What is in a file; one that the buffer does not hold is as good as none.
fn read_whole<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Unopened> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
    // Through syscall(), as the table itself: no cancellation points.
    // SAFETY: the path is NUL-terminated and lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }
        as libc::c_int;
    if fd < 0 {
        return Err(Unopened::from_errno());
    }
    let mut filled = 0;
    let read = loop {
        let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) else {
            break Err(Unopened::Absent);
        };
        // SAFETY: free is writable for its length.
        match unsafe { libc::syscall(libc::SYS_read, fd, free.as_mut_ptr(), free.len()) } {
            0 => break Ok(()),
            count if count > 0 => filled += count as usize,
            _ => break Err(Unopened::from_errno()),
        }
    };
    // SAFETY: fd was opened above and is used no more.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    read.map(|()| buffer.get(..filled).unwrap_or_default())
}

/// Whether a uid_map has ranges and none of `uids` in them. Each line: the first UID in here, the first outside, how many.
/// A namespace without any is still being set up.
pub(super) fn has_none_of(map: &[u8], uids: [u32; 2]) -> bool {
    let Some(lines) = map.strip_suffix(b"\n") else {
        return false;
    };
    lines.split(|&byte| byte == b'\n').all(|line| {
        let mut numbers = line
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty())
            .map(number);
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let (Some(Some(first)), Some(Some(count)), None) = (first, count, numbers.next()) else {
            return false;
        };
        let range = u64::from(first)..u64::from(first) + u64::from(count);
        uids.iter().all(|&uid| !range.contains(&u64::from(uid)))
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, &digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

//! Whether a user exists, by the reentrant lookup of the C library.
//! One question only: who provides the user is not known here.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::ptr;

/// Largest entry a lookup gets room for.
const LARGEST: usize = 1 << 20;

/// How often a lookup that a signal has interrupted is made again: a program may have a timer that fires for as long as it runs.
const INTERRUPTED: usize = 16;

/// True if getpwnam finds the user; a failing lookup does not.
pub(crate) fn user_exists(login: &str) -> bool {
    let Ok(login) = CString::new(login) else {
        return false;
    };
    is_found(|room| {
        let mut buffer = vec![0u8; room];
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found: *mut libc::passwd = ptr::null_mut();
        // SAFETY: the name is NUL-terminated; entry, buffer and result can be written and have the sizes
        // said; nothing of them is used but whether `found` is null.
        let error = unsafe {
            libc::getpwnam_r(
                login.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut found,
            )
        };
        match error {
            0 => Ok(!found.is_null()),
            error => Err(error),
        }
    })
}

/// What `look`, which is given more room and more time where it needs some, finds in the end; it says an error number otherwise.
fn is_found(mut look: impl FnMut(usize) -> Result<bool, i32>) -> bool {
    let (mut room, mut interrupted) = (4096, 0);
    while room <= LARGEST && interrupted <= INTERRUPTED {
        match look(room) {
            Ok(is_found) => return is_found,
            Err(libc::ERANGE) => room *= 4,
            Err(libc::EINTR) => interrupted += 1,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_exists_and_a_name_nobody_has_does_not() {
        assert!(user_exists("root"));
        assert!(!user_exists("no-such-user-here"));
        assert!(!user_exists("ro\0ot"));
    }

    #[test]
    fn a_lookup_is_made_again_with_more_room_or_after_a_signal_but_not_for_ever() {
        let mut errors = [libc::ERANGE, libc::EINTR, libc::EINTR].into_iter();
        assert!(is_found(|_| errors.next().map_or(Ok(true), Err)));
        for error in [libc::ERANGE, libc::EINTR, libc::EIO] {
            let mut looks = 0;
            let look = |_| {
                looks += 1;
                Err(error)
            };
            assert!(!is_found(look));
            assert!(looks <= INTERRUPTED + 1, "{error}: {looks}");
        }
    }
}

//! Whether a user exists, by the reentrant lookup of the C library.
//! One question only: who provides the user is not known here.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::ptr;

/// Largest entry a lookup gets room for.
const LARGEST: usize = 1 << 20;

/// True if getpwnam finds the user; a failing lookup does not.
pub(crate) fn user_exists(login: &str) -> bool {
    let Ok(login) = CString::new(login) else {
        return false;
    };
    let mut room = 4096;
    while room <= LARGEST {
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
            0 => return !found.is_null(),
            libc::ERANGE => room *= 4,
            libc::EINTR => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::user_exists;

    #[test]
    fn root_exists_and_a_name_nobody_has_does_not() {
        assert!(user_exists("root"));
        assert!(!user_exists("no-such-user-here"));
        assert!(!user_exists("ro\0ot"));
    }
}

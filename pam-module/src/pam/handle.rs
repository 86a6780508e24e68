//! A PAM transaction as safe code sees it: items, environment, conversation, log.
//! Only wrappers of single libpam calls.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use libpam_sys::{self as sys, pam_handle};

use crate::text::printable;

/// libpam's handle, for the time of one call into the module.
#[derive(Debug)]
pub(crate) struct Handle<'h> {
    raw: NonNull<pam_handle>,
    // Neither Send nor Sync: a transaction belongs to the thread that is in it.
    _transaction: PhantomData<&'h mut pam_handle>,
}

/// How something is said to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Style {
    Error = sys::PAM_ERROR_MSG,
    Info = sys::PAM_TEXT_INFO,
}

/// How loudly something is said to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Priority {
    Critical = libc::LOG_CRIT,
    Error = libc::LOG_ERR,
    Warning = libc::LOG_WARNING,
    Notice = libc::LOG_NOTICE,
    Debug = libc::LOG_DEBUG,
}

impl Handle<'_> {
    /// # Safety
    /// `raw` is null or a handle libpam has passed to this module, and stays valid for the lifetime.
    pub(super) unsafe fn new(raw: *mut pam_handle) -> Option<Self> {
        Some(Self {
            raw: NonNull::new(raw)?,
            _transaction: PhantomData,
        })
    }

    pub(super) fn raw(&self) -> *mut pam_handle {
        self.raw.as_ptr()
    }

    /// PAM_USER; None where the program has named nobody. Never asks the person.
    pub(crate) fn user(&self) -> Option<Vec<u8>> {
        self.text_item(sys::PAM_USER)
    }

    /// PAM_SERVICE.
    pub(crate) fn service(&self) -> Option<Vec<u8>> {
        self.text_item(sys::PAM_SERVICE)
    }

    /// PAM_TTY.
    pub(crate) fn tty(&self) -> Option<Vec<u8>> {
        self.text_item(sys::PAM_TTY)
    }

    /// Sets PAM_USER; false if it holds a NUL or libpam will not have it.
    pub(crate) fn set_user(&self, user: &str) -> bool {
        let Ok(user) = CString::new(user) else {
            return false;
        };
        // SAFETY: the handle is valid, the string is NUL-terminated; libpam copies it.
        let code = unsafe { sys::pam_set_item(self.raw(), sys::PAM_USER, user.as_ptr().cast()) };
        code == sys::PAM_SUCCESS
    }

    /// The PAM environment, entry by entry ("NAME=value"); None where libpam has no memory for a copy (one without entries is a
    /// list of none). Never that of the process.
    pub(crate) fn environment(&self) -> Option<Vec<Vec<u8>>> {
        // SAFETY: the handle is valid.
        let list = unsafe { sys::pam_getenvlist(self.raw()) };
        if list.is_null() {
            return None;
        }
        let mut entries = Vec::new();
        let mut next = list;
        loop {
            // SAFETY: the list ends with a null pointer, and `next` has not passed it.
            let entry = unsafe { *next };
            if entry.is_null() {
                break;
            }
            // SAFETY: an entry is a NUL-terminated string that is ours to read and to free.
            entries.push(unsafe { CStr::from_ptr(entry) }.to_bytes().to_vec());
            // SAFETY: libpam made the entry with malloc and has given it to us; it was copied.
            unsafe { libc::free(entry.cast()) };
            // SAFETY: the entry was not the last one, so there is one more element.
            next = unsafe { next.add(1) };
        }
        // SAFETY: libpam made the list with malloc and has given it to us.
        unsafe { libc::free(list.cast()) };
        Some(entries)
    }

    /// Says a text to the person. What the program makes of it is its own affair.
    pub(crate) fn tell(&self, style: Style, text: &str) {
        let text = c_string(text);
        // SAFETY: the handle is valid, format and text are NUL-terminated, "%s" takes one string, and no
        // response is asked for.
        unsafe {
            sys::pam_prompt(
                self.raw(),
                style as c_int,
                ptr::null_mut(),
                c"%s".as_ptr(),
                text.as_ptr(),
            )
        };
    }

    /// Writes a text to the system log, with service and phase before it.
    pub(crate) fn log(&self, priority: Priority, text: &str) {
        let text = c_string(text);
        // SAFETY: the handle is valid, format and text are NUL-terminated, "%s" takes one string.
        unsafe { sys::pam_syslog(self.raw(), priority as c_int, c"%s".as_ptr(), text.as_ptr()) };
    }

    /// What the guard has to say of a panic.
    pub(super) fn log_internal_error(&self, why: &str) {
        self.log(
            Priority::Critical,
            &printable(&format!("internal error, please report it: {why}")),
        );
    }

    fn text_item(&self, item: c_int) -> Option<Vec<u8>> {
        let mut value: *const c_void = ptr::null();
        // SAFETY: the handle is valid and `value` can be written.
        let code = unsafe { sys::pam_get_item(self.raw(), item, &mut value) };
        if code != sys::PAM_SUCCESS || value.is_null() {
            return None;
        }
        // SAFETY: the items asked for here are NUL-terminated strings; copied before anybody sets them anew.
        Some(
            unsafe { CStr::from_ptr(value.cast::<c_char>()) }
                .to_bytes()
                .to_vec(),
        )
    }
}

/// The text up to its first NUL. (Texts have been escaped and hold none.)
fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

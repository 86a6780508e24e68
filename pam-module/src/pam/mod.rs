//! Everything that is unsafe: libpam's handle, its module data, the guard around the entry points, passwd, descriptors by number.
//! Raw pointers end in this folder; what is decided about logins must not enter it.

mod data;
mod descriptor;
mod guard;
mod handle;
mod passwd;

pub(crate) use data::{Ending, ModuleData};
pub(crate) use descriptor::look;
pub(crate) use handle::{Handle, Priority, Style};
pub(crate) use passwd::user_exists;

use std::ffi::{CStr, c_char, c_int};

use libpam_sys::{self as sys, pam_handle};

/// The answers this module gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    Success = sys::PAM_SUCCESS,
    Ignore = sys::PAM_IGNORE,
    PermDenied = sys::PAM_PERM_DENIED,
    SessionErr = sys::PAM_SESSION_ERR,
    AuthinfoUnavail = sys::PAM_AUTHINFO_UNAVAIL,
    SystemErr = sys::PAM_SYSTEM_ERR,
    BufErr = sys::PAM_BUF_ERR,
}

/// What an entry point was called with.
#[derive(Debug)]
pub(crate) struct Call<'h> {
    /// The transaction.
    pub(crate) handle: Handle<'h>,
    /// PAM_SILENT: say nothing to the person.
    pub(crate) silent: bool,
    /// Arguments of the line in the service's file.
    pub(crate) arguments: Vec<String>,
}

/// Runs `body` for an entry point: no panic leaves it (`on_panic` is answered then), errno stays as it was.
///
/// # Safety
/// `handle` is the handle libpam called the entry point with, or null; `argv` has `argc` strings.
pub(crate) unsafe fn enter(
    handle: *mut pam_handle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
    on_panic: Code,
    body: impl FnOnce(&mut Call<'_>) -> Code,
) -> c_int {
    let body = || {
        // SAFETY: the caller's promise; the handle outlives the entry point.
        let Some(handle) = (unsafe { Handle::new(handle) }) else {
            return Code::SystemErr;
        };
        // SAFETY: the caller's promise.
        let arguments = unsafe { strings(argc, argv) };
        let silent = flags & sys::PAM_SILENT != 0;
        body(&mut Call {
            handle,
            silent,
            arguments,
        })
    };
    let report = |why: &str| {
        // SAFETY: the caller's promise; the handle outlives the entry point.
        if let Some(handle) = unsafe { Handle::new(handle) } {
            handle.log_internal_error(why);
        }
    };
    guard::guarded(body, report).unwrap_or(on_panic) as c_int
}

/// Copies the arguments of an entry point.
///
/// # Safety
/// `argv` is null or has `argc` elements, each null or a NUL-terminated string.
unsafe fn strings(argc: c_int, argv: *const *const c_char) -> Vec<String> {
    let count = usize::try_from(argc).unwrap_or(0);
    if argv.is_null() {
        return Vec::new();
    }
    (0..count)
        .filter_map(|index| {
            // SAFETY: index < argc, the caller's promise about the array.
            let argument = unsafe { *argv.add(index) };
            // SAFETY: not null, so a NUL-terminated string by the caller's promise.
            (!argument.is_null()).then(|| unsafe { CStr::from_ptr(argument) })
        })
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

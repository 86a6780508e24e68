//! `pam_teleport.so`: the six entry points libpam looks for, and nothing else.
//! What they do is in `run` (the shell) and `phases` (the decisions); what is unsafe is in `pam`.

mod arguments;
mod elsewhere;
mod pam;
mod phases;
mod run;
mod text;
mod tty;

use std::ffi::{c_char, c_int};

use libpam_sys::pam_handle;

use crate::pam::Code;

#[cfg(panic = "abort")]
compile_error!(
    "pam_teleport.so catches panics before they reach the login program: build it with panic = \"unwind\""
);

/// Account phase: reserves the login, so that it resolves from now on.
///
/// # Safety
/// To be called by libpam, as every function here: with its handle and an array of `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_acct_mgmt(
    handle: *mut pam_handle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's promise about its arguments is passed on as it is.
    unsafe { pam::enter(handle, flags, argc, argv, Code::SystemErr, run::account) }
}

/// Session phase: the reservation becomes a session.
///
/// # Safety
/// As for `pam_sm_acct_mgmt`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_open_session(
    handle: *mut pam_handle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's promise about its arguments is passed on as it is.
    unsafe {
        pam::enter(
            handle,
            flags,
            argc,
            argv,
            Code::SessionErr,
            run::open_session,
        )
    }
}

/// The session ends. Never an error: the session is over whatever is said here.
///
/// # Safety
/// As for `pam_sm_acct_mgmt`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_close_session(
    handle: *mut pam_handle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: libpam's promise about its arguments is passed on as it is.
    unsafe { pam::enter(handle, flags, argc, argv, Code::Success, run::close_session) }
}

/// Says nothing about who somebody is.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_authenticate(
    _handle: *mut pam_handle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    Code::Ignore as c_int
}

/// Has no credentials to set.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_setcred(
    _handle: *mut pam_handle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    Code::Ignore as c_int
}

/// Has no passwords to change.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_chauthtok(
    _handle: *mut pam_handle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    Code::Ignore as c_int
}

//! A program that logs somebody in: one PAM transaction, what it is told, and what it answers.
//! Only wrappers of single libpam calls.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

use libpam_sys::{self as sys, pam_conv, pam_handle, pam_message, pam_response};

/// One transaction. Not ended by itself: how it ends is what tests are about.
pub(crate) struct Login {
    handle: *mut pam_handle,
    // libpam copies pam_conv but keeps the pointer to what was said.
    said: Box<RefCell<Vec<(c_int, String)>>>,
}

impl Login {
    pub(crate) fn start(service: &str, user: &str, services: &CStr) -> Self {
        let service = CString::new(service).expect("no NUL in a service");
        let user = CString::new(user).expect("no NUL in a user");
        let said = Box::new(RefCell::new(Vec::new()));
        let mut conversation = pam_conv {
            conv: hear,
            appdata_ptr: ptr::from_ref(&*said).cast_mut().cast(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: all strings are NUL-terminated, `handle` can be written, and what the conversation
        // points to lives in a box as long as the handle is used.
        let code = unsafe {
            sys::pam_start_confdir(
                service.as_ptr(),
                user.as_ptr(),
                &mut conversation,
                services.as_ptr(),
                &mut handle,
            )
        };
        assert_eq!(code, sys::PAM_SUCCESS, "pam_start_confdir");
        Self { handle, said }
    }

    pub(crate) fn put(&self, variable: impl AsRef<[u8]>) {
        let variable = CString::new(variable.as_ref()).expect("no NUL in a variable");
        // SAFETY: the handle is live and the string NUL-terminated.
        let code = unsafe { sys::pam_putenv(self.handle, variable.as_ptr()) };
        assert_eq!(code, sys::PAM_SUCCESS, "pam_putenv");
    }

    pub(crate) fn set(&self, item: c_int, value: &str) {
        let value = CString::new(value).expect("no NUL in an item");
        // SAFETY: the handle is live and the string NUL-terminated.
        let code = unsafe { sys::pam_set_item(self.handle, item, value.as_ptr().cast()) };
        assert_eq!(code, sys::PAM_SUCCESS, "pam_set_item");
    }

    pub(crate) fn user(&self) -> String {
        let mut user: *const c_void = ptr::null();
        // SAFETY: the handle is live and `user` can be written.
        let code = unsafe { sys::pam_get_item(self.handle, sys::PAM_USER, &mut user) };
        assert_eq!(code, sys::PAM_SUCCESS, "pam_get_item");
        // SAFETY: PAM_USER is set in every test and is a NUL-terminated string.
        unsafe { CStr::from_ptr(user.cast()) }
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn account(&self) -> c_int {
        self.account_with(0)
    }

    pub(crate) fn account_with(&self, flags: c_int) -> c_int {
        // SAFETY: the handle is live.
        unsafe { sys::pam_acct_mgmt(self.handle, flags) }
    }

    pub(crate) fn open(&self) -> c_int {
        // SAFETY: the handle is live.
        unsafe { sys::pam_open_session(self.handle, 0) }
    }

    pub(crate) fn close(&self) -> c_int {
        // SAFETY: the handle is live.
        unsafe { sys::pam_close_session(self.handle, 0) }
    }

    /// authenticate, setcred, chauthtok.
    pub(crate) fn others(&self) -> [c_int; 3] {
        // SAFETY: the handle is live.
        unsafe {
            [
                sys::pam_authenticate(self.handle, 0),
                sys::pam_setcred(self.handle, sys::PAM_ESTABLISH_CRED),
                sys::pam_chauthtok(self.handle, 0),
            ]
        }
    }

    /// pam_end. The handle is not to be used again in this process.
    pub(crate) fn end(&self, status: c_int) {
        // SAFETY: the handle is live, and each test ends it once in a process.
        let code = unsafe { sys::pam_end(self.handle, status) };
        assert_eq!(code, sys::PAM_SUCCESS, "pam_end");
    }

    /// What was said so far in this style.
    pub(crate) fn told(&self, style: c_int) -> Vec<String> {
        let said = self.said.borrow();
        let told = said.iter().filter(|(s, _)| *s == style);
        told.map(|(_, text)| text.clone()).collect()
    }
}

/// The conversation: listens, and has nothing to say.
unsafe extern "C" fn hear(
    count: c_int,
    messages: *const *const pam_message,
    responses: *mut *mut pam_response,
    said: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).expect("libpam counts from zero");
    // SAFETY: `said` is the RefCell that Login::start has passed to libpam.
    let said = unsafe { &*said.cast::<RefCell<Vec<(c_int, String)>>>() };
    for index in 0..count {
        // SAFETY: libpam passes `count` pointers to messages with NUL-terminated texts.
        let (style, text) = unsafe {
            let message = &**messages.add(index);
            (message.msg_style, CStr::from_ptr(message.msg))
        };
        said.borrow_mut()
            .push((style, text.to_string_lossy().into_owned()));
    }
    // SAFETY: libpam frees the array with free().
    unsafe { *responses = libc::calloc(count, size_of::<pam_response>()).cast() };
    sys::PAM_SUCCESS
}

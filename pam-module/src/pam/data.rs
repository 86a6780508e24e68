//! What the module keeps in a PAM handle from one call to the next, and what becomes of it at pam_end.
//! It does not know what is kept.

use std::cell::RefCell;
use std::ffi::{CString, c_int, c_void};
use std::ptr;

use libpam_sys::{self as sys, pam_handle};

use super::guard::guarded;
use super::handle::Handle;

/// Something kept in a handle.
pub(crate) trait ModuleData: Sized + 'static {
    /// The handle ends, or drops this copy of it.
    fn end(&mut self, handle: &Handle<'_>, ending: Ending);
}

/// How a handle lets go of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// pam_end: the transaction is over.
    Over,
    /// pam_end with PAM_DATA_SILENT: a copy of the process lets go of its copy of the handle.
    Silent,
    /// pam_set_data has put something else in its place.
    Replaced,
}

impl Ending {
    fn from_status(status: c_int) -> Self {
        if status & sys::PAM_DATA_REPLACE != 0 {
            Ending::Replaced
        } else if status & sys::PAM_DATA_SILENT != 0 {
            Ending::Silent
        } else {
            Ending::Over
        }
    }
}

impl Handle<'_> {
    /// What is kept in this handle, if anything.
    pub(crate) fn data<T: ModuleData>(&self) -> Option<&RefCell<T>> {
        let mut data: *const c_void = ptr::null();
        // SAFETY: the handle is valid, the name NUL-terminated, `data` can be written.
        let code = unsafe { sys::pam_get_data(self.raw(), name::<T>().as_ptr(), &mut data) };
        if code != sys::PAM_SUCCESS {
            return None;
        }
        // SAFETY: the name holds the address of release::<T>, so only set_data::<T> below, of this very
        // copy of the module, can have stored it. It is freed by `release` alone, which libpam calls at
        // pam_end or in set_data, and both need the handle that is borrowed here.
        unsafe { data.cast::<RefCell<T>>().as_ref() }
    }

    /// Keeps `value` until pam_end; false if libpam has no memory for it.
    pub(crate) fn set_data<T: ModuleData>(&mut self, value: T) -> bool {
        let data = Box::into_raw(Box::new(RefCell::new(value)));
        // SAFETY: the handle is valid, the name NUL-terminated and copied; `release::<T>` takes what
        // `data` points to.
        let code = unsafe {
            sys::pam_set_data(self.raw(), name::<T>().as_ptr(), data.cast(), release::<T>)
        };
        if code == sys::PAM_SUCCESS {
            return true;
        }
        // SAFETY: libpam has not taken the data, so it is still ours alone.
        drop(unsafe { Box::from_raw(data) });
        false
    }
}

/// The name data of type T has in a handle: with the address of its clean-up, so that two copies of the
/// module in one process (an upgrade between two logins) never read each other's.
fn name<T: ModuleData>() -> CString {
    let clean_up: sys::aliases::CleanupCallback = release::<T>;
    CString::new(format!("pam_teleport.{:x}", clean_up as usize)).unwrap_or_default()
}

/// libpam's clean-up call.
///
/// # Safety
/// `data` comes from `set_data::<T>` and is passed here once.
unsafe extern "C" fn release<T: ModuleData>(
    handle: *mut pam_handle,
    data: *mut c_void,
    status: c_int,
) {
    let body = || {
        if data.is_null() {
            return;
        }
        // SAFETY: the caller's promise: made by Box::into_raw in set_data::<T>, not yet freed.
        let data = unsafe { Box::from_raw(data.cast::<RefCell<T>>()) };
        // SAFETY: libpam passes the handle that is ending; it is valid until the clean-up is over.
        if let Some(handle) = unsafe { Handle::new(handle) } {
            data.into_inner().end(&handle, Ending::from_status(status));
        }
    };
    let report = |why: &str| {
        // SAFETY: as above.
        if let Some(handle) = unsafe { Handle::new(handle) } {
            handle.log_internal_error(why);
        }
    };
    // Nobody is told how a clean-up went.
    let _ = guarded(body, report);
}

#[cfg(test)]
mod tests {
    use super::{Ending, sys};

    #[test]
    fn a_replaced_or_silent_ending_is_told_from_the_real_one() {
        assert_eq!(Ending::from_status(sys::PAM_SUCCESS), Ending::Over);
        assert_eq!(Ending::from_status(sys::PAM_SESSION_ERR), Ending::Over);
        assert_eq!(
            Ending::from_status(sys::PAM_SUCCESS | sys::PAM_DATA_SILENT),
            Ending::Silent
        );
        assert_eq!(
            Ending::from_status(sys::PAM_DATA_REPLACE | sys::PAM_DATA_SILENT),
            Ending::Replaced
        );
    }
}

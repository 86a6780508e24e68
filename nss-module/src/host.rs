//! What the module takes from the process it is loaded into: one environment variable, once, and the head of nsswitch.conf.

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicU8, Ordering};

const SERVICE: &[u8] = b"com.goteleport.DynamicUser";
/// What systemd-userdbd forbids its workers to ask, because asking it is their own work.
const NSS_BY_USERDB: &[u8] = b"io.systemd.NameServiceSwitch";

unsafe extern "C" {
    /// As getenv, but finds nothing under AT_SECURE: a privileged program must not follow its caller's environment.
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

const UNKNOWN: u8 = 0;
const ANSWERING: u8 = 1;
const BYPASSED: u8 = 2;
const USERDB_WORKER: u8 = 3;

/// Whether this process asked to see everybody but us, as our own daemons do.
pub(crate) fn is_bypassed() -> bool {
    state() == BYPASSED
}

/// Whether this process is a worker of systemd-userdbd. Whatever it asks us, it asks our userdb socket as well, and tells its
/// callers both where lists are concerned.
pub(crate) fn is_userdb_worker() -> bool {
    state() == USERDB_WORKER
}

/// Decided once: the environment may be changed by another thread while it is read.
fn state() -> u8 {
    static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
    match STATE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let state = state_by_environment();
            STATE.store(state, Ordering::Relaxed);
            state
        }
        state => state,
    }
}

#[cold]
fn state_by_environment() -> u8 {
    // SAFETY: the name is NUL-terminated.
    let value = unsafe { secure_getenv(c"SYSTEMD_BYPASS_USERDB".as_ptr()) };
    if value.is_null() {
        return ANSWERING;
    }
    // SAFETY: secure_getenv gave a NUL-terminated string.
    let value = unsafe { CStr::from_ptr(value) };
    let names = |wanted| {
        let mut services = value.to_bytes().split(|&byte| byte == b':');
        services.any(|service| service == wanted)
    };
    if names(SERVICE) {
        BYPASSED
    } else if names(NSS_BY_USERDB) {
        USERDB_WORKER
    } else {
        ANSWERING
    }
}

/// Whether this thread is inside nss-systemd, which asks the other modules with itself blocked.
#[cold]
pub(crate) fn systemd_is_asking() -> bool {
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
    // SAFETY: the name is NUL-terminated; nothing is loaded, only what is loaded already is found.
    let module = unsafe { libc::dlopen(c"libnss_systemd.so.2".as_ptr(), flags) };
    if module.is_null() {
        return false;
    }
    // SAFETY: the handle is open, the name NUL-terminated.
    let symbol = unsafe { libc::dlsym(module, c"_nss_systemd_is_blocked".as_ptr()) };
    let blocked = if symbol.is_null() {
        false
    } else {
        // SAFETY: systemd exports it with this type, for modules in exactly our place, since version 247.
        let is_blocked: extern "C" fn() -> bool = unsafe { core::mem::transmute(symbol) };
        is_blocked()
    };
    // SAFETY: the handle was opened above; the module stays loaded as long as glibc needs it.
    unsafe { libc::dlclose(module) };
    blocked
}

/// Shows the lines of a file in order, as many at a time as `buffer` holds; `None` if the file cannot be read to its end, or has a
/// longer line. The buffer is small, for threads with hardly a stack.
pub(crate) fn show_lines(
    path: &CStr,
    buffer: &mut [u8],
    mut show: impl FnMut(&[u8]),
) -> Option<()> {
    // Through syscall(), which unlike open() and read() is no cancellation point.
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }
        as c_int;
    if fd < 0 {
        return None;
    }
    let mut filled = 0;
    let shown = loop {
        let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) else {
            break None;
        };
        // SAFETY: free is writable for its length.
        match unsafe { libc::syscall(libc::SYS_read, fd, free.as_mut_ptr(), free.len()) } {
            0 => break buffer.get(..filled).map(&mut show),
            count if count > 0 => filled += count as usize,
            _ => break None,
        }
        let text = buffer.get(..filled).unwrap_or_default();
        let Some(end) = text.iter().rposition(|&byte| byte == b'\n') else {
            continue;
        };
        show(text.get(..end).unwrap_or_default());
        // What the last line begins with, to the front.
        let rest = filled - end - 1;
        for at in 0..rest {
            if let Some(byte) = buffer.get(end + 1 + at).copied()
                && let Some(to) = buffer.get_mut(at)
            {
                *to = byte;
            }
        }
        filled = rest;
    };
    // SAFETY: fd was opened above and is used no more.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    shown
}

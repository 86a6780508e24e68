//! libpam, loaded as Teleport loads it: dlopen of `libpam.so.0`, functions by name. All unsafe calls into it are here.
//! In which order the functions are called is not of this place.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a PAM code that says everything is well.
pub(crate) const SUCCESS: Code = Code(0);

const ESTABLISH_CRED: c_int = 2;
const CONV_ERR: c_int = 19;
const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

/// Names of the codes of Linux-PAM, by number.
const NAMES: [&str; 32] = [
    "SUCCESS",
    "OPEN_ERR",
    "SYMBOL_ERR",
    "SERVICE_ERR",
    "SYSTEM_ERR",
    "BUF_ERR",
    "PERM_DENIED",
    "AUTH_ERR",
    "CRED_INSUFFICIENT",
    "AUTHINFO_UNAVAIL",
    "USER_UNKNOWN",
    "MAXTRIES",
    "NEW_AUTHTOK_REQD",
    "ACCT_EXPIRED",
    "SESSION_ERR",
    "CRED_UNAVAIL",
    "CRED_EXPIRED",
    "CRED_ERR",
    "NO_MODULE_DATA",
    "CONV_ERR",
    "AUTHTOK_ERR",
    "AUTHTOK_RECOVERY_ERR",
    "AUTHTOK_LOCK_BUSY",
    "AUTHTOK_DISABLE_AGING",
    "TRY_AGAIN",
    "IGNORE",
    "ABORT",
    "AUTHTOK_EXPIRED",
    "MODULE_UNKNOWN",
    "BAD_ITEM",
    "CONV_AGAIN",
    "INCOMPLETE",
];

/// What a PAM function returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(c_int);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0)
            .ok()
            .and_then(|index| NAMES.get(index))
        {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    unused: c_int,
}

type Talk =
    unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    talk: Talk,
    data: *mut c_void,
}

type Start = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const Conversation,
    *mut *mut c_void,
) -> c_int;
type Phase = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type PutEnv = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
type GetEnvList = unsafe extern "C" fn(*mut c_void) -> *mut *mut c_char;
type StrError = unsafe extern "C" fn(*mut c_void, c_int) -> *const c_char;

/// The functions of libpam. It stays loaded until the process ends.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    start: Start,
    put_env: PutEnv,
    get_env_list: GetEnvList,
    authenticate: Phase,
    set_cred: Phase,
    change_token: Phase,
    account: Phase,
    open: Phase,
    close: Phase,
    end: Phase,
    str_error: StrError,
}

impl Library {
    /// Loads libpam; the error is the sentence of the dynamic linker.
    pub(crate) fn load() -> Result<Library, String> {
        // SAFETY: a constant, NUL-terminated name; libpam's constructors have no demands on the caller.
        let handle = unsafe { libc::dlopen(c"libpam.so.0".as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return Err(linker_error());
        }
        let find = |name: &CStr| {
            // SAFETY: `handle` is a loaded object that is never closed, `name` is NUL-terminated.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if symbol.is_null() {
                Err(linker_error())
            } else {
                Ok(symbol)
            }
        };
        // SAFETY: the symbols are not null and have the types that Linux-PAM's headers give these names.
        unsafe {
            Ok(Library {
                start: std::mem::transmute::<*mut c_void, Start>(find(c"pam_start")?),
                put_env: std::mem::transmute::<*mut c_void, PutEnv>(find(c"pam_putenv")?),
                get_env_list: std::mem::transmute::<*mut c_void, GetEnvList>(find(
                    c"pam_getenvlist",
                )?),
                authenticate: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_authenticate")?),
                set_cred: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_setcred")?),
                change_token: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_chauthtok")?),
                account: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_acct_mgmt")?),
                open: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_open_session")?),
                close: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_close_session")?),
                end: std::mem::transmute::<*mut c_void, Phase>(find(c"pam_end")?),
                str_error: std::mem::transmute::<*mut c_void, StrError>(find(c"pam_strerror")?),
            })
        }
    }
}

fn linker_error() -> String {
    // SAFETY: dlerror gives null or a NUL-terminated string that is valid until the next call of this thread.
    let text = unsafe {
        libc::dlerror()
            .as_ref()
            .map(|text| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.unwrap_or_default()
}

/// One PAM handle. It is ended only by [`Handle::end`]: a process that just dies is one of the cases to show.
pub(crate) struct Handle {
    libpam: Library,
    raw: *mut c_void,
    last: Code,
}

impl Handle {
    /// `pam_start`, with a conversation that shows messages and gives empty answers.
    pub(crate) fn start(libpam: Library, service: &str, login: &str) -> Result<Handle, Code> {
        static CONVERSATION: Shared = Shared(Conversation {
            talk,
            data: ptr::null_mut(),
        });
        let (service, login) = (c_string(service), c_string(login));
        let mut raw = ptr::null_mut();
        // SAFETY: the strings are NUL-terminated, libpam copies them and the conversation; `raw` is written once.
        let code = Code(unsafe {
            (libpam.start)(
                service.as_ptr(),
                login.as_ptr(),
                &raw const CONVERSATION.0,
                &raw mut raw,
            )
        });
        if code == SUCCESS {
            Ok(Handle {
                libpam,
                raw,
                last: code,
            })
        } else {
            Err(code)
        }
    }

    /// `pam_putenv` of `NAME=value`.
    pub(crate) fn put_env(&mut self, assignment: &str) -> Code {
        let assignment = c_string(assignment);
        // SAFETY: `raw` is a started handle that has not ended; libpam copies the string.
        self.last = Code(unsafe { (self.libpam.put_env)(self.raw, assignment.as_ptr()) });
        self.last
    }

    /// `pam_getenvlist`.
    pub(crate) fn env_list(&self) -> Vec<String> {
        let mut variables = Vec::new();
        // SAFETY: `raw` is a started handle; the result is null or a null-terminated array of NUL-terminated strings, all
        // of them malloc'ed for the caller, so each is read before it is freed and freed once.
        unsafe {
            let list = (self.libpam.get_env_list)(self.raw);
            let mut next = list;
            while !next.is_null() && !(*next).is_null() {
                variables.push(CStr::from_ptr(*next).to_string_lossy().into_owned());
                libc::free((*next).cast());
                next = next.add(1);
            }
            libc::free(list.cast());
        }
        variables
    }

    /// `pam_authenticate`.
    pub(crate) fn authenticate(&mut self) -> Code {
        self.call(self.libpam.authenticate, 0)
    }

    /// `pam_setcred`, to establish them.
    pub(crate) fn set_cred(&mut self) -> Code {
        self.call(self.libpam.set_cred, ESTABLISH_CRED)
    }

    /// `pam_chauthtok`.
    pub(crate) fn change_token(&mut self) -> Code {
        self.call(self.libpam.change_token, 0)
    }

    /// `pam_acct_mgmt`.
    pub(crate) fn account(&mut self) -> Code {
        self.call(self.libpam.account, 0)
    }

    /// `pam_open_session`.
    pub(crate) fn open(&mut self) -> Code {
        self.call(self.libpam.open, 0)
    }

    /// `pam_close_session`.
    pub(crate) fn close(&mut self) -> Code {
        self.call(self.libpam.close, 0)
    }

    /// `pam_end` with the last code.
    pub(crate) fn end(mut self) -> Code {
        self.call(self.libpam.end, self.last.0)
    }

    /// `pam_strerror`.
    pub(crate) fn sentence(&self, code: Code) -> String {
        // SAFETY: `raw` is a started handle; the result is null or a static NUL-terminated string.
        unsafe {
            let text = (self.libpam.str_error)(self.raw, code.0);
            text.as_ref()
                .map(|text| CStr::from_ptr(text).to_string_lossy().into_owned())
                .unwrap_or_default()
        }
    }

    fn call(&mut self, phase: Phase, argument: c_int) -> Code {
        // SAFETY: `raw` is a started handle; it has not ended, because `end` consumes the handle.
        self.last = Code(unsafe { phase(self.raw, argument) });
        self.last
    }
}

/// Whether libpam gets text in ISO 8859-1: then what is beyond ASCII is not UTF-8, as some client may send it.
pub(crate) static LATIN1: AtomicBool = AtomicBool::new(false);

/// Strings come from the command line, where NUL cannot stand.
fn c_string(text: &str) -> CString {
    let bytes = match LATIN1.load(Ordering::Relaxed) {
        true => text.chars().map(|c| c as u8).collect(),
        false => text.as_bytes().to_vec(),
    };
    CString::new(bytes).unwrap_or_default()
}

struct Shared(Conversation);
// SAFETY: the conversation is a function pointer and a null pointer, both never written.
unsafe impl Sync for Shared {}

/// Shows messages, answers prompts with nothing.
unsafe extern "C" fn talk(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    _: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else {
        return CONV_ERR;
    };
    // SAFETY: calloc has no demands; the module frees the array, as the protocol says.
    let answers: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()) }.cast();
    if answers.is_null() {
        return CONV_ERR;
    }
    for index in 0..count {
        // SAFETY: Linux-PAM passes `count` pointers to messages with NUL-terminated texts; `answers` has `count` elements.
        unsafe {
            let message = &**messages.add(index);
            let text = CStr::from_ptr(message.text).to_string_lossy();
            match message.style {
                TEXT_INFO => crate::tell::message("info", &text),
                ERROR_MSG => crate::tell::message("error", &text),
                PROMPT_ECHO_OFF | PROMPT_ECHO_ON => {
                    crate::tell::message("prompt", &text);
                    (*answers.add(index)).text = libc::strdup(c"".as_ptr());
                }
                _ => {}
            }
        }
    }
    // SAFETY: `responses` is where the module expects the array.
    unsafe { *responses = answers };
    0
}

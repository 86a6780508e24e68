//! The module's entry points called directly, and the checks every answer in C's structs must pass.
//! What is asked, and what the answer should be, is the tests' business.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::{mem, ptr};

pub(crate) const SUCCESS: c_int = 1;
pub(crate) const NOT_FOUND: c_int = 0;
pub(crate) const TRY_AGAIN: c_int = -2;

/// What an entry point returned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<T> {
    pub(crate) status: c_int,
    /// What was written through errnop; 0 if nothing was.
    pub(crate) errno: c_int,
    pub(crate) entry: Option<T>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) gecos: String,
    pub(crate) home: String,
    pub(crate) shell: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) gid: u32,
    pub(crate) members: Vec<String>,
}

type GetUser =
    unsafe extern "C" fn(*const c_char, *mut libc::passwd, *mut c_char, usize, *mut c_int) -> c_int;
type GetUserById =
    unsafe extern "C" fn(u32, *mut libc::passwd, *mut c_char, usize, *mut c_int) -> c_int;
type GetGroup =
    unsafe extern "C" fn(*const c_char, *mut libc::group, *mut c_char, usize, *mut c_int) -> c_int;
type GetGroupById =
    unsafe extern "C" fn(u32, *mut libc::group, *mut c_char, usize, *mut c_int) -> c_int;
type NextUser = unsafe extern "C" fn(*mut libc::passwd, *mut c_char, usize, *mut c_int) -> c_int;
type NextGroup = unsafe extern "C" fn(*mut libc::group, *mut c_char, usize, *mut c_int) -> c_int;
type Start = unsafe extern "C" fn(c_int) -> c_int;
type End = unsafe extern "C" fn() -> c_int;
type InitGroups = unsafe extern "C" fn(
    *const c_char,
    u32,
    *mut c_long,
    *mut c_long,
    *mut *mut u32,
    c_long,
    *mut c_int,
) -> c_int;

/// The module's entry points, called without glibc in between.
#[derive(Clone, Copy)]
pub(crate) struct Module {
    getpwnam: GetUser,
    getpwuid: GetUserById,
    getgrnam: GetGroup,
    getgrgid: GetGroupById,
    getpwent: NextUser,
    getgrent: NextGroup,
    setpwent: Start,
    setgrent: Start,
    endpwent: End,
    endgrent: End,
    initgroups: InitGroups,
}

/// Marks what the module must not touch.
const MARK: u8 = 0xa5;

impl Module {
    pub(crate) fn load() -> Module {
        // SAFETY: the name is NUL-terminated; the module's constructors only note the arguments of the process.
        let handle = unsafe { libc::dlopen(c"libnss_teleport.so.2".as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "libnss_teleport.so.2 cannot be loaded");
        let symbol = |name: &str| {
            let name = CString::new(format!("_nss_teleport_{name}")).expect("a name");
            // SAFETY: the handle is valid and the name NUL-terminated.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!symbol.is_null(), "{name:?} is missing");
            symbol
        };
        // SAFETY: each symbol is the function glibc declares under this name, with this signature.
        unsafe {
            Module {
                getpwnam: mem::transmute::<*mut c_void, GetUser>(symbol("getpwnam_r")),
                getpwuid: mem::transmute::<*mut c_void, GetUserById>(symbol("getpwuid_r")),
                getgrnam: mem::transmute::<*mut c_void, GetGroup>(symbol("getgrnam_r")),
                getgrgid: mem::transmute::<*mut c_void, GetGroupById>(symbol("getgrgid_r")),
                getpwent: mem::transmute::<*mut c_void, NextUser>(symbol("getpwent_r")),
                getgrent: mem::transmute::<*mut c_void, NextGroup>(symbol("getgrent_r")),
                setpwent: mem::transmute::<*mut c_void, Start>(symbol("setpwent")),
                setgrent: mem::transmute::<*mut c_void, Start>(symbol("setgrent")),
                endpwent: mem::transmute::<*mut c_void, End>(symbol("endpwent")),
                endgrent: mem::transmute::<*mut c_void, End>(symbol("endgrent")),
                initgroups: mem::transmute::<*mut c_void, InitGroups>(symbol("initgroups_dyn")),
            }
        }
    }

    pub(crate) fn user(&self, name: &str, buffer: &mut [u8]) -> Reply<User> {
        let name = CString::new(name).expect("a name");
        // SAFETY: all pointers are valid and the length is the buffer's.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getpwnam)(name.as_ptr(), result, to, length, errno)
        })
    }

    pub(crate) fn user_by_id(&self, uid: u32, buffer: &mut [u8]) -> Reply<User> {
        // SAFETY: as above.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getpwuid)(uid, result, to, length, errno)
        })
    }

    pub(crate) fn group(&self, name: &str, buffer: &mut [u8]) -> Reply<Group> {
        let name = CString::new(name).expect("a name");
        // SAFETY: as above.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getgrnam)(name.as_ptr(), result, to, length, errno)
        })
    }

    pub(crate) fn group_by_id(&self, gid: u32, buffer: &mut [u8]) -> Reply<Group> {
        // SAFETY: as above.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getgrgid)(gid, result, to, length, errno)
        })
    }

    pub(crate) fn next_user(&self, buffer: &mut [u8]) -> Reply<User> {
        // SAFETY: as above.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getpwent)(result, to, length, errno)
        })
    }

    pub(crate) fn next_group(&self, buffer: &mut [u8]) -> Reply<Group> {
        // SAFETY: as above.
        call(buffer, |result, to, length, errno| unsafe {
            (self.getgrent)(result, to, length, errno)
        })
    }

    pub(crate) fn start_users(&self) {
        // SAFETY: takes a number.
        assert_eq!(unsafe { (self.setpwent)(0) }, SUCCESS);
    }

    pub(crate) fn start_groups(&self) {
        // SAFETY: takes a number.
        assert_eq!(unsafe { (self.setgrent)(0) }, SUCCESS);
    }

    pub(crate) fn end_users(&self) {
        // SAFETY: takes nothing.
        assert_eq!(unsafe { (self.endpwent)() }, SUCCESS);
    }

    pub(crate) fn end_groups(&self) {
        // SAFETY: takes nothing.
        assert_eq!(unsafe { (self.endgrent)() }, SUCCESS);
    }

    /// initgroups_dyn with an array of `size` gids that starts with `present`: status, what is in the array, its size.
    pub(crate) fn init_groups(
        &self,
        user: &str,
        primary: u32,
        present: &[u32],
        size: usize,
        limit: i64,
    ) -> (c_int, Vec<u32>, usize) {
        let user = CString::new(user).expect("a name");
        let (mut start, mut size, mut errno) = (present.len() as c_long, size as c_long, 0);
        // SAFETY: the array comes from malloc, has room for `size` gids, and its first `start` are initialised, before and after
        // the call; only those are read.
        unsafe {
            let mut array = libc::malloc(size as usize * 4).cast::<u32>();
            ptr::copy_nonoverlapping(present.as_ptr(), array, present.len());
            let status = (self.initgroups)(
                user.as_ptr(),
                primary,
                &mut start,
                &mut size,
                &mut array,
                limit,
                &mut errno,
            );
            assert!(start <= size);
            let groups = std::slice::from_raw_parts(array, start as usize).to_vec();
            libc::free(array.cast());
            (status, groups, size as usize)
        }
    }
}

/// A struct of C that points into a buffer.
pub(super) trait Entry: Sized {
    type Raw;
    /// # Safety
    /// Every pointer in `raw` must be valid or checked by `inside`, which panics for one that is not in the buffer.
    unsafe fn of(raw: &Self::Raw, inside: &dyn Fn(*const u8, usize)) -> Self;
}

/// # Safety
/// `text` must be NUL-terminated if it is inside the buffer.
unsafe fn text(text: *const c_char, inside: &dyn Fn(*const u8, usize)) -> String {
    inside(text.cast(), 1);
    // SAFETY: the caller vouches for the NUL.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes_with_nul();
    inside(text.cast(), bytes.len());
    CStr::from_bytes_with_nul(bytes)
        .expect("one NUL")
        .to_str()
        .expect("UTF-8")
        .to_owned()
}

impl Entry for User {
    type Raw = libc::passwd;
    unsafe fn of(raw: &libc::passwd, inside: &dyn Fn(*const u8, usize)) -> User {
        // SAFETY: a bounds check comes before each use, and the end of the buffer is a mark followed by a NUL.
        unsafe {
            User {
                name: text(raw.pw_name, inside),
                password: text(raw.pw_passwd, inside),
                uid: raw.pw_uid,
                gid: raw.pw_gid,
                gecos: text(raw.pw_gecos, inside),
                home: text(raw.pw_dir, inside),
                shell: text(raw.pw_shell, inside),
            }
        }
    }
}

impl Entry for Group {
    type Raw = libc::group;
    unsafe fn of(raw: &libc::group, inside: &dyn Fn(*const u8, usize)) -> Group {
        let mut members = Vec::new();
        let mut array = raw.gr_mem;
        // SAFETY: as for users; the array is checked element by element.
        unsafe {
            loop {
                assert!(array.is_aligned(), "gr_mem is not aligned");
                inside(array.cast(), size_of::<*const c_char>());
                if (*array).is_null() {
                    break;
                }
                members.push(text(*array, inside));
                array = array.add(1);
            }
            Group {
                name: text(raw.gr_name, inside),
                password: text(raw.gr_passwd, inside),
                gid: raw.gr_gid,
                members,
            }
        }
    }
}

/// Calls an entry point with a marked buffer and checks that it keeps to it, and that it delivers all or nothing.
fn call<T: Entry>(
    buffer: &mut [u8],
    entry_point: impl FnOnce(*mut T::Raw, *mut c_char, usize, *mut c_int) -> c_int,
) -> Reply<T> {
    let range = buffer.as_ptr_range();
    let mut errno = 0;
    let mut result = mem::MaybeUninit::<T::Raw>::uninit();
    // SAFETY: any bytes may be written to uninitialised memory.
    unsafe {
        result
            .as_mut_ptr()
            .cast::<u8>()
            .write_bytes(MARK, size_of::<T::Raw>())
    };
    let status = entry_point(
        result.as_mut_ptr(),
        buffer.as_mut_ptr().cast(),
        buffer.len(),
        &mut errno,
    );
    // SAFETY: every byte was set above.
    let bytes =
        unsafe { std::slice::from_raw_parts(result.as_ptr().cast::<u8>(), size_of::<T::Raw>()) };
    if status != SUCCESS {
        assert!(
            bytes.iter().all(|&byte| byte == MARK),
            "an answer came with status {status}"
        );
        return Reply {
            status,
            errno,
            entry: None,
        };
    }
    let inside = |pointer: *const u8, length: usize| {
        let start = pointer as usize;
        assert!(
            start >= range.start as usize && start + length <= range.end as usize,
            "something lies outside the buffer"
        );
    };
    // SAFETY: the module has filled the struct; its pointers are checked by `inside` before use.
    let entry = unsafe { T::of(result.assume_init_ref(), &inside) };
    Reply {
        status,
        errno,
        entry: Some(entry),
    }
}

//! One question to one nsswitch service through glibc. All unsafe code of the lookup worker is here.
//! Which services to ask, and what an answer means for a login, is decided elsewhere.
//!
//! glibc hides a failing service behind the next one in the line. Given a line of a single service
//! (`__nss_configure_lookup`) it cannot: its return code then tells found, absent and failed apart,
//! and it no longer asks nscd, whose answers may be stale.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use crate::policy::decide::Question;

unsafe extern "C" {
    /// glibc: replaces the service line of one nsswitch database for this process. 0 or -1 + errno.
    fn __nss_configure_lookup(database: *const c_char, line: *const c_char) -> c_int;
    /// glibc: 1 if the netgroup has an entry of this host, user and domain; null stands for any.
    fn innetgr(
        netgroup: *const c_char,
        host: *const c_char,
        user: *const c_char,
        domain: *const c_char,
    ) -> c_int;
}

/// What a service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    User { name: String, uid: u32, gid: u32 },
    Group { name: String, gid: u32 },
    Groups(Vec<u32>),
    NotFound,
    Failed(String),
}

/// Whether glibc can ask a service at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Built in, or its library is loaded.
    Usable,
    /// The library is not on this host: the service has no users.
    NotInstalled,
    /// The library is there and cannot be loaded.
    Broken(String),
}

/// Answers that need more than this are refused: 16 MiB is a group of a million members.
const LARGEST_ANSWER: usize = 16 << 20;

/// Put into errno before asking: some modules say "unavailable" and leave errno alone.
const NO_REASON: c_int = libc::ENODATA;

/// Loads `libnss_SERVICE.so.2`, for as long as the process lives.
pub(super) fn presence(service: &str) -> Presence {
    if service == "files" {
        return Presence::Usable; // inside libc since glibc 2.34
    }
    match Library::open(service) {
        Ok(_) => Presence::Usable,
        Err(why) => why,
    }
}

/// Readies this process for a question to a service, which the caller has seen to be [`Presence::Usable`]. From then on
/// [`ask`] may put it, from any thread, until something is prepared for another service.
///
/// # Errors
/// The answer, where it is known without asking.
pub(super) fn prepare(service: &str, question: &Question) -> Result<(), Reply> {
    let (database, function) = match question {
        Question::User(_) => (c"passwd", "getpwnam_r"),
        Question::UserId(_) => (c"passwd", "getpwuid_r"),
        Question::Group(_) => (c"group", "getgrnam_r"),
        Question::GroupId(_) => (c"group", "getgrgid_r"),
        Question::GroupsOf(_) => return Ok(()),
    };
    // A module without this function (one for hosts only, say) has no users; glibc would say "failed".
    if service != "files" {
        match Library::open(service) {
            Ok(library) if library.has(&format!("_nss_{service}_{function}")) => {}
            Ok(_) => return Err(Reply::NotFound),
            Err(_) => {
                return Err(Reply::Failed(
                    "its library can no longer be loaded".to_owned(),
                ));
            }
        }
    }
    configure(database, service)
}

/// From now on modules that look for groups through glibc themselves find those of all `services`: nss_systemd says nothing of
/// a member whose group it does not find, and a membership that is dropped in for it may be of a group in `/etc/group`.
///
/// # Errors
/// The answer to whatever is asked of such a module then.
pub(super) fn find_groups_of(services: &[String]) -> Result<(), Reply> {
    configure(c"group", &services.join(" "))
}

/// Asks what was prepared. [`Question::GroupsOf`] prepares itself, so nothing else may be asked meanwhile.
pub(super) fn ask(service: &str, question: &Question) -> Reply {
    match question {
        Question::GroupsOf(name) => groups_of(service, name),
        Question::User(name) => named(name, |name, buffer| {
            user(buffer, |entry, buffer, result| {
                // SAFETY: `name` is NUL-terminated; `entry`, `buffer` (with its length) and `result`
                // are exclusive and outlive the call.
                unsafe {
                    libc::getpwnam_r(
                        name.as_ptr(),
                        entry,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        result,
                    )
                }
            })
        }),
        Question::UserId(uid) => grown(|buffer| {
            user(buffer, |entry, buffer, result| {
                // SAFETY: `entry`, `buffer` (with its length) and `result` are exclusive and outlive
                // the call.
                unsafe { libc::getpwuid_r(*uid, entry, buffer.as_mut_ptr(), buffer.len(), result) }
            })
        }),
        Question::Group(name) => named(name, |name, buffer| {
            group(buffer, |entry, buffer, result| {
                // SAFETY: as for users by name.
                unsafe {
                    libc::getgrnam_r(
                        name.as_ptr(),
                        entry,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        result,
                    )
                }
            })
        }),
        Question::GroupId(gid) => grown(|buffer| {
            group(buffer, |entry, buffer, result| {
                // SAFETY: as for users by UID.
                unsafe { libc::getgrgid_r(*gid, entry, buffer.as_mut_ptr(), buffer.len(), result) }
            })
        }),
    }
}

/// From now on `database` is this service's alone.
fn configure(database: &CStr, service: &str) -> Result<(), Reply> {
    let Ok(line) = CString::new(service) else {
        return Err(Reply::Failed("its name holds a NUL".to_owned()));
    };
    // SAFETY: both arguments are NUL-terminated strings that live over the call; glibc copies them.
    if unsafe { __nss_configure_lookup(database.as_ptr(), line.as_ptr()) } != 0 {
        let why = io::Error::last_os_error();
        return Err(Reply::Failed(format!("glibc refuses it: {why}")));
    }
    Ok(())
}

/// A module's `initgroups_dyn`: adds to a grown array of GIDs, with how many are in it and fit.
type InitgroupsDyn = unsafe extern "C" fn(
    user: *const c_char,
    skipped: libc::gid_t,
    start: *mut c_long,
    size: *mut c_long,
    groups: *mut *mut libc::gid_t,
    limit: c_long,
    errno: *mut c_int,
) -> c_int;

/// No group: what is said for the primary group, which the answer is to leave out.
const NO_GROUP: libc::gid_t = libc::gid_t::MAX;

/// The groups that list `name`. getgrouplist hides a service that fails, so a module is asked directly.
fn groups_of(service: &str, name: &str) -> Reply {
    let Ok(name) = CString::new(name) else {
        return Reply::NotFound; // no provider can hold such a name
    };
    if service != "files" {
        let Ok(library) = Library::open(service) else {
            return Reply::Failed("its library can no longer be loaded".to_owned());
        };
        let function = library.symbol(&format!("_nss_{service}_initgroups_dyn"));
        if !function.is_null() {
            // SAFETY: the symbol is a function of this type: the name is the one glibc calls it by, and
            // the interface has not changed since glibc 2.3. The library is never unloaded.
            let function = unsafe { std::mem::transmute::<*mut c_void, InitgroupsDyn>(function) };
            return initgroups(function, &name);
        }
        if !library.has(&format!("_nss_{service}_getgrent_r")) {
            return Reply::NotFound;
        }
    }
    // glibc's own files, and modules that can only be listed, which glibc does. What keeps them from
    // answering has shown in the question for the group of this name, which is always asked, too.
    for database in [c"initgroups", c"group"] {
        if let Err(failed) = configure(database, service) {
            return failed;
        }
    }
    let mut groups = vec![0; 64];
    loop {
        let had = groups.len();
        let mut count = c_int::try_from(had).unwrap_or(c_int::MAX);
        // SAFETY: `name` is NUL-terminated, and `groups` has room for `count` GIDs.
        let rc =
            unsafe { libc::getgrouplist(name.as_ptr(), NO_GROUP, groups.as_mut_ptr(), &mut count) };
        let count = usize::try_from(count).unwrap_or_default();
        match rc {
            -1 if count > had => groups.resize(count, 0),
            -1 => return Reply::Failed("its groups cannot be listed".to_owned()),
            _ => {
                groups.truncate(count);
                return listed(groups);
            }
        }
    }
}

fn initgroups(function: InitgroupsDyn, name: &CStr) -> Reply {
    const AT_FIRST: usize = 64;
    // SAFETY: calloc takes any two numbers; the module may reallocate what it returns.
    let mut groups =
        unsafe { libc::calloc(AT_FIRST, size_of::<libc::gid_t>()) }.cast::<libc::gid_t>();
    if groups.is_null() {
        return Reply::Failed("no memory for its answer".to_owned());
    }
    let (mut count, mut size, mut errno) = (0, AT_FIRST as c_long, NO_REASON);
    set_errno(NO_REASON);
    // SAFETY: `name` is NUL-terminated; `groups` is an array from malloc with room for `size` GIDs, of
    // which `count` are filled, as the interface wants; every pointer outlives the call. A limit of
    // nothing or less is none.
    let status = unsafe {
        function(
            name.as_ptr(),
            NO_GROUP,
            &mut count,
            &mut size,
            &mut groups,
            -1,
            &mut errno,
        )
    };
    let filled = usize::try_from(count.min(size)).unwrap_or_default();
    let found = match groups.is_null() {
        true => Vec::new(),
        // SAFETY: the module has kept `groups` an array with `size` places and says that `count` of them
        // are filled; the smaller of both is looked at.
        false => unsafe { std::slice::from_raw_parts(groups, filled) }.to_vec(),
    };
    // SAFETY: from calloc, or from the module's realloc of it, and used no more.
    unsafe { libc::free(groups.cast()) };
    match status {
        SUCCESS => listed(found),
        NOT_FOUND => Reply::NotFound,
        _ if errno == NO_REASON => {
            Reply::Failed("it is unavailable and gives no reason".to_owned())
        }
        _ => Reply::Failed(io::Error::from_raw_os_error(errno).to_string()),
    }
}

/// NSS_STATUS_SUCCESS and NSS_STATUS_NOTFOUND of nss.h.
const SUCCESS: c_int = 1;
const NOT_FOUND: c_int = 0;

fn listed(mut groups: Vec<libc::gid_t>) -> Reply {
    groups.retain(|gid| *gid != NO_GROUP);
    groups.sort_unstable();
    groups.dedup();
    match groups.is_empty() {
        true => Reply::NotFound,
        false => Reply::Groups(groups),
    }
}

/// Does the netgroup have this user, on any host and in any domain, to this service? glibc does not tell
/// one that fails from one that says no. `None`: it cannot be asked at all.
pub(super) fn in_netgroup(service: &str, netgroup: &str, user: &str) -> Option<bool> {
    let (Ok(netgroup), Ok(user)) = (CString::new(netgroup), CString::new(user)) else {
        return Some(false); // no provider can hold such a name
    };
    configure(c"netgroup", service).ok()?;
    // SAFETY: both strings are NUL-terminated and live over the call; the others may be null.
    Some(unsafe { innetgr(netgroup.as_ptr(), ptr::null(), user.as_ptr(), ptr::null()) == 1 })
}

fn named(name: &str, mut ask: impl FnMut(&CStr, &mut [c_char]) -> Result<Reply, c_int>) -> Reply {
    match CString::new(name) {
        Ok(name) => grown(|buffer| ask(&name, buffer)),
        Err(_) => Reply::NotFound, // no provider can hold such a name
    }
}

/// Repeats a question with a larger buffer for as long as the answer does not fit.
fn grown(mut ask: impl FnMut(&mut [c_char]) -> Result<Reply, c_int>) -> Reply {
    let mut size = 4096;
    loop {
        match ask(&mut vec![0; size]) {
            Ok(reply) => return reply,
            Err(libc::ERANGE) if size < LARGEST_ANSWER => size *= 4,
            Err(libc::ERANGE) => {
                return Reply::Failed("its answer is larger than 16 MiB".to_owned());
            }
            Err(NO_REASON) => {
                return Reply::Failed("it is unavailable and gives no reason".to_owned());
            }
            Err(errno) => return Reply::Failed(io::Error::from_raw_os_error(errno).to_string()),
        }
    }
}

fn user(
    buffer: &mut [c_char],
    call: impl FnOnce(*mut libc::passwd, &mut [c_char], *mut *mut libc::passwd) -> c_int,
) -> Result<Reply, c_int> {
    asked(buffer, call, |entry| Reply::User {
        // SAFETY: in a filled entry `pw_name` points to a string inside the buffer, still borrowed.
        name: unsafe { text(entry.pw_name) },
        uid: entry.pw_uid,
        gid: entry.pw_gid,
    })
}

fn group(
    buffer: &mut [c_char],
    call: impl FnOnce(*mut libc::group, &mut [c_char], *mut *mut libc::group) -> c_int,
) -> Result<Reply, c_int> {
    asked(buffer, call, |entry| Reply::Group {
        // SAFETY: in a filled entry `gr_name` points to a string inside the buffer, still borrowed.
        name: unsafe { text(entry.gr_name) },
        gid: entry.gr_gid,
    })
}

/// Asks for one entry of a database. `call` is one of glibc's functions ending in `_r`, `take` reads the entry that it
/// has filled, whose strings are in `buffer`.
fn asked<T>(
    buffer: &mut [c_char],
    call: impl FnOnce(*mut T, &mut [c_char], *mut *mut T) -> c_int,
    take: impl FnOnce(T) -> Reply,
) -> Result<Reply, c_int> {
    let mut entry = MaybeUninit::<T>::uninit();
    let mut result = ptr::null_mut();
    set_errno(NO_REASON);
    let rc = call(entry.as_mut_ptr(), buffer, &mut result);
    if result.is_null() {
        return if rc == 0 {
            Ok(Reply::NotFound)
        } else {
            Err(rc)
        };
    }
    // SAFETY: a result that is not null says that the call has filled `entry`.
    Ok(take(unsafe { entry.assume_init() }))
}

/// # Safety
/// `string` is null or points to a NUL-terminated string.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, so by this function's contract a NUL-terminated string.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}

fn set_errno(value: c_int) {
    // SAFETY: the pointer to this thread's errno is always valid.
    unsafe { *libc::__errno_location() = value }
}

/// An NSS module, loaded and never unloaded.
struct Library(*mut c_void);

impl Library {
    fn open(service: &str) -> Result<Library, Presence> {
        let file = format!("libnss_{service}.so.2");
        let Ok(name) = CString::new(file.as_str()) else {
            return Err(Presence::Broken("its name holds a NUL".to_owned()));
        };
        // SAFETY: `name` is NUL-terminated. Loading runs the module's initialisers, which is what
        // glibc would have done a moment later.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NODELETE) };
        if !handle.is_null() {
            return Ok(Library(handle));
        }
        // SAFETY: dlerror returns null or a string that is valid until the next dl call of this thread.
        let why = unsafe { text(libc::dlerror()) };
        // Of a module whose own dependency is missing the loader names the dependency instead.
        if why.starts_with(&format!(
            "{file}: cannot open shared object file: No such file"
        )) {
            return Err(Presence::NotInstalled);
        }
        Err(Presence::Broken(why))
    }

    fn has(&self, symbol: &str) -> bool {
        !self.symbol(symbol).is_null()
    }

    /// Null if the library has none of this name.
    fn symbol(&self, symbol: &str) -> *mut c_void {
        let Ok(symbol) = CString::new(symbol) else {
            return ptr::null_mut();
        };
        // SAFETY: the handle is live (never closed) and `symbol` is NUL-terminated.
        unsafe { libc::dlsym(self.0, symbol.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// The service line is the process's, and tests are threads.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn files_knows_root_and_not_a_stranger() {
        let _turn = ONE_AT_A_TIME.lock();
        let root = Reply::User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
        };
        assert_eq!(ask("files", &Question::User("root".to_owned())), root);
        assert_eq!(ask("files", &Question::UserId(0)), root);
        let group = Reply::Group {
            name: "root".to_owned(),
            gid: 0,
        };
        assert_eq!(ask("files", &Question::Group("root".to_owned())), group);
        assert_eq!(ask("files", &Question::GroupId(0)), group);
        for absent in [
            Question::User("no-such-user-here".to_owned()),
            Question::UserId(0x7000_1234),
            Question::Group("no-such-group-here".to_owned()),
            Question::GroupId(0x7000_1234),
            Question::User("nul\0inside".to_owned()),
        ] {
            assert_eq!(ask("files", &absent), Reply::NotFound, "{absent:?}");
        }
    }

    #[test]
    fn a_service_whose_library_is_missing_is_not_installed() {
        assert_eq!(presence("no_such_service"), Presence::NotInstalled);
        assert_eq!(presence("files"), Presence::Usable);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_asked_for_again() {
        let mut sizes = Vec::new();
        let reply = grown(|buffer| {
            sizes.push(buffer.len());
            if buffer.len() < 100_000 {
                Err(libc::ERANGE)
            } else {
                Ok(Reply::NotFound)
            }
        });
        assert_eq!(reply, Reply::NotFound);
        assert_eq!(sizes, [4096, 16384, 65536, 262144]);
        assert!(matches!(grown(|_| Err(libc::ERANGE)), Reply::Failed(_)));
    }

    #[test]
    fn a_service_that_fails_is_not_taken_for_one_without_users() {
        assert!(
            matches!(grown(|_| Err(libc::ECONNREFUSED)), Reply::Failed(why) if why.contains("refused"))
        );
        assert!(matches!(grown(|_| Err(NO_REASON)), Reply::Failed(_)));
    }
}

//! What a process can have done to itself: children, limits, signals, no system calls. For tests that look from inside.
//! Each is to be called in a process that may be spoiled.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::{fs, mem, ptr};

use super::module_file;

/// Runs `body` in a forked child that goes on beside this process; its PID.
pub(crate) fn fork(body: impl FnOnce() -> bool) -> c_int {
    // SAFETY: the child has this thread alone, whose state is whole, and leaves by _exit.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(c_int::from(!body())),
            -1 => panic!("fork failed"),
            child => child,
        }
    }
}

/// Waits for a child; whether its body returned true.
pub(crate) fn succeeded(child: c_int) -> bool {
    let mut status = 0;
    // SAFETY: status is writable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// Kills a child at whatever it is doing.
pub(crate) fn kill(child: c_int) {
    // SAFETY: a signal to a child of ours that has not been waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    assert!(!succeeded(child));
}

/// Runs `body` in a child that the kernel kills at its first system call other than read, write, exit and sigreturn.
pub(crate) fn without_system_calls(body: impl FnOnce() -> bool) -> bool {
    succeeded(fork(|| {
        // SAFETY: from here on exit is the only way out; _exit would be another call.
        unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT);
            let right = body();
            libc::syscall(libc::SYS_exit, c_int::from(!right));
        }
        false
    }))
}

/// Lets glibc use one service for both databases, and look at nsswitch.conf no more.
pub(crate) fn use_only(service: &CStr) {
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    for database in [c"passwd", c"group"] {
        // SAFETY: both are NUL-terminated; no other thread looks anybody up meanwhile.
        let set = unsafe { __nss_configure_lookup(database.as_ptr(), service.as_ptr()) };
        assert_eq!(set, 0);
    }
}

/// Whether each of getpwnam, getpwuid, getgrnam, getgrgid and getgrouplist finds somebody. Allocates nothing itself.
pub(crate) fn found_by_five_calls(name: &CStr, id: u32) -> [bool; 5] {
    let mut buffer = [0 as c_char; 4096];
    let mut groups = [0; 64];
    let mut count = 64;
    // SAFETY: all pointers are valid for their calls, lengths are those of the arrays.
    unsafe {
        let (mut user, mut group) = (mem::zeroed(), mem::zeroed());
        let (mut users, mut found) = ([ptr::null_mut(); 2], [ptr::null_mut(); 2]);
        let at = buffer.as_mut_ptr();
        libc::getpwnam_r(name.as_ptr(), &mut user, at, 4096, &mut users[0]);
        libc::getpwuid_r(id, &mut user, at, 4096, &mut users[1]);
        libc::getgrnam_r(name.as_ptr(), &mut group, at, 4096, &mut found[0]);
        libc::getgrgid_r(id, &mut group, at, 4096, &mut found[1]);
        libc::getgrouplist(name.as_ptr(), id, groups.as_mut_ptr(), &mut count);
        [
            !users[0].is_null(),
            !users[1].is_null(),
            !found[0].is_null(),
            !found[1].is_null(),
            count > 1,
        ]
    }
}

/// Sets a limit of this process.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the struct is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Bytes of address space this process uses.
pub(crate) fn address_space() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = pages
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    pages * 4096
}

/// Closes standard input, output and error.
pub(crate) fn close_stdio() {
    for fd in 0..3 {
        // SAFETY: nothing is printed any more.
        unsafe { libc::close(fd) };
    }
}

/// Moves this process into another root.
pub(crate) fn chroot(root: &Path) {
    let root = CString::new(root.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::chroot(root.as_ptr()) }, 0);
}

/// Sends this process a signal with a handler ten thousand times a second.
pub(crate) fn alarm_storm() {
    extern "C" fn nothing(_signal: c_int) {}
    let interval = libc::timeval {
        tv_sec: 0,
        tv_usec: 100,
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: the handler does nothing; the structs are valid.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
        assert_eq!(
            libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()),
            0
        );
    }
}

/// Makes this process, which has one thread, a user's in a user namespace in which nobody else is mapped.
pub(crate) fn enter_a_namespace_of(user: u32) {
    // SAFETY: calls without pointers.
    unsafe {
        assert_eq!(libc::setgroups(0, ptr::null()), 0);
        assert_eq!(libc::setgid(user), 0);
        assert_eq!(libc::setuid(user), 0);
        assert_eq!(libc::unshare(libc::CLONE_NEWUSER), 0);
        // Or the map would be root's to write.
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
    }
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).expect("a map");
}

/// Leaves this process so many descriptors to open.
pub(crate) fn leave_descriptors(count: u64) {
    let next = fs::File::open("/dev/null").expect("a descriptor");
    limit(libc::RLIMIT_NOFILE, next.as_raw_fd() as u64 + count);
}

/// errno of this thread, set to a value nobody sets.
pub(crate) fn mark_errno() {
    // SAFETY: always valid.
    unsafe { *libc::__errno_location() = 12_345 };
}

/// Whether nobody has touched errno since [`mark_errno`].
pub(crate) fn errno_is_marked() -> bool {
    // SAFETY: always valid.
    unsafe { *libc::__errno_location() == 12_345 }
}

/// Opens and closes the module once more than it is used, as a process does that unloads it.
pub(crate) fn unload() {
    let file = CString::new(module_file().as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: a NUL-terminated path; a closed handle is not used again. (The module stays: -z nodelete.)
    unsafe {
        let handle = libc::dlopen(file.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        // Once for this handle, once for the one that glibc or the test holds.
        libc::dlclose(handle);
        libc::dlclose(handle);
    }
}

/// Descriptors this process has open, as numbers.
pub(crate) fn descriptors() -> Vec<String> {
    let mut open: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("fd")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    open.sort();
    open
}

/// How often the table is mapped into this process.
pub(crate) fn mappings_of_the_table() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    maps.matches("/run/teleport-userdb/accounts").count()
}

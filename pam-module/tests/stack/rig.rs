//! What a test stands on: a private /run, a private folder of PAM services, children to fork.
//! No expectations in here.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::login::Login;
use crate::registry::Registry;

/// Where the registry listens.
pub(crate) const SOCKET: &str = session_protocol::client::SOCKET;

/// A service file in which only our module decides: what it ignores ends as PAM_CRED_INSUFFICIENT.
const SERVICE: &str = "\
auth     [success=done ignore=ignore default=die] MODULE ARGUMENTS
auth     required pam_debug.so auth=cred_insufficient cred=cred_insufficient
account  [success=done ignore=ignore default=die] MODULE ARGUMENTS
account  required pam_debug.so acct=cred_insufficient
session  [success=done ignore=ignore default=die] MODULE ARGUMENTS
session  required pam_debug.so open_session=cred_insufficient close_session=cred_insufficient
password [success=done ignore=ignore default=die] MODULE ARGUMENTS
password required pam_debug.so prechauthtok=cred_insufficient chauthtok=cred_insufficient
";

/// The namespace of this test; gone with its thread.
pub(crate) struct Rig {
    services: CString,
}

impl Rig {
    /// A rig with the module's default arguments.
    pub(crate) fn new() -> Self {
        Self::with_arguments("")
    }

    pub(crate) fn with_arguments(arguments: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root: they mount a private /run and talk to a socket that only root may own"
        );
        // SAFETY: only this thread moves to a new mount namespace; it shares nothing that depends on it.
        let moved = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(
            moved,
            0,
            "a mount namespace: {}",
            std::io::Error::last_os_error()
        );
        mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE);
        mount(Some("tmpfs"), "/run", Some("tmpfs"), 0);
        let services = Path::new("/run/services");
        fs::create_dir_all(services).expect("make the folder of services");
        fs::create_dir_all("/run/teleport-userdb").expect("make the registry's folder");
        let text = SERVICE
            .replace(
                "MODULE",
                module().to_str().expect("the module's path is UTF-8"),
            )
            .replace("ARGUMENTS", arguments);
        for service in ["teleport", "su"] {
            fs::write(services.join(service), &text).expect("write the service file");
        }
        let services = CString::new(services.as_os_str().as_bytes()).expect("no NUL in a path");
        Self { services }
    }

    /// A transaction of the service `teleport` with the environment Teleport gives it.
    pub(crate) fn login(&self, user: &str) -> Login {
        let login = self.transaction("teleport", user);
        login.put(format!("TELEPORT_LOGIN={user}"));
        login.put("TELEPORT_USERNAME=alice@example.com");
        login.put("TELEPORT_ROLES=dev ops");
        login
    }

    /// A transaction without anything in its environment.
    pub(crate) fn transaction(&self, service: &str, user: &str) -> Login {
        Login::start(service, user, &self.services)
    }

    /// A registry that answers.
    pub(crate) fn registry(&self) -> Registry {
        Registry::start()
    }

    /// A registry that takes calls and never answers them.
    pub(crate) fn hung_registry(&self) -> UnixListener {
        let _ = fs::remove_file(SOCKET);
        UnixListener::bind(SOCKET).expect("bind the registry's socket")
    }
}

/// Mounts `what` in this thread's namespace.
pub(crate) fn mount(what: Option<&str>, place: &str, kind: Option<&str>, flags: libc::c_ulong) {
    let string = |s: &str| CString::new(s).expect("no NUL in a mount");
    let (what, place, kind) = (what.map(string), string(place), kind.map(string));
    let pointer = |s: &Option<CString>| s.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    // SAFETY: all strings are NUL-terminated or null where that is allowed, and there is no data.
    let mounted = unsafe {
        libc::mount(
            pointer(&what),
            place.as_ptr(),
            pointer(&kind),
            flags,
            std::ptr::null(),
        )
    };
    assert_eq!(
        mounted,
        0,
        "mount {place:?}: {}",
        std::io::Error::last_os_error()
    );
}

/// The module that was built with these tests: cargo puts it beside them, and no copy that a later build
/// would leave behind.
pub(crate) fn module() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let module = test.with_file_name("libpam_teleport.so");
    assert!(module.is_file(), "{} is not built", module.display());
    module
}

/// Runs `body` in a forked child and fails if it fails there.
pub(crate) fn in_child(body: impl FnOnce()) {
    // SAFETY: the child runs `body`, which takes no lock another thread of this test may hold, and leaves
    // by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let result = catch_unwind(AssertUnwindSafe(body));
        if let Err(why) = &result {
            let text = why
                .downcast_ref::<String>()
                .map_or("a panic", String::as_str);
            // What the test harness captures in a child is lost with it.
            let _ = rustix::io::write(
                rustix::stdio::stderr(),
                format!("in the child: {text}\n").as_bytes(),
            );
        }
        // SAFETY: ends the child without the parent's clean-up.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    // SAFETY: the child is ours and `status` can be written.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    assert_eq!(
        status, 0,
        "the child failed (wait status {status:#x}); its message is above"
    );
}

/// Lets this process, which may be spoiled, have so many bytes more than it has.
pub(crate) fn limit_memory(more: u64) {
    let status = fs::read_to_string("/proc/self/status").expect("what this process has");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok());
    let size: u64 = size.expect("a number of kibibytes");
    let limit = libc::rlimit {
        rlim_cur: size * 1024 + more,
        rlim_max: size * 1024 + more,
    };
    // SAFETY: the struct is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// How much later than the time-out an answer may come; less than a second, the shortest time-out.
pub(crate) const SLACK: Duration = Duration::from_millis(900);

/// Does something and says how long it took.
pub(crate) fn timed<R>(call: impl FnOnce() -> R) -> (R, Duration) {
    let began = Instant::now();
    (call(), began.elapsed())
}

//! Runs a test in a world of its own: a process with private mounts, an empty /run, the nsswitch.conf it wants, and the module as
//! it is shipped. All unsafe code of the tests is in this folder.

mod entry_points;
pub(crate) mod glibc;
pub(crate) mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use account_table::{AccountSpec, DEFAULT_PATH, GroupOrigin, GroupSpec, Trust, Writer};

pub(crate) use entry_points::{Module, NOT_FOUND, Reply, SUCCESS, TRY_AGAIN, User};

/// nsswitch.conf where systemd lists our users, too, and where nobody else does.
pub(crate) const BOTH: &str = "passwd: files teleport systemd\ngroup: files teleport systemd\n";
pub(crate) const OURS_ONLY: &str = "passwd: files teleport\ngroup: files teleport\n";

const IN_A_WORLD: &str = "NSS_TEST_WORLD";
const DONE: &str = "the body of the test has run to its end";

/// Runs `body` in a world of its own. To be called by a test with a closure; the test is run again in a new process, in which
/// `environment` is set, and only there the closure runs.
pub(crate) fn alone<F: FnOnce()>(nsswitch: &str, environment: &[(&str, &str)], body: F) {
    if env::var_os(IN_A_WORLD).is_some() {
        enter(nsswitch);
        body();
        println!("{DONE}");
        return;
    }
    assert!(
        is_root(),
        "this test mounts its own /run and publishes root's table: run it as root"
    );
    // "crate::module::test::{{closure}}", of which the harness calls the middle the test's name.
    let closure = std::any::type_name::<F>();
    let name = closure
        .strip_suffix("::{{closure}}")
        .and_then(|name| Some(name.split_once("::")?.1));
    let name = name.expect("called with a closure, by a test");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(env::current_exe().expect("this test's path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(IN_A_WORLD, "1")
        .env("LD_LIBRARY_PATH", folder_of_the_module())
        .env_remove("SYSTEMD_BYPASS_USERDB")
        .envs(environment.iter().copied())
        .output()
        .expect("unshare (util-linux)");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    assert!(out.contains(DONE), "no test is called {name}");
    print!("{out}");
}

fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command)
        .args(arguments)
        .status()
        .expect(command);
    assert!(status.success(), "{command} {arguments:?}: {status}");
}

fn enter(nsswitch: &str) {
    run(
        "mount",
        &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"],
    );
    fs::create_dir("/run/teleport-userdb").expect("the table's folder");
    replace_file("/etc/nsswitch.conf", nsswitch);
}

/// Puts other content in the place of a file of the system, for this process alone.
pub(crate) fn replace_file(path: &str, content: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let copy = format!("/run/file-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    fs::write(&copy, content).expect("a copy");
    run("mount", &["--bind", &copy, path]);
}

/// Lets the programs of this world find the module without being told where: those with more rights than their caller do not
/// look at LD_LIBRARY_PATH.
pub(crate) fn install_module() {
    let folder = folder_of_the_module().to_str().expect("a path in UTF-8");
    // No links are made or removed: only what is there is noted.
    run("/sbin/ldconfig", &["-X", "-C", "/run/ld.so.cache", folder]);
    run("mount", &["--bind", "/run/ld.so.cache", "/etc/ld.so.cache"]);
}

pub(crate) fn table_path() -> &'static Path {
    Path::new(DEFAULT_PATH.to_str().expect("an ASCII path"))
}

pub(crate) fn writer() -> Writer {
    Writer::open(table_path(), Trust::Root).expect("a writer")
}

pub(crate) fn spec(login: &str, uid: u32) -> AccountSpec {
    AccountSpec {
        login: login.into(),
        uid,
        gid: uid,
        gecos: format!("User {login}"),
        home: format!("/run/teleport-userdb/home/{login}"),
        shell: "/bin/bash".into(),
        sessions: 1,
        ..AccountSpec::default()
    }
}

pub(crate) fn group(name: &str, gid: u32, origin: GroupOrigin) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        gid,
        origin,
    }
}

/// Builds the module as it is shipped; the path of the file.
pub(crate) fn module_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let test = env::current_exe().expect("this test's path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--profile",
                "module",
                "--package",
                "nss-module",
                "--target-dir",
            ])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo");
        assert!(status.success(), "building the module: {status}");
        target.join("module/libnss_teleport.so")
    })
}

/// A folder in which the module has the name glibc looks for.
fn folder_of_the_module() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = module_file().with_file_name("nss");
        fs::create_dir_all(&folder).expect("a folder for the module");
        let temporary = folder.join(std::process::id().to_string());
        std::os::unix::fs::symlink(module_file(), &temporary).expect("a link to the module");
        fs::rename(temporary, folder.join("libnss_teleport.so.2")).expect("a link to the module");
        folder
    })
}

/// Runs `body` in a forked child; whether it returned true.
pub(crate) fn in_fork(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child only calls the module, which is fork-safe (that is the test), and leaves by _exit.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(if body() { 0 } else { 1 }),
            -1 => panic!("fork failed"),
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

/// Forbids this process any new descriptor, or allows them again.
pub(crate) fn allow_descriptors(allowed: bool) {
    let limit = libc::rlimit {
        rlim_cur: if allowed { 1024 } else { 0 },
        rlim_max: 1024,
    };
    // SAFETY: the struct is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

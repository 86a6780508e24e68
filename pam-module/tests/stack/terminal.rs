//! Who owns the terminal after open_session.
//! All in children: a terminal that another test has open would be one to choose from.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use libpam_sys as sys;
use rustix::fs::Mode;
use rustix::pty::OpenptFlags;

use crate::registry::UID;
use crate::rig::{Rig, in_child};

/// A new pseudo terminal of root's: its master and its slave, which is nobody's controlling terminal.
struct Terminal {
    _master: OwnedFd,
    slave: OwnedFd,
    name: String,
}

impl Terminal {
    fn new() -> Self {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        rustix::pty::unlockpt(&master).expect("unlock the terminal");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("the terminal's name");
        let name = name.into_string().expect("the terminal's name is UTF-8");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let slave = rustix::fs::open(&name, flags, Mode::empty()).expect("the slave side");
        let terminal = Self {
            _master: master,
            slave,
            name,
        };
        rustix::fs::fchmod(&terminal.slave, Mode::from_raw_mode(0o600)).expect("a mode to change");
        assert_eq!(terminal.owner_and_mode(), (0, 0o600));
        terminal
    }

    fn owner_and_mode(&self) -> (u32, u32) {
        let stat = rustix::fs::fstat(self.slave.as_fd()).expect("the terminal's state");
        (stat.st_uid, stat.st_mode & 0o7777)
    }
}

const GIVEN: (u32, u32) = (UID, 0o620);
const LEFT: (u32, u32) = (0, 0o600);

#[test]
fn the_terminal_open_in_the_process_becomes_the_users() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    in_child(|| {
        let terminal = Terminal::new();
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(terminal.owner_and_mode(), LEFT, "not before the session");
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!(terminal.owner_and_mode(), GIVEN);
    });
    login.end(0);
}

#[test]
fn the_terminal_pam_tty_names_becomes_the_users_and_no_other() {
    let rig = Rig::new();
    let _registry = rig.registry();
    for prefix in ["/dev/", ""] {
        let login = rig.login("alice");
        in_child(|| {
            let (named, other) = (Terminal::new(), Terminal::new());
            let name = named
                .name
                .strip_prefix("/dev/")
                .expect("a terminal in /dev");
            login.set(sys::PAM_TTY, &format!("{prefix}{name}"));
            assert_eq!(login.account(), sys::PAM_SUCCESS);
            assert_eq!(login.open(), sys::PAM_SUCCESS);
            assert_eq!(named.owner_and_mode(), GIVEN);
            assert_eq!(other.owner_and_mode(), LEFT);
        });
        login.end(0);
    }
}

#[test]
fn the_callers_own_controlling_terminal_is_left_alone() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    in_child(|| {
        let terminal = Terminal::new();
        // SAFETY: ignoring a signal runs no code. The terminal hangs up when its master is closed.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        rustix::process::setsid().expect("a session of processes");
        rustix::process::ioctl_tiocsctty(&terminal.slave).expect("a controlling terminal");
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!(terminal.owner_and_mode(), LEFT);
    });
    login.end(0);
}

#[test]
fn a_terminal_that_is_not_roots_is_left_alone() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    in_child(|| {
        let terminal = Terminal::new();
        rustix::fs::fchown(
            &terminal.slave,
            Some(rustix::fs::Uid::from_raw(12345)),
            None,
        )
        .expect("give the terminal to somebody");
        login.set(sys::PAM_TTY, &terminal.name);
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!(terminal.owner_and_mode(), (12345, 0o600));
    });
    login.end(0);
}

#[test]
fn a_terminal_that_outlives_the_login_is_taken_back_at_its_end() {
    let rig = Rig::new();
    let _registry = rig.registry();
    // A node of our own with a name of the host's, which nobody else sees.
    let (name, node) = ("/dev/tty1", "/run/tty1");
    let mode = Mode::from_raw_mode(0o600);
    let device = rustix::fs::makedev(4, 63);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        node,
        rustix::fs::FileType::CharacterDevice,
        mode,
        device,
    )
    .expect("a device node");
    crate::rig::mount(Some(node), name, None, libc::MS_BIND);
    let owner_and_mode = || {
        let stat = rustix::fs::stat(node).expect("the node");
        (stat.st_uid, stat.st_mode & 0o7777)
    };
    // A serial line is its group's, too.
    for (closes, found) in [(true, 0o600), (false, 0o600), (true, 0o660), (false, 0o660)] {
        rustix::fs::chmod(node, Mode::from_raw_mode(found)).expect("a mode to change");
        let left = (0, found);
        let login = rig.login("alice");
        login.set(sys::PAM_TTY, "tty1");
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!(owner_and_mode(), GIVEN);
        if closes {
            assert_eq!(login.close(), sys::PAM_SUCCESS);
            assert_eq!(owner_and_mode(), left);
        }
        login.end(0);
        assert_eq!(owner_and_mode(), left);
    }
}

#[test]
fn of_several_terminals_none_is_guessed() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    in_child(|| {
        let (one, other) = (Terminal::new(), Terminal::new());
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!([one.owner_and_mode(), other.owner_and_mode()], [LEFT; 2]);
    });
    login.end(0);
}

#[test]
fn a_name_that_is_no_terminal_is_no_reason_to_fail() {
    let rig = Rig::new();
    let _registry = rig.registry();
    for name in [
        "ssh",
        ":0",
        "/dev/null",
        "/dev/pts/999999",
        "/run/teleport-userdb/sessions",
    ] {
        let login = rig.login("alice");
        login.set(sys::PAM_TTY, name);
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(login.open(), sys::PAM_SUCCESS, "{name}");
        login.end(0);
    }
    let null = File::open("/dev/null").expect("/dev/null");
    let owner = rustix::fs::fstat(null.as_fd()).expect("its state").st_uid;
    assert_eq!(owner, 0);
}

//! What a login program sees of the module, case by case. The decisions alone are tested with its sources:
//! close after a failed open too, where libpam answers by the failed open, whatever the module says.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use libpam_sys as sys;

use crate::registry::{REFUSAL_SHOWN, UID};
use crate::rig::{Rig, SLACK, in_child, limit_memory, module, mount, timed};

/// What the service files make of PAM_IGNORE.
const IGNORED: i32 = sys::PAM_CRED_INSUFFICIENT;

#[test]
fn without_teleport_login_in_the_pam_environment_nothing_is_asked() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.transaction("teleport", "alice");
    in_child(|| {
        // The environment of the process is not believed.
        // SAFETY: the child has one thread.
        unsafe { std::env::set_var("TELEPORT_LOGIN", "alice") };
        assert_eq!([login.account(), login.open(), login.close()], [IGNORED; 3]);
    });
    login.end(0);
    assert!(registry.asked().is_empty());
}

#[test]
fn without_memory_to_read_the_environment_the_login_is_refused() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    login.put(format!("LONG={}", "x".repeat(64 << 20)));
    in_child(|| {
        limit_memory(32 << 20);
        assert_eq!(login.account(), sys::PAM_BUF_ERR);
        assert_eq!(login.open(), sys::PAM_SESSION_ERR);
        assert_eq!(login.told(sys::PAM_ERROR_MSG).len(), 2);
    });
    login.end(0);
    assert!(registry.asked().is_empty());
}

#[test]
fn authentication_credentials_and_passwords_are_ignored() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.others(), [IGNORED; 3]);
    login.end(0);
    assert!(registry.asked().is_empty());
}

#[test]
fn a_service_that_is_none_of_ours_is_ignored() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.transaction("su", "alice");
    login.put("TELEPORT_LOGIN=alice");
    assert_eq!([login.account(), login.open(), login.close()], [IGNORED; 3]);
    login.end(0);
    assert_eq!(registry.asked(), ["reserve alice"]);
}

#[test]
fn an_admitted_login_is_reserved_opened_and_closed_by_this_process() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    login.put(b"NOT_TEXT=\xff");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    assert_eq!(registry.live(), ["s1"]);
    assert_eq!(login.close(), sys::PAM_SUCCESS);
    assert!(registry.live().is_empty());
    assert_eq!(login.close(), sys::PAM_SUCCESS, "a second close");
    login.end(0);

    assert_eq!(
        registry.asked(),
        ["reserve alice", "open s1 alice", "close s1"]
    );
    let pid = i32::try_from(std::process::id()).expect("a process id");
    assert!(registry.calls().iter().all(|asked| asked.peer == pid));
    let reserve = &registry.calls()[0];
    assert_eq!(reserve.environment["TELEPORT_ROLES"], "dev ops");
    assert_eq!(reserve.undecodable, ["NOT_TEXT"]);
    assert_eq!(login.told(sys::PAM_TEXT_INFO), ["Welcome,\\u{9}alice."]);
}

#[test]
fn a_user_of_somebody_else_logs_in_and_nothing_is_held() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("root");
    assert_eq!(
        [login.account(), login.open(), login.close()],
        [sys::PAM_SUCCESS; 3]
    );
    login.end(0);
    assert_eq!(registry.asked(), ["reserve root"]);
}

#[test]
fn a_refusal_reaches_the_person_in_one_sentence_without_control_characters() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("denied");
    assert_eq!(login.account(), sys::PAM_PERM_DENIED);
    assert_eq!(login.told(sys::PAM_ERROR_MSG), [REFUSAL_SHOWN]);
    assert_eq!(login.open(), sys::PAM_SESSION_ERR);
    login.end(0);
    assert_eq!(registry.asked(), ["reserve denied", "open - denied"]);
}

#[test]
fn with_pam_silent_nothing_is_said() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("denied");
    assert_eq!(login.account_with(sys::PAM_SILENT), sys::PAM_PERM_DENIED);
    assert!(login.told(sys::PAM_ERROR_MSG).is_empty());
    login.end(0);
}

#[test]
fn what_pam_silent_has_kept_back_is_said_in_the_next_phase() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account_with(sys::PAM_SILENT), sys::PAM_SUCCESS);
    assert!(login.told(sys::PAM_TEXT_INFO).is_empty());
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    assert_eq!(login.told(sys::PAM_TEXT_INFO), ["Welcome,\\u{9}alice."]);
    login.end(0);
}

#[test]
fn pam_end_without_close_ends_the_session() {
    let rig = Rig::new();
    let registry = rig.registry();
    let opened = rig.login("alice");
    assert_eq!(opened.account(), sys::PAM_SUCCESS);
    assert_eq!(opened.open(), sys::PAM_SUCCESS);
    let reserved = rig.login("bert");
    assert_eq!(reserved.account(), sys::PAM_SUCCESS);
    opened.end(sys::PAM_SESSION_ERR);
    assert_eq!(registry.live(), ["s2"]);
    reserved.end(sys::PAM_SUCCESS);
    assert!(registry.live().is_empty());
}

#[test]
fn pam_end_of_a_copy_of_the_process_ends_nothing() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    in_child(|| login.end(0));
    registry.settle();
    assert_eq!(registry.live(), ["s1"]);
    login.end(0);
    assert!(registry.live().is_empty());
}

#[test]
fn pam_end_with_data_silent_ends_nothing() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    login.end(sys::PAM_SUCCESS | sys::PAM_DATA_SILENT);
    registry.settle();
    assert_eq!(registry.asked(), ["reserve alice", "open s1 alice"]);
}

#[test]
fn the_environment_of_the_account_phase_counts() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    login.put("TELEPORT_ROLES=admin");
    login.put("TELEPORT_LOGIN=root");
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    login.end(0);
    let calls = registry.calls();
    assert_eq!(calls[1].what, "open s1 alice");
    assert_eq!(calls[1].environment, calls[0].environment);

    let without = rig.transaction("teleport", "alice");
    assert_eq!(without.account(), IGNORED);
    without.put("TELEPORT_LOGIN=alice");
    assert_eq!(without.open(), IGNORED);
    without.end(0);
}

#[test]
fn a_stack_with_the_session_phase_alone_makes_nobody_whatever_its_environment_says() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!([login.open(), login.close()], [IGNORED; 2]);
    login.end(0);
    assert!(registry.asked().is_empty(), "{:?}", registry.asked());
}

#[test]
fn a_pam_user_that_is_not_the_teleport_login_is_refused() {
    let rig = Rig::new();
    let registry = rig.registry();
    let other = rig.transaction("teleport", "root");
    other.put("TELEPORT_LOGIN=alice");
    assert_eq!(other.account(), sys::PAM_PERM_DENIED);
    assert_eq!(other.open(), sys::PAM_SESSION_ERR);
    assert!(other.told(sys::PAM_ERROR_MSG)[0].contains("\"root\""));
    other.end(0);
    // Asked all the same: in a service that is none of ours it is left alone.
    assert_eq!(registry.asked(), ["reserve root"]);
}

#[test]
fn a_pam_user_that_is_not_the_teleport_login_is_ignored_in_a_service_that_is_none_of_ours() {
    let rig = Rig::new();
    let registry = rig.registry();
    let other = rig.transaction("su", "root");
    other.put("TELEPORT_LOGIN=alice");
    assert_eq!([other.account(), other.open(), other.close()], [IGNORED; 3]);
    other.end(0);
    assert_eq!(registry.asked(), ["reserve root"]);
}

#[test]
fn a_pam_user_changed_after_the_account_phase_is_refused_and_the_reservation_ends() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    login.set(sys::PAM_USER, "root");
    assert_eq!(login.open(), sys::PAM_SESSION_ERR);
    login.end(sys::PAM_SESSION_ERR);
    assert_eq!(registry.asked(), ["reserve alice", "close s1"]);
}

#[test]
fn a_repaired_name_becomes_the_pam_user() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("Bert");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.user(), "bert");
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    assert_eq!(login.close(), sys::PAM_SUCCESS);
    login.end(0);
    assert_eq!(
        registry.asked(),
        ["reserve Bert", "open s1 Bert", "close s1"]
    );
}

#[test]
fn close_without_roots_rights_succeeds_and_says_nothing() {
    let rig = Rig::new();
    let registry = rig.registry();
    let login = rig.login("alice");
    assert_eq!(login.account(), sys::PAM_SUCCESS);
    assert_eq!(login.open(), sys::PAM_SUCCESS);
    let told = login.told(sys::PAM_ERROR_MSG).len();
    in_child(|| {
        // SAFETY: no pointers; the child gives its rights away for good.
        let changed = unsafe { libc::setresuid(UID, UID, UID) };
        assert_eq!(changed, 0);
        let (code, took) = timed(|| login.close());
        assert_eq!(code, sys::PAM_SUCCESS);
        assert!(took < SLACK, "{took:?}");
        assert_eq!(login.told(sys::PAM_ERROR_MSG).len(), told);
        login.end(0);
    });
    assert_eq!(registry.asked(), ["reserve alice", "open s1 alice"]);
    login.end(0);
}

#[test]
fn no_descriptor_is_kept_between_calls() {
    let rig = Rig::new();
    let _registry = rig.registry();
    let login = rig.login("alice");
    in_child(|| {
        let descriptors = || {
            fs::read_dir("/proc/self/fd")
                .map(Iterator::count)
                .unwrap_or(0)
        };
        let before = descriptors();
        assert_eq!(login.account(), sys::PAM_SUCCESS);
        assert_eq!(descriptors(), before, "after the account phase");
        assert_eq!(login.open(), sys::PAM_SUCCESS);
        assert_eq!(descriptors(), before, "after open_session");
        assert_eq!(login.close(), sys::PAM_SUCCESS);
        assert_eq!(descriptors(), before, "after close_session");
    });
    login.end(0);
}

#[test]
fn refusals_and_odd_arguments_are_logged() {
    let rig = Rig::with_arguments("debug timeout=never shout");
    let _registry = rig.registry();
    let login = rig.login("denied");
    in_child(|| {
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), 0);
        let log = UnixDatagram::bind("/dev/log").expect("bind the system log's socket");
        log.set_nonblocking(true).expect("do not wait for the log");
        // SAFETY: closes what an earlier test may have opened.
        unsafe { libc::closelog() };
        login.account();
        let mut logged = String::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = log.recv(&mut buffer) {
            logged += &String::from_utf8_lossy(&buffer[..length]);
            logged.push('\n');
        }
        for part in [
            "pam_teleport(teleport:account): refused: No role of yours",
            "\\u{1b}[2J",
            "\"timeout=never\" ignored",
            "\"shout\" ignored",
            "account: PermDenied",
        ] {
            assert!(logged.contains(part), "{logged:?} lacks {part}");
        }
        assert!(!logged.contains('\x1b'));
    });
    login.end(0);
}

#[test]
fn the_programs_own_panic_hook_stays() {
    static HEARD: AtomicBool = AtomicBool::new(false);
    let rig = Rig::new();
    // A copy is another library to the loader, which nothing has been called in yet.
    let service = fs::read_to_string("/run/services/teleport").expect("the service file");
    let module = module();
    fs::copy(&module, "/run/copy.so").expect("copy the module");
    let service = service.replace(&module.display().to_string(), "/run/copy.so");
    fs::write("/run/services/copy", service).expect("write the service file");
    let login = rig.transaction("copy", "root");
    in_child(|| {
        panic::set_hook(Box::new(|_| HEARD.store(true, Ordering::Relaxed)));
        assert_eq!(login.account(), IGNORED);
        assert!(panic::catch_unwind(|| panic!("of the program itself")).is_err());
        assert!(HEARD.load(Ordering::Relaxed));
    });
    login.end(0);
}

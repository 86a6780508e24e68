//! Living in other people's processes: without system calls, limits, signals, forks, other roots. Each process is left as it was.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use account_table::{AccountSpec, GroupOrigin};

use crate::rig::process::{
    address_space, alarm_storm, chroot, close_stdio, descriptors, errno_is_marked,
    found_by_five_calls, limit, mappings_of_the_table, mark_errno, unload, use_only,
    without_system_calls,
};
use crate::rig::{Module, alone, glibc, group, in_fork, install_module, spec, writer};

const USUAL: &str = "passwd: files teleport\ngroup: files teleport\n";
const ALL: [bool; 5] = [true; 5];
const NONE: [bool; 5] = [false; 5];

/// Publishes alice, in two groups.
fn alice() {
    let user = AccountSpec {
        groups: vec![group("dev", 3000, GroupOrigin::Synthesized)],
        ..spec("alice", 54_321)
    };
    writer().publish(&user).unwrap();
}

fn alice_is_found_and_bob_is_not() -> bool {
    found_by_five_calls(c"alice", 54_321) == ALL && found_by_five_calls(c"bob", 54_322) == NONE
}

#[test]
fn once_the_table_is_mapped_no_lookup_makes_a_system_call() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        assert!(alice_is_found_and_bob_is_not());
        assert!(without_system_calls(
            || (0..1000).all(|_| alice_is_found_and_bob_is_not())
        ));
        assert!(
            !without_system_calls(|| fs::exists("/").is_ok()),
            "the kernel kills who makes one"
        );
    });
}

#[test]
fn errno_and_descriptors_are_left_as_they_were() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        // Reading a folder opens one itself: it is in both.
        let before = descriptors();
        let module = Module::load();
        let (mut buffer, long) = ([0; 1024], "n".repeat(5000));
        for name in ["alice", "bob", "", &long] {
            mark_errno();
            let _ = module.user(name, &mut buffer);
            assert!(errno_is_marked(), "{name:.5}");
        }
        assert!(alice_is_found_and_bob_is_not());
        assert_eq!(descriptors(), before);
        assert_eq!(mappings_of_the_table(), 1);
    });
}

#[test]
fn a_process_short_of_address_space_gets_an_answer_or_is_told_to_try_again() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        // The table has 1.2 MiB: with less than that to spare it cannot be mapped, with more it can.
        assert!(in_fork(|| {
            limit(libc::RLIMIT_AS, address_space() + 64 * 1024);
            module.user("alice", &mut buffer).status == crate::rig::TRY_AGAIN
        }));
        assert!(in_fork(|| {
            limit(libc::RLIMIT_AS, address_space() + 4 * 1024 * 1024);
            alice_is_found_and_bob_is_not()
        }));
    });
}

#[test]
fn closed_standard_streams_no_descriptors_and_another_root_change_nothing() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        assert!(in_fork(|| {
            close_stdio();
            // The table must not become somebody's standard output either.
            alice_is_found_and_bob_is_not() && fs::read_link("/proc/self/fd/0").is_err()
        }));
        assert!(alice_is_found_and_bob_is_not(), "mapped from here on");
        assert!(in_fork(|| {
            limit(libc::RLIMIT_NOFILE, 0);
            alice_is_found_and_bob_is_not()
        }));
        let empty = std::path::Path::new("/run/empty");
        fs::create_dir(empty).unwrap();
        assert!(in_fork(|| {
            chroot(empty);
            alice_is_found_and_bob_is_not()
        }));
    });
}

#[test]
fn a_setuid_program_finds_our_users_whatever_its_caller_has_in_the_environment() {
    alone(USUAL, &[], || {
        alice();
        install_module();
        let program = "/run/getent";
        fs::copy("/usr/bin/getent", program).unwrap();
        // Run by `caller`, who wants to see everybody but us.
        let finds_alice = |mode, caller| {
            fs::set_permissions(program, fs::Permissions::from_mode(mode)).unwrap();
            let mut getent = Command::new(program);
            getent.args(["passwd", "alice"]).uid(caller);
            getent.env("SYSTEMD_BYPASS_USERDB", "com.goteleport.DynamicUser");
            getent.status().unwrap().success()
        };
        assert!(finds_alice(0o4755, 65_534));
        assert!(!finds_alice(0o755, 0), "its own environment is obeyed");
    });
}

#[test]
fn in_another_root_without_a_table_nobody_is_found() {
    alone(USUAL, &[], || {
        alice();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        let empty = std::path::Path::new("/run/empty");
        fs::create_dir(empty).unwrap();
        assert!(in_fork(|| {
            chroot(empty);
            module.user("alice", &mut buffer).status == crate::rig::NOT_FOUND
        }));
    });
}

#[test]
fn signals_at_any_moment_change_no_answer() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        assert!(in_fork(|| {
            alarm_storm();
            (0..200_000).all(|_| alice_is_found_and_bob_is_not())
        }));
    });
}

#[test]
fn sixteen_threads_that_fork_leave_every_child_with_a_working_module() {
    alone(USUAL, &[], || {
        alice();
        use_only(c"teleport");
        // A child of a fork in the middle of loading is lost to glibc's own loader, whatever is loaded.
        assert!(alice_is_found_and_bob_is_not(), "loaded from here on");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let forkers: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| (0..20).all(|_| in_fork(alice_is_found_and_bob_is_not))))
                .collect();
            let asker = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(alice_is_found_and_bob_is_not());
                }
            });
            let right = forkers.into_iter().all(|thread| thread.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            asker.join().unwrap();
            assert!(right);
        });
        assert_eq!(mappings_of_the_table(), 1);
    });
}

#[test]
fn a_thread_with_hardly_a_stack_gets_every_answer() {
    alone(USUAL, &[], || {
        let user = AccountSpec {
            aliases: vec!["Alice".into()],
            groups: vec![group("dev", 3000, GroupOrigin::Synthesized)],
            ..spec("alice", 54_321)
        };
        writer().publish(&user).unwrap();
        use_only(c"teleport");
        assert!(alice_is_found_and_bob_is_not(), "loaded from here on");
        let calls: [fn() -> bool; 7] = [
            || glibc::user("alice").unwrap().is_some(),
            || glibc::user("Alice").unwrap().is_some(),
            || glibc::group("dev").unwrap().unwrap().members == ["alice"],
            || glibc::group_by_id(3000).unwrap().is_some(),
            || glibc::group_list("Alice", 54_321) == [54_321, 3000],
            || glibc::all_users() == ["alice"],
            || glibc::all_groups() == ["alice", "dev"],
        ];
        for (number, call) in calls.into_iter().enumerate() {
            let answered = in_fork(|| {
                // The least there can be is 16 KiB.
                let thread = thread::Builder::new().stack_size(20 << 10).spawn(call);
                thread.unwrap().join().unwrap()
            });
            assert!(answered, "call {number}");
        }
    });
}

#[test]
fn a_module_that_is_unloaded_while_it_is_used_goes_on_answering() {
    alone(USUAL, &[], || {
        alice();
        let module = Module::load();
        let mut buffer = [0; 1024];
        assert!(module.user("alice", &mut buffer).entry.is_some());
        unload();
        assert!(module.user("alice", &mut buffer).entry.is_some());
        assert_eq!(mappings_of_the_table(), 1);
    });
}

//! User namespaces: where root is nobody's number, its files look like anybody's who is not mapped.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::rig::process::{enter_a_namespace_of, leave_descriptors};
use crate::rig::{
    Module, OURS_ONLY, SUCCESS, TRY_AGAIN, alone, in_fork, module_file, spec, table_path, writer,
};

const ALICE: u32 = 71_000;
/// What `unshare` needs for a namespace in which alice alone is mapped.
const ALONE: &str = "--map-current-user";

/// Publishes alice, and puts the module where she may read it.
fn alice() {
    writer().publish(&spec("alice", ALICE)).unwrap();
    fs::create_dir("/run/module").unwrap();
    fs::copy(module_file(), "/run/module/libnss_teleport.so.2").unwrap();
}

/// Whether a process of alice's finds her, in a user namespace made with these options.
fn is_found_in(options: &[&str]) -> bool {
    let mut unshare = Command::new("unshare");
    unshare.arg("--user").args(options);
    unshare.args(["sh", "-c", "getent passwd daemon && getent passwd alice"]);
    unshare.uid(ALICE).gid(ALICE).current_dir("/");
    unshare.env("LD_LIBRARY_PATH", "/run/module");
    let output = unshare.output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(found.starts_with("daemon:"), "{options:?}: {error}");
    found.contains("alice:*:71000:")
}

#[test]
fn where_root_is_not_mapped_its_table_is_believed_and_nobody_elses_that_can_be_told() {
    alone(OURS_ONLY, &[], || {
        alice();
        assert!(is_found_in(&[ALONE]));
        // There root, or who stands for everybody unmapped, is alice herself; or nobody is anybody.
        for options in [&["--map-root-user"][..], &["--map-user=65534"], &[]] {
            assert!(!is_found_in(options), "{options:?}");
        }
        let folder = table_path().parent().unwrap();
        for path in [table_path(), folder, folder.parent().unwrap()] {
            let mode = fs::metadata(path).unwrap().permissions();
            chown(path, Some(ALICE), None).unwrap();
            assert!(!is_found_in(&[ALONE]), "alice's own {path:?}");
            chown(path, Some(0), None).unwrap();
            for others in [0o020, 0o002] {
                fs::set_permissions(path, Permissions::from_mode(mode.mode() | others)).unwrap();
                assert!(!is_found_in(&[ALONE]), "{path:?}, writable by others");
            }
            fs::set_permissions(path, mode).unwrap();
            assert!(is_found_in(&[ALONE]));
        }
    });
}

#[test]
fn whose_the_table_is_cannot_be_told_without_descriptors_and_is_not_taken_for_no() {
    alone(OURS_ONLY, &[], || {
        alice();
        let (module, mut buffer) = (Module::load(), [0; 1024]);
        // One for the table, one for the map of the namespace.
        for (descriptors, status) in [(0, TRY_AGAIN), (1, TRY_AGAIN), (2, SUCCESS)] {
            assert!(in_fork(|| {
                enter_a_namespace_of(ALICE);
                leave_descriptors(descriptors);
                module.user("alice", &mut buffer).status == status
            }));
        }
    });
}

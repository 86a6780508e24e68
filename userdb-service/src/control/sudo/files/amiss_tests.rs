//! Files and folders in which something is amiss. They need root, as the files do.

use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::Mode;
use rustix::fs::ioctl_setflags;

use super::super::tests::{Bench, id_only, login};
use super::*;
use crate::policy::sudoers::HEADER;

#[test]
fn what_has_become_of_a_file_is_told_and_what_stands_in_it_beside_is_nothing_amiss() {
    let bench = Bench::new("amiss");
    let zed = login("zed");
    let path = bench.path.join("teleport-zed");
    let amiss = || bench.files.amiss(&zed, &id_only()).unwrap();
    let clear = || {
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&path);
    };
    let set = |mode| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    assert_eq!(amiss(), Some(Amiss::Absent));
    type Change<'c> = (Amiss, &'c dyn Fn());
    let changes: [Change<'_>; 11] = [
        (Amiss::NoFile, &|| {
            clear();
            std::fs::create_dir(&path).unwrap();
        }),
        (Amiss::NoFile, &|| {
            clear();
            symlink("/dev/null", &path).unwrap();
        }),
        (Amiss::NoFile, &|| {
            clear();
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        }),
        (Amiss::Owner, &|| {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        }),
        (Amiss::Closed, &|| set(0o040)),
        (Amiss::Empty, &|| std::fs::write(&path, "").unwrap()),
        (Amiss::Headless, &|| {
            std::fs::write(&path, "zed ALL=(root) NOPASSWD: /usr/bin/id\n").unwrap();
        }),
        (Amiss::Linked, &|| {
            std::fs::hard_link(&path, bench.path.join("second")).unwrap();
        }),
        (Amiss::Rule, &|| {
            std::fs::write(&path, format!("{HEADER}\n# zed ALL=ALL\n")).unwrap();
        }),
        (Amiss::Mode, &|| set(0o442)),
        (Amiss::Mode, &|| {
            std::os::unix::fs::chown(&path, None, Some(12345)).unwrap();
            set(0o460);
        }),
    ];
    for (expected, change) in changes {
        clear();
        let _ = std::fs::remove_file(bench.path.join("second"));
        bench.files.write(&zed, &id_only()).unwrap();
        assert_eq!(amiss(), None);
        change();
        assert_eq!(amiss(), Some(expected));
    }
    set(0o440);
    let beside = format!("{}# a note\n", bench.text("teleport-zed"));
    std::fs::write(&path, beside).unwrap();
    assert_eq!(amiss(), None);
    // sudo trusts the group of root.
    std::os::unix::fs::chown(&path, None, Some(0)).unwrap();
    set(0o660);
    assert_eq!(amiss(), None);
}

#[test]
fn an_immutable_folder_is_told_as_that() {
    let bench = Bench::new("immutable");
    let open = std::fs::File::open(&bench.path).unwrap();
    let set = |flags| ioctl_setflags(&open, flags);
    let before = ioctl_getflags(&open).unwrap();
    set(before | IFlags::IMMUTABLE).expect("this test needs a file system with attributes");
    let error = bench.files.write(&login("zed"), &id_only()).unwrap_err();
    let lacking = bench.files.amiss(&login("zed"), &id_only()).unwrap();
    set(before).unwrap();
    assert!(error.to_string().contains("chattr -i"), "{error}");
    assert_eq!(lacking, Some(Amiss::Immutable));
}

//! The file as such: adopted, replaced behind the writer's back, made, and refused when it is not to be trusted.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::basics::full_spec;
use super::*;
use crate::TableCell;

#[test]
fn a_sound_file_is_adopted_in_place() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.publish(&full_spec()).unwrap();
    writer.publish(&spec("alice", 1000, 1)).unwrap();
    let handle = scratch.table();
    let inode = fs::metadata(scratch.path()).unwrap().ino();
    drop(writer);
    let mut writer = scratch.writer();
    assert_eq!(fs::metadata(scratch.path()).unwrap().ino(), inode);
    let mut logins = writer.logins();
    logins.sort();
    assert_eq!(logins, ["alice", "zoë"]);
    assert_eq!(
        seen(&handle, &handle.user_by_name(b"z").found().unwrap()),
        full_spec()
    );
    writer.retain(|login| login == "alice");
    assert!(matches!(handle.user_by_name(b"z"), Lookup::Absent));
    assert!(matches!(handle.user_by_name(b"alice"), Lookup::Found(_)));
    assert!(!handle.is_retired());
}

#[test]
fn a_file_removed_or_replaced_behind_the_writers_back_comes_back_with_the_next_change() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.publish(&spec("alice", 1000, 1)).unwrap();
    let handle = scratch.table();
    fs::remove_file(scratch.path()).unwrap();
    writer.publish(&spec("bob", 1001, 1)).unwrap();
    assert!(handle.is_retired());
    assert!(matches!(
        scratch.table().user_by_name(b"alice"),
        Lookup::Found(_)
    ));
    assert!(matches!(
        scratch.table().user_by_name(b"bob"),
        Lookup::Found(_)
    ));
    fs::remove_file(scratch.path()).unwrap();
    fs::write(scratch.path(), "nonsense").unwrap();
    writer.withdraw("bob").unwrap();
    assert!(matches!(
        scratch.table().user_by_name(b"alice"),
        Lookup::Found(_)
    ));
    assert!(matches!(
        scratch.table().user_by_name(b"bob"),
        Lookup::Absent
    ));
}

#[test]
fn readers_of_a_copy_that_was_put_in_the_tables_place_are_sent_away_with_the_next_change() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.publish(&spec("alice", 1000, 1)).unwrap();
    let copy = scratch.folder.join("copy");
    fs::copy(scratch.path(), &copy).unwrap();
    fs::rename(&copy, scratch.path()).unwrap();
    let path = Box::leak(scratch.c_path().into_boxed_c_str());
    let cell = TableCell::new(path, scratch.trust);
    let finds_alice = || cell.get().unwrap().user_by_name(b"alice").found().is_some();
    assert!(finds_alice());
    writer.withdraw("alice").unwrap();
    assert!(!finds_alice(), "the copy is read on");
    writer.publish(&spec("alice", 1000, 2)).unwrap();
    assert!(finds_alice());
}

#[test]
fn the_file_is_readable_by_all_writable_by_its_owner_and_without_holes() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let metadata = fs::metadata(scratch.path()).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o644);
    assert!(metadata.blocks() * 512 >= metadata.len());
    assert_eq!(
        fs::read_dir(&scratch.folder).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn nothing_is_left_of_a_table_that_was_never_finished() {
    let scratch = Scratch::new();
    let Trust::Owner(uid) = scratch.trust else {
        panic!("an owner")
    };
    let names = || {
        let entries = fs::read_dir(&scratch.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    // Made, and found to be of somebody whom readers would not believe.
    assert!(Writer::open(&scratch.path(), Trust::Owner(uid + 1)).is_err());
    assert!(names().is_empty(), "{:?}", names());

    // Killed while the table grew: what it was filled with is a copy of everybody.
    scratch.writer().publish(&spec("alice", 1000, 1)).unwrap();
    fs::copy(scratch.path(), scratch.folder.join(".accounts.new")).unwrap();
    let writer = scratch.writer();
    assert_eq!(names(), ["accounts"]);
    assert_eq!(writer.logins(), ["alice"]);
}

#[test]
fn files_that_others_could_have_written_are_not_believed() {
    let scratch = Scratch::new();
    scratch.writer().publish(&spec("alice", 1000, 1)).unwrap();
    let path = scratch.path();
    let Trust::Owner(uid) = scratch.trust else {
        panic!("an owner")
    };
    assert!(Table::open(&scratch.c_path(), Trust::Owner(uid + 1)).is_none());
    for mode in [0o664, 0o646] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(
            Table::open(&scratch.c_path(), scratch.trust).is_none(),
            "{mode:o}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::rename(&path, scratch.folder.join("moved")).unwrap();
    symlink("moved", &path).unwrap();
    assert!(
        Table::open(&scratch.c_path(), scratch.trust).is_none(),
        "a symbolic link"
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        Table::open(&scratch.c_path(), scratch.trust).is_none(),
        "a folder"
    );
}

#[test]
fn nothing_of_a_withdrawn_record_is_left_in_the_file() {
    let scratch = Scratch::new();
    let mut writer = scratch.small_writer(4);
    let mut subject = spec("subject", 1000, 1);
    subject.gecos = "roles of before".into();
    subject.groups = vec![group("project-of-before", 5000), group("project", 5001)];
    writer.publish(&subject).unwrap();
    subject.gecos = "roles of now".into();
    subject.groups.remove(0);
    writer.publish(&subject).unwrap();
    let holds = |text: &str| {
        let file = std::fs::read(scratch.path()).unwrap();
        file.windows(text.len()).any(|at| at == text.as_bytes())
    };
    assert!(holds("roles of now") && !holds("roles of before"));
    assert!(holds("project") && !holds("project-of-before"));
    writer.withdraw("subject").unwrap();
    assert!(!holds("roles of now") && !holds("subject"));
    assert!(!holds("project"), "the name of a group without members");
}

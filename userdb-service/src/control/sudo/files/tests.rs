//! Tests of `files` on real folders. They need root: our files are root's.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::control::host::plain_root::as_plain_root;
use crate::policy::sudoers::HEADER;

pub(super) struct Bench {
    pub(super) path: PathBuf,
    pub(super) files: SudoersFiles,
}

impl Bench {
    pub(super) fn new(name: &str) -> Bench {
        let path = std::env::temp_dir().join(format!("sudoers-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        Bench {
            files: SudoersFiles::new(&path),
            path,
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

pub(super) fn login(name: &str) -> Login {
    Login::try_from(name).unwrap()
}

pub(super) fn id_only() -> Vec<SudoersSpec> {
    vec![SudoersSpec::try_from("ALL=(root) NOPASSWD: /usr/bin/id").unwrap()]
}

#[test]
fn a_grant_is_written_as_sudo_wants_it_and_taken_away_again() {
    let bench = Bench::new("written");
    bench
        .files
        .write(&login("a.b"), &[SudoersSpec::full()])
        .unwrap();
    assert_eq!(bench.names(), ["teleport-a=2eb"]);
    let metadata = std::fs::metadata(bench.path.join("teleport-a=2eb")).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
        (0o440, 0, 0)
    );
    assert_eq!(
        bench.text("teleport-a=2eb"),
        format!("{HEADER}\na.b ALL=(ALL) NOPASSWD: ALL\n")
    );
    assert_eq!(bench.files.remove(&login("a.b")).unwrap(), Removal::Removed);
    assert_eq!(bench.files.remove(&login("a.b")).unwrap(), Removal::Absent);
    assert!(bench.names().is_empty());
}

#[test]
fn a_changed_grant_replaces_the_file_whole_and_an_equal_one_leaves_it() {
    let bench = Bench::new("changed");
    let inode = || {
        std::fs::metadata(bench.path.join("teleport-zed"))
            .unwrap()
            .ino()
    };
    bench
        .files
        .write(&login("zed"), &[SudoersSpec::full()])
        .unwrap();
    let first = inode();
    bench
        .files
        .write(&login("zed"), &[SudoersSpec::full()])
        .unwrap();
    assert_eq!(inode(), first);
    // What a crash in the middle of an earlier change has left does not stand in the way.
    std::fs::write(bench.path.join(".teleport-zed.new"), &HEADER[..7]).unwrap();
    bench.files.write(&login("zed"), &id_only()).unwrap();
    assert_ne!(inode(), first);
    assert!(bench.text("teleport-zed").ends_with("/usr/bin/id\n"));
    assert_eq!(bench.names(), ["teleport-zed"]);
}

#[test]
fn a_grant_that_is_written_again_is_as_sudo_wants_it_whatever_its_file_had_become() {
    let bench = Bench::new("again");
    bench.files.write(&login("zed"), &id_only()).unwrap();
    let path = bench.path.join("teleport-zed");
    let writable = |group, mode| {
        std::os::unix::fs::chown(&path, None, Some(group)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for (group, mode) in [(0, 0o666), (12345, 0o460)] {
        writable(group, mode);
        // A daemon that has started anew gives those who live what they had.
        let anew = SudoersFiles::new(&bench.path);
        anew.write(&login("zed"), &id_only()).unwrap();
        let seen = std::fs::metadata(&path).unwrap();
        assert_eq!((seen.mode() & 0o7777, seen.gid()), (0o440, 0), "{mode:o}");
    }
}

#[test]
fn what_is_not_ours_is_never_touched() {
    let bench = Bench::new("foreign");
    let ours = format!("{HEADER}\nx ALL=ALL\n");
    let at = |name: &str| bench.path.join(name);
    std::fs::write(at("teleport-file"), "admin ALL=ALL\n").unwrap();
    std::fs::write(at("elsewhere"), &ours).unwrap();
    symlink(at("elsewhere"), at("teleport-link")).unwrap();
    std::fs::create_dir(at("teleport-folder")).unwrap();
    nix::unistd::mkfifo(&at("teleport-fifo"), Mode::S_IRWXU).unwrap();
    std::fs::write(at("teleport-hard"), &ours).unwrap();
    std::fs::hard_link(at("teleport-hard"), at("second-name")).unwrap();
    std::fs::write(at("teleport-user"), &ours).unwrap();
    std::os::unix::fs::chown(at("teleport-user"), Some(12345), None).unwrap();
    std::fs::write(at("teleport-empty"), "").unwrap();
    let before = bench.names();
    for name in ["file", "link", "folder", "fifo", "user", "empty"] {
        let login = login(name);
        let refused = bench.files.write(&login, &[SudoersSpec::full()]);
        assert!(
            matches!(refused, Err(SudoersError::NotOurs(_))),
            "{name}: {refused:?}"
        );
        assert_eq!(
            bench.files.remove(&login).unwrap(),
            Removal::NotOurs,
            "{name}"
        );
    }
    // It looks like ours, so it is not passed over in silence.
    for refused in [
        bench.files.write(&login("hard"), &[SudoersSpec::full()]),
        bench.files.remove(&login("hard")).map(drop),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("2 names") && error.contains("-samefile"),
            "{error}"
        );
    }
    let swept = bench.files.sweep(&BTreeSet::new()).unwrap();
    assert!(swept.removed.is_empty(), "{swept:?}");
    assert!(
        matches!(swept.doubtful[..], [SudoersError::Linked { .. }]),
        "{swept:?}"
    );
    assert_eq!(bench.names(), before);
    assert_eq!(bench.text("teleport-file"), "admin ALL=ALL\n");
}

#[test]
fn what_we_have_written_grants_nothing_more_under_its_other_names() {
    let bench = Bench::new("linked");
    let at = |name: &str| bench.path.join(name);
    bench.files.write(&login("zed"), &id_only()).unwrap();
    std::fs::hard_link(at("teleport-zed"), at("second")).unwrap();
    assert_eq!(bench.files.remove(&login("zed")).unwrap(), Removal::Removed);
    assert_eq!(bench.names(), ["second"]);
    assert_eq!(bench.text("second"), "");
    let mode = std::fs::metadata(at("second")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o440);
}

#[test]
fn what_we_have_written_and_lost_its_header_is_left_alone_and_told_of() {
    let bench = Bench::new("disowned");
    let path = bench.path.join("teleport-zed");
    bench.files.write(&login("zed"), &id_only()).unwrap();
    // In place: the same file.
    std::fs::write(&path, "zed ALL=ALL\n").unwrap();
    for _ in 0..2 {
        let error = bench.files.remove(&login("zed")).unwrap_err().to_string();
        assert!(error.contains("header line"), "{error}");
    }
    assert_eq!(bench.text("teleport-zed"), "zed ALL=ALL\n");
    // Another file under the name is somebody's own.
    std::fs::write(bench.path.join("new"), "zed ALL=ALL\n").unwrap();
    std::fs::rename(bench.path.join("new"), &path).unwrap();
    assert_eq!(bench.files.remove(&login("zed")).unwrap(), Removal::NotOurs);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bench.files.remove(&login("zed")).unwrap(), Removal::Absent);
}

#[test]
fn a_sweep_removes_ours_but_those_of_the_living() {
    let bench = Bench::new("sweep");
    for name in ["zed", "yan", "xan"] {
        bench.files.write(&login(name), &id_only()).unwrap();
    }
    std::fs::write(bench.path.join("teleport-admins"), "%admins ALL=ALL\n").unwrap();
    std::fs::write(bench.path.join("README"), "read me\n").unwrap();
    std::fs::write(bench.path.join(".teleport-zed.new"), "").unwrap();
    std::fs::write(bench.path.join(".teleport-admin.new"), "admin ALL=ALL\n").unwrap();
    assert_eq!(
        bench.files.list().unwrap(),
        (
            vec![
                "teleport-xan".to_owned(),
                "teleport-yan".to_owned(),
                "teleport-zed".to_owned()
            ],
            2
        )
    );
    let keep = BTreeSet::from([login("yan")]);
    let mut removed = bench.files.sweep(&keep).unwrap().removed;
    removed.sort();
    assert_eq!(
        removed,
        [".teleport-zed.new", "teleport-xan", "teleport-zed"]
    );
    assert_eq!(
        bench.names(),
        [
            ".teleport-admin.new",
            "README",
            "teleport-admins",
            "teleport-yan"
        ]
    );
}

#[test]
fn without_the_folder_nothing_can_be_granted_and_nothing_is_left_to_remove() {
    let files = SudoersFiles::new("/nonexistent/sudoers.d");
    let error = files
        .write(&login("zed"), &id_only())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent/sudoers.d") && error.contains("No such file"),
        "{error}"
    );
    assert_eq!(files.remove(&login("zed")).unwrap(), Removal::Absent);
    assert!(files.sweep(&BTreeSet::new()).unwrap().removed.is_empty());
}

#[test]
fn in_a_file_in_the_folder_s_place_nothing_can_be_granted_and_nothing_is_left_to_remove() {
    let bench = Bench::new("plain");
    std::fs::write(bench.path.join("file"), "").unwrap();
    let files = SudoersFiles::new(bench.path.join("file"));
    let error = files.write(&login("zed"), &id_only()).unwrap_err();
    assert!(
        error.to_string().contains("it has to be a folder"),
        "{error}"
    );
    assert_eq!(files.remove(&login("zed")).unwrap(), Removal::Absent);
    assert!(files.sweep(&BTreeSet::new()).unwrap().removed.is_empty());
}

#[test]
fn a_folder_that_others_can_write_to_is_not_trusted() {
    let bench = Bench::new("open");
    std::fs::set_permissions(&bench.path, PermissionsExt::from_mode(0o777)).unwrap();
    let refused = bench.files.write(&login("zed"), &id_only());
    assert!(
        matches!(refused, Err(SudoersError::Unsuitable { .. })),
        "{refused:?}"
    );
}

#[test]
fn on_a_full_file_system_the_old_grant_stands_and_the_error_says_why() {
    let bench = Bench::new("full");
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new("mount")
            .args(arguments)
            .arg(&bench.path)
            .status();
        assert!(
            done.unwrap().success(),
            "this test needs root to mount a tmpfs"
        );
    };
    mount(&["-t", "tmpfs", "-o", "size=16k,mode=0750", "none"]);
    bench.files.write(&login("zed"), &id_only()).unwrap();
    let old = bench.text("teleport-zed");
    let _ = std::fs::write(bench.path.join("filler"), [0; 16384]);
    let error = bench
        .files
        .write(&login("zed"), &[SudoersSpec::full()])
        .unwrap_err()
        .to_string();
    let (after, names) = (bench.text("teleport-zed"), bench.names());
    let lacking = bench.files.amiss(&login("new"), &id_only()).unwrap();
    mount(&["-o", "remount,ro"]);
    let read_only = bench.files.remove(&login("zed")).unwrap_err().to_string();
    std::process::Command::new("umount")
        .arg(&bench.path)
        .status()
        .unwrap();
    assert!(error.contains("No space left"), "{error}");
    assert_eq!(lacking, Some(Amiss::NoRoom));
    assert_eq!(
        (after, names),
        (old, vec!["filler".to_owned(), "teleport-zed".to_owned()])
    );
    assert!(read_only.contains("Read-only"), "{read_only}");
}

#[test]
fn a_set_group_id_folder_is_noticed_before_the_file_has_a_name() {
    let bench = Bench::new("setgid");
    std::os::unix::fs::chown(&bench.path, None, Some(12345)).unwrap();
    std::fs::set_permissions(&bench.path, PermissionsExt::from_mode(0o2750)).unwrap();
    let refused = bench.files.write(&login("zed"), &id_only());
    assert!(
        matches!(refused, Err(SudoersError::Unsuitable { .. })),
        "{refused:?}"
    );
    assert!(bench.names().is_empty());
}

#[test]
fn what_sudo_skips_is_not_among_the_files_that_it_reads() {
    let bench = Bench::new("read");
    for name in ["README", "teleport-admins", "skipped.bak", "skipped~"] {
        std::fs::write(bench.path.join(name), "# nothing\n").unwrap();
    }
    let mut read = bench.files.read_by_sudo().unwrap();
    read.sort();
    assert_eq!(read, ["README", "teleport-admins"]);
    std::fs::remove_dir_all(&bench.path).unwrap();
    assert!(bench.files.read_by_sudo().unwrap().is_empty());
}

#[test]
fn a_prepared_file_grants_nothing_until_it_is_named_which_takes_no_other() {
    let bench = Bench::new("prepared");
    let zed = login("zed");
    let wanted = [id_only(), vec![SudoersSpec::full()]].map(|specs| (zed.clone(), specs));
    let (prepared, _) = bench.files.prepare(&mut Folder::default(), &wanted);
    let [Some(one), Some(other)] = <[_; 2]>::try_from(prepared).unwrap() else {
        panic!("this test needs a file system with nameless files");
    };
    let inode = fstat(&one.file).unwrap().st_ino;
    assert!(bench.names().is_empty());
    let granted = |prepared: Option<Prepared>| {
        let folder = &mut Folder::default();
        let written = bench.files.write_in(folder, &zed, &id_only(), prepared);
        written.unwrap();
        assert_eq!(bench.text("teleport-zed"), render(&zed, &id_only()));
        let inode = std::fs::metadata(bench.path.join("teleport-zed"));
        let inode = inode.unwrap().ino();
        assert_eq!(bench.files.remove(&zed).unwrap(), Removal::Removed);
        assert!(bench.names().is_empty());
        inode
    };
    assert_eq!(granted(Some(one)), inode);
    // It says more than is granted.
    granted(Some(other));
    granted(None);
}

#[test]
fn a_prepared_file_never_takes_the_name_of_somebody_elses() {
    let bench = Bench::new("taken");
    let zed = login("zed");
    let folder = &mut Folder::default();
    let wanted = (zed.clone(), id_only());
    let prepared = bench.files.prepare(folder, &[wanted]).0.pop().flatten();
    assert!(prepared.is_some());
    std::fs::write(bench.path.join("teleport-zed"), "bob ALL=ALL\n").unwrap();
    let refused = bench.files.write_in(folder, &zed, &id_only(), prepared);
    assert!(matches!(refused, Err(SudoersError::NotOurs(_))));
    assert_eq!(bench.text("teleport-zed"), "bob ALL=ALL\n");
}

#[test]
fn what_its_mode_keeps_from_being_read_is_told_as_that_and_removed_once_it_can_be_read() {
    let bench = Bench::new("unreadable");
    let path = bench.path.join("teleport-zed");
    let set = |mode| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    // Who has written it, and who comes after him.
    for is_known in [true, false] {
        bench.files.write(&login("zed"), &id_only()).unwrap();
        set(0o000);
        let files = match is_known {
            true => bench.files.clone(),
            false => SudoersFiles::new(&bench.path),
        };
        // As the daemon, which has no capability for it.
        let told = as_plain_root(Duration::from_secs(10), move || {
            let removed = files.remove(&login("zed")).map(drop);
            let written = files.write(&login("zed"), &id_only());
            let swept = files.sweep(&BTreeSet::new()).unwrap();
            let doubts = swept.doubtful.into_iter().map(Err);
            [removed, written]
                .into_iter()
                .chain(doubts)
                .collect::<Vec<_>>()
        });
        let told = told.unwrap().expect("in time");
        assert_eq!(told.len(), 3);
        for told in told {
            let sentence = told.unwrap_err().to_string();
            let chmod = format!("(chmod 0440 {})", path.display());
            assert!(
                sentence.contains(&chmod) && !sentence.contains("header"),
                "{sentence}"
            );
        }
        set(0o440);
        assert_eq!(bench.files.remove(&login("zed")).unwrap(), Removal::Removed);
    }
}

//! The janitor as the daemon runs it: a real child that becomes a user. Needs root.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use userdb_service::control::end::janitor::{Janitor, JanitorError};
use userdb_service::control::end::remains::{has_living_processes, has_processes};
use userdb_service::policy::ids::{Gid, Uid};

fn janitor() -> Janitor {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root to become other users"
    );
    Janitor {
        program: env!("CARGO_BIN_EXE_teleport-sessiond").into(),
    }
}

/// A user of one test.
fn ids(number: u32) -> (Uid, Gid) {
    let uid = Uid::try_from(0x7000_0100 + number).unwrap();
    (uid, uid.into())
}

fn folder(name: &str, (uid, gid): (Uid, Gid)) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    chown(&dir, Some(uid.get()), Some(gid.get())).unwrap();
    dir
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// A shell of the user, in a process group and session of its own, that has begun its work.
fn shell(uid: Uid, script: &str) -> Child {
    use std::io::Read;
    let mut child = Command::new("setsid")
        .args([
            "sh",
            "-c",
            &format!("{script}\necho started; while :; do sleep 60; done"),
        ])
        .uid(uid.get())
        .gid(uid.get())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 7])
        .unwrap();
    child
}

fn reaped(mut child: Child) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || drop(child.wait()))
}

#[tokio::test]
async fn every_process_of_the_user_is_killed_and_nobody_elses() {
    let ((uid, _), (other, _)) = (ids(1), ids(2));
    let mine = reaped(shell(
        uid,
        "trap '' TERM HUP INT; sleep 1000 & sleep 1000 & sh -c 'sleep 1000' &",
    ));
    let mut bystander = shell(other, "");
    assert!(has_processes(uid.get()));
    janitor().kill(uid).await.unwrap();
    assert!(!has_living_processes(uid.get()));
    assert!(has_processes(other.get()));
    mine.join().unwrap();
    let group = nix::unistd::Pid::from_raw(bystander.id().try_into().unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    bystander.wait().unwrap();
    janitor().kill(other).await.unwrap();
}

#[tokio::test]
async fn every_process_of_the_user_has_sigterm_and_lives_on_if_it_likes() {
    let (user, (other, _)) = (ids(17), ids(18));
    let dir = folder("sigterm", user);
    let written = dir.join("term");
    let mine = shell(
        user.0,
        &format!("trap 'echo x >>{}' TERM", written.display()),
    );
    let mut bystander = shell(other, "");
    // Even one that has been stopped.
    let stopped = nix::unistd::Pid::from_raw(mine.id().try_into().unwrap());
    nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGSTOP).unwrap();
    janitor().terminate(user.0).await.unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_to_string(&written).is_ok_and(|text| text == "x\n") {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(has_living_processes(user.0.get()));
    assert!(bystander.try_wait().unwrap().is_none());
    let (mine, bystander) = (reaped(mine), reaped(bystander));
    janitor().kill(user.0).await.unwrap();
    janitor().kill(other).await.unwrap();
    mine.join().unwrap();
    bystander.join().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn janitors_of_two_users_do_not_end_each_other() {
    let janitor = janitor();
    for _ in 0..20 {
        let (one, two) = tokio::join!(janitor.kill(ids(9).0), janitor.kill(ids(10).0));
        one.unwrap();
        two.unwrap();
    }
}

#[tokio::test]
async fn a_user_that_kills_all_it_can_does_not_escape() {
    let (uid, _) = ids(3);
    // Signals everything it may, over and over: a janitor under this UID would not live to do its work.
    let script = "(sleep 0.1; while :; do kill -KILL -1; done) & (sleep 0.1; while :; do kill -STOP -1; done) &";
    let child = reaped(shell(uid, script));
    janitor().kill(uid).await.unwrap();
    assert!(!has_living_processes(uid.get()));
    child.join().unwrap();
}

#[tokio::test]
async fn ipc_of_the_user_is_removed_and_nobody_elses() {
    let ((uid, gid), (other, _)) = (ids(4), ids(5));
    let shared = |owner: Uid| {
        let made = Command::new("ipcmk")
            .args(["-M", "64", "-S", "1", "-Q"])
            .uid(owner.get())
            .status();
        assert!(made.unwrap().success());
        let path = PathBuf::from(format!("/dev/shm/of-{owner}"));
        std::fs::create_dir_all(path.join("folder")).unwrap();
        std::fs::write(path.join("file"), "x").unwrap();
        for inner in [path.join("folder"), path.join("file"), path.clone()] {
            chown(inner, Some(owner.get()), None).unwrap();
        }
        path
    };
    let count = |owner: Uid| {
        let owner = owner.to_string();
        ["shm", "sem", "msg"]
            .iter()
            .map(|table| std::fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap())
            .map(|text| {
                text.lines()
                    .filter(|line| line.split_whitespace().any(|w| w == owner))
                    .count()
            })
            .sum::<usize>()
    };
    let (mine, theirs) = (shared(uid), shared(other));
    assert_eq!((count(uid), count(other)), (3, 3));
    janitor().remove_ipc(uid, gid).await.unwrap();
    assert_eq!((count(uid), count(other)), (0, 3));
    assert!(!mine.exists() && theirs.exists());
    janitor().remove_ipc(other, other.into()).await.unwrap();
    assert!(!theirs.exists());
}

/// Has the user plant (`add`) or find a key in each of its keyrings that outlive it: the user's (-4), that of its
/// sessions (-5), the persistent one. By Perl, which has system calls by number; of keyctl 5 sets permissions, 10
/// searches, 22 links the persistent keyring to that of the process (-2).
fn keys(uid: Uid, script: &str) -> String {
    let script = format!(
        r#"my ($user, $name, $key) = ("user", "ticket", "x");
        sub add {{ syscall({}, $user, $name, $key, 1, $_[0]) < 0 and die $! }}
        sub find {{ syscall({keyctl}, 10, $_[0], $user, $name, 0) < 0 ? "no" : "yes" }}
        sub allow {{ syscall({keyctl}, 5, -4, $_[0]) < 0 and die $! }}
        my $days = syscall({keyctl}, 22, -1, -2);
        {script}"#,
        libc::SYS_add_key,
        keyctl = libc::SYS_keyctl,
    );
    let ran = Command::new("perl")
        .args(["-e", &script])
        .uid(uid.get())
        .gid(uid.get())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn keys_of_the_user_are_removed_and_nobody_elses() {
    let ((uid, gid), (other, _)) = (ids(11), ids(12));
    let find = "print join ' ', find(-4), find(-5), find($days)";
    // As keyrings are made, and as a user may leave its own to keep the janitor out: to be read and searched only.
    for rights in ["0x3f3f0000", "0x0b0b0000"] {
        for uid in [uid, other] {
            keys(
                uid,
                &format!("add(-4); add(-5); add($days); allow({rights})"),
            );
            assert_eq!(keys(uid, find), "yes yes yes");
        }
        janitor().remove_ipc(uid, gid).await.unwrap();
        assert_eq!(keys(uid, find), "no no no");
        assert_eq!(keys(other, find), "yes yes yes");
        janitor().remove_ipc(other, other.into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_home_is_wiped_as_its_user_and_what_root_left_in_it_as_root() {
    let (uid, gid) = ids(7);
    let home = folder("wipe", (uid, gid));
    std::fs::create_dir_all(home.join("a/b")).unwrap();
    std::fs::write(home.join("a/b/file"), "x").unwrap();
    for path in ["a/b/file", "a/b", "a"] {
        chown(home.join(path), Some(uid.get()), Some(gid.get())).unwrap();
    }
    std::fs::set_permissions(home.join("a/b"), PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o000)).unwrap();
    janitor()
        .wipe(uid, gid, File::open(&home).unwrap().as_fd())
        .await
        .unwrap();
    assert_eq!(entries(&home), 0);
    // What sudo made in there is out of the user's reach.
    std::fs::create_dir_all(home.join("roots/own")).unwrap();
    std::fs::write(home.join("roots/own/file"), "x").unwrap();
    let refused = janitor()
        .wipe(uid, gid, File::open(&home).unwrap().as_fd())
        .await;
    assert!(
        matches!(refused, Err(JanitorError::Failed(_))),
        "{refused:?}"
    );
    janitor()
        .wipe_as_root(File::open(&home).unwrap().as_fd())
        .await
        .unwrap();
    assert_eq!(entries(&home), 0);
}

#[test]
fn a_janitor_does_not_work_as_the_system_or_without_a_task() {
    for arguments in [
        &["kill", "0", "0"][..],
        &["kill", "999", "70000"],
        &["kill", "65534", "65534"],
        &["ipc", "4294967295", "70000"],
        &["wipe", "70000", "0"],
        &["kill", "2164260865", "70000"],
        &["kill"],
        &["everything", "70000", "70000"],
        &[],
    ] {
        let outcome = Command::new(env!("CARGO_BIN_EXE_teleport-sessiond"))
            .arg("--janitor")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            !outcome.status.success() && !outcome.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn a_janitor_that_cannot_start_says_so() {
    let janitor = Janitor {
        program: "/no/such/program".into(),
    };
    let refused = janitor.kill(ids(8).0).await;
    assert!(
        matches!(refused, Err(JanitorError::Start(_))),
        "{refused:?}"
    );
}

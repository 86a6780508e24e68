//! Tests of `leader` with real processes: who they are, and that they have ended. They need root.
//! What follows from their end is tested elsewhere.

use super::*;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

fn sleeper() -> Child {
    Command::new("/bin/sleep").arg("60").spawn().unwrap()
}

fn pid(child: &Child) -> i32 {
    child.id().try_into().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn stat_is_read_behind_a_command_that_looks_like_fields() {
    let text = "77 (a) 1 (b 2) S 55 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2";
    let stat = parse_stat(text).unwrap();
    assert_eq!((stat.parent, stat.start_time), (55, 987_654));
    assert!(parse_stat("77 (a) S 55").is_none());
    assert!(parse_stat("").is_none());
}

#[test]
fn all_four_uids_are_read() {
    assert_eq!(
        parse_uids("Name:\tx\nUid:\t0\t1\t2\t3\nGid:\t9\t9\t9\t9\n"),
        Some([0, 1, 2, 3])
    );
    assert_eq!(parse_uids("Uid:\t0\t1\n"), None);
    assert_eq!(parse_uids("Name:\tx\n"), None);
}

#[test]
fn a_process_is_the_same_by_pid_and_by_pidfd() {
    let child = sleeper();
    let by_pid = Leader::from_pid(pid(&child)).unwrap();
    let by_fd = Leader::of_peer(pid(&child), Some(&by_pid.pidfd)).unwrap();
    assert_eq!(by_pid.id(), by_fd.id());
    assert!(by_pid.id().start_time > 0);
    assert_eq!(by_pid.id().boot_id.len(), 36);
    end(child);
    assert!(by_pid.has_exited().unwrap());
    assert!(matches!(by_pid.is_root(), Err(LeaderError::Gone)));
}

#[test]
fn who_is_behind_a_pidfd_is_told_by_its_inode_as_long_as_it_lives() {
    let (child, other) = (sleeper(), sleeper());
    let [leader, again, stranger] =
        [&child, &child, &other].map(|child| Leader::from_pid(pid(child)).unwrap());
    // On older kernels all pidfds have one inode, and it is never told.
    let is_told = leader.id().pidfd_inode.is_some();
    assert_eq!(leader.is_behind(&again.pidfd), is_told);
    assert!(!leader.is_behind(&stranger.pidfd));
    end(child);
    assert!(!leader.is_behind(&again.pidfd));
    end(other);
}

#[test]
fn a_process_that_has_ended_is_no_leader() {
    let child = sleeper();
    let (dead, pidfd) = (pid(&child), Leader::from_pid(pid(&child)).unwrap().pidfd);
    end(child);
    assert!(matches!(Leader::from_pid(dead), Err(LeaderError::Gone)));
    assert!(matches!(
        Leader::of_peer(dead, Some(&pidfd)),
        Err(LeaderError::Gone)
    ));
    assert!(matches!(Leader::from_pid(0), Err(LeaderError::Gone)));
}

#[test]
fn a_zombie_is_no_leader() {
    let mut child = sleeper();
    child.kill().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(matches!(
        Leader::from_pid(pid(&child)),
        Err(LeaderError::Gone)
    ));
    child.wait().unwrap();
}

#[test]
fn after_a_restart_only_the_very_same_process_is_found_again() {
    let child = sleeper();
    let id = Leader::from_pid(pid(&child)).unwrap().id().clone();
    let kept: LeaderId = serde_json::from_str(&serde_json::to_string(&id).unwrap()).unwrap();
    assert_eq!(Leader::reidentify(&kept).unwrap().id(), &id);
    for other in [
        LeaderId {
            start_time: id.start_time + 1,
            ..id.clone()
        },
        LeaderId {
            boot_id: "another".to_owned(),
            ..id.clone()
        },
        LeaderId {
            pidfd_inode: id.pidfd_inode.map(|inode| inode + 1),
            start_time: 1,
            ..id.clone()
        },
    ] {
        assert!(
            matches!(Leader::reidentify(&other), Err(LeaderError::Gone)),
            "{other:?}"
        );
    }
    end(child);
    assert!(matches!(Leader::reidentify(&id), Err(LeaderError::Gone)));
}

#[test]
fn its_parent_is_found_and_who_changed_its_uid_is_not_root() {
    let child = Command::new("/bin/sleep")
        .arg("60")
        .uid(0x7000_00b1)
        .spawn()
        .expect("this test needs root to run a process as another user");
    let leader = Leader::from_pid(pid(&child)).unwrap();
    assert!(!leader.is_root().unwrap() && leader.has_given_root_away().unwrap());
    let parent = leader.parent().unwrap().unwrap();
    assert_eq!(parent.id().pid, i32::try_from(std::process::id()).unwrap());
    assert!(parent.is_root().unwrap(), "this test needs root");
    assert!(!parent.has_given_root_away().unwrap());
    end(child);
    assert!(matches!(leader.parent(), Err(LeaderError::Gone)));
}

#[test]
fn who_looks_at_files_as_the_user_is_still_root() {
    let mut child = Command::new("perl")
        .args(["-e", "$| = 1; $> = 0x700000b7; print qq(done\\n); sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs perl");
    let mut line = String::new();
    let said = child.stdout.take().expect("piped");
    BufReader::new(said).read_line(&mut line).unwrap();
    let leader = Leader::from_pid(pid(&child)).unwrap();
    let uids = parse_uids(&leader.read("status").unwrap());
    assert!(matches!(uids, Some([0, 0x7000_00b7, 0, _])), "{uids:?}");
    assert!(leader.is_root().unwrap() && !leader.has_given_root_away().unwrap());
    end(child);
}

/// As these kernels say of a number that only a process group, a session or a thread still has.
#[test]
fn who_has_been_reaped_is_gone_where_the_kernel_calls_its_number_invalid() {
    let child = sleeper();
    let id = Leader::from_pid(pid(&child)).unwrap().id().clone();
    end(child);
    let seen = thread::spawn(move || {
        every_pidfd_open_is_invalid();
        Leader::reidentify(&id)
    });
    let seen = seen.join().unwrap();
    assert!(matches!(seen, Err(LeaderError::Gone)), "{seen:?}");
}

/// From here on, in this thread.
fn every_pidfd_open_is_invalid() {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt: 0,
        jf,
        k,
    };
    let number = libc::SYS_pidfd_open.try_into().unwrap();
    let invalid = libc::SECCOMP_RET_ERRNO | libc::EINVAL.unsigned_abs();
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
        step(libc::BPF_RET | libc::BPF_K, invalid, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len().try_into().unwrap(),
        filter: filter.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program outlives the call, which copies it; it holds for this thread alone.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program)
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[tokio::test]
async fn the_end_of_a_process_is_told_to_each_of_its_sessions() {
    let child = sleeper();
    let leader = Leader::from_pid(pid(&child)).unwrap();
    let [first, second, third] = [(); 3].map(|()| leader.watch().unwrap());
    // One that is over takes nothing from the others.
    drop(first);
    end(child);
    let ended = async { tokio::try_join!(second.ended(), third.ended()) };
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    ended.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_a_process_wakes_who_waits_for_it() {
    let mut child = sleeper();
    let exit = Leader::from_pid(pid(&child)).unwrap().watch().unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), exit.ended()).await;
    assert!(early.is_err());
    child.kill().unwrap();
    tokio::time::timeout(Duration::from_secs(5), exit.ended())
        .await
        .unwrap()
        .unwrap();
    child.wait().unwrap();
    exit.ended().await.unwrap();
}

//! The thread on a disk that stalls, with a lock on its folder.
//! Whoever gives it orders must not notice.

use std::fs::File;
use std::process;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::control::host::stalled_disk::{StalledDisk, is_stuck, wait_until};

/// Somebody with a file, and what waits for answers.
fn granted(thread: &SudoersThread) -> (Login, Runtime) {
    let zed = Login::try_from("zed").unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let written = thread.write(&zed, &[SudoersSpec::full()]);
    runtime.block_on(written.come()).unwrap().unwrap();
    (zed, runtime)
}

/// The disk stalls with somebody else's file on its way to it, together with the folder.
fn frozen_in_a_commit(disk: &StalledDisk) -> JoinHandle<io::Result<()>> {
    disk.freeze();
    let other = disk.folder.join("other");
    let commit = thread::Builder::new().name("commit".to_owned());
    let commit = commit
        .spawn(move || File::create(other).and_then(|file| file.sync_all()))
        .unwrap();
    wait_until("a commit that waits for the disk", || {
        is_stuck(process::id(), "commit")
    });
    commit
}

#[test]
fn nobody_who_gives_orders_waits_for_a_disk_that_holds_the_thread_up_with_its_folder_locked() {
    let disk = StalledDisk::new("stalled");
    let thread = SudoersThread::start(&disk.folder).unwrap();
    let (zed, runtime) = granted(&thread);
    wait_until("a look once the thread rests", || {
        thread.read_by_sudo_beside([]) == 1
    });

    let commit = frozen_in_a_commit(&disk);
    let removed = thread.remove(&zed);
    wait_until("a removal that waits for the commit", || {
        is_stuck(process::id(), "sudoers")
    });

    let (asked, answered) = std::sync::mpsc::channel();
    // Beside this thread, which thaws the disk whatever comes of it.
    let asks = thread::spawn(move || {
        let _ = asked.send(thread.read_by_sudo_beside([]));
        thread
    });
    let answered = answered.recv_timeout(Duration::from_secs(10));
    disk.thaw();
    // As it was seen last.
    assert_eq!(answered, Ok(1));
    let thread = asks.join().unwrap();
    assert_eq!(
        runtime.block_on(removed.come()).unwrap().unwrap(),
        Removal::Removed
    );
    commit.join().unwrap().unwrap();
    let desk = Arc::downgrade(&thread.desk);
    drop(thread);
    wait_until("the end of the thread", || desk.strong_count() == 0);
}

#[test]
fn nobody_waits_for_a_disk_that_holds_somebody_else_up_with_the_folder_locked() {
    let disk = StalledDisk::new("theirs");
    let thread = SudoersThread::start(&disk.folder).unwrap();
    // What an administrator, a package or Teleport itself has in there, beside a file of ours.
    let theirs = disk.folder.join("theirs");
    granted(&thread);
    std::fs::write(&theirs, "x").unwrap();
    wait_until("a look of the thread", || {
        thread.look_at_what_is_read();
        thread.read_by_sudo_beside([]) == 2
    });

    let commit = frozen_in_a_commit(&disk);
    let removal = thread::Builder::new().name("admin".to_owned());
    // By a name that sudo skips, again and again: where the commit has not begun yet, a removal is still part of it, and waits for nothing.
    let (over, brief) = (
        Arc::new(AtomicBool::new(false)),
        disk.folder.join("brief.new"),
    );
    let ends = over.clone();
    let removal = removal
        .spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                File::create(&brief)?;
                std::fs::remove_file(&brief)?;
            }
            io::Result::Ok(())
        })
        .unwrap();
    wait_until("a removal that waits for the commit", || {
        is_stuck(process::id(), "admin")
    });

    let (asked, answered) = std::sync::mpsc::channel();
    let asks = thread::spawn(move || {
        let _ = asked.send(thread.read_by_sudo_beside([]));
        thread
    });
    let answered = answered.recv_timeout(Duration::from_secs(10));
    over.store(true, Ordering::Relaxed);
    disk.thaw();
    assert_eq!(answered, Ok(2), "as it was seen last");
    drop(asks.join().unwrap());
    commit.join().unwrap().unwrap();
    removal.join().unwrap().unwrap();
}

//! The thread on a disk that stalls, with a lock on its folder: an ext4 in a file of another ext4, which is frozen.
//! Needs root, loop devices and the tools of e2fsprogs and util-linux.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// `folder` lies on a file system whose disk is a file of another one, and that one can be frozen.
struct Disk {
    base: PathBuf,
    folder: PathBuf,
    is_frozen: Cell<bool>,
}

impl Disk {
    fn new() -> Disk {
        let base = std::env::temp_dir().join(format!("stalled-{}", std::process::id()));
        let disk = Disk {
            folder: base.join("upper/sudoers.d"),
            base,
            is_frozen: Cell::new(false),
        };
        disk.mounted("lower.img", 64 << 20, "lower");
        disk.mounted("lower/upper.img", 32 << 20, "upper");
        std::fs::create_dir(&disk.folder).unwrap();
        disk
    }

    fn mounted(&self, image: &str, size: u64, on: &str) {
        let (image, on) = (self.base.join(image), self.base.join(on));
        std::fs::create_dir_all(&on).unwrap();
        File::create(&image).unwrap().set_len(size).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), &image]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &on]);
    }

    fn freeze(&self) {
        run("fsfreeze", &["-f".as_ref(), &self.base.join("lower")]);
        self.is_frozen.set(true);
    }

    fn thaw(&self) {
        self.is_frozen.set(false);
        run("fsfreeze", &["-u".as_ref(), &self.base.join("lower")]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_frozen.get() {
            self.thaw();
        }
        for folder in ["upper", "lower"] {
            let _ = Command::new("umount").arg(self.base.join(folder)).status();
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what} never happened");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a thread of this process with this name waits in the kernel for something that no signal ends.
fn is_stuck(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let state = |stat: String| {
        let (called, rest) = stat.split_once(") ")?;
        (called.ends_with(&format!("({name}"))).then(|| rest.starts_with('D'))
    };
    tasks
        .flat_map(|task| std::fs::read_to_string(task.path().join("stat")))
        .filter_map(state)
        .any(|stuck| stuck)
}

#[test]
fn nobody_who_gives_orders_waits_for_a_disk_that_holds_the_thread_up_with_its_folder_locked() {
    let disk = Disk::new();
    let thread = SudoersThread::start(&disk.folder).unwrap();
    let [zed, yan] = ["zed", "yan"].map(|name| Login::try_from(name).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let written = thread.write(&zed, &[SudoersSpec::full()]);
    runtime.block_on(written.come()).unwrap().unwrap();
    assert_eq!(thread.read_by_sudo_beside([]), 1);

    disk.freeze();
    // Somebody else's file, on its way to the disk together with the folder.
    let other = disk.folder.join("other");
    let commit = thread::Builder::new().name("commit".to_owned());
    let commit = commit
        .spawn(move || File::create(other).and_then(|file| file.sync_all()))
        .unwrap();
    wait_until("a commit that waits for the disk", || is_stuck("commit"));
    let removed = thread.remove(&zed);
    wait_until("a removal that waits for the commit", || {
        is_stuck("sudoers")
    });

    let (asked, answered) = std::sync::mpsc::channel();
    // Beside this thread, which thaws the disk whatever comes of it.
    let asks = thread::spawn(move || {
        thread.look_at(&yan);
        let unknown = thread.may_be_taken(&yan);
        let beside = thread.read_by_sudo_beside([]);
        let _ = asked.send((unknown, beside));
        (thread, yan)
    });
    let answered = answered.recv_timeout(Duration::from_secs(10));
    disk.thaw();
    // What is not known without the disk may be; the folder is as it was seen last.
    assert_eq!(answered, Ok((true, 1)));
    let (thread, yan) = asks.join().unwrap();
    assert_eq!(
        runtime.block_on(removed.come()).unwrap().unwrap(),
        Removal::Removed
    );
    commit.join().unwrap().unwrap();
    wait_until("the look at a name", || !thread.may_be_taken(&yan));
    let desk = Arc::downgrade(&thread.desk);
    drop(thread);
    wait_until("the end of the thread", || desk.strong_count() == 0);
}

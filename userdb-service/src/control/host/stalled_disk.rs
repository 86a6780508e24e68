//! A disk that stalls, for tests: an ext4 in a file of another ext4, which is frozen.
//! Needs root, loop devices and the tools of e2fsprogs and util-linux.

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// `folder` lies on a file system whose disk is a file of another one, and that one can be frozen.
pub(in crate::control) struct StalledDisk {
    base: PathBuf,
    pub(in crate::control) folder: PathBuf,
    is_frozen: Cell<bool>,
}

impl StalledDisk {
    pub(in crate::control) fn new(name: &str) -> StalledDisk {
        let base = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let disk = StalledDisk {
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

    pub(in crate::control) fn freeze(&self) {
        run("fsfreeze", &["-f".as_ref(), &self.base.join("lower")]);
        self.is_frozen.set(true);
    }

    pub(in crate::control) fn thaw(&self) {
        self.is_frozen.set(false);
        run("fsfreeze", &["-u".as_ref(), &self.base.join("lower")]);
    }
}

impl Drop for StalledDisk {
    fn drop(&mut self) {
        if self.is_frozen.get() {
            self.thaw();
        }
        for folder in ["upper", "lower"] {
            // Where a test has failed, somebody may still be in there.
            let on = self.base.join(folder);
            let _ = Command::new("umount").arg("-l").arg(on).status();
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Waits for what takes no time, and fails where it never comes.
pub(in crate::control) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what} never happened");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a thread of the process with this name waits in the kernel for something that no signal ends.
pub(in crate::control) fn is_stuck(process: u32, name: &str) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return false;
    };
    let state = |stat: String| {
        let (called, rest) = stat.split_once(") ")?;
        (called.ends_with(&format!("({name}"))).then(|| rest.starts_with('D'))
    };
    tasks
        .flatten()
        .flat_map(|task| std::fs::read_to_string(task.path().join("stat")))
        .filter_map(state)
        .any(|stuck| stuck)
}

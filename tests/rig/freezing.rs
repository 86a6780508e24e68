//! A disk of its own on a folder of a machine, which answers no write while it is frozen.
//! What is made of that is for the tests. Needs loop devices and e2fsprogs on the host.

use std::cell::RefCell;
use std::fs::{File, metadata, remove_file};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{major, minor};
use nix::unistd::{Pid, mkstemp};

use crate::Machine;

/// Thaws after 40 s what is frozen, whether the test or the machine is still there or not.
const IN_THE_END: &str = r#"exec 9<"$1"; sleep 40; fsfreeze --unfreeze /proc/self/fd/9"#;

/// An ext4 that is mounted on a folder. Dropping it thaws it: a machine with a frozen disk cannot be ended.
#[derive(Debug)]
pub struct Disk<'m> {
    machine: &'m Machine,
    on: &'static str,
    /// While it is frozen: who thaws it if nobody else does.
    in_the_end: RefCell<Option<Child>>,
}

impl<'m> Disk<'m> {
    /// Hides what the folder has.
    #[track_caller]
    pub fn mounted(machine: &'m Machine, on: &'static str) -> Disk<'m> {
        let image = Image::new();
        let path = image.0.to_string_lossy();
        of_host(&["mkfs.ext4", "-q", &path]);
        let device = of_host(&["losetup", "--find", "--show", &path]);
        // The machine's /dev has no disks, and only its host may make one.
        let inside = machine.root().join(device.trim_start_matches('/'));
        let number = metadata(&device).map_or(0, |device| device.rdev());
        let (major, minor) = (major(number).to_string(), minor(number).to_string());
        of_host(&["mknod", &inside.to_string_lossy(), "b", &major, &minor]);
        machine.run(&["mount", &device, on]).must();
        let _ = remove_file(inside);
        // It goes with its last mount.
        of_host(&["losetup", "--detach", &device]);
        Disk {
            machine,
            on,
            in_the_end: RefCell::default(),
        }
    }

    /// From now on whoever writes to it waits in the kernel, and no signal ends that; for 40 s at most, so that a test that waits for them
    /// fails instead of hanging.
    #[track_caller]
    pub fn freeze(&self) {
        let folder = self.machine.root().join(self.on.trim_start_matches('/'));
        let in_the_end = Command::new("sh")
            .args(["-c", IN_THE_END, "sh"])
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match in_the_end {
            Ok(child) => self.in_the_end.replace(Some(child)),
            Err(error) => panic!("starting sh: {error}"),
        };
        self.machine.run(&["fsfreeze", "--freeze", self.on]).must();
    }

    /// They go on.
    #[track_caller]
    pub fn thaw(&self) {
        let Some(mut in_the_end) = self.in_the_end.take() else {
            return;
        };
        // Its group: what it sleeps in holds the folder, too.
        if let Ok(group) = i32::try_from(in_the_end.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = in_the_end.wait();
        // What has been thawed by then is an error.
        self.machine.run(&["fsfreeze", "--unfreeze", self.on]);
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// The file that a disk is in. It loses its name when dropped, and its place with the disk.
struct Image(PathBuf);

impl Image {
    #[track_caller]
    fn new() -> Image {
        let made = mkstemp(&std::env::temp_dir().join("teleport-userdb-disk-XXXXXX"));
        let (file, path) = made.unwrap_or_else(|error| panic!("making a file: {error}"));
        if let Err(error) = File::from(file).set_len(32 << 20) {
            panic!("{}: {error}", path.display());
        }
        Image(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = remove_file(&self.0);
    }
}

/// What a command of the host says.
#[track_caller]
fn of_host(words: &[&str]) -> String {
    let ran = Command::new(words[0]).args(&words[1..]).output();
    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

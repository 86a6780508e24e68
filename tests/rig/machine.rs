//! One booted container: started, entered, and taken down with the process that booted it.
//! What is run inside, and what is thought of it, is not of this place.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::image::{self, Suite};
use crate::{Ran, Result, Trouble};

const SUPERVISOR: &str = include_str!("machine.sh");
/// Long enough for a loaded CI machine; a boot takes about one second.
const BOOT: Duration = Duration::from_secs(90);
/// Between two questions whether something has come about.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// No command of a test takes this long: what does hangs.
const COMMAND: Duration = Duration::from_secs(60);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Commands of the rig run in the cgroup of this unit, as a Teleport child runs in that of teleport.service.
const NODE_UNIT: &str = "[Unit]\nDescription=Where the rig runs what a Teleport node would\n\
                         [Service]\nType=exec\nExecStart=/usr/bin/sleep infinity\nDelegate=yes\n";
const NODE_CGROUP: &str = "sys/fs/cgroup/system.slice/teleport.service";

/// Where a machine writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Quick, and gone without a trace; a sync does nothing.
    Memory,
    /// As on a real machine.
    Disk,
}

/// A container with systemd as PID 1. Dropping it ends everything in it; so does the end of this process.
#[derive(Debug)]
pub struct Machine {
    suite: Suite,
    /// Shell that runs `machine.sh`: its standard input is the lifeline.
    supervisor: Child,
    console: File,
    /// The process whose child systemd-nspawn is.
    keeper: u32,
    leader: u32,
}

impl Machine {
    /// Boots `suite` and waits until systemd says that it is running.
    pub fn boot(suite: Suite) -> Result<Machine> {
        Machine::boot_on(Storage::Memory, suite)
    }

    /// The same with what it writes in a place of the caller's choice.
    pub fn boot_on(storage: Storage, suite: Suite) -> Result<Machine> {
        needs()?;
        let image = image::image(suite)?;
        let scratch = image::cache().join("machine");
        fs::create_dir_all(&scratch)
            .map_err(|error| Trouble::failed(format!("making {}", scratch.display()), error))?;
        let name = new_name();
        let console = console_log(&name)?;
        let mut supervisor = start(&image, &scratch, &name, storage, &console)?;
        let mut line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let mut machine = Machine {
            suite,
            supervisor,
            console,
            keeper: 0,
            leader: 0,
        };
        match line.trim().parse() {
            Ok(keeper) => machine.keeper = keeper,
            Err(_) => return Err(machine.boot_trouble("the container could not be started")),
        }
        machine.wait_for_boot()?;
        machine.start_node()?;
        Ok(machine)
    }

    /// Cuts the power, without a word to any service, and boots again: /run is new, everything else is as it was.
    pub fn power_cycle(&mut self) -> Result<()> {
        let old = self.leader;
        // It ends with the machine; its own status means nothing.
        let _ = self
            .command(&["systemctl", "reboot", "--force", "--force"])
            .output();
        let began = Instant::now();
        while leader_of(self.keeper).is_none_or(|leader| leader == old) {
            if began.elapsed() > BOOT {
                return Err(self.boot_trouble("it did not come back after a power cut"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait_for_boot()?;
        self.start_node()
    }

    /// What was booted.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The root folder of the machine as this process sees it. Symbolic links in it point into the host.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// A command inside the machine, as root, in the cgroup of a service, with a minimal environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let procs = self.root().join(NODE_CGROUP).join("cgroup.procs");
        let leader = self.leader.to_string();
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                r#"echo $$ >"$1" && shift && exec nsenter -t "$@""#,
                "sh",
            ])
            .arg(procs)
            .args([&leader, "-a", "--"])
            .args(arguments)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")])
            .stdin(Stdio::null());
        command
    }

    /// Runs a command inside the machine to its end. Panics if it does not end in a minute.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_for(COMMAND, arguments)
    }

    /// Runs a command inside the machine to its end. Panics if it does not end within `limit`.
    #[track_caller]
    pub fn run_for(&self, limit: Duration, arguments: &[&str]) -> Ran {
        let seconds = limit.as_secs().to_string();
        let limited = [&["timeout", "-s", "KILL", &seconds], arguments].concat();
        let began = Instant::now();
        let output = match self.command(&limited).output() {
            Ok(output) => output,
            Err(error) => panic!("entering the machine failed: {error}"),
        };
        let ran = Ran {
            command: shown(arguments),
            status: output
                .status
                .code()
                .or(output.status.signal().map(|signal| 128 + signal))
                .unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            elapsed: began.elapsed(),
        };
        assert!(ran.elapsed < limit, "a command hangs: {ran}");
        ran
    }

    /// Runs a line of shell inside the machine.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Ran {
        let mut ran = self.run(&["sh", "-c", line]);
        ran.command = line.to_owned();
        ran
    }

    /// Asks again and again until `done` holds, at most for `limit`; gives the time it took.
    #[track_caller]
    pub fn within(
        &self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&Machine) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !done(self) {
            let elapsed = began.elapsed();
            assert!(elapsed < limit, "not within {limit:?}: {what}");
            // Each question starts programs, beside other machines that have to get on.
            std::thread::sleep((elapsed / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
        began.elapsed()
    }

    /// Writes a file inside the machine, readable by all.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let inside = self.root().join(path.trim_start_matches('/'));
        if let Err(error) = fs::write(&inside, text) {
            panic!("writing {path} in the machine failed: {error}");
        }
    }

    /// Copies a file of the host into the machine, executable by all.
    pub fn copy_in(&self, from: &Path, to: &str) -> Result<()> {
        let inside = self.root().join(to.trim_start_matches('/'));
        fs::copy(from, &inside)
            .and_then(|_| {
                fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            })
            .map_err(|error| {
                Trouble::failed(
                    format!("copying {} into the machine", from.display()),
                    error,
                )
            })
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let keeper = self.keeper;
        let began = Instant::now();
        let mut last = String::from("systemd did not come up");
        while began.elapsed() < BOOT {
            if matches!(self.supervisor.try_wait(), Ok(Some(_)) | Err(_))
                || !Path::new(&format!("/proc/{keeper}")).exists()
            {
                break;
            }
            if let Some(leader) = leader_of(keeper) {
                self.leader = leader;
                let leader = leader.to_string();
                let state = Command::new("nsenter")
                    .args([
                        "-t",
                        &leader,
                        "-a",
                        "--",
                        "systemctl",
                        "is-system-running",
                        "--wait",
                    ])
                    .output()
                    .map_err(|error| Trouble::failed("starting nsenter", error))?;
                let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
                match state.as_str() {
                    "running" => return Ok(()),
                    "degraded" => {
                        let failed = Command::new("nsenter")
                            .args([
                                "-t",
                                &leader,
                                "-a",
                                "--",
                                "systemctl",
                                "status",
                                "--state=failed",
                                "--no-pager",
                                "--lines=10",
                            ])
                            .output();
                        let failed =
                            failed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
                        return Err(self.boot_trouble(&format!(
                            "units failed: {}",
                            failed.unwrap_or_default()
                        )));
                    }
                    _ => last = format!("the machine is {state:?}"),
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.boot_trouble(&last))
    }

    fn start_node(&self) -> Result<()> {
        let unit = self.root().join("run/systemd/system/teleport.service");
        let written =
            fs::create_dir_all(unit.with_file_name("")).and_then(|()| fs::write(&unit, NODE_UNIT));
        written.map_err(|error| Trouble::failed("writing a unit into the machine", error))?;
        let leader = self.leader.to_string();
        let started = Command::new("nsenter")
            .args([
                "-t",
                &leader,
                "-a",
                "--",
                "systemctl",
                "start",
                "teleport.service",
            ])
            .output()
            .map_err(|error| Trouble::failed("starting nsenter", error))?;
        if started.status.success() {
            return Ok(());
        }
        Err(Trouble::failed(
            "starting a service in the machine",
            String::from_utf8_lossy(&started.stderr),
        ))
    }

    fn boot_trouble(&mut self, why: &str) -> Trouble {
        let mut text = String::new();
        let _ = self
            .console
            .rewind()
            .and_then(|()| self.console.read_to_string(&mut text));
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Trouble::failed(
            format!("booting Debian {}", self.suite.name()),
            format!("{why}; the console said last:\n{}", tail.join("\n")),
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// The command as a person would type it.
pub(crate) fn shown(arguments: &[&str]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && !word.contains(|c: char| c.is_whitespace() || "'\"$;|&<>*()".contains(c))
    };
    let words: Vec<String> = arguments
        .iter()
        .map(|word| {
            if plain(word) {
                (*word).to_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    words.join(" ")
}

fn needs() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Trouble::missing(
            "the tests boot Debian in containers, which takes root",
            "run them as root, for example with `sudo make check`",
        ));
    }
    let programs = [
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("setsid", "util-linux"),
    ];
    for (program, package) in programs {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&folders).any(|folder| folder.join(program).exists()) {
            return Err(Trouble::missing(
                format!("{program} is missing"),
                format!(
                    "install it with `apt-get install {package}` (it boots the containers of the tests)"
                ),
            ));
        }
    }
    Ok(())
}

/// Unlike any other machine's on this host.
fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "teleport-userdb-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

fn start(
    image: &Path,
    scratch: &Path,
    name: &str,
    storage: Storage,
    console: &File,
) -> Result<Child> {
    let stderr = console
        .try_clone()
        .map_err(|error| Trouble::failed("sharing the console log", error))?;
    // A session of its own: an interrupt at the keyboard ends the tests, and the closed lifeline the machine.
    Command::new("setsid")
        .args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            SUPERVISOR,
            "machine",
        ])
        .arg(image)
        .arg(scratch)
        .arg(name)
        .arg(match storage {
            Storage::Memory => "memory",
            Storage::Disk => "disk",
        })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|error| Trouble::failed("starting the container", error))
}

/// A file without a name: it lives as long as the machine.
fn console_log(name: &str) -> Result<File> {
    let path = std::env::temp_dir().join(format!("{name}.console"));
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path);
    let _ = fs::remove_file(&path);
    file.map_err(|error| Trouble::failed(format!("opening {}", path.display()), error))
}

/// PID 1 of the container: the child of the systemd-nspawn that `keeper` has started.
fn leader_of(keeper: u32) -> Option<u32> {
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.starts_with("NSpid:") && line.split_whitespace().nth(2) == Some("1"))
    };
    children_of(keeper)
        .into_iter()
        .flat_map(children_of)
        .find(is_first)
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

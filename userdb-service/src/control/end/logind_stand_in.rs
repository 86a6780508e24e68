//! Stand-ins for logind and systemd with the manners to be feared, on a bus of their own.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::super::*;

pub(super) const UID: u32 = 0x7000_0301;
/// What ending a user takes one that is slow.
pub(super) const SLOW: Duration = Duration::from_millis(50);
/// A unit in the slice of the user.
pub(super) const SCOPE: &str = "session-1.scope";
/// What is in the slice beside its units, as runc makes it.
pub(super) const CONTAINER: &str = "rey";

/// How the stand-in behaves.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Manner {
    /// Ends the user when told.
    Obeys,
    /// Has processes that only SIGKILL ends.
    NeedsKill,
    /// Has been restarted and knows nobody.
    Forgot,
    /// Ends the user when told, one at a time.
    IsSlow,
    /// Does not answer.
    Hangs,
    /// The same, and has processes that only SIGKILL ends.
    HangsAndNeedsKill,
    /// Ends nobody, and systemd does not answer.
    SystemdHangs,
}

impl Manner {
    fn hangs(self) -> bool {
        matches!(self, Manner::Hangs | Manner::HangsAndNeedsKill)
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.login1")]
pub(super) enum LoginError {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchUser(String),
}

pub(super) struct FakeLogin {
    manner: Manner,
    run: PathBuf,
    asked: Arc<Mutex<Vec<Instant>>>,
    at_work: tokio::sync::Mutex<()>,
}

impl FakeLogin {
    fn user(&self) -> PathBuf {
        self.run.join(format!("systemd/users/{UID}"))
    }

    fn known(&self) -> Result<(), LoginError> {
        match self.manner {
            Manner::Forgot => Err(LoginError::NoSuchUser(
                "not logged in or lingering".to_owned(),
            )),
            _ if !self.user().exists() => Err(LoginError::NoSuchUser("gone".to_owned())),
            _ => Ok(()),
        }
    }

    fn drop_user(&self) {
        let _ = std::fs::remove_file(self.user());
        let _ = std::fs::remove_dir(self.run.join(format!("user/{UID}")));
    }
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl FakeLogin {
    async fn terminate_user(&self, uid: u32) -> Result<(), LoginError> {
        assert_eq!(uid, UID);
        if self.manner.hangs() {
            self.asked.lock().unwrap().push(Instant::now());
            std::future::pending::<()>().await;
        }
        if self.manner == Manner::IsSlow {
            let _one = self.at_work.lock().await;
            sleep(SLOW).await;
        }
        self.known()?;
        if matches!(self.manner, Manner::Obeys | Manner::IsSlow) {
            self.drop_user();
        }
        Ok(())
    }

    async fn get_user(&self, _uid: u32) -> Result<OwnedObjectPath, LoginError> {
        self.known()?;
        Ok(OwnedObjectPath::try_from("/org/freedesktop/login1/user/x")?)
    }
}

/// systemd, of which what is in `user-UID.slice` needs a SIGKILL; with it goes the user.
pub(super) struct FakeSystemd {
    manner: Manner,
    run: PathBuf,
    cgroups: PathBuf,
    stopped: Arc<Mutex<Vec<(String, Instant)>>>,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeSystemd {
    async fn stop_unit(&self, name: &str, _mode: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        if self.manner == Manner::SystemdHangs {
            std::future::pending::<()>().await;
        }
        self.stopped
            .lock()
            .unwrap()
            .push((name.to_owned(), Instant::now()));
        if name == format!("user-runtime-dir@{UID}.service") {
            let _ = std::fs::remove_dir(self.run.join(format!("user/{UID}")));
        } else if name == CONTAINER {
            return Err(zbus::fdo::Error::InvalidArgs("no unit".to_owned()));
        } else {
            assert!(
                name == SCOPE || name == format!("user-{UID}.slice"),
                "{name}"
            );
        }
        OwnedObjectPath::try_from("/job/1").map_err(|e| zbus::fdo::Error::Failed(e.to_string()))
    }

    async fn kill_unit(&self, name: &str, whom: &str, signal: i32) {
        assert_eq!((whom, signal), ("all", libc::SIGKILL));
        if name == CONTAINER {
            // No unit of its.
            return;
        }
        let container = self.cgroups.join(slice_of(UID)).join(CONTAINER);
        let slice = format!("user-{UID}.slice");
        assert!(name == SCOPE || name == slice, "{name}");
        if name == SCOPE && container.exists() {
            return;
        }
        let _ = std::fs::remove_dir_all(self.cgroups.join(format!("user.slice/user-{UID}.slice")));
        let _ = std::fs::remove_file(self.run.join(format!("systemd/users/{UID}")));
        let _ = std::fs::remove_dir(self.run.join(format!("user/{UID}")));
    }
}

pub(super) struct Bench {
    pub(super) dir: PathBuf,
    /// When a stand-in that hangs was asked.
    pub(super) asked: Arc<Mutex<Vec<Instant>>>,
    /// What systemd was told to stop, and when.
    pub(super) stopped: Arc<Mutex<Vec<(String, Instant)>>>,
    pub(super) bus: Child,
    pub(super) address: String,
}

impl Bench {
    pub(super) fn new(name: &str) -> Bench {
        let dir = std::env::temp_dir().join(format!("logind-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for folder in ["run/systemd/users".to_owned(), format!("run/user/{UID}")] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for unit in [SCOPE, &runtime_dir_unit(UID)] {
            std::fs::create_dir_all(dir.join("cgroup").join(slice_of(UID)).join(unit)).unwrap();
        }
        let socket = dir.join("bus");
        let address = format!("unix:path={}", socket.display());
        let bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--address", &address])
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs dbus-daemon");
        // The socket is there before it is listened on.
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Bench {
            dir,
            asked: Arc::default(),
            stopped: Arc::default(),
            bus,
            address,
        }
    }

    pub(super) fn logind(&self) -> Logind {
        Logind::at(&self.address, self.dir.join("run"), self.dir.join("cgroup"))
    }

    pub(super) fn user(&self) -> PathBuf {
        self.dir.join(format!("run/systemd/users/{UID}"))
    }

    /// What systemd was told to stop.
    pub(super) fn stopped(&self) -> Vec<String> {
        let stopped = self.stopped.lock().unwrap();
        stopped.iter().map(|(unit, _)| unit.clone()).collect()
    }

    /// There is a process in this unit.
    pub(super) fn populate(&self, unit: &str) {
        let unit = self.dir.join("cgroup").join(slice_of(UID)).join(unit);
        std::fs::write(unit.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    }

    pub(super) async fn serve(&self, manner: Manner) -> Connection {
        if manner != Manner::Forgot {
            std::fs::write(self.user(), "").unwrap();
        }
        if matches!(manner, Manner::Obeys | Manner::IsSlow | Manner::Hangs) {
            std::fs::remove_dir_all(self.dir.join("cgroup/user.slice")).unwrap();
        }
        let (run, cgroups) = (self.dir.join("run"), self.dir.join("cgroup"));
        let systemd = FakeSystemd {
            manner,
            run: run.clone(),
            cgroups,
            stopped: self.stopped.clone(),
        };
        let asked = self.asked.clone();
        let login = FakeLogin {
            manner,
            run,
            asked,
            at_work: tokio::sync::Mutex::default(),
        };
        Builder::address(self.address.as_str())
            .serve_at("/org/freedesktop/login1", login)
            .serve_at("/org/freedesktop/systemd1", systemd)
            .name("org.freedesktop.login1")
            .name("org.freedesktop.systemd1")
            .build()
            .await
            .unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

//! Workers to be asked: a socket that starts one for each connection, as systemd does, in a mount namespace with
//! its own nsswitch.conf, in which a service does as it is told by the names it is asked for.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use userdb_service::control::lookup::{Lookups, Settings};

/// A folder of this test run, and a socket in it that starts a worker for each connection, as systemd does.
pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    workers: Arc<Workers>,
}

/// What became of the workers.
#[derive(Default)]
struct Workers {
    started: AtomicUsize,
    ended: Mutex<Vec<ExitStatus>>,
}

impl Bench {
    pub(crate) fn new(name: &str, nsswitch: &str) -> Bench {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root for a mount namespace"
        );
        // Not below the target folder: the path of a socket must be short.
        let dir = std::env::temp_dir().join(format!("lookup-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/nsswitch.conf"), nsswitch).unwrap();
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        let workers = Arc::new(Workers::default());
        let (etc, counted) = (dir.join("etc"), workers.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                counted.started.fetch_add(1, Ordering::SeqCst);
                let mut worker = worker(&etc, connection.unwrap());
                let counted = counted.clone();
                std::thread::spawn(move || {
                    let status = worker.wait().unwrap();
                    counted.ended.lock().unwrap().push(status);
                });
            }
        });
        Bench { dir, workers }
    }

    pub(crate) fn lookups(&self, timeout: Duration, workers: usize) -> Lookups {
        Lookups::new(Settings {
            socket: self.dir.join("socket"),
            timeout,
            workers,
        })
    }

    pub(crate) fn started(&self) -> usize {
        self.workers.started.load(Ordering::SeqCst)
    }

    /// How the workers ended, once all that were started have.
    pub(crate) fn ended(&self) -> Vec<ExitStatus> {
        let begun = Instant::now();
        loop {
            let ended = self.workers.ended.lock().unwrap().clone();
            if ended.len() == self.started() {
                return ended;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "a worker is left behind"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn worker(etc: &Path, connection: UnixStream) -> Child {
    Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("for f in \"$1\"/*; do mount --bind \"$f\" /etc/\"${f##*/}\" || exit; done; exec \"$2\" --lookup-worker")
        .arg("sh")
        .arg(etc)
        .arg(env!("CARGO_BIN_EXE_teleport-sessiond"))
        .env("SYSTEMD_BYPASS_USERDB", "com.goteleport.DynamicUser")
        .env("LD_LIBRARY_PATH", toy())
        .stdin(OwnedFd::from(connection))
        .spawn()
        .expect("this test needs unshare")
}

/// Builds `libnss_toy.so.2` once and says in which folder it is.
fn toy() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("toy");
        std::fs::create_dir_all(&dir).unwrap();
        let built = Command::new("gcc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .arg(dir.join("libnss_toy.so.2"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/toys/libnss_toy.c"
            ))
            .status()
            .expect("this test needs gcc");
        assert!(built.success());
        dir
    })
}

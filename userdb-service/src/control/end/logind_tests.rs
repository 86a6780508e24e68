//! Tests of `logind` against a stand-in with the manners to be feared, on a bus of its own. The real
//! logind is met in the end-to-end tests.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;

const UID: u32 = 0x7000_0301;
const SHORT: Duration = Duration::from_millis(300);
/// What ending a user takes one that is slow.
const SLOW: Duration = Duration::from_millis(50);
/// A unit in the slice of the user.
const SCOPE: &str = "session-1.scope";
/// What is in the slice beside its units, as runc makes it.
const CONTAINER: &str = "rey";

/// How the stand-in behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
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
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.login1")]
enum LoginError {
    #[zbus(error)]
    ZBus(zbus::Error),
    NoSuchUser(String),
}

struct FakeLogin {
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
        if self.manner == Manner::Hangs {
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
struct FakeSystemd {
    run: PathBuf,
    cgroups: PathBuf,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl FakeSystemd {
    async fn stop_unit(&self, name: &str, _mode: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        if name == format!("user-runtime-dir@{UID}.service") {
            let _ = std::fs::remove_dir(self.run.join(format!("user/{UID}")));
        } else {
            assert_eq!(name, format!("user-{UID}.slice"));
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

struct Bench {
    dir: PathBuf,
    /// When a stand-in that hangs was asked.
    asked: Arc<Mutex<Vec<Instant>>>,
    bus: Child,
    address: String,
}

impl Bench {
    fn new(name: &str) -> Bench {
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
            bus,
            address,
        }
    }

    fn logind(&self) -> Logind {
        Logind::at(&self.address, self.dir.join("run"), self.dir.join("cgroup"))
    }

    fn user(&self) -> PathBuf {
        self.dir.join(format!("run/systemd/users/{UID}"))
    }

    /// There is a process in this unit.
    fn populate(&self, unit: &str) {
        let unit = self.dir.join("cgroup").join(slice_of(UID)).join(unit);
        std::fs::write(unit.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    }

    async fn serve(&self, manner: Manner) -> Connection {
        if manner != Manner::Forgot {
            std::fs::write(self.user(), "").unwrap();
        }
        if matches!(manner, Manner::Obeys | Manner::IsSlow | Manner::Hangs) {
            std::fs::remove_dir_all(self.dir.join("cgroup/user.slice")).unwrap();
        }
        let (run, cgroups) = (self.dir.join("run"), self.dir.join("cgroup"));
        let systemd = FakeSystemd {
            run: run.clone(),
            cgroups,
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

#[tokio::test]
async fn a_user_that_obeys_is_ended_at_once() {
    let bench = Bench::new("obeys");
    let _served = bench.serve(Manner::Obeys).await;
    let logind = bench.logind();
    assert!(logind.holds(UID));
    let begun = Instant::now();
    assert_eq!(
        logind
            .end_user(UID, Duration::from_secs(20), || false)
            .await,
        Outcome::Ended
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!logind.holds(UID));
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_stop_timeout() {
    let bench = Bench::new("kill");
    let _served = bench.serve(Manner::NeedsKill).await;
    let begun = Instant::now();
    assert_eq!(
        bench.logind().end_user(UID, SHORT, || false).await,
        Outcome::Ended
    );
    assert!(begun.elapsed() >= SHORT && !bench.user().exists());
}

#[tokio::test]
async fn what_a_restarted_logind_has_forgotten_is_stopped_through_systemd() {
    let bench = Bench::new("forgot");
    let _served = bench.serve(Manner::Forgot).await;
    let logind = bench.logind();
    assert!(logind.holds(UID));
    assert_eq!(logind.end_user(UID, SHORT, || false).await, Outcome::Ended);
    assert!(!logind.holds(UID));
    // And a user of whom nothing is left is simply ended.
    assert_eq!(logind.end_user(UID, SHORT, || false).await, Outcome::Ended);
}

#[tokio::test]
async fn a_logind_that_hangs_holds_nobody_up() {
    let bench = Bench::new("hangs");
    let served = bench.serve(Manner::Hangs).await;
    let begun = Instant::now();
    let logind = bench.logind();
    let end = || logind.end_user(UID, SHORT, || false);
    let on_the_bus = async {
        sleep(SHORT).await;
        let bus = zbus::fdo::DBusProxy::new(&served).await.unwrap();
        let names = bus.list_names().await.unwrap();
        names.iter().filter(|name| name.starts_with(':')).count()
    };
    let (first, second, third, on_the_bus) = tokio::join!(end(), end(), end(), on_the_bus);
    for outcome in [first, second, third] {
        assert!(
            matches!(&outcome, Outcome::Unavailable(why) if why.contains("no answer")),
            "{outcome:?}"
        );
    }
    assert!(begun.elapsed() < CALL * 2);
    // The stand-in, and one for all who wait.
    assert!(on_the_bus <= 2, "{on_the_bus} are connected");
}

/// Has so many users end at once; what comes of each.
async fn ends(logind: Logind, many: usize) -> Vec<Outcome> {
    let logind = Arc::new(logind);
    let mut ends = JoinSet::new();
    for _ in 0..many {
        let logind = logind.clone();
        ends.spawn(async move { logind.end_user(UID, SHORT, || false).await });
    }
    ends.join_all().await
}

#[tokio::test]
async fn who_waits_for_his_turn_behind_many_is_not_taken_for_one_who_has_had_no_answer() {
    let bench = Bench::new("slow");
    let _served = bench.serve(Manner::IsSlow).await;
    let begun = Instant::now();
    let outcomes = ends(bench.logind(), 4 * AT_ONCE).await;
    assert!(begun.elapsed() > CALL, "too few to wait for long");
    let ended = |outcome: &Outcome| *outcome == Outcome::Ended;
    assert!(outcomes.iter().all(ended), "{outcomes:?}");
}

#[tokio::test]
async fn of_many_who_wait_for_a_logind_that_hangs_not_each_asks_it_in_his_turn() {
    let bench = Bench::new("hangs-long");
    let _served = bench.serve(Manner::Hangs).await;
    let begun = Instant::now();
    let outcomes = ends(bench.logind(), 5 * AT_ONCE).await;
    assert!(begun.elapsed() < CALL * 2);
    let unavailable = |outcome: &Outcome| matches!(outcome, Outcome::Unavailable(_));
    assert!(outcomes.iter().all(unavailable), "{outcomes:?}");
    assert_eq!(bench.asked.lock().unwrap().len(), AT_ONCE);
}

#[tokio::test]
async fn however_many_end_at_once_the_bus_has_no_more_of_their_calls_than_it_takes() {
    let bench = Bench::new("many");
    let _served = bench.serve(Manner::Hangs).await;
    let logind = Arc::new(bench.logind());
    let mut ends = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..AT_ONCE + 10 {
        let logind = logind.clone();
        ends.spawn(async move { logind.end_user(UID, SHORT, || false).await });
    }
    while bench.asked.lock().unwrap().len() < AT_ONCE {
        assert!(begun.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(5)).await;
    }
    sleep(SHORT).await;
    let asked = bench.asked.lock().unwrap().clone();
    // None has been given up before, which would make room for another.
    let together = asked.iter().filter(|at| **at < begun + CALL);
    assert!(together.count() <= AT_ONCE);
}

#[tokio::test]
async fn a_masked_logind_an_absent_bus_and_a_dead_one_are_unavailable() {
    let bench = Bench::new("masked");
    let masked = bench.logind().end_user(UID, SHORT, || false).await;
    assert!(matches!(masked, Outcome::Unavailable(_)), "{masked:?}");
    let absent = Logind::at("unix:path=/no/such/bus", "/nowhere", "/nowhere")
        .end_user(UID, SHORT, || false)
        .await;
    assert!(matches!(absent, Outcome::Unavailable(_)), "{absent:?}");
    // One that accepts connections and never says a word.
    let mute = bench.dir.join("mute");
    let _listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let address = format!("unix:path={}", mute.display());
    let begun = Instant::now();
    let dead = Logind::at(&address, "/nowhere", "/nowhere")
        .end_user(UID, SHORT, || false)
        .await;
    assert!(matches!(dead, Outcome::Unavailable(_)), "{dead:?}");
    assert!(begun.elapsed() < CALL * 2);
}

#[tokio::test]
async fn after_the_bus_has_been_restarted_logind_is_reached_again() {
    let mut bench = Bench::new("again");
    let served = bench.serve(Manner::Obeys).await;
    let logind = bench.logind();
    assert_eq!(logind.end_user(UID, SHORT, || false).await, Outcome::Ended);
    drop(served);
    let _ = bench.bus.kill();
    let _ = bench.bus.wait();
    let lost = logind.end_user(UID, SHORT, || false).await;
    assert!(matches!(lost, Outcome::Unavailable(_)), "{lost:?}");
    let path = Path::new(bench.address.strip_prefix("unix:path=").unwrap()).to_owned();
    let _ = std::fs::remove_file(&path);
    bench.bus = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--address", &bench.address])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !path.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    std::fs::create_dir_all(bench.dir.join("cgroup/user.slice")).unwrap();
    std::fs::create_dir_all(bench.dir.join(format!("run/user/{UID}"))).unwrap();
    let _served = bench.serve(Manner::Obeys).await;
    assert_eq!(logind.end_user(UID, SHORT, || false).await, Outcome::Ended);
}

#[tokio::test]
async fn a_user_without_processes_is_left_to_the_stop_delay() {
    let bench = Bench::new("idle");
    let _served = bench.serve(Manner::NeedsKill).await;
    let logind = bench.logind();
    let begun = Instant::now();
    let outcome = logind.end_user(UID, Duration::from_secs(20), || true).await;
    assert_eq!(outcome, Outcome::Idle);
    assert!(begun.elapsed() < Duration::from_secs(10) && bench.user().exists());
    assert!(!logind.dropped(UID, SHORT).await);
    std::fs::remove_dir_all(bench.dir.join("cgroup/user.slice")).unwrap();
    std::fs::remove_file(bench.user()).unwrap();
    std::fs::remove_dir(bench.dir.join(format!("run/user/{UID}"))).unwrap();
    assert!(logind.dropped(UID, SHORT).await);
}

#[tokio::test]
async fn the_file_of_a_user_whom_logind_has_forgotten_is_not_believed_and_goes() {
    let bench = Bench::new("stale");
    let _served = bench.serve(Manner::Forgot).await;
    let logind = bench.logind();
    std::fs::write(bench.user(), "").unwrap();
    assert!(logind.still_holds(UID).await, "its slice is there");
    std::fs::remove_dir_all(bench.dir.join("cgroup/user.slice")).unwrap();
    std::fs::remove_dir(bench.dir.join(format!("run/user/{UID}"))).unwrap();
    assert!(logind.holds(UID));
    assert!(!logind.still_holds(UID).await && !bench.user().exists());
    // Whom nobody can ask about may be there.
    std::fs::write(bench.user(), "").unwrap();
    let away = Logind::at("unix:path=/no/such/bus", bench.dir.join("run"), "/nowhere");
    assert!(away.still_holds(UID).await && bench.user().exists());
}

/// As sudo leaves one of root's, that ignores SIGTERM.
#[tokio::test]
async fn a_process_of_somebody_elses_in_the_slice_is_killed_after_its_time() {
    let bench = Bench::new("populated");
    let _served = bench.serve(Manner::NeedsKill).await;
    bench.populate(SCOPE);
    let begun = Instant::now();
    let outcome = bench.logind().end_user(UID, SHORT, || true).await;
    assert_eq!(outcome, Outcome::Ended);
    assert!(begun.elapsed() >= SHORT && !bench.user().exists());
}

#[tokio::test]
async fn a_container_that_is_no_unit_is_killed_after_its_time() {
    let bench = Bench::new("container");
    let _served = bench.serve(Manner::NeedsKill).await;
    let slice = bench.dir.join("cgroup").join(slice_of(UID));
    std::fs::create_dir(slice.join(CONTAINER)).unwrap();
    bench.populate(CONTAINER);
    let outcome = bench.logind().end_user(UID, SHORT, || true).await;
    assert_eq!(outcome, Outcome::Ended);
}

#[tokio::test]
async fn who_is_in_the_slice_itself_is_killed_after_its_time() {
    let bench = Bench::new("itself");
    let _served = bench.serve(Manner::NeedsKill).await;
    let slice = bench.dir.join("cgroup").join(slice_of(UID));
    std::fs::write(slice.join("cgroup.procs"), "4711\n").unwrap();
    let outcome = bench.logind().end_user(UID, SHORT, || true).await;
    assert_eq!(outcome, Outcome::Ended);
}

#[tokio::test]
async fn systemd_is_left_in_peace_while_it_empties_the_runtime_directory() {
    let bench = Bench::new("runtime-dir");
    let _served = bench.serve(Manner::NeedsKill).await;
    bench.populate(&runtime_dir_unit(UID));
    let begun = Instant::now();
    let logind = bench.logind();
    let outcome = logind.end_user(UID, Duration::from_secs(20), || true).await;
    assert_eq!(outcome, Outcome::Idle);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

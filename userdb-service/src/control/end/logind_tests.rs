//! Tests of `logind` against stand-ins. The real logind and systemd are met in the end-to-end tests.

#[path = "logind_stand_in.rs"]
mod stand_in;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use stand_in::{Bench, CONTAINER, Manner, SCOPE, UID};

const SHORT: Duration = Duration::from_millis(300);

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

/// The logind of systemd 252 says yes and stops no session that was closed before.
#[tokio::test]
async fn systemd_stops_what_is_in_the_slice_whatever_logind_has_said() {
    let bench = Bench::new("stopped");
    let _served = bench.serve(Manner::NeedsKill).await;
    let slice = bench.dir.join("cgroup").join(slice_of(UID));
    std::fs::create_dir(slice.join(CONTAINER)).unwrap();
    bench.logind().end_user(UID, SHORT, || false).await;
    // Not what empties the runtime directory, nor the slice, in which that is. What is no unit keeps none of the others.
    assert_eq!(bench.stopped(), [CONTAINER, SCOPE]);
}

#[tokio::test]
async fn without_an_answer_of_loginds_systemd_stops_and_kills_after_the_stop_timeout() {
    let bench = Bench::new("stopped-alone");
    let _served = bench.serve(Manner::HangsAndNeedsKill).await;
    let outcome = bench.logind().end_user(UID, SHORT, || false).await;
    let killed = Instant::now();
    assert!(
        matches!(&outcome, Outcome::Unavailable(why) if why.contains("no answer")),
        "{outcome:?}"
    );
    assert_eq!(bench.stopped(), [SCOPE]);
    assert!(killed - bench.stopped.lock().unwrap()[0].1 >= SHORT && !bench.user().exists());
}

#[tokio::test]
async fn the_word_of_logind_is_not_enough_where_systemd_does_not_answer() {
    let bench = Bench::new("untold");
    let _served = bench.serve(Manner::SystemdHangs).await;
    let begun = Instant::now();
    let long = Duration::from_secs(20);
    let outcome = bench.logind().end_user(UID, long, || false).await;
    assert!(matches!(outcome, Outcome::Untold(_)), "{outcome:?}");
    assert!(begun.elapsed() < CALL * 2);
}

#[tokio::test]
async fn what_a_restarted_logind_has_forgotten_is_stopped_through_systemd() {
    let bench = Bench::new("forgot");
    let _served = bench.serve(Manner::Forgot).await;
    let logind = bench.logind();
    assert!(logind.holds(UID));
    assert_eq!(logind.end_user(UID, SHORT, || false).await, Outcome::Ended);
    assert!(!logind.holds(UID));
    assert_eq!(bench.stopped()[0], SCOPE, "not by way of the slice alone");
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
            matches!(&outcome, Outcome::Untold(why) if why.contains("no answer")),
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
    let untold = |outcome: &Outcome| matches!(outcome, Outcome::Untold(_));
    assert!(outcomes.iter().all(untold), "{outcomes:?}");
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
async fn behind_a_masked_logind_an_absent_bus_and_a_dead_one_nobody_is_told() {
    let bench = Bench::new("masked");
    let masked = bench.logind().end_user(UID, SHORT, || false).await;
    assert!(matches!(masked, Outcome::Untold(_)), "{masked:?}");
    let absent = Logind::at("unix:path=/no/such/bus", "/nowhere", "/nowhere")
        .end_user(UID, SHORT, || false)
        .await;
    assert!(matches!(absent, Outcome::Untold(_)), "{absent:?}");
    // One that accepts connections and never says a word.
    let mute = bench.dir.join("mute");
    let _listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let address = format!("unix:path={}", mute.display());
    let begun = Instant::now();
    let dead = Logind::at(&address, "/nowhere", "/nowhere")
        .end_user(UID, SHORT, || false)
        .await;
    assert!(matches!(dead, Outcome::Untold(_)), "{dead:?}");
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
    assert!(matches!(lost, Outcome::Untold(_)), "{lost:?}");
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

//! The lookup worker against real providers and against one that hangs, crashes and fails on demand,
//! in a mount namespace with its own nsswitch.conf. Needs root, gcc and unshare.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use userdb_service::control::lookup::{LookupFailed, Lookups, Settings, absorb};
use userdb_service::policy::decide::{Answer, Facts, FoundGroup, FoundUser, Question};

/// A folder of this test run with the toy module and a program that starts a worker under it.
struct Bench {
    dir: PathBuf,
}

impl Bench {
    fn new(name: &str, nsswitch: &str) -> Bench {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("nsswitch.conf"), nsswitch).unwrap();
        let program = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --bind {0}/nsswitch.conf /etc/nsswitch.conf && exec {1} \"$@\"' sh \"$@\"\n",
            dir.display(),
            env!("CARGO_BIN_EXE_teleport-sessiond"),
        );
        std::fs::write(dir.join("worker"), program).unwrap();
        std::fs::set_permissions(dir.join("worker"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root for a mount namespace"
        );
        Bench { dir }
    }

    fn lookups(&self, timeout: Duration, workers: usize) -> Lookups {
        Lookups::new(Settings {
            program: self.dir.join("worker"),
            environment: vec![
                ("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()),
                ("LD_LIBRARY_PATH".into(), toy().into()),
            ],
            timeout,
            workers,
        })
    }
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

const PATIENT: Duration = Duration::from_secs(20);
const TOY_LINES: &str = "passwd: files [NOTFOUND=continue] teleport toy absent\ngroup: files toy\n";

fn user(name: &str) -> Question {
    Question::User(name.to_owned())
}

fn toy_user(name: &str) -> Answer {
    Answer::User(Some(FoundUser {
        name: name.to_owned(),
        uid: 77001,
        gid: 77002,
        source: "toy".to_owned(),
    }))
}

fn failing(outcome: Result<Facts, LookupFailed>, question: &Question) -> (String, String) {
    match outcome.unwrap().answers.remove(question).unwrap() {
        Answer::Failed { source, why } => (source, why),
        other => panic!("{other:?} is not a failure"),
    }
}

#[tokio::test]
async fn each_service_is_asked_and_says_who_it_is() {
    let lookups = Bench::new("each", TOY_LINES).lookups(PATIENT, 1);
    let questions = [
        user("root"),
        user("toy"),
        user("large"),
        user("bypassed"),
        user("stranger"),
        Question::UserId(0),
        Question::UserId(77001),
        Question::UserId(0x7000_0001),
        Question::Group("root".to_owned()),
        Question::Group("toygroup".to_owned()),
        Question::GroupId(0x7000_0001),
    ];
    let facts = lookups.ask(&questions, None).await.unwrap();
    let answer = |question: &Question| facts.answers[question].clone();
    let root = Answer::User(Some(FoundUser {
        name: "root".to_owned(),
        uid: 0,
        gid: 0,
        source: "files".to_owned(),
    }));
    let group = |name: &str, gid, source: &str| {
        Answer::Group(Some(FoundGroup {
            name: name.to_owned(),
            gid,
            source: source.to_owned(),
        }))
    };
    assert_eq!(answer(&questions[0]), root);
    assert_eq!(answer(&questions[1]), toy_user("toy"));
    assert_eq!(answer(&questions[2]), toy_user("large"));
    assert_eq!(answer(&questions[3]), toy_user("bypassed"));
    assert_eq!(answer(&questions[4]), Answer::User(None));
    assert_eq!(answer(&questions[5]), root);
    assert_eq!(answer(&questions[6]), toy_user("toy"));
    assert_eq!(answer(&questions[7]), Answer::User(None));
    assert_eq!(answer(&questions[8]), group("root", 0, "files"));
    assert_eq!(answer(&questions[9]), group("toygroup", 77003, "toy"));
    // The module does not serve GIDs at all: it has no such groups, and does not fail.
    assert_eq!(answer(&questions[10]), Answer::Group(None));
    // UID 0 has processes, the free one has none.
    assert!(facts.host.busy_ids.contains(&0) && !facts.host.busy_ids.contains(&0x7000_0001));
}

#[tokio::test]
async fn a_failing_service_is_never_taken_for_absence() {
    let lookups = Bench::new("failing", TOY_LINES).lookups(PATIENT, 1);
    for (name, reason) in [
        ("refused", "refused"),
        ("silent", "no reason"),
        ("again", "unavailable"),
    ] {
        let (source, why) = failing(lookups.ask(&[user(name)], None).await, &user(name));
        assert_eq!(source, "toy");
        assert!(why.contains(reason), "{name}: {why}");
    }
}

#[tokio::test]
async fn a_service_behind_a_failing_one_that_knows_the_user_counts() {
    let bench = Bench::new("behind", "passwd: toy files\ngroup: toy files\n");
    let lookups = bench.lookups(PATIENT, 1);
    let facts = lookups
        .ask(&[user("root"), user("silent")], None)
        .await
        .unwrap();
    assert!(
        matches!(&facts.answers[&user("root")], Answer::User(Some(found)) if found.source == "files")
    );
    assert!(
        matches!(&facts.answers[&user("silent")], Answer::Failed { source, .. } if source == "toy")
    );
}

#[tokio::test]
async fn a_hanging_service_is_named_and_given_up_and_the_next_question_is_answered() {
    let lookups = Bench::new("hang", TOY_LINES).lookups(Duration::from_millis(700), 1);
    let begun = Instant::now();
    let failed = lookups.ask(&[user("hang")], None).await.unwrap_err();
    assert_eq!(failed.source, "toy", "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    let facts = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
}

#[tokio::test]
async fn a_hang_in_one_login_does_not_hold_up_another() {
    let lookups = Bench::new("beside", TOY_LINES).lookups(Duration::from_secs(3), 2);
    let begun = Instant::now();
    let (question, hanging) = ([user("toy")], [user("hang")]);
    let quick = async {
        let facts = lookups.ask(&question, None).await.unwrap();
        assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
        begun.elapsed()
    };
    let (hung, quick) = tokio::join!(lookups.ask(&hanging, None), quick);
    assert!(hung.is_err());
    assert!(quick < Duration::from_secs(2), "{quick:?}");
}

#[tokio::test]
async fn a_crash_harms_the_login_that_met_it_and_no_other() {
    let lookups = Bench::new("crash", TOY_LINES).lookups(PATIENT, 1);
    for _ in 0..3 {
        let failed = lookups.ask(&[user("crash")], None).await.unwrap_err();
        assert!(
            failed.source == "toy" && failed.why.contains("died"),
            "{failed}"
        );
        let facts = lookups.ask(&[user("toy")], None).await.unwrap();
        assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
    }
}

#[tokio::test]
async fn a_login_that_gives_up_leaves_no_stale_answer_to_the_next() {
    let lookups = Bench::new("cancel", TOY_LINES).lookups(PATIENT, 1);
    for _ in 0..3 {
        let hanging = [user("hang")];
        let given_up =
            tokio::time::timeout(Duration::from_millis(300), lookups.ask(&hanging, None));
        assert!(given_up.await.is_err());
        let facts = lookups.ask(&[user("toy")], None).await.unwrap();
        assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
    }
}

#[tokio::test]
async fn an_edited_nsswitch_is_noticed_by_a_running_worker() {
    let bench = Bench::new("edited", "passwd: files\n");
    let lookups = bench.lookups(PATIENT, 1);
    let facts = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(facts.answers[&user("toy")], Answer::User(None));
    std::fs::write(bench.dir.join("nsswitch.conf"), TOY_LINES).unwrap();
    let facts = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
}

#[tokio::test]
async fn later_rounds_add_to_what_is_known_and_names_in_sudoers_stay() {
    let lookups = Bench::new("rounds", TOY_LINES).lookups(PATIENT, 1);
    let mut facts = lookups
        .ask(&[user("root"), Question::UserId(0)], None)
        .await
        .unwrap();
    let later = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(later.host.sudoers_names, facts.host.sudoers_names);
    absorb(&mut facts, later);
    assert_eq!(facts.answers.len(), 3);
    assert!(facts.host.busy_ids.contains(&0));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_a_failure_with_its_name() {
    let lookups = Lookups::new(Settings {
        program: "/no/such/worker".into(),
        ..Settings::default()
    });
    let failed = lookups.ask(&[user("root")], None).await.unwrap_err();
    assert!(failed.to_string().contains("/no/such/worker"), "{failed}");
}

#[tokio::test]
async fn a_warm_worker_is_asked_without_starting_another() {
    let bench = Bench::new("warm", "passwd: files\ngroup: files\n");
    let lookups = bench.lookups(PATIENT, 1);
    lookups.ask(&[user("root")], None).await.unwrap();
    std::fs::remove_file(bench.dir.join("worker")).unwrap();
    let begun = Instant::now();
    for _ in 0..200 {
        lookups
            .ask(&[user("stranger"), Question::UserId(0x7000_0001)], None)
            .await
            .unwrap();
    }
    println!("warm batch of two questions: {:?}", begun.elapsed() / 200);
}

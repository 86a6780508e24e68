//! The lookup worker against real providers and against one that hangs, crashes and fails on demand,
//! in a mount namespace with its own nsswitch.conf. Needs root, gcc and unshare.

mod bench;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::Bench;
use userdb_service::control::lookup::{LookupFailed, Lookups, Settings, absorb};
use userdb_service::policy::decide::{
    Answer, Facts, FoundGroup, FoundMembership, FoundUser, Question,
};

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
    let bench = Bench::new("each", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
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
async fn a_service_that_is_far_away_is_asked_for_several_at_a_time() {
    let bench = Bench::new("slow", "passwd: files toy\ngroup: files toy\n");
    let lookups = bench.lookups(PATIENT, 1);
    // Each takes 0.3 s: one after the other it would be more than three seconds.
    let questions: Vec<Question> = (0..6)
        .flat_map(|number| {
            [
                user(&format!("slow{number}")),
                Question::Group(format!("slow{number}")),
            ]
        })
        .collect();
    lookups.ask(&[user("stranger")], None).await.unwrap();
    let begun = Instant::now();
    let facts = lookups.ask(&questions, None).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(facts.answers.len(), questions.len());
    assert!(
        facts
            .answers
            .values()
            .all(|answer| matches!(answer, Answer::User(None) | Answer::Group(None)))
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_user_of_others_in_another_case_is_told_and_is_not_the_user_asked_for() {
    let bench = Bench::new("twins", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
    let questions = [user("twin"), user("TWIN"), user("toy"), user("stranger")];
    let facts = lookups.ask(&questions, None).await.unwrap();
    assert_eq!(facts.answers[&questions[0]], Answer::User(None));
    assert_eq!(facts.answers[&questions[1]], toy_user("TWIN"));
    let twins = [("twin".to_owned(), "TWIN".to_owned())];
    assert_eq!(facts.host.case_twins, twins.into());
}

#[tokio::test]
async fn a_failing_service_is_never_taken_for_absence() {
    let bench = Bench::new("failing", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
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
    let bench = Bench::new("hang", TOY_LINES);
    let lookups = bench.lookups(Duration::from_millis(700), 1);
    let begun = Instant::now();
    let failed = lookups.ask(&[user("hang")], None).await.unwrap_err();
    assert_eq!(failed.source, "toy", "{failed}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let facts = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
    // Also when it has answered before, and others since.
    let lines = "passwd: files toy compat\ngroup: files toy\n";
    std::fs::write(bench.dir.join("etc/nsswitch.conf"), lines).unwrap();
    let questions = [user("stranger"), groups_of("hang")];
    let failed = lookups.ask(&questions, None).await.unwrap_err();
    assert_eq!(failed.source, "toy", "{failed}");
    // Or when it is asked for another spelling of the name.
    let failed = lookups.ask(&[user("hush")], None).await.unwrap_err();
    assert_eq!(failed.source, "toy", "{failed}");
}

#[tokio::test]
async fn a_hang_in_one_login_does_not_hold_up_another() {
    let bench = Bench::new("beside", TOY_LINES);
    let lookups = bench.lookups(Duration::from_secs(3), 2);
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
async fn more_hangs_than_workers_delay_another_login_and_do_not_fail_it() {
    let bench = Bench::new("queue", TOY_LINES);
    let lookups = bench.lookups(Duration::from_secs(1), 2);
    let (question, hanging) = ([user("toy")], [user("hang")]);
    let (first, second, facts) = tokio::join!(
        lookups.ask(&hanging, None),
        lookups.ask(&hanging, None),
        lookups.ask(&question, None)
    );
    assert!(first.is_err() && second.is_err());
    assert_eq!(facts.unwrap().answers[&user("toy")], toy_user("toy"));
}

#[tokio::test]
async fn a_crash_harms_the_login_that_met_it_and_no_other() {
    let bench = Bench::new("crash", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
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
    let bench = Bench::new("cancel", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
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
    std::fs::write(bench.dir.join("etc/nsswitch.conf"), TOY_LINES).unwrap();
    let facts = lookups.ask(&[user("toy")], None).await.unwrap();
    assert_eq!(facts.answers[&user("toy")], toy_user("toy"));
}

#[tokio::test]
async fn later_rounds_add_to_what_is_known_and_names_in_sudoers_stay() {
    let bench = Bench::new("rounds", TOY_LINES);
    let lookups = bench.lookups(PATIENT, 1);
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
async fn a_socket_that_is_not_there_is_a_failure_with_its_name() {
    let lookups = Lookups::new(Settings {
        socket: "/no/such/socket".into(),
        ..Settings::default()
    });
    let failed = lookups.ask(&[user("root")], None).await.unwrap_err();
    assert!(failed.to_string().contains("/no/such/socket"), "{failed}");
}

#[tokio::test]
async fn a_warm_worker_is_asked_without_starting_another() {
    let bench = Bench::new("warm", "passwd: files\ngroup: files\n");
    let lookups = bench.lookups(PATIENT, 1);
    lookups.ask(&[user("root")], None).await.unwrap();
    let begun = Instant::now();
    for _ in 0..200 {
        lookups
            .ask(&[user("stranger"), Question::UserId(0x7000_0001)], None)
            .await
            .unwrap();
    }
    println!("warm batch of two questions: {:?}", begun.elapsed() / 200);
    assert_eq!(bench.started(), 1);
}

#[tokio::test]
async fn a_hung_worker_dies_and_an_idle_one_leaves_when_the_asker_hangs_up() {
    let bench = Bench::new("hangup", TOY_LINES);
    let lookups = bench.lookups(Duration::from_millis(700), 1);
    lookups.ask(&[user("hang")], None).await.unwrap_err();
    let killed = bench.ended();
    assert_eq!(
        (killed.len(), killed[0].signal()),
        (1, Some(9)),
        "{killed:?}"
    );
    lookups.ask(&[user("toy")], None).await.unwrap();
    drop(lookups);
    assert!(bench.ended()[1].success(), "{:?}", bench.ended());
}

#[test]
fn a_worker_that_might_ask_ourselves_does_not_start() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let outcome = Command::new(env!("CARGO_BIN_EXE_teleport-sessiond"))
        .arg("--lookup-worker")
        .env("SYSTEMD_BYPASS_USERDB", "com.example")
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(
        !outcome.status.success() && said.contains("SYSTEMD_BYPASS_USERDB"),
        "{said}"
    );
}

fn groups_of(name: &str) -> Question {
    Question::GroupsOf(name.to_owned())
}

fn memberships(found: &[(u32, &str)]) -> Answer {
    let membership = |(gid, source): &(u32, &str)| FoundMembership {
        gid: *gid,
        source: (*source).to_owned(),
    };
    Answer::Groups(found.iter().map(membership).collect())
}

#[tokio::test]
async fn every_service_that_lists_a_name_in_a_group_is_heard_and_none_of_a_user_who_exists() {
    let bench = Bench::new("members", "passwd: files\ngroup: files\ninitgroups: toy\n");
    let group = "root:x:0:\ndocker:x:990:ghost,toy-1\nother:x:991:ghostly\nlast:x:992:ghost\n";
    std::fs::write(bench.dir.join("etc/group"), group).unwrap();
    let lookups = bench.lookups(PATIENT, 1);
    let names = ["ghost", "toy-1", "stranger", "root"].map(groups_of);
    let facts = lookups.ask(&names, None).await.unwrap();
    for (question, want) in names.iter().zip([
        memberships(&[(990, "files"), (992, "files")]),
        memberships(&[(990, "files"), (77003, "toy")]),
        memberships(&[]),
        memberships(&[]),
    ]) {
        assert_eq!(facts.answers[question], want, "{question:?}");
    }
    let many = lookups.ask(&[groups_of("large")], None).await.unwrap();
    match &many.answers[&groups_of("large")] {
        Answer::Groups(found) => assert_eq!(found.len(), 300),
        other => panic!("{other:?}"),
    }
    for (name, reason) in [("refused", "refused"), ("silent", "no reason")] {
        let outcome = lookups.ask(&[groups_of(name)], None).await;
        let (source, why) = failing(outcome, &groups_of(name));
        assert!(source == "toy" && why.contains(reason), "{source}: {why}");
    }
    // The groups of a user of others are nobody's business, and a server may have to be asked for them.
    std::fs::write(bench.dir.join("etc/nsswitch.conf"), TOY_LINES).unwrap();
    let known = [user("toy"), groups_of("toy")];
    let facts = lookups.ask(&known, None).await.unwrap();
    assert_eq!(facts.answers[&known[1]], memberships(&[]));
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_users_in_etc_passwd_are_known_all_the_same() {
    let questions = [
        user("root"),
        user("stranger"),
        Question::Group("root".to_owned()),
    ];
    let nowhere = Lookups::new(Settings {
        socket: "/no/such/socket".into(),
        ..Settings::default()
    });
    let bench = Bench::new("local", TOY_LINES);
    let hanging = bench.lookups(Duration::from_millis(700), 1);
    let asked = [&questions[..], &[user("hang")]].concat();
    for (facts, blamed) in [
        (nowhere.facts(&questions, None).await, "the lookup worker"),
        (hanging.facts(&asked, None).await, "toy"),
    ] {
        let root = &facts.answers[&questions[0]];
        assert!(
            matches!(root, Answer::User(Some(found)) if found.uid == 0 && found.source == "files"),
            "{root:?}"
        );
        for question in &questions[1..] {
            let answer = &facts.answers[question];
            assert!(
                matches!(answer, Answer::Failed { source, .. } if source == blamed),
                "{answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_the_host_does_not_tell_takes_no_answer_away() {
    let bench = Bench::new("host", "# caf\u{e9}\npasswd: files toy\n");
    // A folder of homes that is none, and a byte that is not UTF-8 where it means nothing.
    let latin = b"# caf\xe9\npasswd: files toy\n";
    std::fs::write(bench.dir.join("etc/nsswitch.conf"), latin).unwrap();
    let lookups = bench.lookups(PATIENT, 1);
    let questions = [user("root"), user("toy"), user("stranger")];
    let odd = Path::new("/etc/hostname/homes");
    let facts = lookups.ask(&questions, Some(odd)).await.unwrap();
    assert!(matches!(
        &facts.answers[&questions[0]],
        Answer::User(Some(_))
    ));
    assert_eq!(facts.answers[&questions[1]], toy_user("toy"));
    assert_eq!(facts.answers[&questions[2]], Answer::User(None));
    let failure = facts.host.failure.expect("homes cannot be looked at");
    assert!(failure.why.contains("Not a directory"), "{failure:?}");
    let facts = lookups.ask(&questions, None).await.unwrap();
    assert_eq!(facts.host.failure, None);
}

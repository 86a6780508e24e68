//! Who is nobody, where services answer and where they do not.
//! Services are those of `world.rs`.

use std::os::unix::net::UnixListener;

use super::world::{Manager, NO, World, YES, asked, is_hung_up_on, say};
use super::*;
use crate::control::lookup::stamp::TICK;

fn three() -> [Question; 3] {
    [
        Question::User("ann".to_owned()),
        Question::GroupId(61_200),
        Question::GroupsOf("ann".to_owned()),
    ]
}

fn nobody(database: &mut UserDatabase) -> Vec<bool> {
    let questions = three();
    database.has_nobody(&questions.iter().collect::<Vec<_>>(), &mut || {})
}

#[test]
fn nobody_is_who_is_unknown_to_every_service() {
    let world = World::new("nobody");
    world.serves("io.systemd.DynamicUser", [NO]);
    world.serves("com.example.People", [NO]);
    assert_eq!(nobody(&mut world.database()), [true; 3]);
    // Services of others have a connection for each question.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let mut heard = world.heard.lock().unwrap().clone();
    heard.sort_unstable();
    assert_eq!(heard, [1, 1, 1, 2]);
}

#[test]
fn the_connection_to_pid_1_is_kept_until_it_hangs_up_or_has_another_socket() {
    let world = World::new("kept");
    // Hangs up on the first question of the third login.
    world.serves("io.systemd.DynamicUser", [NO, NO, NO, NO, ""]);
    world.serves("com.example.People", [NO]);
    let mut database = world.database();
    for _ in 0..3 {
        assert_eq!(nobody(&mut database), [true; 3]);
    }
    std::fs::remove_file(world.root.join("services/io.systemd.DynamicUser")).unwrap();
    world.serves("io.systemd.DynamicUser", [NO, YES]);
    assert_eq!(nobody(&mut database), [true, false, true]);
    drop(database);
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while world.heard.lock().unwrap().len() < 4 * 3 + 3 {
        assert!(std::time::Instant::now() < until);
        sleep(AGAIN);
    }
    let mut heard = world.heard.lock().unwrap().clone();
    heard.retain(|calls| *calls > 1);
    heard.sort_unstable();
    assert_eq!(heard, [2, 2, 5]);
}

#[test]
fn what_was_said_between_two_logins_is_no_answer_to_the_second() {
    let world = World::new("unasked");
    let path = world.root.join("services/io.systemd.DynamicUser");
    let listener = UnixListener::bind(path).unwrap();
    let (heard, all_heard) = std::sync::mpsc::channel();
    let (said, all_said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let say = |mut stream: &UnixStream, replies: [&str; 2]| {
            let replies = replies.join("\0") + "\0";
            stream.write_all(replies.as_bytes()).unwrap();
        };
        let (kept, _) = listener.accept().unwrap();
        say(&kept, [NO; 2]);
        all_heard.recv().unwrap();
        say(&kept, [NO; 2]);
        said.send(()).unwrap();
        let (another, _) = listener.accept().unwrap();
        say(&another, [YES, NO]);
        // Who hangs up on a question has not answered it.
        let _ = all_heard.recv();
    });
    let mut database = world.database();
    assert_eq!(nobody(&mut database), [true; 3]);
    heard.send(()).unwrap();
    all_said.recv().unwrap();
    assert_eq!(nobody(&mut database), [false, true, true]);
}

fn ask_ahead(database: &mut UserDatabase) {
    database.ask_ahead(&three().iter().collect::<Vec<_>>());
}

/// The same as `nobody`, with what PID 1 does once everybody has been asked.
fn nobody_while(database: &mut UserDatabase, mut meanwhile: impl FnMut()) -> Vec<bool> {
    let questions = three();
    database.has_nobody(&questions.iter().collect::<Vec<_>>(), &mut meanwhile)
}

/// A login after which a connection is kept, and PID 1's end of it.
fn kept(manager: &Manager, database: &mut UserDatabase) -> UnixStream {
    let mut kept = None;
    let first = nobody_while(database, || kept = Some(manager.let_in(&[NO, NO])));
    assert_eq!(first, [true; 3]);
    let kept = kept.unwrap();
    assert_eq!(asked(&kept).unwrap().len(), 2);
    kept
}

#[test]
fn pid_1_is_asked_before_anything_is_looked_at_and_not_again() {
    let world = World::new("ahead");
    let manager = Manager::of(&world);
    let mut database = world.database();
    // Without a connection nothing is put ahead.
    ask_ahead(&mut database);
    assert!(manager.has_nobody_new());
    let kept = kept(&manager, &mut database);
    for (replies, expected) in [
        ([NO, NO], [true; 3]),
        ([YES, NO], [false, true, true]),
        ([NO, YES], [true, false, true]),
    ] {
        let [services, away] = ["services", "away"].map(|name| world.root.join(name));
        std::fs::rename(&services, &away).unwrap();
        ask_ahead(&mut database);
        let questions = asked(&kept).unwrap();
        assert!(
            questions[0].contains("\"ann\"") && questions[1].contains("61200"),
            "{questions:?}"
        );
        assert_eq!(questions.len(), 2);
        std::fs::rename(&away, &services).unwrap();
        say(&kept, &replies);
        assert_eq!(nobody(&mut database), expected);
        assert_eq!(asked(&kept), Some(Vec::new()), "nothing more");
        assert!(manager.has_nobody_new());
    }
    // What it is not asked is not put ahead either, and keeps the connection.
    let others = [
        Question::UserId(70_000),
        Question::GroupId(61_183),
        Question::User("root".to_owned()),
        Question::GroupsOf("ann".to_owned()),
    ];
    database.ask_ahead(&others.iter().collect::<Vec<_>>());
    assert_eq!(asked(&kept), Some(Vec::new()));
    assert_eq!(
        nobody_while(&mut database, || say(&kept, &[NO, NO])),
        [true; 3]
    );
    // Without services to look at an answer is none.
    ask_ahead(&mut database);
    say(&kept, &[NO, NO]);
    std::fs::remove_dir_all(world.root.join("services")).unwrap();
    assert_eq!(nobody(&mut database), [false; 3]);
}

#[test]
fn what_was_asked_ahead_of_another_socket_is_not_believed() {
    for is_replaced_first in [true, false] {
        let world = World::new(&format!("ahead-replaced-{is_replaced_first}"));
        let manager = Manager::of(&world);
        let mut database = world.database();
        let kept = kept(&manager, &mut database);
        let mut another = is_replaced_first.then(|| Manager::of(&world));
        ask_ahead(&mut database);
        assert_eq!(asked(&kept).unwrap().len(), 2);
        say(&kept, &[NO, NO]);
        let another = another.get_or_insert_with(|| Manager::of(&world));
        let mut new = None;
        let found = nobody_while(&mut database, || new = Some(another.let_in(&[YES, NO])));
        assert_eq!(found, [false, true, true]);
        assert!(is_hung_up_on(&kept));
        // It is the new one that is kept.
        ask_ahead(&mut database);
        assert_eq!(asked(&new.unwrap()).unwrap().len(), 4);
    }
}

#[test]
fn whoever_has_come_since_is_asked_beside_pid_1() {
    let world = World::new("ahead-another");
    let manager = Manager::of(&world);
    let mut database = world.database();
    let kept = kept(&manager, &mut database);
    ask_ahead(&mut database);
    say(&kept, &[NO, NO]);
    world.serves("io.systemd.Home", [NO, YES, NO]);
    assert_eq!(nobody(&mut database), [true, false, true]);
    assert!(manager.has_nobody_new());
    // And in folders.
    ask_ahead(&mut database);
    say(&kept, &[NO, NO]);
    std::fs::write(world.root.join("etc/ann.user"), "{}").unwrap();
    assert_eq!(nobody(&mut database), [false, false, true]);
}

#[test]
fn what_was_asked_ahead_is_an_answer_to_these_questions_and_this_login_only() {
    let world = World::new("ahead-others");
    let manager = Manager::of(&world);
    let mut database = world.database();
    // Of other questions,
    let first = kept(&manager, &mut database);
    let others = [Question::User("bea".to_owned()), Question::GroupId(61_200)];
    database.ask_ahead(&others.iter().collect::<Vec<_>>());
    say(&first, &[NO, NO]);
    let mut second = None;
    let found = nobody_while(&mut database, || {
        second = Some(manager.let_in(&[YES, NO]));
    });
    assert_eq!(found, [false, true, true]);
    assert!(is_hung_up_on(&first));
    // of a login for which nobody wanted it,
    ask_ahead(&mut database);
    let second = second.unwrap();
    say(&second, &[NO, NO]);
    ask_ahead(&mut database);
    assert!(is_hung_up_on(&second));
    let mut third = None;
    let found = nobody_while(&mut database, || {
        third = Some(manager.let_in(&[YES, NO]));
    });
    assert_eq!(found, [false, true, true]);
    // and before it was asked.
    let third = third.unwrap();
    say(&third, &[NO]);
    ask_ahead(&mut database);
    assert!(is_hung_up_on(&third));
    let found = nobody_while(&mut database, || drop(manager.let_in(&[YES, NO])));
    assert_eq!(found, [false, true, true]);
}

#[test]
fn a_pid_1_that_hangs_up_on_what_was_asked_ahead_is_asked_again() {
    let world = World::new("ahead-hangs-up");
    let manager = Manager::of(&world);
    let mut database = world.database();
    let kept = kept(&manager, &mut database);
    ask_ahead(&mut database);
    // It has read what was put, so that this is an end and no error.
    assert_eq!(asked(&kept).unwrap().len(), 2);
    say(&kept, &[NO]);
    drop(kept);
    let another = std::thread::spawn(move || manager.wait_for(&[YES, NO]));
    assert_eq!(nobody(&mut database), [false, true, true]);
    assert_eq!(asked(&another.join().unwrap()).unwrap().len(), 2);
}

#[test]
fn whom_one_service_knows_is_not_nobody_and_the_others_are() {
    let world = World::new("somebody");
    world.serves("io.systemd.DynamicUser", [NO]);
    world.serves("io.systemd.Home", [NO, YES, NO]);
    assert_eq!(nobody(&mut world.database()), [true, false, true]);
}

#[test]
fn pid_1_is_asked_for_one_half_of_a_pair_of_its_own_kind_and_others_for_everything() {
    let [ann, bea] = ["ann", "bea"].map(str::to_owned);
    let questions = [
        Question::Group(ann.clone()),
        Question::User(ann),
        Question::UserId(61_184),
        Question::GroupId(61_184),
        Question::GroupId(65_519),
        Question::Group(bea.clone()),
        // It has no such numbers and no members.
        Question::UserId(61_183),
        Question::GroupId(0x7000_0000),
        Question::GroupsOf(bea),
    ];
    let questions: Vec<&Question> = questions.iter().collect();
    let asked = |replies: Vec<&'static str>, name: &str, service| {
        let world = World::new(name);
        let others = std::iter::repeat_n(NO, questions.len() - replies.len());
        let replies: Vec<&str> = replies.into_iter().chain(others).collect();
        let replies: [&str; 9] = replies.try_into().unwrap();
        world.serves(service, replies);
        let nobody = world.database().has_nobody(&questions, &mut || {});
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while world.heard.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < until);
            sleep(AGAIN);
        }
        let somebody = nobody.iter().enumerate().filter(|(_, nobody)| !**nobody);
        let somebody: Vec<usize> = somebody.map(|(place, _)| place).collect();
        (somebody, world.heard.lock().unwrap()[0])
    };
    let cases: [(&[&str], &[usize]); 3] = [
        (&[], &[]),
        (&[YES], &[0, 1]),
        (&[NO, YES, NO, YES], &[2, 3, 5]),
    ];
    for (case, (replies, somebody)) in cases.into_iter().enumerate() {
        let name = format!("pairs-{case}");
        let (found, calls) = asked(replies.to_vec(), &name, "io.systemd.DynamicUser");
        assert_eq!((&found[..], calls), (somebody, 4));
    }
    let (found, calls) = asked(vec![YES], "pairs-of-others", "io.systemd.Home");
    assert_eq!((&found[..], calls), (&[0][..], 9));
}

#[test]
fn what_pid_1_cannot_know_it_is_not_asked_and_nobody_has() {
    let world = World::new("not-of-pid-1");
    world.serves("io.systemd.DynamicUser", [YES]);
    let questions = [
        Question::UserId(70_000),
        Question::GroupsOf("ann".to_owned()),
    ];
    let questions: Vec<&Question> = questions.iter().collect();
    let nobody = world.database().has_nobody(&questions, &mut || {});
    assert_eq!(nobody, [true, true]);
}

#[test]
fn of_several_replies_to_one_question_none_is_taken_for_the_next_ones() {
    let world = World::new("several");
    let some = "{\"parameters\":{\"userName\":\"ann\",\"groupName\":\"a\"},\"continues\":true}\0\
                {\"parameters\":{\"userName\":\"ann\",\"groupName\":\"b\"}}";
    world.serves("io.systemd.Home", [NO, some, NO]);
    assert_eq!(nobody(&mut world.database()), [true, false, true]);
}

#[test]
fn who_hangs_up_or_babbles_or_says_that_he_cannot_tell_has_not_said_nobody() {
    let unavailable = r#"{"error":"io.systemd.UserDatabase.ServiceNotAvailable"}"#;
    let cases = [
        ("hangs-up", ""),
        ("babbles", "no"),
        ("odd", r#"{"error":null}"#),
        ("typed", r#"{"error":7,"parameters":{}}"#),
        ("cannot", unavailable),
    ];
    for (name, reply) in cases {
        let world = World::new(name);
        world.serves("io.systemd.DynamicUser", [NO]);
        world.serves("io.systemd.Home", [NO, reply, NO]);
        // Whose reply is one at all has answered the other questions.
        let others = ["odd", "cannot"].contains(&name);
        let expected = [others, false, others];
        assert_eq!(nobody(&mut world.database()), expected, "{name}");
    }
}

#[test]
fn a_service_that_is_gone_counts_for_nothing_but_not_if_it_is_the_only_one() {
    let world = World::new("gone");
    drop(UnixListener::bind(world.root.join("services/io.systemd.Home")).unwrap());
    assert_eq!(nobody(&mut world.database()), [false; 3]);
    world.serves("io.systemd.DynamicUser", [NO]);
    assert_eq!(nobody(&mut world.database()), [true; 3]);
}

#[test]
fn who_lets_in_one_after_the_other_is_not_kept_waiting_for_our_going() {
    let world = World::new("in-turn");
    for service in ["com.example.One", "com.example.Two"] {
        let listener = UnixListener::bind(world.root.join("services").join(service)).unwrap();
        // Room for one who waits.
        rustix::net::listen(&listener, 0).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut calls = BufReader::new(stream.try_clone().unwrap());
                calls.read_until(0, &mut Vec::new()).unwrap();
                let _ = stream.write_all(format!("{NO}\0").as_bytes());
                let _ = calls.read_to_end(&mut Vec::new());
            }
        });
    }
    let (told, heard) = std::sync::mpsc::channel();
    for _ in 0..2 {
        let (mut database, told) = (world.database(), told.clone());
        std::thread::spawn(move || told.send(nobody(&mut database)));
    }
    for _ in 0..2 {
        let heard = heard.recv_timeout(Duration::from_secs(60));
        assert_eq!(heard.expect("an answer"), [true; 3]);
    }
}

#[test]
fn who_only_repeats_others_is_not_asked_and_a_socket_on_its_way_neither() {
    let world = World::new("repeats");
    for name in REPEATERS
        .into_iter()
        .chain([DROP_INS, ".io.systemd.Home.tmp"])
    {
        world.serves(name, [YES]);
    }
    world.serves("io.systemd.DynamicUser", [NO]);
    assert_eq!(nobody(&mut world.database()), [true; 3]);
}

#[test]
fn whoever_has_a_file_is_somebody_as_soon_as_it_is_there() {
    let world = World::new("files");
    world.serves("io.systemd.DynamicUser", [NO]);
    let mut database = world.database();
    let cases = [
        ("ann.user", [false, true, true]),
        ("61200.group", [true, false, true]),
        ("ann:staff.membership", [true, true, false]),
        ("anna:staff.membership", [true; 3]),
        ("61200.user", [true; 3]),
    ];
    for (file, expected) in cases {
        let path = world.root.join("etc").join(file);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(nobody(&mut database), expected, "{file}");
        std::fs::remove_file(path).unwrap();
        assert_eq!(nobody(&mut database), [true; 3], "without {file}");
    }
    // Also once the folder is remembered.
    std::thread::sleep(TICK * 2);
    assert_eq!(nobody(&mut database), [true; 3]);
    std::fs::write(world.root.join("etc/ann.user"), "{}").unwrap();
    assert_eq!(nobody(&mut database), [false, true, true]);
}

#[test]
fn who_is_made_up_by_nss_systemd_is_left_to_it() {
    let world = World::new("made-up");
    world.serves("io.systemd.DynamicUser", [NO]);
    let questions = [
        Question::User("root".to_owned()),
        Question::Group("nogroup".to_owned()),
        Question::User("foreign-12".to_owned()),
        Question::UserId(65534),
        Question::GroupId(0x7ffe_0001),
        Question::UserId(0x7fff_0000),
    ];
    assert_eq!(
        world
            .database()
            .has_nobody(&questions.iter().collect::<Vec<_>>(), &mut || {}),
        [false, false, false, false, false, true]
    );
}

#[test]
fn only_other_providers_make_userdb_worth_asking() {
    let world = World::new("others");
    let folder = world.root.join("services");
    let has_others = |folder: PathBuf| UserDatabase::at(folder, [""; 0]).has_others();
    assert!(!has_others(world.root.join("not-there")));
    for name in REPEATERS {
        std::fs::write(folder.join(name), "").unwrap();
    }
    assert!(!has_others(folder.clone()));
    std::fs::write(folder.join("io.systemd.DynamicUser"), "").unwrap();
    assert!(has_others(folder.clone()));
    // Not to be read is not empty.
    assert!(has_others(folder.join("io.systemd.DynamicUser")));
}

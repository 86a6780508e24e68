//! A batch with a configuration of the test's own, and with PID 1 played on a socket.
//! nss_systemd is taken for missing, so that somebody in systemd's user database shows as a failure.

use std::os::unix::net::UnixStream;

use super::super::userdb::world::{Manager, NO, World, YES, asked, is_hung_up_on, say};
use super::*;

struct Batches {
    asker: Asker,
    world: World,
    manager: Manager,
    kept: UnixStream,
}

fn questions() -> [Question; 3] {
    let ann = || "ann".to_owned();
    [
        Question::User(ann()),
        Question::Group(ann()),
        Question::GroupsOf(ann()),
    ]
}

fn ask(asker: &mut Asker, meanwhile: &mut dyn FnMut()) -> Vec<Answer> {
    let heard = asker.ask(&questions(), &mut |_| Ok(()), meanwhile);
    heard.unwrap().answers
}

impl Batches {
    /// After one from which a connection is kept.
    fn new(name: &str) -> Batches {
        let world = World::new(name);
        let manager = Manager::of(&world);
        let at = |name: &str| world.root.join(name);
        let files = [
            ("nsswitch", "passwd: files systemd\ngroup: files systemd\n"),
            ("passwd", "root:x:0:0::/:\n"),
            ("group", "root:x:0:\n"),
        ];
        for (name, text) in files {
            std::fs::write(at(name), text).unwrap();
        }
        let files = LocalFiles::at(at("passwd"), at("group"));
        let mut asker = Asker::at(at("nsswitch"), files, world.database());
        let missing = (Instant::now(), Presence::NotInstalled);
        asker.presence.insert(SYSTEMD.to_owned(), missing);
        asker.begin(&questions()).unwrap();
        let mut kept = None;
        let first = ask(&mut asker, &mut || kept = Some(manager.let_in(&[NO])));
        assert!(are_nobodys(&first), "{first:?}");
        let kept = kept.unwrap();
        assert_eq!(asked(&kept).unwrap().len(), 1);
        Batches {
            asker,
            world,
            manager,
            kept,
        }
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.world.root.join(file), text).unwrap();
    }

    /// Begins one while this is what PID 1 answers to what is put ahead.
    fn begin(&mut self, reply: &str) -> io::Result<()> {
        let begun = self.asker.begin(&questions());
        if let Some(calls) = asked(&self.kept) {
            assert_eq!(calls.len(), 1);
            say(&self.kept, &[reply]);
        }
        begun
    }
}

fn are_nobodys(answers: &[Answer]) -> bool {
    answers
        == [
            Answer::User(None),
            Answer::Group(None),
            Answer::Groups(Vec::new()),
        ]
}

#[test]
fn a_batch_begins_with_the_question_to_pid_1() {
    let mut batches = Batches::new("batch-ahead");
    // Before it can be known whom there is to ask.
    let nsswitch = batches.world.root.join("nsswitch");
    let text = std::fs::read_to_string(&nsswitch).unwrap();
    std::fs::remove_file(&nsswitch).unwrap();
    std::fs::create_dir(&nsswitch).unwrap();
    assert!(batches.asker.begin(&questions()).is_err());
    assert_eq!(asked(&batches.kept).unwrap().len(), 1);
    say(&batches.kept, &[NO]);
    std::fs::remove_dir(&nsswitch).unwrap();
    batches.write("nsswitch", &text);
    // That was not this one's.
    batches.asker.begin(&questions()).unwrap();
    assert!(is_hung_up_on(&batches.kept));
    let manager = &batches.manager;
    let mut another = None;
    let answers = ask(&mut batches.asker, &mut || {
        another = Some(manager.let_in(&[YES]));
    });
    assert!(matches!(&answers[0], Answer::Failed { .. }), "{answers:?}");
    // And where nothing has changed it is asked no more.
    batches.kept = another.unwrap();
    asked(&batches.kept).unwrap();
    for (reply, is_nobody) in [(NO, true), (YES, false)] {
        batches.begin(reply).unwrap();
        let answers = ask(&mut batches.asker, &mut || {});
        assert_eq!(are_nobodys(&answers), is_nobody, "{answers:?}");
        assert_eq!(asked(&batches.kept), Some(Vec::new()));
        assert!(batches.manager.has_nobody_new());
    }
}

#[test]
fn pid_1_is_not_believed_where_nsswitch_conf_says_something_else() {
    let mut batches = Batches::new("batch-nsswitch");
    batches.write("nsswitch", "passwd: files\ngroup: files\n");
    let socket = batches.world.root.join("services/io.systemd.DynamicUser");
    std::fs::remove_file(socket).unwrap();
    // Nobody is left who could know somebody.
    batches.begin(YES).unwrap();
    assert!(are_nobodys(&ask(&mut batches.asker, &mut || {})));
    assert!(is_hung_up_on(&batches.kept));

    // Who comes first now may be slow, and may know somebody: nothing is put ahead as long as that is so.
    let mut batches = Batches::new("batch-nsswitch-first");
    batches.write(
        "nsswitch",
        "passwd: nosuch systemd\ngroup: nosuch systemd\n",
    );
    batches.begin(NO).unwrap();
    let manager = &batches.manager;
    let mut another = None;
    let answers = ask(&mut batches.asker, &mut || {
        another = Some(manager.let_in(&[YES]));
    });
    assert!(matches!(&answers[0], Answer::Failed { .. }), "{answers:?}");
    assert!(is_hung_up_on(&batches.kept));
    let another = another.unwrap();
    asked(&another).unwrap();
    batches.asker.begin(&questions()).unwrap();
    assert_eq!(asked(&another), Some(Vec::new()));
}

#[test]
fn of_those_in_local_files_pid_1_is_not_asked() {
    let mut batches = Batches::new("batch-local");
    batches.write("passwd", "ann:x:1:1::/:\n");
    batches.write("group", "ann:x:1:\n");
    batches.begin(YES).unwrap();
    let answers = ask(&mut batches.asker, &mut || {});
    assert!(
        matches!(&answers[0], Answer::User(Some(user)) if user.source == "files"),
        "{answers:?}"
    );
    // It was asked while it was not known that they are there. From then on,
    batches.asker.begin(&questions()).unwrap();
    assert!(is_hung_up_on(&batches.kept));
    let [ann, bea] = ["ann", "bea"].map(|name| Question::User(name.to_owned()));
    let manager = &batches.manager;
    let mut kept = None;
    let mut asking = |one: &Question, meanwhile: &mut dyn FnMut()| {
        let one = [one.clone()];
        batches.asker.begin(&one).unwrap();
        let heard = batches.asker.ask(&one, &mut |_| Ok(()), meanwhile).unwrap();
        heard.answers
    };
    let found = asking(&bea, &mut || kept = Some(manager.let_in(&[NO])));
    assert_eq!(found, [Answer::User(None)]);
    let kept = kept.unwrap();
    assert_eq!(asked(&kept).unwrap().len(), 1);
    assert!(matches!(
        &asking(&ann, &mut || {})[..],
        [Answer::User(Some(_))]
    ));
    // with a connection, too.
    assert_eq!(asked(&kept), Some(Vec::new()));
}

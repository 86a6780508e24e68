//! A host with sudo-rs, which reads 128 files of sudoers.d and no more: the administrator's last one has to be among them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use rig::{Login, Machine, Result, Suite, boot_node};

use crate::hostile::those_that_are_made_may_nothing;
use crate::programs::{from_the_first_session_to_the_last, lingering_gives_no_right_by_group};
use crate::{
    DOAS, ROLES, configure, forget, may, must_be_content, node_alone, sudoers, uid, with_group,
};

/// Sessions with sudo at once, of one greedy Teleport user and of as many others as it takes.
const GREEDY: usize = 40;
const ALL: usize = 200;
/// Sessions that are opened side by side.
const LANES: usize = 8;

/// How long it may take until what sessions leave behind has gone.
const IN_TIME: Duration = Duration::from_secs(30);

fn finish(sessions: Vec<Login>) {
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| session.finish().ran.must().len());
        }
    });
}

#[track_caller]
fn ours(machine: &Machine) -> usize {
    let listed = machine.sh("ls /etc/sudoers.d | grep -c ^teleport- || :");
    listed.must().parse().unwrap_or_default()
}

/// Opens a session with sudo for each (login, Teleport user); told is who has none.
fn open(machine: &Machine, people: &[(String, String)]) -> (Vec<Login>, BTreeSet<String>) {
    let (sessions, without) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for lane in people.chunks(people.len().div_ceil(LANES)) {
            let (sessions, without) = (&sessions, &without);
            scope.spawn(move || {
                for (login, user) in lane {
                    let mut session = machine
                        .login(login)
                        .user(user)
                        .roles("admin")
                        .hold("open")
                        .start();
                    session.reach("open");
                    let told = format!("{:?}", session.events());
                    if told.contains("no sudo rights") {
                        without.lock().expect("no panic").insert(login.clone());
                    }
                    sessions.lock().expect("no panic").push(session);
                }
            });
        }
    });
    let without = without.into_inner().expect("no panic");
    (sessions.into_inner().expect("no panic"), without)
}

#[test]
fn two_hundred_sudo_users_leave_the_administrators_last_file_effective_beside_sudo_rs() -> Result<()>
{
    let machine = boot_node(Suite::Sid)?;
    machine.install("sudo-rs");
    machine.install("opendoas");
    machine.write("/etc/doas.conf", DOAS);
    configure(&machine, "10-roles", ROLES);
    let programs = ["sudo", "sudo-rs", "doas"];
    from_the_first_session_to_the_last(&machine, &programs);
    lingering_gives_no_right_by_group(&machine, &programs);
    let groups = "%wheel ALL=(ALL) NOPASSWD: ALL\n%admin ALL=(ALL) NOPASSWD: ALL\n";
    sudoers(&machine, "groups", groups);
    those_that_are_made_may_nothing(&machine, &programs, || ());
    machine.run(&["rm", "/etc/sudoers.d/groups"]).must();
    sudoers(&machine, "zz-last", "walter ALL=(root) NOPASSWD: ALL\n");
    let walter = uid(&machine, "walter");
    let others: usize = machine
        .sh("ls /etc/sudoers.d | wc -l")
        .must()
        .parse()
        .unwrap_or(0);
    assert!(may(&machine, &walter, "sudo-rs") && ours(&machine) == 0);

    // One person has a quarter of what there may be, and no more.
    let most = 128 - 8 - others;
    let greedy: Vec<(String, String)> = (0..GREEDY)
        .map(|n| (format!("greedy{n}"), "gier".to_owned()))
        .collect();
    let (first, without) = open(&machine, &greedy);
    let without_first = without.clone();
    assert_eq!(ours(&machine), most.div_ceil(4));
    assert_eq!(without.len(), GREEDY - most.div_ceil(4), "{without:?}");

    let rest: Vec<(String, String)> = (GREEDY..ALL)
        .map(|n| (format!("user{n}"), format!("person{n}")))
        .collect();
    let (second, without) = open(&machine, &rest);
    assert_eq!(first.len() + second.len(), ALL);
    assert_eq!(ours(&machine), most);
    assert_eq!(without.len(), ALL - GREEDY - (most - most.div_ceil(4)));
    let asked = crate::as_uid(&machine, &walter, &["sudo-rs", "-n", "id", "-u"]);
    assert_eq!(asked.must(), "0");
    assert_eq!(
        asked.stderr, "",
        "sudo-rs has something to say of our files"
    );
    must_be_content(&machine);
    // Who has a file may, who has none may not, as it was told.
    for (login, _) in rest.iter().step_by(16) {
        let uid = uid(&machine, login);
        assert_eq!(
            may(&machine, &uid, "sudo-rs"),
            !without.contains(login),
            "{login}"
        );
    }

    // What has ended makes room, for those who have waited longest, and sudo-rs follows.
    let held = uid(&machine, "greedy0");
    let had = may(&machine, &held, "sudo-rs");
    assert_eq!(had, !without_first.contains("greedy0"));
    finish(first);
    machine.within(IN_TIME, "those who waited have what came free", |machine| {
        ours(machine) == most && !may(machine, &held, "sudo-rs")
    });
    let has_file = |login: &&String| {
        let path = format!("/etc/sudoers.d/teleport-{login}");
        machine.run(&["test", "-e", &path]).succeeded()
    };
    let got: Vec<&String> = without.iter().filter(has_file).collect();
    assert_eq!(got.len(), most.div_ceil(4));
    let lucky = uid(&machine, got[0]);
    assert!(may(&machine, &lucky, "sudo-rs"), "{got:?}");
    assert!(may(&machine, &walter, "sudo-rs"));
    must_be_content(&machine);

    // Who comes now is behind them, and has it when they have gone.
    let (third, without) = open(&machine, &[("late".to_owned(), "late".to_owned())]);
    assert_eq!(without.len(), 1);
    let late = uid(&machine, "late");
    assert!(!may(&machine, &late, "sudo-rs"));
    finish(second);
    machine.within(IN_TIME, "the last one has it", |machine| {
        ours(machine) == 1 && may(machine, &late, "sudo-rs")
    });
    finish(third);
    machine.within(IN_TIME, "no file is left", |machine| ours(machine) == 0);

    // And by membership, for as many as like.
    sudoers(
        &machine,
        "by-group",
        "%teleport-sudo ALL=(ALL) NOPASSWD: ALL\n",
    );
    configure(&machine, "20-mode", "sudo.mode = \"group\"\n");
    let mut session = machine.login("member").roles("admin").hold("open").start();
    session.reach("open");
    let member = uid(&machine, "member");
    assert!(may(&machine, &member, "sudo-rs") && ours(&machine) == 0);
    session.finish().ran.must();
    // Two hundred users are being ended at this moment, and close_session waits a second at most.
    machine.within(IN_TIME, "the right is gone", |machine| {
        !may(machine, &member, "sudo-rs")
    });

    // Which groups each goes by: of a process that has the group and of one that has it not, while the user is a
    // member and when it is no more.
    sudoers(
        &machine,
        "by-group",
        "%crew ALL=(root) NOPASSWD: ALL\n%builders ALL=(root) NOPASSWD: ALL\n",
    );
    let mut plain = machine.login("stale").hold("open").start();
    plain.reach("open");
    let mut more = machine.login("stale").roles("crew").hold("open").start();
    more.reach("open");
    let stale = uid(&machine, "stale");
    let gids = ["crew", "builders"].map(|group| {
        let line = machine.run(&["getent", "group", group]);
        line.must().split(':').nth(2).unwrap_or_default().to_owned()
    });
    let ask = |groups: &str| {
        ["sudo", "sudo-rs"].map(|program| with_group(&machine, &stale, groups, program))
    };
    let asked = || [gids[0].as_str(), &gids[1], &stale].map(ask);
    let member = asked();
    more.finish().ran.must();
    machine.within(IN_TIME, "the session is over", |machine| {
        crate::groups_of(machine, "stale") == ["stale", "teleport-tmp"]
    });
    let no_more = asked();
    plain.finish().ran.must();
    machine.within(IN_TIME, "the user is gone", |machine| {
        !machine.run(&["id", "stale"]).succeeded()
    });
    let nobody = asked();
    assert_eq!(member, [[true; 2], [true; 2], [false; 2]]);
    assert_eq!(no_more, [[true; 2], [false; 2], [false; 2]]);
    assert_eq!(nobody, [[false; 2]; 3]);
    Ok(())
}

#[test]
fn who_waits_for_room_has_it_from_the_next_daemon_too_and_when_the_bound_is_raised() {
    let node = node_alone();
    configure(&node, "40-one", "sudo.max-files = 1\n");
    let people =
        ["w-first", "w-second", "w-third"].map(|login| (login.to_owned(), login.to_owned()));
    let mut on = Vec::new();
    for (index, person) in people.iter().enumerate() {
        let (mut session, without) = open(&node, std::slice::from_ref(person));
        assert_eq!(without.len(), index.min(1), "{person:?}");
        on.append(&mut session);
    }
    let with_file = || {
        node.sh("cd /etc/sudoers.d && ls -d teleport-w-* || :")
            .must()
            .to_owned()
    };
    node.run(&["systemctl", "restart", "teleport-sessiond"])
        .must();
    assert_eq!(with_file(), "teleport-w-first");
    // Not by its name: who came first is first.
    on.remove(0).finish().ran.must();
    node.within(IN_TIME, "the next has it", |node| {
        may(node, &uid(node, "w-second"), "sudo")
    });
    assert_eq!(with_file(), "teleport-w-second");
    forget(&node, "40-one");
    node.within(IN_TIME, "there is room for all", |node| {
        may(node, &uid(node, "w-third"), "sudo")
    });
    finish(on);
    node.within(IN_TIME, "no file is left", |_| with_file().is_empty());
}

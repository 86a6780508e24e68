//! sudo and doas: granted works, not granted does not, and revoked does not, from the first of many sessions to the last.

use std::time::Duration;

use rig::{Login, Machine};

use crate::{configure, forget, may, must_be_content, node_alone, sudoers, uid, with_group};

/// Sessions at the same time, and how many of them come at once.
const MANY: usize = 64;
const AT_ONCE: usize = 8;

/// Sessions of one login, open at the same time. A few come at once: how many can is asked elsewhere.
fn many(node: &Machine, login: &str, roles: &str) -> Vec<Login> {
    let start = |_| {
        node.login(login)
            .roles(roles)
            .hold("command")
            .command("true")
            .start()
    };
    let mut sessions: Vec<Login> = Vec::new();
    while sessions.len() < MANY {
        let mut few: Vec<Login> = (0..AT_ONCE).map(start).collect();
        for session in &mut few {
            session.reach("command");
        }
        sessions.append(&mut few);
    }
    sessions
}

/// Tries each program again and again, also when its session is over; told is under which token it has begun to.
fn thief(programs: &[&str]) -> String {
    format!(
        "setsid -f sh -c 'while read -r token </tmp/token; do for program in {}; do \
             test \"$($program -n id -u 2>/dev/null)\" = 0 && may=yes || may=no; echo $token $program $may; done; \
         sleep 0.1; done' </dev/null >>/tmp/told 2>/dev/null",
        programs.join(" ")
    )
}

/// For the process of one test to write to.
#[track_caller]
fn prepare(machine: &Machine) {
    machine
        .sh("echo before >/tmp/token; : >/tmp/told; chmod 666 /tmp/told")
        .must();
}

/// What a process that somebody has left behind may do from now on, by each of the programs.
#[track_caller]
fn left_behind(machine: &Machine, programs: &[&str], token: &str) -> Vec<bool> {
    let write = format!("echo {token} >/tmp/token.new && mv /tmp/token.new /tmp/token");
    machine.sh(&write).must();
    let told = |program: &str| {
        let told = machine.sh(&format!("grep '^{token} {program} ' /tmp/told || :"));
        told.must().to_owned()
    };
    machine.within(Duration::from_secs(30), "each was tried", |_| {
        let tried = programs.iter().map(|program| told(program).lines().count());
        tried.min() > Some(0)
    });
    let may = programs.iter().map(|program| {
        let told = told(program);
        let yes = told.lines().filter(|line| line.ends_with("yes")).count();
        assert!(yes == 0 || yes == told.lines().count(), "{told}");
        yes > 0
    });
    may.collect()
}

/// Granted works, not granted does not, and revoked at logout does not, for whoever starts a program anew and for a
/// process that the first session has left: with the first of 64 sessions, with all, with the last, with none.
#[track_caller]
pub(crate) fn from_the_first_session_to_the_last(machine: &Machine, programs: &[&str]) {
    let all = |what: bool| vec![what; programs.len()];
    let now = |uid: &str| -> Vec<bool> {
        let may = programs.iter().map(|program| may(machine, uid, program));
        may.collect()
    };
    // The delay is what the process that is left behind has to be heard.
    configure(machine, "40-late", "retire-delay = \"60s\"\n");
    let tries: Vec<String> = programs
        .iter()
        .map(|program| format!("{program} -n id -u"))
        .collect();
    let tries = format!("{} || echo no", tries.join(" || "));
    let plain = machine.login("nina").command(&tries).run();
    assert_eq!(plain.must_write().lines().last(), Some("no"), "{plain:?}");
    let mut plain = machine.login("nina").hold("open").start();
    plain.reach("open");
    let nina = uid(machine, "nina");
    assert_eq!(now(&nina), all(false), "not granted");

    prepare(machine);
    let mut first = machine
        .login("mona")
        .roles("admin doer")
        .hold("command")
        .command(&thief(programs))
        .start();
    first.reach("command");
    let mona = uid(machine, "mona");
    assert_eq!(now(&mona), all(true), "with the first");
    assert_eq!(left_behind(machine, programs, "first-on"), all(true));
    let mut sessions = many(machine, "mona", "admin doer");
    assert_eq!(now(&mona), all(true), "with all of them");
    must_be_content(machine);
    first.finish().ran.must();
    let left = left_behind(machine, programs, "first-gone");
    assert_eq!(left, all(true), "left by the first, while others are on");
    let last = sessions.pop().expect("there are many");
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| session.finish().ran.must().len());
        }
    });
    assert_eq!(now(&mona), all(true), "with the last");
    assert_eq!(left_behind(machine, programs, "last-on"), all(true));
    last.finish().ran.must();
    assert_eq!(now(&mona), all(false), "without any");
    assert_eq!(left_behind(machine, programs, "last-gone"), all(false));
    assert_eq!(now(&nina), all(false), "not granted");
    must_be_content(machine);
    plain.finish().ran.must();
    machine.run(&["pkill", "-KILL", "-u", &mona]);
    forget(machine, "40-late");
}

#[test]
fn the_rights_are_there_with_the_first_of_64_sessions_and_gone_with_the_last() {
    from_the_first_session_to_the_last(&node_alone(), &["sudo", "doas"]);
}

/// What a role lets linger keeps the groups that it was started with, and others are in them: it may nothing by them.
#[track_caller]
pub(crate) fn lingering_gives_no_right_by_group(machine: &Machine, programs: &[&str]) {
    let groups = "%crew ALL=(root) NOPASSWD: ALL\n%teleport-sudo ALL=(ALL) NOPASSWD: ALL\n";
    sudoers(machine, "by-group", groups);
    let linger = "sudo.mode = \"group\"\n[[role]]\nmatch = \"lingerer\"\nlinger = true\n";
    configure(machine, "20-linger", linger);
    // A group that is made for its members has a name as long as somebody is in it.
    let other = machine.login("olga").roles("admin doer crew");
    let mut other = other.hold("open").start();
    other.reach("open");
    prepare(machine);
    let mut session = machine
        .login("lina")
        .roles("lingerer admin doer crew")
        .hold("command")
        .command(&thief(programs))
        .start();
    session.reach("command");
    let lina = uid(machine, "lina");
    let before = left_behind(machine, programs, "on");
    session.finish().ran.must();
    let after = left_behind(machine, programs, "over");
    let record = machine.run(&["getent", "passwd", "lina"]);
    machine.run(&["pkill", "-KILL", "-u", &lina]);
    other.finish().ran.must();
    machine.run(&["rm", "/etc/sudoers.d/by-group"]).must();
    forget(machine, "20-linger");
    assert!(record.must().starts_with("lina:x:"), "it lingers: {record}");
    let all = |what: bool| vec![what; programs.len()];
    assert_eq!((before, after), (all(true), all(false)));
}

#[test]
fn what_lingers_uses_no_right_by_group_whoever_else_is_in_it() {
    lingering_gives_no_right_by_group(&node_alone(), &["sudo", "doas"]);
}

#[test]
fn in_group_mode_one_static_rule_gives_the_full_right_and_any_other_comes_by_file() {
    let node = node_alone();
    sudoers(
        &node,
        "by-group",
        "%teleport-sudo ALL=(ALL) NOPASSWD: ALL\n",
    );
    configure(&node, "20-mode", "sudo.mode = \"group\"\n");
    let mut full = node.login("gwen").roles("admin").hold("open").start();
    full.reach("open");
    let mut some = node.login("greg").roles("restarter").hold("open").start();
    some.reach("open");
    let (gwen, greg) = (uid(&node, "gwen"), uid(&node, "greg"));
    let files = node
        .sh("ls /etc/sudoers.d | grep ^teleport- || :")
        .must()
        .to_owned();
    let group = node
        .run(&["getent", "group", "teleport-sudo"])
        .must()
        .to_owned();
    let may_gwen = may(&node, &gwen, "sudo");
    let may_greg = may(&node, &greg, "sudo");
    let listed = node.run(&["sudo", "-l", "-U", "greg"]).must().to_owned();
    full.finish().ran.must();
    let may_after = may(&node, &gwen, "sudo");
    some.finish().ran.must();
    node.run(&["rm", "/etc/sudoers.d/by-group"]).must();
    forget(&node, "20-mode");
    assert_eq!(files, "teleport-greg");
    assert!(group.ends_with(":gwen"), "{group}");
    assert!(may_gwen && !may_greg && !may_after);
    assert!(listed.contains("systemctl restart app"), "{listed}");
}

/// docs/rights.md has the table that this shows.
#[test]
fn what_each_program_goes_by_once_a_session_with_a_group_has_ended_and_another_is_left() {
    let node = node_alone();
    // One group was there before, the other is made for its members.
    let groups = ["crew", "builders"];
    let [rules, permits] = [
        groups.map(|group| format!("%{group} ALL=(root) NOPASSWD: ALL\n")),
        groups.map(|group| format!("permit nopass :{group} as root\n")),
    ]
    .map(|lines| lines.concat());
    sudoers(&node, "by-group", &rules);
    node.write("/etc/doas.conf", &permits);
    let mut plain = node.login("petra").hold("command").command("true").start();
    plain.reach("command");
    let mut more = node
        .login("petra")
        .roles("crew")
        .hold("command")
        .command("setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!")
        .start();
    more.reach("command");
    let uid = uid(&node, "petra");
    let asked = || ["sudo", "doas"].map(|program| may(&node, &uid, program));
    let during = asked();
    // A process without the groups, although the user is a member.
    let without = ["sudo", "doas"].map(|program| with_group(&node, &uid, &uid, program));
    let gids = groups.map(|group| {
        let line = node.run(&["getent", "group", group]);
        line.must().split(':').nth(2).unwrap_or_default().to_owned()
    });
    let kept = || {
        gids.clone()
            .map(|gid| ["sudo", "doas"].map(|program| with_group(&node, &uid, &gid, program)))
    };
    let pid = more.finish().must_write();
    let anew = asked();
    let by_old_process = kept();
    let status = node.sh(&format!("grep ^Groups: /proc/{pid}/status"));
    plain.finish().ran.must();
    let by_nobodys = kept();
    node.run(&["rm", "/etc/sudoers.d/by-group"]).must();
    node.write("/etc/doas.conf", crate::DOAS);

    assert_eq!(during, [true, true]);
    assert_eq!(without, [false, false], "the groups of the process count");
    assert_eq!(anew, [false, false], "a new process has the groups of now");
    // What is left running keeps its groups. One that exists is still known by its name; one that was made
    // for its members is nobody's name any more.
    assert!(
        gids.iter().all(|gid| status.must().contains(gid.as_str())),
        "{status}"
    );
    assert_eq!(by_old_process, [[true, true], [false, false]]);
    assert_eq!(by_nobodys, [[false; 2]; 2], "nobody is there any more");
}

#[test]
fn a_sudoers_d_that_somebody_else_broke_stays_as_broken_as_it_was() {
    let node = node_alone();
    must_be_content(&node);
    sudoers(
        &node,
        "zz-broken",
        "walter ALL=(root NOPASSWD: /usr/bin/id\n",
    );
    let look = || {
        let visudo = node.run(&["visudo", "-c"]);
        let sum = node.run(&["sha256sum", "/etc/sudoers.d/zz-broken"]);
        // Files that are right are listed behind what is wrong.
        (visudo.status, visudo.stderr.clone(), sum.must().to_owned())
    };
    let before = look();
    let mut session = node.login("bruno").roles("admin").hold("open").start();
    session.reach("open");
    let works = may(&node, &uid(&node, "bruno"), "sudo");
    let during = look();
    session.finish().ran.must();
    let after = look();
    node.run(&["rm", "/etc/sudoers.d/zz-broken"]).must();
    assert_eq!(before.0, 1, "visudo finds nothing wrong: {before:?}");
    assert!(works, "sudo goes by the lines that it understands");
    assert_eq!(during, before);
    assert_eq!(after, before);
    must_be_content(&node);
}

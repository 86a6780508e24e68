//! sudo and doas: granted works, not granted does not, and revoked does not, from the first of many sessions to the last.

use std::time::Duration;

use rig::{Login, Machine};

use crate::{configure, forget, may, must_be_content, node, node_alone, sudoers, uid, with_group};

/// Sessions at once.
const MANY: usize = 64;

#[test]
fn doas_works_for_who_has_it_and_for_nobody_else_and_not_after_the_logout() {
    let node = node();
    let ended = node.login("dora").command("doas -n id -u || echo no").run();
    assert_eq!(ended.must_write().lines().last(), Some("no"), "{ended:?}");
    // A process that somebody leaves behind keeps the group, and doas goes by that; but nobody is there any more.
    let thief = "nohup sh -c 'while :; do doas -n id -u || echo no; sleep 0.02; done' </dev/null >>/tmp/doris 2>&1 & \
                 until grep -q '^0$' /tmp/doris; do sleep 0.02; done";
    let mut login = node
        .login("doris")
        .roles("doer")
        .hold("command")
        .hold("close")
        .command(thief)
        .start();
    let uid = {
        login.reach("command");
        uid(&node, "doris")
    };
    assert!(may(&node, &uid, "doas"));
    login.go_on().reach("close");
    assert!(!may(&node, &uid, "doas"));
    std::thread::sleep(Duration::from_millis(200));
    node.sh(": >/tmp/doris").must();
    std::thread::sleep(Duration::from_millis(800));
    let log = node.sh("grep -c '^no$' /tmp/doris; grep -c '^0$' /tmp/doris; :");
    let counts: Vec<u32> = log
        .must()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    assert!(
        counts.len() == 2 && counts[0] > 3 && counts[1] == 0,
        "{log}"
    );
    login.finish();
}

/// Starts sessions of one login at once and waits until all are open.
fn many(node: &Machine, login: &str, roles: &str) -> Vec<Login> {
    let start = |_| {
        node.login(login)
            .roles(roles)
            .hold("command")
            .command("true")
            .start()
    };
    let mut sessions: Vec<Login> = (0..MANY).map(start).collect();
    for session in &mut sessions {
        session.reach("command");
    }
    sessions
}

#[test]
fn the_rights_are_there_with_the_first_of_64_sessions_and_gone_with_the_last() {
    let node = node();
    let mut first = node
        .login("mona")
        .roles("admin doer")
        .hold("command")
        .command("true")
        .start();
    first.reach("command");
    let uid = uid(&node, "mona");
    let has = |what: bool| {
        ["sudo", "doas"]
            .iter()
            .all(|program| may(&node, &uid, program) == what)
    };
    assert!(has(true), "with the first");
    let mut sessions = many(&node, "mona", "admin doer");
    let shown = node.run(&["teleport-userdbctl", "list"]);
    assert!(has(true), "with all of them: {shown}");
    must_be_content(&node);
    first.finish().ran.must();
    let last = sessions.pop();
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| session.finish().ran.must().len());
        }
    });
    assert!(has(true), "with the last");
    let mut last = last.expect("there were several");
    last.go_on();
    last.finish().ran.must();
    assert!(has(false), "without any");
    must_be_content(&node);
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

//! Several Teleport users on one login: what the configuration says, asked when one is admitted and again when a session opens.

use std::collections::BTreeSet;

use rig::{Ended, Machine};

use crate::{configure, forget, groups_of, may, node, node_alone, uid};

const FILE: &str = "30-shared";

/// What a second Teleport user is told, or which rights it then has beside the first.
#[track_caller]
fn come_second(node: &Machine, login: &str, roles: &str) -> Ended {
    node.login(login)
        .user("bea")
        .roles(roles)
        .command("id -Gn | tr ' ' '\\n' | grep -x builders; sudo -n id -un 2>/dev/null; true")
        .run()
}

/// What a second Teleport user on the login may do whose rights are equal to those of the first, and one whose
/// rights differ; nothing: it is not let in.
struct Second {
    rule: &'static str,
    equal: Option<&'static str>,
    differing: Option<&'static str>,
}

#[test]
fn two_teleport_users_on_a_login_have_what_the_configuration_says() {
    let node = node_alone();
    // The first has sudo and no group, the second the group and no sudo.
    for (rule, equal, differing) in [
        ("refuse", Some("root"), None),
        ("never", None, None),
        ("intersect", Some("root"), Some("")),
        ("union", Some("root"), Some("builders\nroot")),
    ] {
        configure(&node, FILE, &format!("logins.shared = \"{rule}\"\n"));
        let second = Second {
            rule,
            equal,
            differing,
        };
        one_after_the_other(&node, &second);
        side_by_side(&node, &second);
        at_the_same_moment(&node, &second);
    }
    forget(&node, FILE);
}

#[track_caller]
fn one_after_the_other(node: &Machine, second: &Second) {
    let rule = second.rule;
    let login = format!("both-{rule}");
    let mut first = node
        .login(&login)
        .user("ann")
        .roles("admin")
        .hold("open")
        .start();
    first.reach("open");
    for (roles, expected) in [("admin", second.equal), ("crew", second.differing)] {
        let ended = come_second(node, &login, roles);
        match expected {
            Some(written) => assert_eq!(ended.must_write(), written, "{rule} {roles}"),
            None => {
                assert_eq!(
                    ended.code("account"),
                    Some("PERM_DENIED"),
                    "{rule} {ended:?}"
                );
                let told = ended.messages().join(" ");
                assert!(
                    told.contains(&login) && told.contains("another Teleport user"),
                    "{told}"
                );
            }
        }
    }
    // The same Teleport user may have several role sets, and they add up.
    let again = node
        .login(&login)
        .user("ann")
        .roles("crew")
        .command("id -Gn | tr ' ' '\\n' | grep -x builders; sudo -n id -un")
        .run();
    assert_eq!(again.must_write(), "builders\nroot", "{rule}");
    first.finish().ran.must();
}

/// Two who are both admitted before either has opened: the rights are settled at the openings.
#[track_caller]
fn side_by_side(node: &Machine, second: &Second) {
    let (rule, Some(with_both)) = (second.rule, second.differing) else {
        return;
    };
    let login = format!("side-{rule}");
    let start = |user: &str, roles: &str| {
        let login = node.login(&login).user(user).roles(roles);
        let mut login = login.hold("account").hold("open").start();
        login.reach("account");
        login
    };
    let (mut ann, mut bea) = (start("ann", "admin"), start("bea", "crew"));
    assert_eq!(has(node, &login), "", "reserved only, {rule}");
    ann.go_on().reach("open");
    assert_eq!(has(node, &login), "root", "bea holds nobody back, {rule}");
    bea.go_on().reach("open");
    assert_eq!(has(node, &login), with_both, "{rule}");
    ann.finish().ran.must();
    assert_eq!(has(node, &login), "builders", "{rule}");
    bea.finish().ran.must();
}

/// Logins at the same moment, half of them of each of two Teleport users.
const RACERS: usize = 6;

#[track_caller]
fn at_the_same_moment(node: &Machine, second: &Second) {
    let rule = second.rule;
    let login = format!("race-{rule}");
    let start = |racer: usize| {
        let (user, roles) = [("ann", "admin"), ("bea", "crew")][racer % 2];
        let session = node.login(&login).user(user).roles(roles);
        (user, session.hold("open").start())
    };
    let racers: Vec<_> = (0..RACERS).map(start).collect();
    let mut on = Vec::new();
    for (user, mut session) in racers {
        if session.reaches("open") {
            on.push((user, session));
        } else {
            let ended = session.finish();
            let told = ended.messages().join(" ");
            assert!(told.contains("another Teleport user"), "{ended:?}");
        }
    }
    let who: BTreeSet<&str> = on.iter().map(|(user, _)| *user).collect();
    let of_one = RACERS / 2;
    match second.differing {
        Some(rights) => {
            assert_eq!((who.len(), on.len()), (2, RACERS), "{rule}");
            assert_eq!(has(node, &login), rights, "{rule}");
        }
        // Whoever was first, with all of its sessions, and nobody else.
        None => {
            assert_eq!((who.len(), on.len()), (1, of_one), "{rule}");
            let own = if who.contains("ann") {
                "root"
            } else {
                "builders"
            };
            assert_eq!(has(node, &login), own, "{rule}");
        }
    }
    for (_, session) in on {
        session.finish().ran.must();
    }
    assert!(!node.run(&["id", &login]).succeeded());
}

/// What a login may do right now, as [`come_second`] tells it.
#[track_caller]
fn has(node: &Machine, login: &str) -> String {
    let mut has = Vec::new();
    if groups_of(node, login).contains(&"builders".to_owned()) {
        has.push("builders");
    }
    if may(node, &uid(node, login), "sudo") {
        has.push("root");
    }
    has.join("\n")
}

#[test]
fn who_was_admitted_as_an_equal_does_not_open_beside_rights_that_differ_by_then() {
    let node = node();
    let by = |user: &str, roles: &str, hold: &str| {
        let mut login = node
            .login("tessa")
            .user(user)
            .roles(roles)
            .hold(hold)
            .start();
        login.reach(hold);
        login
    };
    let first = by("ann", "dev", "open");
    let more = by("ann", "admin", "open");
    let late = by("bea", "dev admin", "account");
    more.finish().ran.must();
    // Ann has no sudo any more; bea would.
    let ended = late.finish();
    assert_eq!(ended.code("account"), Some("SUCCESS"), "{ended:?}");
    assert_eq!(ended.code("open"), Some("SESSION_ERR"), "{ended:?}");
    assert!(ended.messages().join(" ").contains("differ"), "{ended:?}");
    assert!(
        !node
            .run(&["test", "-e", "/etc/sudoers.d/teleport-tessa"])
            .succeeded()
    );
    first.finish().ran.must();
    assert!(!node.run(&["id", "tessa"]).succeeded());
}

/// Calls the registry several times from one process, so that all calls are of one leader: a method, the login, the
/// Teleport user, each. Prints an answer a line.
const CALLS: &str = r#"
use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new(Peer => "/run/teleport-userdb/sessions") or die "cannot connect: $!";
while (@ARGV) {
    my ($method, $login, $user) = splice(@ARGV, 0, 3);
    my $environment = qq({"TELEPORT_LOGIN":"$login","TELEPORT_USERNAME":"$user","TELEPORT_ROLES":"dev"});
    my $handle = "5b0f4a1e-3c52-4c0e-9a7f-2f6f1d9a7c31";
    print $s qq({"method":"com.goteleport.Sessions.$method","parameters":{"session":"$handle","login":"$login",) .
        qq("service":"teleport","environment":$environment,"undecodable":[]}}), "\0";
    local $/ = "\0";
    my $reply = <$s>;
    chop $reply;
    print "$reply\n";
}
"#;

#[test]
fn the_handle_of_a_reservation_opens_nothing_for_another_login_or_teleport_user() {
    let node = node();
    node.write("/tmp/calls.pl", CALLS);
    let steps = [
        ["Reserve", "tobias", "ann"],
        ["Open", "tobias", "bea"],
        ["Open", "tilman", "ann"],
        ["Open", "tobias", "ann"],
    ];
    let words = [&["perl", "/tmp/calls.pl"][..], &steps.concat()].concat();
    let ran = node.run(&words);
    let answers: Vec<&str> = ran.must().lines().collect();
    assert_eq!(answers.len(), steps.len(), "{ran}");
    for (answer, refused) in answers.iter().zip([false, true, true, false]) {
        assert_eq!(answer.contains("Sessions.Refused"), refused, "{ran}");
        assert_eq!(
            answer.contains("admitted for the Teleport user"),
            refused,
            "{ran}"
        );
    }
    assert!(!node.run(&["id", "tilman"]).succeeded());
}

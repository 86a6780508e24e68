//! Logins that are something else to some program: while their sessions are open nobody gains by them, and nobody loses.

use rig::{Etc, Journal, Login, Machine};

use crate::{as_uid, may, must_be_content, node, node_alone, sudoers};

/// Refused whatever the roles are, because of what they are to sudo, to chown or to a package.
const REFUSED: &[&str] = &[
    "sudo",
    "wheel",
    "admin",
    "docker",
    "teleport-sudo",
    "teleport-system",
    "postgres",
    "root.root",
    "walter.crew",
    "Alice",
    "berta",
    "%sudo",
    "#0",
    "#1001",
    "../walter",
    "x/../../etc/sudoers",
    "new\nline",
    "quote\"d",
    "quo'te",
    "back\\slash",
    "a b",
    "a:0:0",
    "1001",
    "",
];

/// Made, under the name beside them, and nothing more than that.
const MADE: &[(&str, &str)] = &[
    ("ALL", "all"),
    ("@includedir", "includedir"),
    ("first.last", "first.last"),
    ("first_last", "first_last"),
    ("zoe,walter", "zoewalter"),
    ("zara%sudo", "zarasudo"),
    ("zita#0", "zita0"),
    ("zofia@includedir", "zofiaincludedir"),
    ("!zelda", "zelda"),
    ("+zuzu", "zuzu"),
];

/// What sudo, chown, su and systemd-sysusers make of others.
#[track_caller]
fn others(node: &Machine) -> String {
    let seen = node.sh(
        "for user in alice Berta walter root; do echo \"$user:\"; sudo -n -l -U $user 2>&1; done; \
         for owner in alice walter.crew root.root root:sudo first; do \
             rm -f /tmp/owned; : >/tmp/owned; chown $owner /tmp/owned 2>&1; stat -c '%U:%G' /tmp/owned; done; \
         su walter -c 'id' 2>&1; su alice -c 'id; sudo -n id -u' 2>&1; \
         printf 'u postgres - - -\\ng docker - -\\nu first - - -\\n' | systemd-sysusers --dry-run - 2>&1; \
         getent passwd alice Berta walter root; getent group sudo crew; getent passwd | wc -l",
    );
    seen.must().to_owned()
}

fn count_out(text: &str) -> String {
    // The number of users differs by those who are on.
    text.rsplit_once('\n')
        .map_or("", |(rest, _)| rest)
        .to_owned()
}

/// Each has its own name, its own group and the marker, and no program gives it anything; `look` is while all are on.
#[track_caller]
pub(crate) fn those_that_are_made_may_nothing(
    machine: &Machine,
    programs: &[&str],
    look: impl FnOnce(),
) {
    let sessions: Vec<(&str, Login)> = MADE
        .iter()
        .map(|(given, name)| {
            let mut session = machine.login(given).roles("dev").hold("open").start();
            session.reach("open");
            (*name, session)
        })
        .collect();
    look();
    for (name, _) in &sessions {
        let uid = machine.run(&["id", "-u", name]).must().to_owned();
        for program in programs {
            assert!(!may(machine, &uid, program), "{name} {program}");
        }
        let groups = crate::groups_of(machine, name);
        assert_eq!(groups, {
            let mut expected = vec![(*name).to_owned(), "teleport-tmp".to_owned()];
            expected.sort();
            expected
        });
        let who = as_uid(machine, &uid, &["id", "-un"]);
        assert_eq!(who.must(), *name);
    }
    must_be_content(machine);
    for (_, session) in sessions {
        session.finish().ran.must();
    }
}

#[test]
fn hostile_logins_gain_nothing_and_take_nothing_while_their_sessions_are_open() {
    let node = node_alone();
    node.run(&["useradd", "-m", "alice"]).must();
    node.run(&["useradd", "-m", "--badname", "Berta"]).must();
    sudoers(
        &node,
        "locals",
        "alice ALL=(root) NOPASSWD: /usr/bin/id\nBerta ALL=(root) NOPASSWD: /usr/bin/id\n\
         %wheel ALL=(ALL) NOPASSWD: ALL\n%admin ALL=(ALL) NOPASSWD: ALL\n",
    );
    let etc = Etc::of(&node);
    let before = others(&node);
    for login in REFUSED {
        // With every right there is: none of it may reach a name that means somebody else.
        let ended = node.login(login).roles("admin doer").run();
        assert_eq!(
            ended.code("account"),
            Some("PERM_DENIED"),
            "{login:?}: {ended:?}"
        );
    }
    assert_eq!(others(&node), before, "after the refused ones");

    let long = "x".repeat(256);
    let refused = node.login(&long).roles("admin").run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    let bytes = node.login("zacharÿ").flag("--latin1").roles("admin").run();
    assert_ne!(bytes.code("account"), Some("SUCCESS"), "{bytes:?}");

    those_that_are_made_may_nothing(&node, &["sudo", "doas"], || {
        let now = others(&node);
        assert_eq!(count_out(&now), count_out(&before), "while they are on");
    });

    etc.must_equal(&Etc::of(&node));

    // With sudo by their roles: a line each, for themselves.
    let both: Vec<Login> = ["first.last", "first_last"]
        .iter()
        .map(|login| {
            let mut session = node.login(login).roles("admin").hold("open").start();
            session.reach("open");
            session
        })
        .collect();
    let files = node.sh("cat /etc/sudoers.d/teleport-* | grep -v '^#' | sort");
    assert_eq!(
        files.must(),
        "first.last ALL=(ALL) NOPASSWD: ALL\nfirst_last ALL=(ALL) NOPASSWD: ALL"
    );
    for login in ["first.last", "first_last"] {
        assert!(may(&node, &crate::uid(&node, login), "sudo"), "{login}");
    }
    let repaired = node.login("zoe,walter").roles("admin doer").run();
    assert!(
        repaired
            .messages()
            .join(" ")
            .contains("No sudo and no doas"),
        "{repaired:?}"
    );
    assert_eq!(
        count_out(&others(&node)),
        count_out(&before),
        "while two have sudo"
    );
    must_be_content(&node);
    for session in both {
        session.finish().ran.must();
    }
    assert_eq!(others(&node), before, "when all are gone");
    node.run(&["rm", "/etc/sudoers.d/locals"]).must();
    for user in ["alice", "Berta"] {
        node.run(&["userdel", "-r", user]);
    }
}

#[test]
fn a_number_that_sudoers_names_is_nobodys_while_it_does() {
    let node = node_alone();
    let mut session = node.login("nora").hold("open").start();
    session.reach("open");
    let was = crate::uid(&node, "nora");
    session.finish().ran.must();
    node.within(
        std::time::Duration::from_secs(20),
        "nora has ended",
        |node| {
            !node
                .run(&["test", "-e", "/run/teleport-sessiond/logins/nora"])
                .succeeded()
        },
    );
    sudoers(
        &node,
        "numbers",
        &format!("#{was} ALL=(ALL) NOPASSWD: ALL\n%#{was} ALL=(ALL) NOPASSWD: ALL\n"),
    );
    let mut session = node.login("nora").hold("open").start();
    session.reach("open");
    let is = crate::uid(&node, "nora");
    let may = may(&node, &is, "sudo");
    session.finish().ran.must();
    node.run(&["rm", "/etc/sudoers.d/numbers"]).must();
    assert_ne!(is, was);
    assert!(!may);
}

#[test]
fn nothing_that_somebody_calls_himself_breaks_a_line_of_the_journal() {
    let node = node();
    let journal = Journal::now(&node);
    let forged = "eve\nteleport-sessiond: session of root opened\u{1b}[2J\u{202e}";
    let refused = node.login("julia").user(forged).run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    let refused = node.login("jul\nroot: forged").run();
    assert_eq!(refused.code("account"), Some("PERM_DENIED"), "{refused:?}");
    let entries = journal.entries(&["-t", "teleport-sessiond"]);
    let about: Vec<String> = entries
        .iter()
        .filter(|entry| entry.to_string().contains("jul"))
        .map(|entry| {
            let fields = entry.as_object().into_iter().flatten();
            // What journald adds about the process is its own.
            let ours =
                fields.filter(|(name, _)| *name == "MESSAGE" || name.starts_with("TELEPORT_"));
            ours.map(|(_, value)| value.as_str().unwrap_or("BYTES"))
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert!(about.len() >= 2, "{entries:?}");
    for text in about {
        assert!(
            !text.contains(|c: char| c.is_control() || c == '\u{202e}') && !text.contains("BYTES"),
            "{text:?}"
        );
    }
}

//! Judgements of nodes that are made up, and how status and check show them.

use super::*;
use crate::cli::node::{TableSeen, UNITS};
use crate::cli::{check, status};

fn good() -> Node {
    Node {
        registry: Seen::Known(vec!["maria".to_owned(), "maria".to_owned()]),
        userdb: Seen::Known("teleport-userdbd".to_owned()),
        table: Seen::Known(TableSeen {
            logins: vec!["maria".to_owned()],
            groups: 1,
            latest_usec: 1_000_000,
        }),
        unmatched: Seen::Known(Vec::new()),
        sudoers: Seen::Known(vec!["teleport-maria".to_owned()]),
        stale_sudoers: Seen::Known(Vec::new()),
        nsswitch_passwd: words("files teleport systemd"),
        nsswitch_group: words("files teleport systemd"),
        nsswitch_initgroups: None,
        pam: Seen::Known(()),
        configuration: Seen::Known(()),
        missing_shells: Vec::new(),
        units: Seen::Known(
            UNITS
                .map(|name| Unit {
                    name: name.to_owned(),
                    enabled: "enabled".to_owned(),
                    active: "active".to_owned(),
                })
                .to_vec(),
        ),
        sudo: true,
        visudo: true,
        now_usec: 2_000_000,
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The one wrong thing about a node.
#[track_caller]
fn wrong(node: &Node) -> (&'static str, String) {
    let findings = judge(node);
    let mut wrong = findings
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Wrong);
    let first = wrong.next().expect("something is wrong");
    assert_eq!(wrong.next(), None);
    (first.check, first.message)
}

#[test]
fn a_good_node_has_nothing_wrong() {
    let findings = judge(&good());
    assert!(
        findings.iter().all(|f| f.verdict == Verdict::Ok),
        "{findings:?}"
    );
    assert!(check::render(&findings, true).ends_with("\n\nNothing is wrong.\n"));
    assert_eq!(
        status::render(&good(), &findings),
        "         State: good\n      Registry: answers\n        Userdb: answers\n         Table: trusted, 1 shared groups\n         Users: 1\n      Sessions: 2\n Sudoers files: 1 (teleport-maria)\n    NSS passwd: files teleport systemd\n     NSS group: files teleport systemd\n   PAM service: present\n Configuration: good\n"
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect::<String>()
    );
}

#[test]
fn each_wrong_thing_is_found_and_its_sentence_says_what_would_be_right() {
    type Break = fn(&mut Node);
    let cases: [(Break, &str, &str); 13] = [
        (
            |n| n.nsswitch_passwd = words("files systemd"),
            "nsswitch passwd",
            "files teleport systemd",
        ),
        (
            |n| n.missing_shells = words("/bin/zsh"),
            "shells",
            "/bin/zsh; install them",
        ),
        (
            |n| n.nsswitch_initgroups = Some(words("files sss")),
            "nsswitch initgroups",
            "remove that line, or put teleport behind files",
        ),
        (
            |n| n.nsswitch_group = words("teleport files"),
            "nsswitch group",
            "before files",
        ),
        (
            |n| n.nsswitch_group = words("files systemd teleport"),
            "nsswitch group",
            "after systemd",
        ),
        (
            |n| n.pam = Seen::Failed("/etc/pam.d/teleport is gone".to_owned()),
            "pam service",
            "/etc/pam.d/teleport is gone.",
        ),
        (
            |n| n.configuration = Seen::Failed("config.toml:3: key".to_owned()),
            "configuration",
            "config.toml:3: key.",
        ),
        (
            |n| n.userdb = Seen::Failed("it is off".to_owned()),
            "userdb",
            "It is off.",
        ),
        (
            |n| n.stale_sudoers = Seen::Known(words("teleport-x")),
            "sudoers files",
            "teleport-x",
        ),
        (|n| n.visudo = false, "sudo", "install"),
        (
            |n| n.unmatched = Seen::Known(words("pelle")),
            "sessions",
            "pelle",
        ),
        (
            |n| n.units = Seen::Failed("there is no systemctl".to_owned()),
            "units",
            "no systemctl",
        ),
        (
            |n| {
                n.units = Seen::Known(vec![Unit {
                    name: "a.socket".to_owned(),
                    enabled: "disabled".to_owned(),
                    active: "active".to_owned(),
                }]);
            },
            "units",
            "systemctl enable a.socket",
        ),
    ];
    for (break_it, check, naming) in cases {
        let mut node = good();
        break_it(&mut node);
        let (found, message) = wrong(&node);
        assert_eq!(found, check);
        assert!(
            message.contains(naming) && message.ends_with('.'),
            "{message}"
        );
        let text = status::render(&node, &judge(&node));
        assert!(text.contains(&message), "{text}");
    }
}

#[test]
fn a_clock_that_was_set_back_is_told() {
    let mut node = good();
    node.now_usec = 0;
    assert!(all_good(&judge(&node)), "a second is nothing");
    if let Seen::Known(table) = &mut node.table {
        table.latest_usec = 9_000_000;
    }
    assert_eq!(wrong(&node).0, "clock");
}

#[test]
fn what_only_root_may_see_is_not_wrong() {
    let node = Node {
        registry: Seen::RootOnly,
        unmatched: Seen::RootOnly,
        sudoers: Seen::RootOnly,
        stale_sudoers: Seen::RootOnly,
        ..good()
    };
    let findings = judge(&node);
    assert!(all_good(&findings));
    let text = check::render(&findings, true);
    assert!(
        text.ends_with("Nothing is wrong. Only root can see 3 more.\n"),
        "{text}"
    );
    assert!(status::render(&node, &findings).contains("Registry: only root can see\n"));
}

#[test]
fn hostile_text_in_a_finding_stays_one_harmless_line() {
    let mut node = good();
    node.configuration = Seen::Failed("a\u{1b}[2J\nOK fake".to_owned());
    for text in [
        check::render(&judge(&node), false),
        status::render(&node, &judge(&node)),
    ] {
        assert!(
            !text.contains('\u{1b}') && !text.contains("\nOK fake"),
            "{text}"
        );
    }
}

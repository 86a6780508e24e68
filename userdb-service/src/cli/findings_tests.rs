//! Judgements of nodes that are made up, and how status and check show them.

use super::*;
use crate::cli::hints::{ByGroup, NoUsers};
use crate::cli::node::TableSeen;
use crate::cli::units::{AGAIN, ENABLED, HELPERS, HOMES, LOOKUP, SWEEP, Unit, WITHDRAWAL, needed};
use crate::cli::{check, status};
use crate::policy::decide::LoginPhase;

pub(in crate::cli) fn good() -> Node {
    Node {
        registry: Seen::Known(vec!["maria".to_owned(), "maria".to_owned()]),
        userdb: Seen::Known("teleport-userdbd".to_owned()),
        table: Seen::Known(TableSeen {
            logins: vec!["maria".to_owned()],
            groups: 1,
            latest_usec: 1_000_000,
        }),
        unmatched: Seen::Known(Vec::new()),
        lingering: Vec::new(),
        leaving: Seen::Known(Vec::new()),
        sudoers: Seen::Known(vec!["teleport-maria".to_owned()]),
        stale_sudoers: Seen::Known(Vec::new()),
        without_sudoers: Seen::Known(Vec::new()),
        stuck_rights: Seen::Known(Vec::new()),
        lookup: Seen::Known(()),
        unread_sudoers: Seen::Known(Vec::new()),
        nsswitch_passwd: words("files teleport systemd"),
        nsswitch_group: words("files teleport systemd"),
        nsswitch_initgroups: None,
        nsswitch_returning: Vec::new(),
        out_of_reach: Vec::new(),
        pam: Seen::Known(words("teleport")),
        configuration: Seen::Known(()),
        held: None,
        missing_shells: Seen::Known(Vec::new()),
        home_base: Seen::Known(None),
        home_base_view: View::Unseen,
        sudoers_view: View::Writable,
        sudoers_ignored: Seen::Known(None),
        homes_view: View::Writable,
        by_group: Seen::Known(Vec::new()),
        no_users: Seen::Known(None),
        units: Seen::Known(
            needed(true)
                .into_iter()
                .map(|name| match name {
                    name if ENABLED.contains(&name) => unit(name, "enabled", "active"),
                    name if HELPERS.contains(&name) => unit(name, "static", "inactive"),
                    name => unit(name, "static", "active"),
                })
                .collect(),
        ),
        sudo: true,
        visudo: true,
        now_usec: 2_000_000,
    }
}

fn unit(name: &str, enabled: &str, active: &str) -> Unit {
    Unit {
        name: name.to_owned(),
        enabled: enabled.to_owned(),
        active: active.to_owned(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The one wrong thing about a node.
#[track_caller]
pub(in crate::cli) fn wrong(node: &Node) -> (&'static str, String) {
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
        "         State: good\n      Registry: answers\n        Userdb: answers\n         Table: trusted, 1 shared groups\n         Users: 1\n      Sessions: 2\n       Leaving: nobody\n Sudoers files: 1 (teleport-maria)\n    NSS passwd: files teleport systemd\n     NSS group: files teleport systemd\n   PAM service: teleport\n Configuration: good\n"
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect::<String>()
    );
}

#[test]
fn each_wrong_thing_is_found_and_its_sentence_says_what_would_be_right() {
    type Break = fn(&mut Node);
    let cases: [(Break, &str, &str); 17] = [
        (
            |n| n.nsswitch_passwd = words("files systemd"),
            "nsswitch passwd",
            "files teleport systemd",
        ),
        (
            |n| n.missing_shells = Seen::Known(words("/bin/zsh")),
            "shells",
            "/bin/zsh; install them",
        ),
        (
            |n| n.nsswitch_initgroups = Some(words("files sss")),
            "nsswitch initgroups",
            "remove that line, or put teleport behind files",
        ),
        (
            |n| {
                n.nsswitch_initgroups = Some(words("files systemd"));
                n.nsswitch_returning = words("initgroups");
            },
            "nsswitch initgroups",
            "returns before we are asked",
        ),
        (
            |n| n.nsswitch_returning = words("passwd"),
            "nsswitch passwd",
            "returns before teleport is asked; \"passwd: files teleport systemd\" is right",
        ),
        (
            |n| n.home_base = Seen::Failed("no persistent home can be made".to_owned()),
            "home base",
            "No persistent home can be made.",
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
        (|n| n.out_of_reach = words("x"), "reach", "looked up in: x."),
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
                n.units = Seen::Known(vec![unit(SWEEP, "disabled", "inactive")]);
            },
            "units",
            "is disabled, `systemctl enable teleport-sudoers-sweep.service` is right",
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
fn a_folder_of_homes_that_the_daemon_cannot_write_to_is_wrong_whatever_it_is_outside() {
    let mut node = good();
    node.home_base = Seen::Known(Some("/srv/h".to_owned()));
    for (view, named) in [
        (View::ReadOnly, "ReadWritePaths=-/srv/h"),
        (View::Absent, "ProtectHome="),
    ] {
        node.home_base_view = view;
        let (check, message) = wrong(&node);
        assert_eq!(check, "home base");
        for part in ["/srv/h", named, "systemctl restart teleport-sessiond"] {
            assert!(message.contains(part), "{part:?}: {message}");
        }
    }
    // As systemd reads it.
    node.home_base = Seen::Known(Some("/srv/a b%".to_owned()));
    node.home_base_view = View::ReadOnly;
    let (_, message) = wrong(&node);
    assert!(
        message.contains(" ReadWritePaths=\"-/srv/a b%%\", then"),
        "{message}"
    );
    for view in [View::Writable, View::Unseen] {
        node.home_base_view = view;
        assert!(all_good(&judge(&node)), "{view:?}");
    }
}

#[test]
fn what_an_administrator_may_not_have_thought_of_is_a_note_and_nothing_wrong() {
    let mut node = good();
    node.by_group = Seen::Known(vec![ByGroup::Sudo, ByGroup::Doas]);
    node.no_users = Seen::Known(Some(NoUsers::NoRole));
    let findings = judge(&node);
    assert!(all_good(&findings));
    let text = check::render(&findings, true);
    for part in [
        "NOTE  roles ",
        "no role has create-user = true",
        "NOTE  rights by group ",
        "%teleport-sudo ALL=(ALL) NOPASSWD: ALL",
        "permit nopass :teleport-doas as root",
        "\nNothing is wrong.\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    let json = serde_json::to_value(&findings).expect("data");
    let notes = json.as_array().into_iter().flatten();
    let notes: Vec<_> = notes.filter(|finding| finding["note"] == true).collect();
    assert!(notes.len() == 3 && notes.iter().all(|note| note["verdict"] == "ok"));
}

#[test]
fn who_is_being_ended_is_shown_with_how_far_that_has_come() {
    let mut node = good();
    let one = |login: &str, phase| Leaving {
        login: login.to_owned(),
        phase,
    };
    node.leaving = Seen::Known(vec![
        one("kim", LoginPhase::Lingering),
        one("pelle", LoginPhase::Terminating),
    ]);
    let findings = judge(&node);
    assert!(all_good(&findings));
    let each = "kim (lingering), pelle (terminating)";
    let status = status::render(&node, &findings);
    assert!(status.contains(&format!("Leaving: {each}\n")), "{status}");
    let check = check::render(&findings, false);
    assert!(check.contains(&format!("{each}.\n")), "{check}");
    let json = serde_json::to_value(&node).expect("data");
    let words = ["lingering", "terminating"];
    for (index, word) in words.into_iter().enumerate() {
        assert_eq!(json["leaving"]["known"][index]["phase"], word, "{json}");
    }
}

#[test]
fn a_sentence_that_ends_by_itself_gets_no_full_stop() {
    let mut node = good();
    for (why, told) in [
        (
            "config.toml:3: no such key; did you mean \"gecos\"?",
            "gecos\"?",
        ),
        ("it says: go away!", "away!"),
        ("it is over.", "over."),
        ("it is over", "over."),
    ] {
        node.configuration = Seen::Failed(why.to_owned());
        let (_, message) = wrong(&node);
        assert!(message.ends_with(told), "{message}");
    }
}

#[test]
fn a_unit_that_is_down_is_told_with_the_commands_that_mend_it() {
    let socket = "teleport-sessiond.socket";
    for (name, enabled, active, told) in [
        (
            LOOKUP,
            "static",
            "inactive",
            "is inactive, `systemctl start teleport-lookup.socket` is right.",
        ),
        (
            HOMES,
            "static",
            "failed",
            "is failed, `systemctl start 'run-teleport\\x2duserdb-home.mount'` is right.",
        ),
        (
            HOMES,
            "masked",
            "active",
            "is masked, `systemctl unmask 'run-teleport\\x2duserdb-home.mount'` is right.",
        ),
        (
            socket,
            "disabled",
            "inactive",
            "is disabled and inactive, `systemctl enable teleport-sessiond.socket && systemctl start teleport-sessiond.socket` is right.",
        ),
        (
            socket,
            "masked",
            "active",
            "is masked, `systemctl unmask teleport-sessiond.socket && systemctl enable teleport-sessiond.socket` is right.",
        ),
        (
            SWEEP,
            "masked-runtime",
            "inactive",
            "is masked-runtime, `systemctl unmask --runtime teleport-sudoers-sweep.service && systemctl enable teleport-sudoers-sweep.service` is right.",
        ),
        (
            LOOKUP,
            "not-found",
            "inactive",
            "is missing, installing the package teleport-userdb anew is right.",
        ),
    ] {
        let mut node = good();
        if let Seen::Known(units) = &mut node.units {
            units.retain(|unit| unit.name != name);
            units.push(unit(name, enabled, active));
        }
        assert_eq!(wrong(&node), ("units", format!("{name} {told}")));
    }
}

#[test]
fn a_unit_that_has_failed_once_is_told_with_what_forgets_it_where_its_work_is_done() {
    for name in [SWEEP, WITHDRAWAL, AGAIN] {
        let mut node = good();
        if let Seen::Known(units) = &mut node.units {
            for unit in units.iter_mut().filter(|unit| unit.name == name) {
                unit.active = "failed".to_owned();
            }
        }
        let done = format!("{name} is failed, `systemctl reset-failed {name}` is right.");
        assert_eq!(wrong(&node), ("units", done));
        node.userdb = Seen::RootOnly;
        node.stale_sudoers = Seen::RootOnly;
        let (_, message) = wrong(&node);
        for part in [
            "once what it was to do is done",
            "systemctl status",
            "reset-failed",
        ] {
            assert!(message.contains(part), "{part:?}: {message}");
        }
    }
    // It comes and goes.
    let mut node = good();
    if let Seen::Known(units) = &mut node.units {
        units.push(unit(WITHDRAWAL, "static", "active"));
    }
    assert!(all_good(&judge(&node)));
}

#[test]
fn ephemeral_homes_that_nobody_can_write_to_are_wrong() {
    for (view, part) in [
        (
            View::ReadOnlyForAll,
            "`mount -o remount,rw /run/teleport-userdb/home` makes it writable.",
        ),
        (View::ReadOnly, "`systemctl restart teleport-sessiond`"),
    ] {
        let mut node = good();
        node.homes_view = view;
        let (check, message) = wrong(&node);
        assert_eq!(check, "homes");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn ephemeral_homes_need_their_mount_and_everybody_the_lookups() {
    assert!(needed(true).contains(&HOMES) && needed(true).contains(&LOOKUP));
    assert!(!needed(false).contains(&HOMES) && needed(false).contains(&LOOKUP));
}

#[test]
fn who_lingers_is_told_and_not_wrong() {
    let mut node = good();
    node.lingering = words("pelle");
    let findings = judge(&node);
    assert!(all_good(&findings));
    let text = check::render(&findings, false);
    assert!(text.contains("whose processes go on: pelle."), "{text}");
}

#[test]
fn groups_of_a_user_may_be_asked_of_systemd_which_asks_us() {
    let mut node = good();
    node.nsswitch_initgroups = Some(words("files systemd"));
    assert!(all_good(&judge(&node)));
}

#[test]
fn with_a_wrong_configuration_nothing_is_said_of_what_it_names() {
    let mut node = good();
    node.configuration = Seen::Failed("config.toml:3: key".to_owned());
    node.missing_shells = Seen::Unread;
    node.home_base = Seen::Unread;
    node.pam = Seen::Unread;
    assert_eq!(wrong(&node).0, "configuration");
    let said: Vec<&str> = judge(&node).iter().map(|finding| finding.check).collect();
    for check in ["shells", "home base", "pam service"] {
        assert!(!said.contains(&check), "{said:?}");
    }
    let text = status::render(&node, &judge(&node));
    assert!(
        text.contains("PAM service: not known, see below\n"),
        "{text}"
    );
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

#[test]
fn a_lookup_socket_is_not_told_to_be_started_where_that_does_not_help() {
    let mut node = good();
    node.units = Seen::Known(vec![unit(LOOKUP, "static", "failed")]);
    assert_eq!(wrong(&node).0, "units");
    node.lookup = Seen::Failed("every new login is refused: the template is masked".to_owned());
    let (check, message) = wrong(&node);
    assert_eq!(check, "lookup");
    assert!(message.starts_with("Every new login"), "{message}");
}

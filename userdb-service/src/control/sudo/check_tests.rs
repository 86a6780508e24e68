//! The check with this system's visudo, and with programs that stand in for one that is missing or hangs.

use super::*;

const GOOD: &str = "ALL=(root) NOPASSWD: /usr/bin/systemctl restart app";
/// One line for one user, and nothing sudo understands.
const BAD: &str = "ALL=(root NOPASSWD: /usr/bin/id";

fn config(roles: &[(&str, &[&str])]) -> Config {
    let mut text = String::new();
    for (name, specs) in roles {
        text.push_str(&format!(
            "[[role]]\nmatch = \"{name}\"\nsudoers = {specs:?}\n"
        ));
    }
    Config::parse(&[("/etc/teleport-userdb/config.d/x.toml".to_owned(), text)]).expect("parsed")
}

fn withheld(check: &SudoersCheck, config: &mut Config) -> Vec<Withheld> {
    check
        .withhold_refused_blocking(config)
        .expect("an event loop")
}

fn program(name: &str, script: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("visudo-{name}-{}", std::process::id()));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn a_role_with_a_specification_that_visudo_refuses_loses_sudo_and_the_others_keep_it() {
    let check = SudoersCheck::default();
    assert!(
        check.places.iter().any(|path| is_program(path)),
        "this test needs sudo installed"
    );
    let mut config = config(&[
        ("good", &[GOOD]),
        ("bad", &[GOOD, BAD]),
        ("full", &["ALL=(ALL) NOPASSWD: ALL"]),
    ]);
    let withheld = withheld(&check, &mut config);
    let [Withheld::Wrong(sentence)] = withheld.as_slice() else {
        panic!("{withheld:?}");
    };
    for part in [
        "/etc/teleport-userdb/config.d/x.toml:4",
        "\"bad\"",
        "/usr/bin/id",
        "visudo refuses",
    ] {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
    let specs: Vec<usize> = config
        .roles
        .iter()
        .map(|role| role.specs().count())
        .collect();
    assert_eq!(specs, [1, 0, 1]);
}

#[test]
fn a_visudo_is_had_where_one_can_be_asked() {
    let path = program("had", "exit 0");
    assert!(SudoersCheck::with(vec![path.clone()], PATIENCE).has_visudo());
    std::fs::remove_file(&path).expect("removed");
    assert!(!SudoersCheck::with(vec![path], PATIENCE).has_visudo());
}

#[test]
fn without_visudo_no_role_gives_sudo() {
    let mut config = config(&[("a", &[GOOD]), ("none", &[])]);
    let withheld = withheld(&SudoersCheck::with(Vec::new(), PATIENCE), &mut config);
    assert!(
        matches!(withheld.as_slice(), [Withheld::NoVisudo(_)]),
        "{withheld:?}"
    );
    assert!(
        config
            .roles
            .iter()
            .all(|role| role.specs().next().is_none())
    );
}

#[test]
fn a_visudo_that_hangs_is_waited_for_once_and_asked_again_the_next_time() {
    let path = program("hangs", "exec sleep 60");
    let check = SudoersCheck::with(vec![path.clone()], Duration::from_millis(200));
    let began = std::time::Instant::now();
    let mut first = config(&[("a", &[GOOD]), ("b", &["ALL=/bin/a", "ALL=/bin/b"])]);
    let silent = withheld(&check, &mut first);
    assert!(
        matches!(
            silent.as_slice(),
            [Withheld::Unanswered(_), Withheld::Unanswered(_)]
        ),
        "{silent:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(first.roles.iter().all(|role| role.specs().next().is_none()));
    let _ = program("hangs", "exit 0");
    assert!(withheld(&check, &mut first).is_empty());
    assert!(first.roles.iter().all(|role| role.specs().next().is_some()));
    std::fs::remove_file(path).expect("removed");
}

#[test]
fn what_visudo_has_answered_once_is_not_asked_again() {
    let path = program("counts", "echo x >>\"$0.count\"");
    let count = path.with_extension("count");
    let count = PathBuf::from(format!("{}.count", count.with_extension("").display()));
    let check = SudoersCheck::with(vec![path.clone()], PATIENCE);
    for _ in 0..3 {
        let mut config = config(&[("a", &[GOOD]), ("b", &[GOOD])]);
        assert!(withheld(&check, &mut config).is_empty());
    }
    assert_eq!(std::fs::read_to_string(&count).expect("asked"), "x\n");
    for path in [path, count] {
        std::fs::remove_file(path).expect("removed");
    }
}

#[test]
fn a_visudo_that_fails_by_itself_has_refused_nothing_and_is_asked_again() {
    // To the one of sudo, its caller does not exist in passwd.
    let visudo = program(
        "itself",
        "exec setpriv --reuid=54321 --clear-groups /usr/sbin/visudo \"$@\"",
    );
    let check = SudoersCheck::with(vec![visudo.clone()], PATIENCE);
    let mut config = config(&[("good", &[GOOD]), ("bad", &[BAD])]);
    let silent = withheld(&check, &mut config);
    let [Withheld::Unanswered(first), Withheld::Unanswered(_)] = silent.as_slice() else {
        panic!("{silent:?}");
    };
    assert!(
        first.contains("it refuses any rule: ") && first.contains("you do not exist"),
        "{first}"
    );
    program("itself", "exec /usr/sbin/visudo \"$@\"");
    let told = withheld(&check, &mut config);
    let [Withheld::Wrong(bad)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(
        bad.contains("\"bad\"") && bad.contains("visudo refuses it: "),
        "{bad}"
    );
    std::fs::remove_file(visudo).expect("removed");
}

#[test]
fn what_visudo_has_said_holds_until_it_is_asked_anew_and_answers() {
    const REFUSES: &str = "! grep -q systemctl";
    let visudo = program("changes", REFUSES);
    let check = SudoersCheck::with(vec![visudo.clone()], PATIENCE);
    let mut config = config(&[("good", &[GOOD])]);
    assert_eq!(withheld(&check, &mut config).len(), 1);
    // Another one is installed.
    program("changes", "cat >/dev/null");
    assert_eq!(withheld(&check, &mut config).len(), 1);
    check.ask_anew();
    assert!(withheld(&check, &mut config).is_empty());
    // It says nothing any more: what was said before holds, and nothing is known of what it was never asked.
    program("changes", "kill -KILL $$");
    check.ask_anew();
    let kept = withheld(&check, &mut config);
    assert!(matches!(kept[..], [Withheld::AsBefore(_)]), "{kept:?}");
    assert!(kept[0].to_string().contains("cannot be asked"), "{kept:?}");
    assert_eq!(config.roles[0].specs().count(), 1);
    let mut other = self::config(&[("other", &["ALL=(ALL) NOPASSWD: ALL"])]);
    let silent = withheld(&check, &mut other);
    assert!(
        matches!(silent[..], [Withheld::Unanswered(_)]),
        "{silent:?}"
    );
    // What it refused before stays withheld, and it is to be asked again.
    program("changes", REFUSES);
    check.ask_anew();
    assert!(matches!(
        withheld(&check, &mut config)[..],
        [Withheld::Wrong(_)]
    ));
    program("changes", "kill -KILL $$");
    check.ask_anew();
    let refused = withheld(&check, &mut config);
    assert!(
        matches!(refused[..], [Withheld::Unanswered(_)]),
        "{refused:?}"
    );
    assert!(
        refused[0].to_string().contains("before, visudo refuses it"),
        "{refused:?}"
    );
    assert_eq!(config.roles[0].specs().count(), 0);
    std::fs::remove_file(visudo).expect("removed");
}

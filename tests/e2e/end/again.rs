//! Coming back at once, many times, with pam_systemd: each login has its runtime directory, and nothing complains.

use rig::{Journal, Machine, node_alone};

use crate::{IN_THE_END, ends};

const COMMAND: &str = r#"test -O "$XDG_RUNTIME_DIR" && echo here && id -u"#;

#[track_caller]
fn log_in(node: &Machine, round: usize) -> String {
    let written = node.login("ruth").command(COMMAND).run().must_write();
    let (here, uid) = written.split_once('\n').unwrap_or_default();
    assert_eq!(here, "here", "login {round}");
    uid.to_owned()
}

/// But for one of Debian unstable's own: its user managers have a PAM file where its libpam does not want one.
#[track_caller]
fn must_have_no_errors(journal: &Journal<'_>) {
    let errors = journal.lines(&["-p", "err"]);
    let ours: Vec<_> = errors
        .iter()
        .filter(|line| !line.contains("PAM (systemd-user) /usr/lib/pam.d is not supported"))
        .collect();
    assert!(ours.is_empty(), "errors in the journal: {ours:#?}");
}

#[test]
fn sixty_logins_of_one_user_by_four_at_once_each_have_a_runtime_directory() {
    drop(crate::node());
    let node = node_alone();
    let journal = Journal::now(&node);
    let uid = std::thread::scope(|scope| {
        let streams: Vec<_> = (0..4)
            .map(|_| {
                let node = &node;
                scope.spawn(move || (0..15).map(|round| log_in(node, round)).last())
            })
            .collect();
        let uids: Vec<_> = streams
            .into_iter()
            .map(|stream| stream.join().expect("every login was right"))
            .collect();
        uids[0].clone().expect("a login")
    });
    ends(&node, "ruth", &uid, std::time::Instant::now(), IN_THE_END);
    must_have_no_errors(&journal);
    let all = journal.lines(&[]);
    let limits: Vec<_> = all
        .iter()
        .filter(|line| line.contains("start-limit") || line.contains("Start request repeated"))
        .collect();
    assert!(limits.is_empty(), "{limits:?}");
}

#[test]
fn thirty_logins_of_one_user_in_a_row_each_have_a_runtime_directory() {
    drop(crate::node());
    let node = node_alone();
    let journal = Journal::now(&node);
    let uids: Vec<String> = (0..30).map(|round| log_in(&node, round)).collect();
    ends(
        &node,
        "ruth",
        &uids[0],
        std::time::Instant::now(),
        IN_THE_END,
    );
    must_have_no_errors(&journal);
}

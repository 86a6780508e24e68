//! `teleport-userdbctl status`: what runs and what it keeps, at a glance, and each wrong thing as a sentence.

use serde::Serialize;

use super::findings::{Finding, Verdict, all_good, judge};
use super::node::{Node, Seen};
use super::output::{Output, in_line};
use super::{GOOD, WRONG};

/// What the command shows.
#[derive(Clone, Debug, Serialize)]
struct Status<'a> {
    good: bool,
    #[serde(flatten)]
    node: &'a Node,
    wrong: Vec<&'a str>,
}

/// Aligned lines of `Key: value`, then what is wrong.
pub fn render(node: &Node, findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    let good = all_good(findings);
    let mut line = |key: &str, value: String| lines.push((key.to_owned(), value));
    line(
        "State",
        if good { "good" } else { "something is wrong" }.to_owned(),
    );
    line("Registry", word(&node.registry, |_| "answers".to_owned()));
    line("Userdb", word(&node.userdb, |_| "answers".to_owned()));
    line(
        "Table",
        word(&node.table, |table| {
            format!("trusted, {} shared groups", table.groups)
        }),
    );
    line(
        "Users",
        word(&node.table, |table| table.logins.len().to_string()),
    );
    line(
        "Sessions",
        word(&node.registry, |sessions| sessions.len().to_string()),
    );
    line(
        "Leaving",
        word(&node.leaving, |leaving| match leaving.as_slice() {
            [] => "nobody".to_owned(),
            leaving => leaving
                .iter()
                .map(|one| format!("{} ({})", one.login, one.word()))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    );
    line(
        "Sudoers files",
        word(&node.sudoers, |files| match files.as_slice() {
            [] => "none".to_owned(),
            files => format!("{} ({})", files.len(), files.join(", ")),
        }),
    );
    line("NSS passwd", node.nsswitch_passwd.join(" "));
    line("NSS group", node.nsswitch_group.join(" "));
    line(
        "PAM service",
        word(&node.pam, |services| services.join(", ")),
    );
    line(
        "Configuration",
        word(&node.configuration, |()| "good".to_owned()),
    );
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in lines {
        text.push_str(&format!("{key:>width$}: {}\n", in_line(&value)));
    }
    if !good {
        text.push('\n');
        for message in wrong(findings) {
            text.push_str(&format!("{}\n", in_line(message)));
        }
    }
    text
}

fn word<T>(seen: &Seen<T>, known: impl FnOnce(&T) -> String) -> String {
    match seen {
        Seen::Known(value) => known(value),
        Seen::RootOnly => "only root can see".to_owned(),
        Seen::Failed(_) => "wrong, see below".to_owned(),
        Seen::Unread => "not known, see below".to_owned(),
    }
}

fn wrong(findings: &[Finding]) -> impl Iterator<Item = &str> {
    findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Wrong)
        .map(|finding| finding.message.as_str())
}

pub(super) fn run(output: Output) -> (String, u8) {
    let node = Node::look();
    let findings = judge(&node);
    let good = all_good(&findings);
    let data = Status {
        good,
        node: &node,
        wrong: wrong(&findings).collect(),
    };
    let text = output.show(&data, || render(&node, &findings));
    (text, if good { GOOD } else { WRONG })
}

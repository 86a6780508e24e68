//! `teleport-userdbctl check`: is this node set up right? A line for each thing, an exit status for scripts.

use super::findings::{Finding, Verdict, all_good, judge};
use super::node::Node;
use super::output::{Output, in_line};
use super::{GOOD, WRONG};

/// The findings as text: a line each, and the sum of them.
pub fn render(findings: &[Finding], legend: bool) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok if finding.note => "NOTE",
            Verdict::Ok => "OK",
            Verdict::Wrong => "WRONG",
            Verdict::Unknown => "-",
        };
        let line = format!(
            "{word:<5} {:<width$} {}",
            finding.check,
            in_line(&finding.message)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if legend {
        let count = |verdict| {
            findings
                .iter()
                .filter(|finding| finding.verdict == verdict)
                .count()
        };
        text.push_str(&match count(Verdict::Wrong) {
            0 => "\nNothing is wrong.".to_owned(),
            1 => "\n1 thing is wrong.".to_owned(),
            n => format!("\n{n} things are wrong."),
        });
        match count(Verdict::Unknown) {
            0 => {}
            n => text.push_str(&format!(" Only root can see {n} more.")),
        }
        text.push('\n');
    }
    text
}

pub(super) fn run(output: Output) -> (String, u8) {
    let findings = judge(&Node::look());
    let status = if all_good(&findings) { GOOD } else { WRONG };
    (
        output.show(&findings, || render(&findings, output.legend)),
        status,
    )
}

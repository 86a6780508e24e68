//! What came of all the points, as a table for people.
//! It judges nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::point::{Fault, Point};

/// What came of one point.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The login was admitted, and everything held.
    Admitted(Duration),
    /// It was refused with a sentence, and everything held.
    Refused(Duration),
    /// The call was not made that often this time: no fault was delivered.
    NotReached,
    /// Something did not hold.
    Broken(String),
}

/// The sum.
pub(crate) struct Report {
    kinds: usize,
    calls: usize,
    rows: BTreeMap<Fault, Row>,
    longest: Duration,
    took: Duration,
    pub(crate) held: usize,
    pub(crate) broken: usize,
}

#[derive(Default)]
struct Row {
    admitted: usize,
    refused: usize,
    not_reached: usize,
    broken: usize,
}

impl Report {
    pub(crate) fn of(
        counts: &BTreeMap<String, usize>,
        outcomes: &[(Point, Outcome)],
        took: Duration,
    ) -> Report {
        let mut report = Report {
            kinds: counts.len(),
            calls: counts.values().sum(),
            rows: BTreeMap::new(),
            longest: Duration::ZERO,
            took,
            held: 0,
            broken: 0,
        };
        for (point, outcome) in outcomes {
            let row = report.rows.entry(point.fault).or_default();
            match outcome {
                Outcome::Admitted(took) | Outcome::Refused(took) => {
                    report.held += 1;
                    report.longest = report.longest.max(*took);
                    match outcome {
                        Outcome::Admitted(_) => row.admitted += 1,
                        _ => row.refused += 1,
                    }
                }
                Outcome::NotReached => row.not_reached += 1,
                Outcome::Broken(_) => {
                    report.broken += 1;
                    row.broken += 1;
                }
            }
        }
        report
    }

    /// Rewrites the table in docs/faults.md.
    pub(crate) fn write(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("docs")
            .join("faults.md");
        let (begin, end) = ("<!-- results -->\n", "<!-- /results -->");
        let page = std::fs::read_to_string(&path).expect("docs/faults.md");
        let (head, rest) = page.split_once(begin).expect("its results begin");
        let (_, tail) = rest.split_once(end).expect("its results end");
        std::fs::write(&path, format!("{head}{begin}{self}{end}{tail}")).expect("docs/faults.md");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} system calls of {} kinds.\n", self.calls, self.kinds)?;
        writeln!(
            f,
            "| fault | delivered | login admitted | login refused with a sentence | an invariant broken | not reached again |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
        for (fault, row) in &self.rows {
            let Row {
                admitted,
                refused,
                not_reached,
                broken,
            } = row;
            let delivered = admitted + refused + broken;
            writeln!(
                f,
                "| {fault} | {delivered} | {admitted} | {refused} | {broken} | {not_reached} |"
            )?;
        }
        writeln!(
            f,
            "\n{} points held, {} did not. From the start of a login to the last of what it left: {:.1} s at most. All in {} s.",
            self.held,
            self.broken,
            self.longest.as_secs_f64(),
            self.took.as_secs()
        )
    }
}

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
    /// The login was admitted, the daemon has started; and everything held.
    Well(Duration),
    /// The login was refused with a sentence, the daemon has started only the next time; and everything held.
    Otherwise(Duration),
    /// The call was not made that often this time: no fault was delivered.
    NotReached,
    /// Something did not hold.
    Broken(String),
}

/// How the sum of these is told.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    /// Of what there were many; the results stand under this name.
    pub(crate) name: &'static str,
    /// That it went well, and that it went otherwise.
    pub(crate) well: &'static str,
    pub(crate) otherwise: &'static str,
    /// What the longest time was for.
    pub(crate) longest: &'static str,
}

/// The sum.
pub(crate) struct Report {
    words: Words,
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
    well: usize,
    otherwise: usize,
    not_reached: usize,
    broken: usize,
}

impl Report {
    pub(crate) fn of(
        words: Words,
        counts: &BTreeMap<String, usize>,
        outcomes: &[(Point, Outcome)],
        took: Duration,
    ) -> Report {
        let mut report = Report {
            words,
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
                Outcome::Well(took) | Outcome::Otherwise(took) => {
                    report.held += 1;
                    report.longest = report.longest.max(*took);
                    match outcome {
                        Outcome::Well(_) => row.well += 1,
                        _ => row.otherwise += 1,
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
        let name = self.words.name;
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let page = std::fs::read_to_string(&path).expect("docs/faults.md");
        let (head, rest) = page.split_once(&begin).expect("its results begin");
        let (_, tail) = rest.split_once(&end).expect("its results end");
        std::fs::write(&path, format!("{head}{begin}{self}{end}{tail}")).expect("docs/faults.md");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} system calls of {} kinds.\n", self.calls, self.kinds)?;
        writeln!(
            f,
            "| fault | delivered | {} | {} | an invariant broken | not reached again |",
            self.words.well, self.words.otherwise
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
        for (fault, row) in &self.rows {
            let Row {
                well,
                otherwise,
                not_reached,
                broken,
            } = row;
            let delivered = well + otherwise + broken;
            writeln!(
                f,
                "| {fault} | {delivered} | {well} | {otherwise} | {broken} | {not_reached} |"
            )?;
        }
        writeln!(
            f,
            "\n{} points held, {} did not. {}: {:.1} s at most. All in {} s.",
            self.held,
            self.broken,
            self.words.longest,
            self.longest.as_secs_f64(),
            self.took.as_secs()
        )
    }
}

//! Goals of a benchmark and whether they are reached, as rows of its page.
//! Pure: the numbers come from outside.

use crate::page::table;

/// What a goal demands of its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The number must not be greater.
    AtMost(f64),
    /// The number must not be smaller.
    AtLeast(f64),
}

/// One goal, and the number that was measured for it.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What is demanded, in words.
    pub what: String,
    /// How much of it.
    pub bound: Bound,
    /// What was measured.
    pub measured: f64,
    /// What the floor, the least that is possible, reaches of it where that says something.
    pub floor: Option<f64>,
}

impl Goal {
    /// A goal and its number.
    pub fn new(what: impl Into<String>, bound: Bound, measured: f64) -> Goal {
        Goal {
            what: what.into(),
            bound,
            measured,
            floor: None,
        }
    }

    /// The goal with what the floor reaches of it.
    pub fn with_floor(self, floor: f64) -> Goal {
        Goal {
            floor: Some(floor),
            ..self
        }
    }

    /// Whether the number keeps the bound. What could not be measured (NaN) does not.
    pub fn reached(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.measured <= most,
            Bound::AtLeast(least) => self.measured >= least,
        }
    }
}

/// Goals as a Markdown table, one row each; what the floor reaches stands beside, if any goal says it.
pub fn goals_table(goals: &[Goal]) -> String {
    let floors = goals.iter().any(|goal| goal.floor.is_some());
    let rows: Vec<Vec<String>> = goals
        .iter()
        .map(|goal| {
            let (sign, bound) = match goal.bound {
                Bound::AtMost(most) => ("≤", most),
                Bound::AtLeast(least) => ("≥", least),
            };
            let mut row = vec![
                goal.what.clone(),
                format!("{sign} {}", figure(bound)),
                figure(goal.measured),
                if goal.reached() { "yes" } else { "**no**" }.to_owned(),
            ];
            if floors {
                row.push(goal.floor.map_or(String::new(), figure));
            }
            row
        })
        .collect();
    let head = ["goal", "bound", "measured", "reached", "the floor itself"];
    table(&head[..if floors { 5 } else { 4 }], &rows)
}

/// A number with as many digits as say something.
fn figure(number: f64) -> String {
    if number.is_nan() {
        return "not measured".to_owned();
    }
    match number.abs() {
        size if size == number.abs().trunc() && size < 1e6 => format!("{number:.0}"),
        size if size < 0.1 => format!("{number:.4}"),
        size if size < 10.0 => format!("{number:.2}"),
        size if size < 100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_without_a_measurement_is_not_reached() {
        for bound in [Bound::AtMost(1.0), Bound::AtLeast(1.0)] {
            assert!(!Goal::new("x", bound, f64::NAN).reached());
            assert!(Goal::new("x", bound, 1.0).reached());
        }
        assert!(!Goal::new("x", Bound::AtMost(1.0), 1.01).reached());
        let rows = goals_table(&[Goal::new("a", Bound::AtMost(1.5), 1.7349)]);
        assert!(rows.contains("| a | ≤ 1.50 | 1.73 | **no** |"), "{rows}");
        let beside = Goal::new("b", Bound::AtLeast(2.0), 1.0).with_floor(1.2);
        let rows = goals_table(&[Goal::new("a", Bound::AtMost(1.5), 1.0), beside]);
        assert!(rows.contains("| a | ≤ 1.50 | 1 | yes |  |"), "{rows}");
        assert!(rows.contains("| b | ≥ 2 | 1 | **no** | 1.20 |"), "{rows}");
    }
}

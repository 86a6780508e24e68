//! The record of a decision for `explain`: which rule said what. Off in the daemon, where it costs
//! nothing: texts are made only when somebody listens.

use serde::Serialize;

/// One thing that a rule said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The rule: a key of config.toml, or a few words where there is none.
    pub rule: &'static str,
    /// What it said.
    pub text: String,
}

/// Collects steps, or does not.
#[derive(Debug)]
pub(crate) struct Trace(Option<Vec<Step>>);

impl Trace {
    pub(crate) fn off() -> Trace {
        Trace(None)
    }

    pub(crate) fn on() -> Trace {
        Trace(Some(Vec::new()))
    }

    pub(crate) fn say(&mut self, rule: &'static str, text: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(Step { rule, text: text() });
        }
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.0.unwrap_or_default()
    }
}

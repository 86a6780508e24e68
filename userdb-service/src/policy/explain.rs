//! A decision with the reasons for it, as text and as JSON. The sentence of a refusal is the one the
//! person logging in sees.

use std::fmt::{self, Write};

use serde::Serialize;

use super::config::Config;
use super::decide::{Decision, Facts, LoginRequest, Occupancy, Question, Refusal};
use super::evaluate::evaluate;
use super::plan::Plan;
use super::protected::SUDO_GROUP;
use super::quoting::quoted;
use super::trace::{Step, Trace};

/// What [`explain`] comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Explained {
    /// Answer these first, as for [`super::decide::decide`].
    Ask(Vec<Question>),
    /// Decided.
    Done(Explanation),
}

/// A decision and what led to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What becomes of the login.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What each rule said, in order.
    pub steps: Vec<Step>,
}

/// What becomes of the login.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Outcome {
    /// A user is made.
    Grant {
        /// As what.
        plan: Box<Plan>,
    },
    /// The login is somebody else's user and goes on as that.
    Foreign,
    /// Not a login of ours: the PAM module keeps out.
    NotOurs,
    /// Refused.
    Refuse(Refusal),
}

/// Decides like [`super::decide::decide`] and tells why.
pub fn explain(
    config: &Config,
    request: &LoginRequest,
    facts: &Facts,
    occupancy: &Occupancy,
) -> Explained {
    let mut trace = Trace::on();
    let outcome = match evaluate(config, request, facts, occupancy, &mut trace) {
        Decision::Ask(questions) => return Explained::Ask(questions),
        Decision::Grant(plan) => Outcome::Grant { plan },
        Decision::Foreign => Outcome::Foreign,
        Decision::NotOurs => Outcome::NotOurs,
        Decision::Refuse(refusal) => Outcome::Refuse(refusal),
    };
    Explained::Done(Explanation {
        outcome,
        steps: trace.into_steps(),
    })
}

impl Explanation {
    /// Was the login refused?
    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refuse(_))
    }
}

impl fmt::Display for Explanation {
    /// Several lines: the outcome, then each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Grant { plan } => f.write_str(&describe(plan))?,
            Outcome::Foreign => writeln!(
                f,
                "somebody else's user: the login goes on as that user, nothing is made"
            )?,
            Outcome::NotOurs => writeln!(f, "not a login of ours: the PAM module keeps out of it")?,
            Outcome::Refuse(refusal) => writeln!(
                f,
                "refused ({}): {}",
                refusal.reason.as_str(),
                refusal.message
            )?,
        }
        for step in &self.steps {
            writeln!(f, "  {}: {}", step.rule, step.text)?;
        }
        Ok(())
    }
}

fn describe(plan: &Plan) -> String {
    let mut text = format!("user {} is made\n", plan.login);
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    if !plan.aliases.is_empty() {
        line("asked for as", quoted(&plan.given));
    }
    line("UID, GID", format!("{}, {}", plan.uid, plan.gid));
    line("comment", quoted(&plan.gecos));
    line("home", plan.home.path().to_owned());
    line("shell", plan.shell.clone());
    let groups: Vec<&str> = plan
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    line("groups", groups.join(" "));
    for spec in &plan.sudoers {
        line("sudoers", format!("{} {}", plan.login, spec.as_str()));
    }
    if plan.is_in_sudo_group() {
        line("sudo", format!("everything, by the group {SUDO_GROUP}"));
    } else if plan.sudoers.is_empty() {
        line("sudoers", "nothing".to_owned());
    }
    line("doas", if plan.doas { "yes" } else { "no" }.to_owned());
    for note in &plan.notes {
        line("note", note.clone());
    }
    text.push_str("why\n");
    text
}

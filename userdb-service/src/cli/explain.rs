//! `teleport-userdbctl explain`: what would become of a login, and why, without logging in.
//! Where the facts about the node come from is the caller's; the decision is the daemon's own.

use std::collections::BTreeMap;

use clap::Args;

use super::hints::ByGroup;
use super::output::{self, Json, plain};
use super::{GOOD, WRONG};
use crate::control::lookup::absorb;
use crate::policy::config::Config;
use crate::policy::decide::{
    Facts, LoginRequest, MAX_ROUNDS, Occupancy, Question, Refusal, undecided,
};
use crate::policy::explain::{Explained, Explanation, Outcome, explain};
use crate::policy::{Plan, Step, old_rights, shortfalls};

/// The command's arguments.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The Teleport user (TELEPORT_USERNAME)
    #[arg(long)]
    pub user: String,
    /// The login asked for (TELEPORT_LOGIN)
    #[arg(long)]
    pub login: String,
    /// The Teleport roles, separated by spaces (TELEPORT_ROLES)
    #[arg(long)]
    pub roles: String,
    /// A variable that pam.environment sets in teleport.yaml; may be given several times
    #[arg(long = "env", value_name = "K=V", value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// The PAM service [default: the first of pam-services]
    #[arg(long)]
    pub service: Option<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The node a login is explained for.
pub trait Node {
    /// Its configuration.
    fn config(&mut self) -> Result<Config, String>;
    /// Who is on.
    fn occupancy(&mut self, config: &Config) -> Result<Occupancy, String>;
    /// What others own: an answer to each question, and what the host says beside.
    fn answer(&mut self, config: &Config, questions: &[Question]) -> Facts;
    /// What becomes of the plan on this node as it is now: takes away what there is no room for, and
    /// notes what has to be waited for.
    fn carry_out(&mut self, config: &Config, plan: &mut Plan) -> Result<(), String>;
    /// What keeps the login out all the same, for the administrator.
    fn kept_out_by(&mut self, plan: &Plan) -> Result<Option<String>, String>;
}

/// The explanation and the exit status of the command: [`GOOD`], or [`WRONG`] for a refused login. The
/// error is what kept it from deciding.
pub fn run(args: &ExplainArgs, json: Json, node: &mut dyn Node) -> Result<(String, u8), String> {
    let explanation = decide(args, node)?;
    let text = output::json(json, &explanation).unwrap_or_else(|| plain(&explanation.to_string()));
    let status = if explanation.is_refused() {
        WRONG
    } else {
        GOOD
    };
    Ok((text, status))
}

fn decide(args: &ExplainArgs, node: &mut dyn Node) -> Result<Explanation, String> {
    let config = node.config()?;
    let request = request(args, &config);
    let mut facts = Facts::default();
    let occupancy = node.occupancy(&config)?;
    for _ in 0..MAX_ROUNDS {
        let questions = match explain(&config, &request, &facts, &occupancy) {
            Explained::Done(mut explanation) => {
                if let Outcome::Grant { plan } = &explanation.outcome
                    && let Some(text) = node.kept_out_by(plan)?
                {
                    explanation.outcome = Outcome::Refuse(old_rights(&plan.login));
                    let rule = "sudoers files";
                    explanation.steps.push(Step { rule, text });
                }
                if let Outcome::Grant { plan } = &mut explanation.outcome {
                    node.carry_out(&config, plan)?;
                    say_why(&config, &mut plan.notes);
                    let by_group = ByGroup::of_plan(plan).into_iter();
                    plan.notes.extend(by_group.map(ByGroup::sentence));
                }
                return Ok(explanation);
            }
            Explained::Ask(questions) => questions,
        };
        absorb(&mut facts, node.answer(&config, &questions));
        if questions
            .iter()
            .any(|question| !facts.answers.contains_key(question))
        {
            return Err("a question about the users of this node was not answered".to_owned());
        }
    }
    Ok(refused(undecided(&config)))
}

/// The person logging in is sent to the journal, which says why sudo is withheld once the daemon has read this configuration. Who asks
/// here is told at once.
fn say_why(config: &Config, notes: &mut [String]) {
    for role in &config.roles {
        let Some(why) = &role.sudo_withheld else {
            continue;
        };
        let pattern = role.pattern.as_str();
        let sent = shortfalls::sudo_withheld(pattern);
        if let Some(note) = notes.iter_mut().find(|note| **note == sent) {
            *note = shortfalls::sudo_withheld_because(pattern, why);
        }
    }
}

fn refused(refusal: Refusal) -> Explanation {
    Explanation {
        outcome: Outcome::Refuse(refusal),
        steps: Vec::new(),
    }
}

fn request(args: &ExplainArgs, config: &Config) -> LoginRequest {
    let service = args
        .service
        .clone()
        .or_else(|| config.pam_services.first().cloned());
    let mut environment = BTreeMap::from([
        ("TELEPORT_USERNAME".to_owned(), args.user.clone()),
        ("TELEPORT_LOGIN".to_owned(), args.login.clone()),
        ("TELEPORT_ROLES".to_owned(), args.roles.clone()),
    ]);
    // As in Teleport, where pam.environment comes last and may replace the three.
    environment.extend(args.environment.iter().cloned());
    LoginRequest {
        login: args.login.clone(),
        service: service.unwrap_or_default(),
        environment,
        undecodable: Vec::new(),
    }
}

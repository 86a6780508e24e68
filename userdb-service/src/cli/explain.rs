//! `teleport-userdbctl explain`: what would become of a login, and why, without logging in.
//! Where the facts about the node come from is the caller's; the decision is the daemon's own.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;

use crate::policy::config::Config;
use crate::policy::decide::{Answer, Facts, HostFacts, LoginRequest, Occupancy, Question};
use crate::policy::explain::{Explained, Explanation, explain};

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
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
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
    /// What it says without being asked for a name.
    fn host(&mut self) -> Result<HostFacts, String>;
    /// Who is on.
    fn occupancy(&mut self) -> Result<Occupancy, String>;
    /// What others own: an answer to each question.
    fn answer(&mut self, questions: &[Question]) -> Result<BTreeMap<Question, Answer>, String>;
}

/// The login was decided and not refused.
pub const GRANTED: u8 = 0;
/// The login was refused.
pub const REFUSED: u8 = 1;
/// Nothing was decided: wrong arguments, a wrong configuration, no answer.
pub const WRONG_USE: u8 = 2;

/// Rounds of questions after which something is wrong with the answers.
const MAX_ROUNDS: usize = 64;

/// Explains the login to `out`. The exit status of the command, or what kept it from deciding (then
/// the status is [`WRONG_USE`]).
pub fn run(args: &ExplainArgs, node: &mut dyn Node, out: &mut dyn Write) -> Result<u8, String> {
    let explanation = decide(args, node)?;
    print(&explanation, args.json, out).map_err(|error| format!("cannot write: {error}"))?;
    Ok(if explanation.is_refused() {
        REFUSED
    } else {
        GRANTED
    })
}

fn decide(args: &ExplainArgs, node: &mut dyn Node) -> Result<Explanation, String> {
    let config = node.config()?;
    let request = request(args, &config);
    let mut facts = Facts {
        answers: BTreeMap::new(),
        host: node.host()?,
    };
    let occupancy = node.occupancy()?;
    for _ in 0..MAX_ROUNDS {
        match explain(&config, &request, &facts, &occupancy) {
            Explained::Done(explanation) => return Ok(explanation),
            Explained::Ask(questions) => {
                let answers = node.answer(&questions)?;
                if questions
                    .iter()
                    .any(|question| !answers.contains_key(question))
                {
                    return Err(
                        "a question about the users of this node was not answered".to_owned()
                    );
                }
                facts.answers.extend(answers);
            }
        }
    }
    Err(format!(
        "no decision after {MAX_ROUNDS} rounds of questions about the users of this node"
    ))
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

fn print(explanation: &Explanation, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, explanation)?;
        writeln!(out)
    } else {
        write!(out, "{explanation}")
    }
}

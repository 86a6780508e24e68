//! The machine that `explain` runs on: its configuration, its other providers, who is on.
//! The state of the daemon is read as it is written down for a restart, and left alone.

use std::path::Path;

use super::explain::{self, ExplainArgs, Node};
use super::output::Json;
use super::room::room;
use super::sudo_findings::stuck_of;
use super::written::{load_state, taken_up};
use super::{Failure, WRONG_USE};
use crate::control::configuration::config_files;
use crate::control::lookup::{Lookups, Settings};
use crate::control::registry::{Joinable, Registry, Terms, Together};
use crate::control::state::{self, StateDir};
use crate::control::sudo::check::SudoersCheck;
use crate::control::sudo::files::SudoersFiles;
use crate::policy::decide::{Facts, Occupancy, Question};
use crate::policy::{Config, Plan, shortfalls};

struct Here {
    lookups: Lookups,
    runtime: tokio::runtime::Runtime,
    /// Who is on, as far as it is written down.
    registry: Registry,
}

impl Node for Here {
    fn config(&mut self) -> Result<Config, String> {
        let mut config = config_files::load_as_the_daemon(Path::new("/")).map_err(|error| {
            format!(
                "the configuration of teleport-userdb is wrong: {error}; correct it, then ask again (teleport-sessiond goes on with the last one that was right, and lets nobody new in if it has had none since its start)"
            )
        })?;
        // What the daemon withholds is withheld here; the role says so in the explanation.
        SudoersCheck::default()
            .withhold_refused_blocking(&mut config)
            .map_err(|error| format!("visudo cannot be asked: {error}"))?;
        Ok(config)
    }

    fn occupancy(&mut self, config: &Config) -> Result<Occupancy, String> {
        let loaded = load_state(Path::new(state::FOLDER))?;
        self.registry = taken_up(loaded, Terms::from(config));
        Ok(self.registry.occupancy().clone())
    }

    fn answer(&mut self, config: &Config, questions: &[Question]) -> Facts {
        let asked = self.lookups.facts(questions, config.home_base());
        self.runtime.block_on(asked)
    }

    fn carry_out(&mut self, config: &Config, plan: &mut Plan) -> Result<(), String> {
        if self.registry.joinable(plan) == Joinable::AfterRemains {
            let note = shortfalls::after_remains(&plan.login);
            plan.notes.push(note);
        }
        if !plan.sudoers.is_empty()
            && let Err(sentence) = room(&SudoersFiles::default(), &self.registry, config, plan)?
        {
            plan.sudoers.clear();
            plan.notes.push(sentence);
        }
        plan.notes.extend(beside_others(&self.registry, plan));
        Ok(())
    }

    fn kept_out_by(&mut self, plan: &Plan) -> Result<Option<String>, String> {
        kept_out_by(Path::new(state::FOLDER), plan)
    }
}

/// Why rights of an earlier session of the login cannot be taken away, if they cannot.
fn kept_out_by(folder: &Path, plan: &Plan) -> Result<Option<String>, String> {
    let stuck = StateDir::stuck_rights(folder).map_err(|error| {
        format!(
            "cannot read which rights cannot be taken away from {}: {error}",
            folder.display()
        )
    })?;
    let of_it = stuck.iter().find(|right| right.login == plan.login);
    Ok(of_it.map(stuck_of))
}

/// What the login has while other Teleport users are on it, if the rule between them makes it something else than was asked for.
fn beside_others(registry: &Registry, plan: &Plan) -> Option<String> {
    let Together {
        others,
        shared,
        plan,
    } = registry.together(plan)?;
    shortfalls::shared(&others, shared, &plan)
}

pub(super) fn explain(args: &ExplainArgs, json: Json) -> Result<(String, u8), Failure> {
    let failed = |message: String| Failure {
        status: WRONG_USE,
        message,
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(failed(
            "explain reads sudoers and who is on, which only root may: run it as root".to_owned(),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("no event loop: {error}")))?;
    let mut here = Here {
        lookups: Lookups::new(Settings::default()),
        runtime,
        registry: Registry::new(Terms::default()),
    };
    explain::run(args, json, &mut here).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::written::tests::{on, plan};
    use super::*;
    use crate::policy::plan::SharedLogins;

    #[test]
    fn what_the_rule_between_teleport_users_makes_of_the_rights_is_told() {
        for (shared, told) in [
            (SharedLogins::Intersect, Some("sudoers none; doas no.")),
            (
                SharedLogins::Union,
                Some("sudoers ALL=(ALL) NOPASSWD: ALL; doas yes."),
            ),
            (SharedLogins::Refuse, None),
            (SharedLogins::Never, None),
        ] {
            let terms = Terms {
                shared,
                ..Terms::default()
            };
            let registry = on(terms, &[plan("dev", "alice", true)]);
            let mut asked = plan("dev", "bob", false);
            asked.doas = true;
            let note = beside_others(&registry, &asked);
            match (&note, told) {
                (Some(note), Some(told)) => assert!(
                    note.starts_with("On dev now: \"alice\".") && note.ends_with(told),
                    "{note}"
                ),
                _ => assert_eq!(note.as_deref(), told),
            }
            assert_eq!(beside_others(&registry, &plan("dev", "alice", false)), None);
        }
    }
}

//! The machine that `explain` runs on: its configuration, its other providers, who is on.
//! The state of the daemon is read as it is written down for a restart, and left alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::explain::{self, ExplainArgs, Node};
use super::output::Json;
use super::{Failure, WRONG_USE};
use crate::control::configuration::config_files;
use crate::control::host::clock::Boottime;
use crate::control::lookup::{Lookups, Settings};
use crate::control::registry::{Joinable, Registry, State, Terms};
use crate::control::state::{self, Loaded, StateDir};
use crate::control::sudo::check::SudoersCheck;
use crate::control::sudo::files::SudoersFiles;
use crate::control::sudo::sudo_rs;
use crate::policy::decide::{Facts, Occupancy, Question};
use crate::policy::room::{self, Room};
use crate::policy::sudoers::file_name;
use crate::policy::{Config, Plan, shortfalls};

struct Here {
    lookups: Lookups,
    runtime: tokio::runtime::Runtime,
    /// Who is on, as far as it is written down.
    registry: Registry,
}

impl Here {
    /// Whether there is room for the plan's file in sudoers.d, as the daemon counts.
    fn room(&self, config: &Config, plan: &Plan) -> Result<Result<(), String>, String> {
        let files = SudoersFiles::default();
        if files.has(&plan.login) {
            return Ok(Ok(()));
        }
        if let Some(not_ours) = files.in_the_way(&plan.login) {
            return Ok(Err(not_ours.to_string()));
        }
        let (ours, others) = files
            .list()
            .map_err(|error| format!("the sudoers files cannot be looked at: {error}"))?;
        let open: Vec<&Plan> = self
            .registry
            .list()
            .into_iter()
            .filter(|session| session.state == State::Open)
            .map(|session| &session.plan)
            .collect();
        let of = |user: &str| {
            let theirs = open.iter().filter(|plan| plan.teleport_user == user);
            let names: BTreeSet<String> = theirs.map(|plan| file_name(&plan.login)).collect();
            ours.iter().filter(|file| names.contains(*file)).count()
        };
        // The file counts for whoever of those on the login has fewest.
        let on_it = open.iter().filter(|open| open.login == plan.login);
        let (of_user, user) = on_it
            .map(|open| open.teleport_user.as_str())
            .chain([plan.teleport_user.as_str()])
            .map(|user| (of(user), user))
            .min()
            .unwrap_or_default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let sudo_rs = sudo_rs::is_installed();
        let room = Room {
            ours: count(ours.len()),
            of_user: count(of_user),
            others: if sudo_rs { count(others) } else { 0 },
            sudo_rs,
        };
        let room = room::for_one_more(config.sudo.max_files, room, user);
        Ok(room.map_err(|none| none.to_string()))
    }
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
        let loaded = settled()?;
        let registry = &mut self.registry;
        *registry = Registry::new(Terms::from(config));
        // The daemon watches the leaders; what it has written down is what it goes by.
        registry.restore(
            Boottime::now(),
            loaded.standings,
            loaded.sessions,
            loaded.quarantine,
            &BTreeSet::new(),
            |_| true,
        );
        Ok(registry.occupancy().clone())
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
            && let Err(sentence) = self.room(config, plan)?
        {
            plan.sudoers.clear();
            plan.notes.push(sentence);
        }
        Ok(())
    }
}

/// What is written down, read while nothing of it vanishes: a session that ends meanwhile looks like a
/// file that cannot be read.
fn settled() -> Result<Loaded, String> {
    let mut attempts = 10;
    loop {
        let loaded = StateDir::read(Path::new(state::FOLDER))
            .map_err(|error| format!("cannot read who is on from {}: {error}", state::FOLDER))?;
        attempts -= 1;
        match loaded.damaged.first() {
            None => return Ok(loaded),
            Some((path, why)) if attempts == 0 => {
                return Err(format!("cannot read who is on: {}: {why}", path.display()));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
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

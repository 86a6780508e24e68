//! The machine that `explain` runs on: its configuration, its other providers, who is on.
//! The state of the daemon is read as it is written down for a restart, and left alone.

use std::path::Path;
use std::time::Duration;

use super::explain::{self, ExplainArgs, Node};
use super::output::Json;
use super::{Failure, WRONG_USE};
use crate::control::clock::Boottime;
use crate::control::lookup::{Lookups, Settings};
use crate::control::registry::{Registry, Terms};
use crate::control::state::{Loaded, StateDir};
use crate::control::sudoers_check::SudoersCheck;
use crate::control::{config_files, home_base};
use crate::policy::Config;
use crate::policy::decide::{Facts, Occupancy, Question};

/// Where the daemon writes its state down.
const STATE: &str = "/run/teleport-sessiond";

struct Here {
    lookups: Lookups,
    runtime: tokio::runtime::Runtime,
}

impl Node for Here {
    fn config(&mut self) -> Result<Config, String> {
        let mut config = config_files::load(Path::new("/")).map_err(|error| {
            format!("no user can be made: the configuration of teleport-userdb is wrong: {error}")
        })?;
        // What the daemon withholds is withheld here; the role says so in the explanation.
        SudoersCheck::default()
            .withhold_refused_blocking(&mut config)
            .map_err(|error| format!("visudo cannot be asked: {error}"))?;
        Ok(config)
    }

    fn occupancy(&mut self, config: &Config) -> Result<Occupancy, String> {
        let loaded = settled()?;
        let mut registry = Registry::new(Terms::from(config));
        // The daemon watches the leaders; what it has written down is what it goes by.
        registry.restore(
            Boottime::now(),
            loaded.standings,
            loaded.sessions,
            loaded.quarantine,
            |_| true,
        );
        Ok(registry.occupancy().clone())
    }

    fn answer(&mut self, config: &Config, questions: &[Question]) -> Result<Facts, String> {
        let asked = self.lookups.ask(questions, home_base(config));
        self.runtime
            .block_on(asked)
            .map_err(|error| error.to_string())
    }
}

/// What is written down, read while nothing of it vanishes: a session that ends meanwhile looks like a
/// file that cannot be read.
fn settled() -> Result<Loaded, String> {
    let mut attempts = 10;
    loop {
        let loaded = StateDir::read(Path::new(STATE))
            .map_err(|error| format!("cannot read who is on from {STATE}: {error}"))?;
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
    };
    explain::run(args, json, &mut here).map_err(failed)
}

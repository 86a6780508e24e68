//! Who is on, as the daemon has written it down for a restart: whose sudoers file has to be there, and as it was written, and who is on the
//! way out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::node::Seen;
use super::room::room;
use crate::control::host::clock::Boottime;
use crate::control::registry::{Registry, Terms};
use crate::control::state::{Loaded, StateDir, StuckRight};
use crate::control::sudo::files::{Amiss, SudoersFiles};
use crate::policy::decide::LoginPhase;
use crate::policy::sudoers::file_name;
use crate::policy::{Config, Login};

/// A file is written just after the session is, or as soon as a disk answers that was asked to.
const MOMENT: Duration = Duration::from_secs(1);

/// A login without a session of which something is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leaving {
    /// The login.
    pub login: String,
    /// How far its end has come.
    pub phase: LoginPhase,
}

impl Leaving {
    /// The phase as `--json` has it.
    pub fn word(&self) -> &'static str {
        match self.phase {
            LoginPhase::Reserved => "reserved",
            LoginPhase::Active => "active",
            LoginPhase::Retiring => "retiring",
            LoginPhase::Terminating => "terminating",
            LoginPhase::Lingering => "lingering",
        }
    }
}

/// A login that was granted sudo by a file that does not grant it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WithoutFile {
    /// The login.
    pub login: String,
    /// The name of the file in sudoers.d.
    pub file: String,
    /// What has become of it.
    pub found: Amiss,
}

/// What is written down in `folder`, read while nothing of it vanishes: a session that ends meanwhile looks like a file that cannot
/// be read.
pub(super) fn load_state(folder: &Path) -> Result<Loaded, String> {
    let mut attempts = 10;
    loop {
        let loaded = StateDir::read(folder)
            .map_err(|error| format!("cannot read who is on from {}: {error}", folder.display()))?;
        attempts -= 1;
        match loaded.damaged.first() {
            None => return Ok(loaded),
            Some((path, why)) if attempts == 0 => {
                return Err(format!(
                    "cannot read who is on: {}: {why}; `systemctl restart teleport-sessiond` sets it aside: what it was of loses its rights, and an ID stays used",
                    path.display()
                ));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The registry that a daemon would take up from it.
pub(super) fn taken_up(loaded: Loaded, terms: Terms) -> Registry {
    let mut registry = Registry::new(terms);
    // The daemon watches the leaders; what it has written down is what it goes by.
    registry.restore(
        Boottime::now(),
        loaded.standings,
        loaded.sessions,
        loaded.used_ids,
        &BTreeSet::new(),
        |_| true,
    );
    registry
}

/// Logins whose rights of an earlier session cannot be taken away.
pub(super) fn stuck(root: bool, folder: &Path) -> Seen<Vec<StuckRight>> {
    if !root {
        return Seen::RootOnly;
    }
    match StateDir::stuck_rights(folder) {
        Ok(rights) => Seen::Known(rights),
        Err(error) => Seen::Failed(format!(
            "cannot read which rights cannot be taken away from {}: {error}",
            folder.display()
        )),
    }
}

/// Logins without a session of which something is left.
pub(super) fn leaving(root: bool, folder: &Path) -> Seen<Vec<Leaving>> {
    if !root {
        return Seen::RootOnly;
    }
    match load_state(folder) {
        Ok(loaded) => Seen::Known(on_the_way_out(&taken_up(loaded, Terms::default()))),
        Err(why) => Seen::Failed(why),
    }
}

fn on_the_way_out(registry: &Registry) -> Vec<Leaving> {
    let logins = registry.occupancy().logins.iter();
    let leaving =
        logins.filter(|(_, it)| !matches!(it.phase, LoginPhase::Reserved | LoginPhase::Active));
    leaving
        .map(|(login, it)| Leaving {
            login: String::from(login.clone()),
            phase: it.phase,
        })
        .collect()
}

/// Logins that were granted sudo by a file that does not grant it, or is not there though there is room for it.
pub(super) fn without_file(
    config: &Config,
    files: &SudoersFiles,
    folder: &Path,
) -> Seen<Vec<WithoutFile>> {
    let look = || -> Result<BTreeSet<(Login, Amiss)>, String> {
        lacking(
            config,
            files,
            &taken_up(load_state(folder)?, Terms::from(config)),
        )
    };
    let looked = look().and_then(|first| {
        if first.is_empty() {
            return Ok(first);
        }
        std::thread::sleep(MOMENT);
        Ok(look()?.intersection(&first).cloned().collect())
    });
    match looked {
        Ok(logins) => Seen::Known(
            logins
                .into_iter()
                .map(|(login, found)| WithoutFile {
                    file: file_name(&login),
                    login: String::from(login),
                    found,
                })
                .collect(),
        ),
        Err(why) => Seen::Failed(why),
    }
}

fn lacking(
    config: &Config,
    files: &SudoersFiles,
    registry: &Registry,
) -> Result<BTreeSet<(Login, Amiss)>, String> {
    let mut lacking = BTreeSet::new();
    for login in registry.sudoers() {
        let Some(published) = registry.published(login) else {
            continue;
        };
        let found = files
            .amiss(login, &published.plan.sudoers)
            .map_err(|error| format!("the sudoers files cannot be looked at: {error}"))?;
        let is_lacking = match found {
            None => false,
            // Who is beyond the bound has been told so, and waits.
            Some(Amiss::Absent | Amiss::NoRoom | Amiss::Immutable) => {
                room(files, registry, config, &published.plan)?.is_ok()
            }
            Some(_) => true,
        };
        if let Some(found) = found.filter(|_| is_lacking) {
            lacking.insert((login.clone(), found));
        }
    }
    Ok(lacking)
}

#[cfg(test)]
#[path = "written_tests.rs"]
pub(super) mod tests;

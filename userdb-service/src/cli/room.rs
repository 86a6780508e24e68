//! Whether there is room for one more file of ours in sudoers.d, as the daemon counts.

use std::collections::BTreeSet;

use crate::control::registry::{Registry, State};
use crate::control::sudo::files::SudoersFiles;
use crate::control::sudo::sudo_rs;
use crate::policy::room::{self, Room};
use crate::policy::sudoers::file_name;
use crate::policy::{Config, Plan};

/// Whether there is room for the plan's file; if not, the sentence for the person who goes without sudo.
pub(super) fn room(
    files: &SudoersFiles,
    registry: &Registry,
    config: &Config,
    plan: &Plan,
) -> Result<Result<(), String>, String> {
    if files.has(&plan.login) {
        return Ok(Ok(()));
    }
    if let Some(not_ours) = files.in_the_way(&plan.login) {
        return Ok(Err(not_ours.to_string()));
    }
    let (ours, others) = files
        .list()
        .map_err(|error| format!("the sudoers files cannot be looked at: {error}"))?;
    let open: Vec<&Plan> = registry
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

//! Users whose sessions cannot be read after a restart: kept without rights until their processes have ended.
//!
//! All that is known of them is what is published. What becomes of them is the registry's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use account_table::{Account, Cursor, DEFAULT_PATH, Lookup, Table, Trust};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{error, info};

use crate::control::daemon::Daemon;
use crate::control::end::remains;
use crate::control::publication::publish;
use crate::control::registry::{Phase, Session, Standing, Terms};
use crate::policy::plan::Grants;
use crate::policy::{Gid, Login, Uid};

/// How often a user is looked at whose processes are waited for.
const LOOK: Duration = Duration::from_secs(1);
/// Each of so many looks is for zombies, whom nobody may ever wait for; it takes a walk through `/proc`.
const LOOKS: u32 = 10;

/// Standings for `published` users of whom nothing is written down: neither a session nor how far their end
/// has come.
pub(in crate::control) fn strays(
    published: BTreeMap<Login, Account>,
    standings: &[Standing],
    sessions: &[Session],
) -> Vec<Standing> {
    let known: BTreeSet<&Login> = standings
        .iter()
        .map(|standing| &standing.login)
        .chain(sessions.iter().map(Session::login))
        .collect();
    published
        .into_iter()
        .filter(|(login, _)| !known.contains(login))
        .filter_map(|(login, account)| {
            Some(Standing {
                // A repaired login has its original spelling, which its UID was derived from, as an alias.
                given: account
                    .aliases()
                    .next()
                    .unwrap_or(account.login())
                    .to_owned(),
                uid: Uid::try_from(account.uid()).ok()?,
                gid: Gid::try_from(account.gid()).ok()?,
                login,
                phase: Phase::Lingering,
                owners: BTreeSet::new(),
                may_have_remains: true,
                has_home: false,
                linger: false,
                granted: Grants::default(),
                terms: Terms::default(),
            })
        })
        .collect()
}

/// What the daemon before this one has published. Nobody writes now, so nothing is ever busy.
pub(in crate::control) fn published() -> BTreeMap<Login, Account> {
    let mut found = BTreeMap::new();
    let Some(table) = Table::open(DEFAULT_PATH, Trust::Root) else {
        return found;
    };
    let mut cursor = Cursor::default();
    while let Lookup::Found(account) = table.next_user(&mut cursor) {
        if let Ok(login) = Login::try_from(account.login()) {
            found.insert(login, account);
        }
    }
    found
}

impl Daemon {
    /// Leaves the login published as it is, locked and without memberships.
    pub(in crate::control) fn lock(&self, login: &Login) {
        let table = Table::open(DEFAULT_PATH, Trust::Root);
        let Some(account) =
            table.and_then(|table| table.user_by_name(login.as_ref().as_bytes()).found())
        else {
            return;
        };
        if account.locked() && account.groups().next().is_none() {
            return;
        }
        let done = self.table.borrow_mut().publish(&publish::locked(&account));
        self.nscd.table_changed();
        if let Err(error) = done {
            error!(TELEPORT_LOGIN = %login, %error, "cannot take a user's groups away; the user is withdrawn");
            self.withdraw(login);
        }
    }

    /// Waits for the end of the last process of `uid`.
    pub(in crate::control) fn await_processes(self: &Rc<Self>, login: Login, uid: Uid) {
        if !self.awaited.borrow_mut().insert(login.clone()) {
            return;
        }
        let daemon = self.clone();
        spawn_local(async move {
            have_ended(uid.get(), LOOK).await;
            info!(TELEPORT_LOGIN = %login, TELEPORT_UID = %uid, "the last process of {login} has ended");
            daemon.awaited.borrow_mut().remove(&login);
            let effects = daemon.registry.borrow_mut().processes_ended(&login);
            daemon.carry_out(effects);
        });
    }
}

/// Waits until no process of `uid` lives, looking again and again.
async fn have_ended(uid: u32, look: Duration) {
    let mut looks = 0;
    while remains::has_processes(uid) {
        looks += 1;
        if looks % LOOKS == 0 && !remains::has_living_processes(uid) {
            return;
        }
        sleep(look).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[tokio::test]
    async fn a_zombie_that_nobody_waits_for_is_not_waited_for_either() {
        let uid = 0x7000_00a5;
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .uid(uid)
            .spawn()
            .expect("this test needs root to run a process as another user");
        let look = Duration::from_millis(1);
        let ended = tokio::time::timeout(100 * look, have_ended(uid, look)).await;
        assert!(ended.is_err(), "it lives");
        child.kill().expect("killed");
        let limit = Duration::from_secs(20);
        let ended = tokio::time::timeout(limit, have_ended(uid, look)).await;
        assert!(ended.is_ok() && remains::has_processes(uid));
        child.wait().expect("ended");
    }
}

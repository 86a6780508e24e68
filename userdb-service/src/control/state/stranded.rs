//! Users whose sessions cannot be read after a restart: kept without rights until their processes have ended.
//!
//! All that is known of them is what is published. What becomes of them is the registry's to say.

use std::collections::{BTreeMap, BTreeSet};

use account_table::{Account, Cursor, DEFAULT_PATH, Lookup, Table, Trust};
use tracing::error;

use crate::control::daemon::Daemon;
use crate::control::publication::publish;
use crate::control::registry::{Phase, Session, Standing, Terms};
use crate::policy::plan::Grants;
use crate::policy::{Gid, Login, Uid};

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
}

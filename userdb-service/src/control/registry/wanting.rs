//! Sudoers files that logins were granted and have not got: whose turn it is, and the order for another attempt.
//!
//! Nothing else of a login changes by it.

use std::collections::BTreeSet;

use super::{Effect, Registry};
use crate::policy::Login;

impl Registry {
    /// Those of `logins` that have sessions, by the arrival of their first.
    pub fn in_order_of_arrival(&self, logins: &BTreeSet<Login>) -> Vec<Login> {
        let mut arrived: Vec<(u64, &Login)> = logins
            .iter()
            .filter_map(|login| {
                let sessions = &self.logins.get(login)?.sessions;
                Some((*sessions.keys().next()?, login))
            })
            .collect();
        arrived.sort_unstable();
        arrived
            .into_iter()
            .map(|(_, login)| login.clone())
            .collect()
    }

    /// The file that the login should have and has not. Nothing, where it has it by now or should have none.
    pub fn sudoers_again(&mut self, login: &Login) -> Option<Effect> {
        let specs = self.published(login)?.plan.sudoers;
        let entry = self.logins.get_mut(login)?;
        if entry.sudoers.is_some() || specs.is_empty() {
            return None;
        }
        entry.sudoers = Some(specs.clone());
        self.count_sudo(login);
        Some(Effect::Sudoers(login.clone(), specs))
    }
}

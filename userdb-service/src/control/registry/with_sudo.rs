//! Who has a sudoers file: how many logins, and how many of them each Teleport user is on.
//!
//! Counted as logins change, so that whoever wants one more file need not look at everybody who has one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Registry;
use super::entry::Entry;
use super::session::State;
use crate::policy::{Login, SudoersSpec};

/// Logins that have a sudoers file.
#[derive(Debug, Default)]
pub(super) struct WithSudo {
    /// Each with the Teleport users that have an open session on it.
    logins: BTreeMap<Login, BTreeSet<String>>,
    /// On how many of these logins a Teleport user is. Nobody is in here with none.
    of_user: HashMap<String, usize>,
}

impl WithSudo {
    /// The login has a file, and these Teleport users are on it; `None`: it has no file.
    fn set(&mut self, login: &Login, users: Option<BTreeSet<String>>) {
        if self.logins.get(login) == users.as_ref() {
            return;
        }
        for user in users.iter().flatten() {
            *self.of_user.entry(user.clone()).or_default() += 1;
        }
        let before = match users {
            Some(users) => self.logins.insert(login.clone(), users),
            None => self.logins.remove(login),
        };
        for user in before.into_iter().flatten() {
            if let Some(count) = self.of_user.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    self.of_user.remove(&user);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.of_user.is_empty()
    }

    pub(super) fn shrink(&mut self) {
        self.of_user.shrink_to_fit();
    }
}

impl Registry {
    /// Logins that have a sudoers file.
    pub fn sudoers(&self) -> impl Iterator<Item = &Login> {
        self.with_sudo.logins.keys()
    }

    /// Whether the login has a sudoers file.
    pub fn has_sudoers(&self, login: &Login) -> bool {
        self.with_sudo.logins.contains_key(login)
    }

    /// What the login's sudoers file is to say, if that was told to anybody; nothing: there is to be none.
    pub fn specs(&self, login: &Login) -> Option<&Vec<SudoersSpec>> {
        self.logins.get(login)?.sudoers.as_ref()
    }

    /// How many other logins have a sudoers file, and how many of those are of the Teleport user who has
    /// fewest of all that are on `login`, with that user's name.
    pub fn sudoers_beside(&self, login: &Login) -> (usize, usize, &str) {
        let WithSudo { logins, of_user } = &self.with_sudo;
        let own = logins.get(login);
        let others_of = |user: &str| {
            let is_counted = own.is_some_and(|users| users.contains(user));
            of_user.get(user).copied().unwrap_or_default() - usize::from(is_counted)
        };
        let least = self
            .open_users(login)
            .map(|user| (others_of(user), user))
            .min()
            .unwrap_or_default();
        let others = logins.len() - usize::from(own.is_some());
        (others, least.0, least.1)
    }

    /// Keeps the counts true after a change of the login.
    pub(super) fn count_sudo(&mut self, login: &Login) {
        let entry = self.logins.get(login).filter(|entry| entry.has_sudoers());
        let users = entry.map(|_| self.open_users(login).map(str::to_owned).collect());
        self.with_sudo.set(login, users);
    }

    /// The Teleport users with an open session on the login, each as often as it has one.
    pub fn open_users(&self, login: &Login) -> impl Iterator<Item = &str> {
        let ids = self.logins.get(login).map(|entry| entry.sessions.values());
        ids.into_iter()
            .flatten()
            .filter_map(|id| self.sessions.get(id))
            .filter(|session| session.state == State::Open)
            .map(|session| session.plan.teleport_user.as_str())
    }
}

impl Entry {
    /// Whether its sudoers file is known to say something.
    pub(super) fn has_sudoers(&self) -> bool {
        let specs = self.sudoers.as_ref();
        specs.is_some_and(|specs| !specs.is_empty())
    }
}

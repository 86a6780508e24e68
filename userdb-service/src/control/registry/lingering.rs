//! Logins without a session whose processes go on: they end when the last process has ended by itself.
//!
//! So it is with those whose sessions cannot be read after a restart: nobody can say which of them live.

use super::entry::Phase;
use super::{Effect, Registry, Standing};
use crate::policy::Login;

impl Registry {
    /// Logins that are published without a session.
    pub fn lingering(&self) -> impl Iterator<Item = &Login> {
        self.logins
            .values()
            .filter(|entry| entry.standing.phase == Phase::Lingering)
            .map(|entry| &entry.standing.login)
    }

    /// The last process of a lingering login has ended: what else it left is ended, too.
    pub fn processes_ended(&mut self, login: &Login) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(entry) = self.logins.get_mut(login) else {
            return effects;
        };
        if entry.standing.phase != Phase::Lingering {
            return effects;
        }
        entry.standing.phase = Phase::Terminating;
        let uid = entry.standing.uid;
        effects.push(Effect::Withdraw(login.clone()));
        effects.push(Effect::RememberLogin(login.clone()));
        effects.push(Effect::EndRemains(login.clone(), uid));
        self.note(login);
        effects
    }
}

impl Standing {
    /// What was written down says that the login has sessions, and none can be read: it lingers.
    pub(super) fn strand(&mut self) {
        self.phase = Phase::Lingering;
        // Who they were is not known any more, so nobody may join what they left.
        self.owners.clear();
    }
}

//! Logins without a session whose processes go on: they end when the last process has ended by itself.
//!
//! So it is with those whose role says `linger`, and with those whose sessions cannot be read after a restart: nobody
//! can say which of them live.

use super::entry::{Entry, Phase};
use super::{Effect, Joinable, Registry, Standing};
use crate::policy::{Login, Plan, Uid};

impl Registry {
    /// Logins that are published without a session.
    pub fn lingering(&self) -> impl Iterator<Item = &Standing> {
        self.logins
            .values()
            .filter(|entry| entry.lingers())
            .map(|entry| &entry.standing)
    }

    /// Whether the login is shown without a session, locked and without rights.
    pub fn lingers(&self, login: &Login) -> bool {
        self.logins.get(login).is_some_and(Entry::lingers)
    }

    /// The last process of a lingering login has ended: what else it left is ended, too, if it is not left alone
    /// for a while yet. Told of a `uid` that is not the login's any more it says nothing.
    pub fn processes_ended(&mut self, login: &Login, uid: Uid) -> Vec<Effect> {
        let mut effects = Vec::new();
        let is_told_of = |entry: &&mut Entry| entry.lingers() && entry.standing.uid == uid;
        let Some(entry) = self.logins.get_mut(login).filter(is_told_of) else {
            return effects;
        };
        if entry.standing.phase == Phase::Lingering {
            self.finish(login, &mut effects);
        } else {
            entry.standing.linger = false;
            effects.push(Effect::Withdraw(login.clone()));
            effects.push(Effect::RememberLogin(login.clone()));
            self.note(login);
        }
        effects
    }

    /// Somebody is to come in who may not join what lingers under his login: it is ended for him. Not so the processes
    /// of those whose sessions cannot be read: they may be at work in them, and nobody is let in beside them.
    pub fn make_way(&mut self, plan: &Plan) -> Vec<Effect> {
        let mut effects = Vec::new();
        let lingers = self
            .standing(&plan.login)
            .is_some_and(|standing| standing.phase == Phase::Lingering && !standing.is_stranded());
        if lingers && self.joinable(plan) == Joinable::AfterRemains {
            self.finish(&plan.login, &mut effects);
        }
        effects
    }

    fn finish(&mut self, login: &Login, effects: &mut Vec<Effect>) {
        let Some(entry) = self.logins.get_mut(login) else {
            return;
        };
        entry.standing.phase = Phase::Terminating;
        effects.push(Effect::Withdraw(login.clone()));
        effects.push(Effect::RememberLogin(login.clone()));
        effects.push(Effect::EndRemains(login.clone(), entry.standing.uid));
        self.note(login);
    }
}

impl Entry {
    /// Whether it is published without a session, locked and without rights.
    pub(super) fn lingers(&self) -> bool {
        self.sessions.is_empty() && self.standing.outlasts_sessions()
    }

    /// Without processes there is nothing to linger for.
    pub(super) fn await_processes(&self, effects: &mut Vec<Effect>) {
        if self.lingers() {
            let standing = &self.standing;
            effects.push(Effect::AwaitProcesses(standing.login.clone(), standing.uid));
        }
    }
}

impl Standing {
    /// Whether it lingers when it has no session.
    pub fn outlasts_sessions(&self) -> bool {
        match self.phase {
            Phase::Lingering => true,
            Phase::Live | Phase::Retiring { .. } => self.linger,
            Phase::Terminating => false,
        }
    }

    /// What was written down says that the login has sessions, and none can be read: it lingers.
    pub(super) fn strand(&mut self) {
        self.phase = Phase::Lingering;
        // Who they were is not known any more, so nobody may join what they left.
        self.owners.clear();
    }

    /// Whether it lingers because its sessions cannot be read.
    pub fn is_stranded(&self) -> bool {
        self.owners.is_empty()
    }
}

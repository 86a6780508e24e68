//! What holds of a login now: what its sessions grant together, in its record and in its sudoers file.
//!
//! What each session was granted is the policy's decision; which of them still bring it, of `renounced.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::occupancy::synthesized_groups;
use super::renounced::{brought, without_rights};
use super::session::{Session, State};
use super::{Effect, Registry};
use crate::policy::plan::{Home, SharedLogins};
use crate::policy::{self, Login, Plan};

/// A login as it is to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// What its open sessions grant together.
    pub plan: Plan,
    /// Number of open sessions.
    pub sessions: u32,
    /// When its first session came, microseconds of CLOCK_REALTIME.
    pub since_usec: u64,
    /// How long it is left alone once its last session has ended.
    pub retire_delay: Duration,
}

impl Published {
    /// The same user, who has nothing but the marker group.
    pub fn without_rights(self) -> Published {
        Published {
            plan: without_rights(&self.plan),
            ..self
        }
    }
}

/// Several Teleport users on one login.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    /// Who is on it already.
    pub others: BTreeSet<String>,
    /// The rule between them.
    pub shared: SharedLogins,
    /// What their open sessions grant together.
    pub plan: Plan,
}

/// The plan of a login that nobody is in yet. Whose a home that stays is, nobody has looked so far: with it in the record, sshd or a
/// mail server would act on what another Teleport user has left there, and what they start for him would have the rights that
/// come with the session.
fn expected(plan: &Plan) -> Plan {
    let mut plan = without_rights(plan);
    if let Home::Persistent { .. } = plan.home {
        plan.home = Home::None;
    }
    plan
}

impl Registry {
    /// What the sessions of the login grant together, if it has any.
    pub fn published(&self, login: &Login) -> Option<Published> {
        let entry = self.logins.get(login)?;
        let terms = entry.standing.terms;
        let sessions: Vec<&Session> = entry
            .sessions
            .values()
            .filter_map(|id| self.sessions.get(id))
            .collect();
        let open: Vec<&Session> = sessions
            .iter()
            .copied()
            .filter(|session| session.state == State::Open)
            .collect();
        let brought = brought(&open, terms.shared);
        let plans: Vec<&Plan> = brought.iter().map(AsRef::as_ref).collect();
        sessions.first().map(|first| Published {
            plan: policy::combine(&plans, terms.shared).unwrap_or_else(|| expected(&first.plan)),
            sessions: u32::try_from(open.len()).unwrap_or(u32::MAX),
            since_usec: first.since_usec,
            retire_delay: terms.retire_delay,
        })
    }

    /// What the login would have with one more session open, that of `plan`, and the other Teleport users whose sessions are open
    /// on it. `None` where there is nobody else.
    pub fn together(&self, plan: &Plan) -> Option<Together> {
        let entry = self.logins.get(&plan.login)?;
        let mut open: Vec<&Session> = entry
            .sessions
            .values()
            .filter_map(|id| self.sessions.get(id))
            .filter(|session| session.state == State::Open)
            .collect();
        let users = open.iter().map(|session| &session.plan.teleport_user);
        let others: BTreeSet<String> = users
            .filter(|user| **user != plan.teleport_user)
            .cloned()
            .collect();
        if others.is_empty() {
            return None;
        }
        let one_more = Session {
            plan: plan.clone(),
            renounced: false,
            ..(*open.last()?).clone()
        };
        open.push(&one_more);
        let shared = entry.standing.terms.shared;
        let brought = brought(&open, shared);
        let plans: Vec<&Plan> = brought.iter().map(AsRef::as_ref).collect();
        Some(Together {
            others,
            shared,
            plan: policy::combine(&plans, shared)?,
        })
    }

    /// Makes file and record say what the login's sessions grant together now.
    pub(super) fn show(&mut self, login: &Login, effects: &mut Vec<Effect>) {
        let shows = self.order(login, effects);
        effects.extend(shows);
    }

    /// The first half of it: the order for the file. What is returned shows the same in the record. What is put in between is
    /// done while the order is carried out.
    pub(super) fn order(&mut self, login: &Login, effects: &mut Vec<Effect>) -> Option<Effect> {
        let published = self.published(login);
        let (specs, groups) = match &published {
            Some(published) => (
                published.plan.sudoers.clone(),
                synthesized_groups(&published.plan),
            ),
            None => Default::default(),
        };
        let entry = self.logins.get_mut(login)?;
        if entry.sudoers.as_ref() != Some(&specs) {
            entry.sudoers = Some(specs.clone());
            effects.push(Effect::Sudoers(login.clone(), specs));
        }
        let lingers = entry.lingers();
        let before = std::mem::replace(&mut entry.groups, groups.clone());
        self.count_groups(&before, groups, effects);
        self.note(login);
        Some(match published {
            Some(_) => Effect::Publish(login.clone()),
            None if lingers => Effect::Lock(login.clone()),
            None => Effect::Withdraw(login.clone()),
        })
    }

    /// The same for who is to have what the file grants, or to have it no more, once he is answered: somebody else may have ordered
    /// it, and still be waiting.
    pub(super) fn order_and_await(
        &mut self,
        login: &Login,
        effects: &mut Vec<Effect>,
    ) -> Option<Effect> {
        let shows = self.order(login, effects);
        let is_ordered = |effect: &Effect| matches!(effect, Effect::Sudoers(..));
        if !effects.iter().any(is_ordered) {
            effects.push(Effect::AwaitSudoers(login.clone()));
        }
        shows
    }

    /// Its sudoers file could not be written: whatever shows it next tries again.
    pub fn sudoers_not_written(&mut self, login: &Login) {
        if let Some(entry) = self.logins.get_mut(login) {
            entry.sudoers = None;
        }
        self.count_sudo(login);
    }
}

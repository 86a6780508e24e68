//! Which sessions of a login grant something: not those whose leader has become the user.
//!
//! Pure: who has become the user is seen by whoever watches the leaders.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::session::{Session, SessionId, State};
use super::{Effect, MARKER, Registry};
use crate::policy::Plan;
use crate::policy::plan::SharedLogins;

impl Registry {
    /// Whether the session would lose rights if its leader became the user.
    pub fn can_renounce(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| {
            let plan = &session.plan;
            !session.renounced && without_rights(plan).grants() != plan.grants()
        })
    }

    /// The leader of the session has become the user: the session goes on, its rights end.
    pub fn renounce(&mut self, id: SessionId) -> Vec<Effect> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Vec::new();
        };
        if session.renounced || matches!(session.state, State::Departed { .. }) {
            return Vec::new();
        }
        session.renounced = true;
        let login = session.login().clone();
        let mut effects = vec![Effect::RememberSession(id)];
        self.show(&login, &mut effects);
        effects
    }
}

/// The plans of the open sessions, each with the rights that it still brings.
///
/// A leader that has become the user brings none. Only where several Teleport users have what all of them
/// were granted, it still holds the others back: its user's processes run beside theirs.
pub(super) fn brought<'s>(open: &[&'s Session], shared: SharedLogins) -> Vec<Cow<'s, Plan>> {
    let present: BTreeSet<&str> = open
        .iter()
        .filter(|session| !session.renounced)
        .map(|session| session.plan.teleport_user.as_str())
        .collect();
    let holds_back = |plan: &Plan| {
        shared != SharedLogins::Union
            && !present.is_empty()
            && !present.contains(plan.teleport_user.as_str())
    };
    open.iter()
        .map(|session| match &session.plan {
            plan if session.renounced && !holds_back(plan) => Cow::Owned(without_rights(plan)),
            plan => Cow::Borrowed(plan),
        })
        .collect()
}

/// The plan of a login without a single right: known, and marked as ours.
pub(super) fn without_rights(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.groups.retain(|group| group.name.as_ref() == MARKER);
    plan.sudoers.clear();
    plan.doas = false;
    plan
}

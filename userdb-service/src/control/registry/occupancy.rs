//! What the policy is told of who is on, kept true with every change of a login.
//!
//! So that a decision costs the same however many are on, nothing is counted anew.

use std::collections::BTreeMap;

use super::entry::{Entry, Phase};
use super::session::{Session, SessionId, State};
use super::{Effect, Registry};
use crate::policy::decide::{self, Occupant};
use crate::policy::plan::{Grants, GroupOrigin};
use crate::policy::text::Text;
use crate::policy::{Gid, GroupName, Login, Plan};

impl Registry {
    /// Keeps the occupancy and the counts of sudoers files true after a change of the login.
    pub(super) fn note(&mut self, login: &Login) {
        let Some(entry) = self.logins.get(login) else {
            return;
        };
        let occupant = self.occupant(entry, None);
        let (uid, gid) = (occupant.uid, occupant.gid);
        let given = || occupant.given.as_str().into();
        self.occupancy.uids.insert(uid, given());
        if gid.get() != uid.get() {
            self.occupancy.gids.insert(gid, given());
        }
        self.occupancy.logins.insert(login.clone(), occupant);
        self.count_sudo(login);
    }

    /// What the policy is told of a login, with all of its sessions but one.
    pub(super) fn occupant(&self, entry: &Entry, without: Option<SessionId>) -> Occupant {
        let standing = &entry.standing;
        let sessions: Vec<&Session> = entry
            .sessions
            .values()
            .filter(|id| Some(**id) != without)
            .filter_map(|id| self.sessions.get(id))
            .collect();
        let mut occupant = Occupant {
            uid: standing.uid,
            gid: standing.gid,
            given: standing.given.clone(),
            aliases: Vec::new(),
            teleport_users: BTreeMap::new(),
            granted: standing.granted.groups.clone(),
            sessions: u32::try_from(sessions.len()).unwrap_or(u32::MAX),
            phase: match standing.phase {
                Phase::Live => decide::LoginPhase::Reserved,
                // What it has left goes on after the delay: nobody waits for its end.
                Phase::Retiring { .. } if standing.outlasts_sessions() => {
                    decide::LoginPhase::Lingering
                }
                Phase::Retiring { .. } => decide::LoginPhase::Retiring,
                Phase::Lingering => decide::LoginPhase::Lingering,
                Phase::Terminating => decide::LoginPhase::Terminating,
            },
            shared: standing.terms.shared,
        };
        for session in sessions {
            let plan = &session.plan;
            if session.state == State::Open {
                occupant.phase = decide::LoginPhase::Active;
            }
            for alias in &plan.aliases {
                if !occupant.aliases.contains(alias) {
                    occupant.aliases.push(alias.clone());
                }
            }
            let grants: &mut Grants = occupant
                .teleport_users
                .entry(plan.teleport_user.clone())
                .or_default();
            *grants = grants.union(&plan.grants());
        }
        occupant
    }

    /// Counts the logins in each synthesized group; a group is there as long as it has a member, and
    /// its GID goes to no other name before the next boot.
    pub(super) fn count_groups(
        &mut self,
        before: &BTreeMap<GroupName, Gid>,
        now: BTreeMap<GroupName, Gid>,
        effects: &mut Vec<Effect>,
    ) {
        for (name, gid) in &now {
            if before.contains_key(name) {
                continue;
            }
            *self.members.entry(name.clone()).or_default() += 1;
            self.occupancy.groups.insert(name.clone(), *gid);
            let hashed = format!("group:{name}");
            if self.occupancy.gids.get(gid).map(Text::as_str) != Some(&hashed) {
                self.occupancy.gids.insert(*gid, hashed.as_str().into());
                effects.push(Effect::RememberGid(*gid, hashed));
            }
        }
        for name in before.keys() {
            if now.contains_key(name) {
                continue;
            }
            if let Some(count) = self.members.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.members.remove(name);
                    self.occupancy.groups.remove(name);
                }
            }
        }
    }
}

/// The groups of a plan that are ours, with their GIDs.
pub(super) fn synthesized_groups(plan: &Plan) -> BTreeMap<GroupName, Gid> {
    plan.groups
        .iter()
        .filter(|group| group.origin == GroupOrigin::Synthesized)
        .filter_map(|group| Some((group.name.clone(), Gid::try_from(group.gid).ok()?)))
        .collect()
}

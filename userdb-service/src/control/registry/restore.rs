//! Taking up after a restart what was written down before it.
//!
//! Sessions whose leaders have exited meanwhile end here as if they had exited now.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Phase, Standing};
use super::session::{Session, State};
use super::{DEPARTURE, Effect, RESERVATION, Registry, Terms, Timer};
use crate::control::host::clock::Boottime;
use crate::policy::{Gid, Login, Uid};

/// IDs that were given out since boot, each with the name it was derived from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsedIds {
    /// UIDs, by the login as it was spelled originally.
    pub uids: Vec<(Uid, String)>,
    /// GIDs that are not their user's UID, by `group:NAME` or by the login.
    pub gids: Vec<(Gid, String)>,
}

impl Registry {
    /// Takes back what was written down before a restart. `alive` tells which leaders still live;
    /// sessions of the others end as if their leaders had exited now. A login that had sessions of which
    /// none is written down any more lingers: nobody can say which of them live. So does one `in_doubt` of which all that are
    /// written down are over: what cannot be read may be its.
    pub fn restore(
        &mut self,
        now: Boottime,
        standings: Vec<Standing>,
        mut sessions: Vec<Session>,
        used_ids: UsedIds,
        in_doubt: &BTreeSet<Login>,
        mut alive: impl FnMut(&Session) -> bool,
    ) -> Vec<Effect> {
        let uids = used_ids.uids.into_iter();
        self.occupancy
            .uids
            .extend(uids.map(|(uid, name)| (uid, name.into())));
        let gids = used_ids.gids.into_iter();
        self.occupancy
            .gids
            .extend(gids.map(|(gid, name)| (gid, name.into())));
        let read: BTreeMap<Login, Standing> = standings
            .into_iter()
            .map(|standing| (standing.login.clone(), standing))
            .collect();
        for (login, standing) in &read {
            let entry = Entry::restored(standing.clone());
            self.logins.insert(login.clone(), entry);
        }
        let terms = self.terms;
        // Those that live first, and of those that are over the last: they may be of a user who had the name before, and has gone but
        // for this.
        sessions.sort_by_key(|session| match session.state {
            State::Departed { .. } => (true, u64::MAX - session.order),
            _ => (false, session.order),
        });
        let mut gone = Vec::new();
        let mut effects = Vec::new();
        for session in sessions {
            let (id, order) = (session.id, session.order);
            self.arrivals = self.arrivals.max(order);
            let login = session.login().clone();
            let is_over = matches!(session.state, State::Departed { .. });
            let entry = self.logins.entry(login);
            let entry = entry.or_insert_with(|| Entry::restored(implied(&session, terms)));
            let plan = &session.plan;
            // What is written down of the login is of an earlier user.
            if entry.standing.uid != plan.uid && !is_over && entry.sessions.is_empty() {
                entry.standing = implied(&session, terms);
            }
            let is_its_own = entry.standing.uid == plan.uid;
            if is_its_own {
                entry.standing.catch_up(&session);
            } else {
                // Perhaps nothing else says that it was given out.
                let given = plan.given.as_str();
                self.occupancy.uids.insert(plan.uid, given.into());
                effects.push(Effect::RememberUid(plan.uid, given.to_owned()));
                if plan.gid.get() != plan.uid.get() {
                    self.occupancy.gids.insert(plan.gid, given.into());
                    effects.push(Effect::RememberGid(plan.gid, given.to_owned()));
                }
            }
            match session.state {
                State::Departed { at, .. } => {
                    // It may have come and gone after that was written down, and its leader may be about to tell how it ended.
                    if is_its_own
                        && entry.sessions.is_empty()
                        && !entry.standing.is_stranded()
                        && let Phase::Retiring { .. } | Phase::Lingering = entry.standing.phase
                    {
                        entry.standing.phase = Phase::Retiring { since: now };
                    }
                    entry.departed.insert(id);
                    self.timers
                        .insert((at + DEPARTURE, Timer::DepartureOverdue(id)));
                }
                State::Reserved { at } => {
                    entry.standing.phase = Phase::Live;
                    entry.sessions.insert(order, id);
                    self.timers
                        .insert((at + RESERVATION, Timer::ReservationExpires(id)));
                }
                State::Open => {
                    entry.standing.phase = Phase::Live;
                    entry.sessions.insert(order, id);
                }
            }
            if alive(&session) {
                effects.push(Effect::Watch(id));
            } else {
                gone.push(id);
            }
            self.sessions.insert(id, session);
        }
        for (login, entry) in &mut self.logins {
            let accounted = !entry.sessions.is_empty()
                || !entry.departed.is_empty() && !in_doubt.contains(login);
            let standing = &mut entry.standing;
            if standing.phase == Phase::Live && standing.may_have_remains && !accounted {
                standing.strand();
            }
            if read.get(login) != Some(standing) {
                effects.push(Effect::RememberLogin(login.clone()));
            }
        }
        for id in gone {
            effects.extend(self.leader_gone(now, id));
        }
        let logins: Vec<Login> = self.logins.keys().cloned().collect();
        for login in logins {
            self.show_or_retire(now, &login, &mut effects);
        }
        effects
    }
}

/// A login as a session of it says: its standing was lost, or is not written down yet.
fn implied(session: &Session, terms: Terms) -> Standing {
    let plan = &session.plan;
    Standing {
        login: plan.login.clone(),
        given: plan.given.clone(),
        uid: plan.uid,
        gid: plan.gid,
        phase: Phase::Live,
        owners: BTreeSet::from([plan.teleport_user.clone()]),
        may_have_remains: true,
        // Of none that is open: what is in place may be somebody else's. Better a new home than a stranger's.
        has_home: false,
        linger: false,
        granted: plan.grants(),
        terms: session.terms.unwrap_or(terms),
    }
}

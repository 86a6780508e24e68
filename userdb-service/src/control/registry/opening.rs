//! How a session comes: reserved, about to open, open.
//!
//! Whether it may come is decided by the policy and asked by the daemon; nothing ends in here.

use std::collections::BTreeSet;

use super::entry::{Entry, Phase, Standing};
use super::session::{Session, SessionId, State};
use super::{Effect, RESERVATION, Registry, Timer};
use crate::control::host::clock::Boottime;
use crate::control::leader::LeaderId;
use crate::policy::decide::Occupant;
use crate::policy::plan::{Grants, Home};
use crate::policy::{Login, Plan};

/// A login that was decided on and now comes in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The handle it gets.
    pub id: SessionId,
    /// What was decided.
    pub plan: Plan,
    /// The process that asked.
    pub leader: LeaderId,
    /// The PAM service.
    pub service: String,
    /// Microseconds of CLOCK_REALTIME.
    pub since_usec: u64,
}

/// Whether a login can be joined by a Teleport user now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joinable {
    /// Nothing is there, or what is there may be joined.
    Now,
    /// What an earlier user left is still being ended.
    AfterRemains,
}

/// A reservation on its way to a session with a home.
#[derive(Clone, Debug)]
pub struct Begun {
    /// What it was granted.
    pub plan: Plan,
    /// To be carried out before anything is made for it.
    pub effects: Vec<Effect>,
}

/// The handle names no session that could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoReservation;

impl Registry {
    /// Whether who is to have `plan` may come in now.
    pub fn joinable(&self, plan: &Plan) -> Joinable {
        let Some(entry) = self.logins.get(&plan.login) else {
            return Joinable::Now;
        };
        // By another spelling it is another user, with another UID.
        let owned = entry.is_owned_by(&plan.teleport_user) && entry.standing.given == plan.given;
        match entry.standing.phase {
            Phase::Live => Joinable::Now,
            Phase::Retiring { .. } if owned => Joinable::Now,
            Phase::Lingering if owned && entry.standing.granted == plan.grants() => Joinable::Now,
            Phase::Retiring { .. } | Phase::Lingering | Phase::Terminating => {
                Joinable::AfterRemains
            }
        }
    }

    /// The account phase: the login becomes known, without rights yet. The caller has checked that it
    /// is [`Joinable`] and has decided the plan on the current [`Registry::occupancy`].
    pub fn reserve(&mut self, now: Boottime, arrival: Arrival) -> Vec<Effect> {
        let Arrival {
            id,
            plan,
            leader,
            service,
            since_usec,
        } = arrival;
        self.arrivals += 1;
        let order = self.arrivals;
        let login = plan.login.clone();
        let entry = self.logins.entry(login.clone()).or_insert_with(|| {
            Entry::new(Standing {
                login: login.clone(),
                given: plan.given.clone(),
                uid: plan.uid,
                gid: plan.gid,
                phase: Phase::Live,
                owners: BTreeSet::new(),
                may_have_remains: false,
                has_home: false,
                linger: false,
                granted: Grants::default(),
                terms: self.terms,
            })
        });
        if entry.sessions.is_empty() {
            // Somebody who comes back has kept nothing that a session was opened with.
            entry.standing.terms = self.terms;
        }
        entry.standing.phase = Phase::Live;
        entry.standing.owners.insert(plan.teleport_user.clone());
        let terms = Some(entry.standing.terms);
        entry.sessions.insert(order, id);
        self.timers
            .insert((now + RESERVATION, Timer::ReservationExpires(id)));
        self.sessions.insert(
            id,
            Session {
                id,
                order,
                plan,
                leader,
                service,
                state: State::Reserved { at: now },
                since_usec,
                renounced: false,
                terms,
            },
        );
        let mut effects = vec![
            Effect::RememberSession(id),
            Effect::RememberLoginSoon(login.clone()),
            Effect::Watch(id),
        ];
        self.show(&login, &mut effects);
        effects
    }

    /// The session is about to open and gets a home: something of it may be left behind from now on. After a restart that is
    /// thought of every reservation with one. `None` if there is no such reservation, or nothing is made for it before it is open.
    pub fn begin_to_open(&mut self, id: SessionId) -> Option<Begun> {
        let session = self.sessions.get(&id)?;
        if !matches!(session.state, State::Reserved { .. }) || session.plan.home == Home::None {
            return None;
        }
        let plan = session.plan.clone();
        let standing = &mut self.logins.get_mut(&plan.login)?.standing;
        standing.may_have_remains = true;
        let effects = vec![Effect::RememberLoginSoon(plan.login.clone())];
        Some(Begun { plan, effects })
    }

    /// The login was given an ephemeral home.
    pub fn given_a_home(&mut self, login: &Login) {
        if let Some(entry) = self.logins.get_mut(login) {
            entry.standing.has_home = true;
        }
    }

    /// The session's home could not be made: it starts in `/`.
    pub fn without_home(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.plan.home = Home::None;
        }
    }

    /// Who else is on the login of this reservation, for the policy to judge whether it may open. `None` if
    /// there is no such reservation.
    pub fn others(&self, id: SessionId) -> Option<Occupant> {
        let session = self.sessions.get(&id)?;
        let reserved = matches!(session.state, State::Reserved { .. });
        let entry = self.logins.get(session.login()).filter(|_| reserved)?;
        Some(self.occupant(entry, Some(id)))
    }

    /// The session phase: from now on its rights hold. Opening an open session again changes nothing.
    pub fn open(&mut self, id: SessionId) -> Result<Vec<Effect>, NoReservation> {
        let session = self.sessions.get_mut(&id).ok_or(NoReservation)?;
        let login = session.login().clone();
        match session.state {
            State::Reserved { at } => {
                session.state = State::Open;
                self.timers
                    .remove(&(at + RESERVATION, Timer::ReservationExpires(id)));
            }
            State::Open => return Ok(Vec::new()),
            State::Departed { .. } => return Err(NoReservation),
        }
        if let Some(entry) = self.logins.get_mut(&login) {
            entry.standing.opened(&session.plan);
        }
        let mut effects = Vec::new();
        let shows = self.order_and_await(&login, &mut effects);
        // Written down while its file is: after a crash in between it is still reserved, and the file is swept.
        effects.push(Effect::RememberSession(id));
        effects.push(Effect::RememberLoginSoon(login));
        effects.extend(shows);
        Ok(effects)
    }
}

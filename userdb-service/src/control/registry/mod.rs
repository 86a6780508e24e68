//! The session registry as a state machine: (state, event) -> (state, effects).
//!
//! No I/O, no clock, no waiting in here: the daemon says what happened and when, and carries the
//! effects out in the order in which they are returned.

mod effect;
mod ending;
mod entry;
mod granted;
mod lingering;
mod occupancy;
mod opening;
mod renounced;
mod restore;
mod session;
#[cfg(test)]
mod tests;
mod wanting;
mod with_sudo;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub use effect::Effect;
pub use entry::{Phase, Standing, Terms};
pub use granted::{Published, Together};
pub use opening::{Arrival, Begun, Joinable, NoReservation};
pub use restore::UsedIds;
pub use session::{NotASessionId, Session, SessionId, State};

use self::entry::Entry;
use self::with_sudo::WithSudo;
use crate::control::host::clock::Boottime;
use crate::policy::{GroupName, Login, MARKER, Occupancy};

/// How long a reservation may wait for its session, however long its leader lives.
const RESERVATION: Duration = Duration::from_secs(600);
/// How long after its close a leader that does not exit is waited for.
const DEPARTURE: Duration = Duration::from_secs(10);

/// Everything that is reserved, open, or not yet fully gone.
#[derive(Debug)]
pub struct Registry {
    sessions: HashMap<SessionId, Session>,
    logins: BTreeMap<Login, Entry>,
    /// What the policy needs to know of the above, kept up with every change.
    occupancy: Occupancy,
    /// Number of logins in each synthesized group.
    members: HashMap<GroupName, u32>,
    with_sudo: WithSudo,
    timers: BTreeSet<(Boottime, Timer)>,
    arrivals: u64,
    /// What logins come into being under from now on.
    terms: Terms,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    ReservationExpires(SessionId),
    DepartureOverdue(SessionId),
    RetireDelayOver(Login),
}

impl Registry {
    /// An empty registry.
    pub fn new(terms: Terms) -> Self {
        Self {
            sessions: HashMap::new(),
            logins: BTreeMap::new(),
            occupancy: Occupancy::default(),
            members: HashMap::new(),
            with_sudo: WithSudo::default(),
            timers: BTreeSet::new(),
            arrivals: 0,
            terms,
        }
    }

    /// Applies configuration that concerns the registry. What is there keeps what it came under.
    pub fn configure(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// What the policy needs to know of who is on.
    pub fn occupancy(&self) -> &Occupancy {
        &self.occupancy
    }

    /// The session with this handle, in whatever state.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Sessions that are reserved or open, oldest first.
    pub fn list(&self) -> Vec<&Session> {
        let mut live: Vec<&Session> = self
            .sessions
            .values()
            .filter(|session| !matches!(session.state, State::Departed { .. }))
            .collect();
        live.sort_by_key(|session| session.order);
        live
    }

    /// Logins of which anything is left, with how far their end has come.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.logins.values().map(|entry| &entry.standing)
    }

    /// The login's standing, if anything of it is left.
    pub fn standing(&self, login: &Login) -> Option<&Standing> {
        self.logins.get(login).map(|entry| &entry.standing)
    }

    /// When [`Registry::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<Boottime> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many sessions and logins are remembered.
    pub fn size(&self) -> usize {
        self.sessions.len() + self.logins.len()
    }

    /// Holds no more memory than what is remembered needs.
    pub fn shrink(&mut self) {
        self.sessions.shrink_to_fit();
        self.members.shrink_to_fit();
        self.with_sudo.shrink();
        // What stays has grown amid what came and went, and each piece of it keeps a page from being given back.
        let Occupancy { uids, gids, .. } = &mut self.occupancy;
        uids.shrink();
        gids.shrink();
    }
}

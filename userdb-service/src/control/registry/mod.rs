//! The session registry as a state machine: (state, event) -> (state, effects).
//!
//! No I/O, no clock, no waiting in here: the daemon says what happened and when, and carries the
//! effects out in the order in which they are returned.

mod entry;
mod lingering;
mod occupancy;
mod renounced;
mod restore;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

pub use entry::{Phase, Standing, Terms};
pub use session::{NotASessionId, Session, SessionId, State};

use self::entry::Entry;
use self::occupancy::synthesized_groups;
use self::renounced::{brought, without_rights};
use crate::control::clock::Boottime;
use crate::control::leader::LeaderId;
use crate::policy::decide::Occupant;
use crate::policy::plan::{Grants, Home};
use crate::policy::{self, Gid, GroupName, Login, Occupancy, Plan, SudoersSpec, Uid};

/// The group that marks all of our users. It grants nothing by itself.
const MARKER: &str = "teleport-tmp";

/// How long a reservation may wait for its session, however long its leader lives.
const RESERVATION: Duration = Duration::from_secs(600);
/// How long after its close a leader that does not exit is waited for.
const DEPARTURE: Duration = Duration::from_secs(10);

/// What the daemon has to do, in this order, for a transition to be true outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the session down for a restart.
    RememberSession(SessionId),
    /// Remove what was written down of the session.
    ForgetSession(SessionId),
    /// Write the login's standing down for a restart.
    RememberLogin(Login),
    /// Remove what was written down of the login.
    ForgetLogin(Login),
    /// Make the login's sudoers file say this; nothing: remove it.
    Sudoers(Login, Vec<SudoersSpec>),
    /// Publish the login with what its sessions grant together: [`Registry::published`].
    Publish(Login),
    /// Withdraw name, aliases, IDs and memberships of the login.
    Withdraw(Login),
    /// Leave what is published of the login as it is, but locked and without memberships.
    Lock(Login),
    /// Report when no process of the UID is left.
    AwaitProcesses(Login, Uid),
    /// Report the exit of the session's leader.
    Watch(SessionId),
    /// No longer.
    Unwatch(SessionId),
    /// End processes and other remains of the UID, then report that they have ended.
    EndRemains(Login, Uid),
    /// The UID may go to no other name before the next boot.
    Quarantine(Uid, String),
    /// Nor may the GID of this group, or of this login's private group.
    QuarantineGroup(Gid, String),
}

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

/// IDs that were given out since boot, each with the name it was derived from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quarantine {
    /// UIDs, by the login as it was spelled originally.
    pub uids: Vec<(Uid, String)>,
    /// GIDs that are not their user's UID, by `group:NAME` or by the login.
    pub gids: Vec<(Gid, String)>,
}

/// Whether a login can be joined by a Teleport user now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joinable {
    /// Nothing is there, or what is there may be joined.
    Now,
    /// What an earlier user left is still being ended.
    AfterRemains,
}

/// A reservation on its way to a session.
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

/// Everything that is reserved, open, or not yet fully gone.
#[derive(Debug)]
pub struct Registry {
    sessions: HashMap<SessionId, Session>,
    logins: BTreeMap<Login, Entry>,
    /// What the policy needs to know of the above, kept up with every change.
    occupancy: Occupancy,
    /// Number of logins in each synthesized group.
    members: HashMap<GroupName, u32>,
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

    /// Logins that have a sudoers file.
    pub fn sudoers(&self) -> impl Iterator<Item = &Login> {
        self.logins
            .values()
            .filter(|entry| {
                entry
                    .sudoers
                    .as_ref()
                    .is_some_and(|specs| !specs.is_empty())
            })
            .map(|entry| &entry.standing.login)
    }

    /// How many other logins have a sudoers file, and how many of those are of the Teleport user who has
    /// fewest of all that are on `login`, with that user's name.
    pub fn sudoers_beside(&self, login: &Login) -> (usize, usize, &str) {
        let with_file: Vec<&Login> = self.sudoers().filter(|have| *have != login).collect();
        let of = |user: &str| {
            let is_on = |login: &&&Login| self.open_users(login).any(|have| have == user);
            with_file.iter().filter(is_on).count()
        };
        let least = self
            .open_users(login)
            .map(|user| (of(user), user))
            .min()
            .unwrap_or_default();
        (with_file.len(), least.0, least.1)
    }

    /// The Teleport users with an open session on the login, each as often as it has one.
    fn open_users(&self, login: &Login) -> impl Iterator<Item = &str> {
        let ids = self.logins.get(login).map(|entry| entry.sessions.values());
        ids.into_iter()
            .flatten()
            .filter_map(|id| self.sessions.get(id))
            .filter(|session| session.state == State::Open)
            .map(|session| session.plan.teleport_user.as_str())
    }

    /// When [`Registry::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<Boottime> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether who is to have `plan` may come in now.
    pub fn joinable(&self, plan: &Plan) -> Joinable {
        let Some(entry) = self.logins.get(&plan.login) else {
            return Joinable::Now;
        };
        let owned = entry.is_owned_by(&plan.teleport_user);
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
            },
        );
        let mut effects = vec![
            Effect::RememberSession(id),
            Effect::RememberLogin(login.clone()),
            Effect::Watch(id),
        ];
        self.show(&login, &mut effects);
        effects
    }

    /// The session is about to open: from now on something of it may be left behind, in its home if
    /// nowhere else. `None` if there is no such reservation.
    pub fn begin_to_open(&mut self, id: SessionId) -> Option<Begun> {
        let session = self.sessions.get(&id)?;
        if !matches!(session.state, State::Reserved { .. }) {
            return None;
        }
        let plan = session.plan.clone();
        let standing = &mut self.logins.get_mut(&plan.login)?.standing;
        standing.may_have_remains = true;
        let effects = vec![Effect::RememberLogin(plan.login.clone())];
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
        let (linger, grants) = (session.plan.linger, session.plan.grants());
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
            let standing = &mut entry.standing;
            standing.may_have_remains = true;
            standing.linger |= linger;
            standing.granted = standing.granted.union(&grants);
        }
        let mut effects = vec![
            Effect::RememberSession(id),
            Effect::RememberLogin(login.clone()),
        ];
        self.show(&login, &mut effects);
        Ok(effects)
    }

    /// The session is over: its rights go at once, its leader is waited for. Unknown handles and
    /// sessions that are over already change nothing.
    pub fn close(&mut self, now: Boottime, id: SessionId) -> Vec<Effect> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Vec::new();
        };
        if matches!(session.state, State::Departed { .. }) {
            return Vec::new();
        }
        if let State::Reserved { at } = session.state {
            self.timers
                .remove(&(at + RESERVATION, Timer::ReservationExpires(id)));
        }
        session.state = State::Departed { at: now };
        let login = session.login().clone();
        let order = session.order;
        let Some(entry) = self.logins.get_mut(&login) else {
            return Vec::new();
        };
        entry.sessions.remove(&order);
        entry.departed.insert(id);
        self.timers
            .insert((now + DEPARTURE, Timer::DepartureOverdue(id)));
        // Written down first: after a crash in between it must not come back with its rights.
        let mut effects = vec![Effect::RememberSession(id)];
        self.settle(now, &login, &mut effects);
        effects
    }

    /// The leader of the session has exited.
    pub fn leader_gone(&mut self, now: Boottime, id: SessionId) -> Vec<Effect> {
        let mut effects = self.close(now, id);
        self.depart(now, id, &mut effects);
        effects
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Boottime) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((at, _)) = self.timers.first() {
            if *at > now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            match timer {
                Timer::ReservationExpires(id) => {
                    if let Some(Session {
                        state: State::Reserved { .. },
                        ..
                    }) = self.sessions.get(&id)
                    {
                        effects.extend(self.close(now, id));
                    }
                }
                Timer::DepartureOverdue(id) => self.depart(now, id, &mut effects),
                Timer::RetireDelayOver(login) => self.terminate(now, &login, &mut effects),
            }
        }
        effects
    }

    /// Nothing of the login's UID is left: no process, no IPC, no user at logind.
    pub fn remains_ended(&mut self, login: &Login) -> Vec<Effect> {
        match self.logins.get(login) {
            Some(entry) if entry.standing.phase == Phase::Terminating => {
                let mut effects = Vec::new();
                self.drop_login(login, &mut effects);
                effects
            }
            _ => Vec::new(),
        }
    }

    /// After its sessions changed: shows what they grant now, or begins the end of the login.
    fn settle(&mut self, now: Boottime, login: &Login, effects: &mut Vec<Effect>) {
        self.show(login, effects);
        let Some(entry) = self.logins.get_mut(login) else {
            return;
        };
        if !entry.sessions.is_empty() {
            return;
        }
        match entry.standing.phase {
            Phase::Live if entry.standing.may_have_remains => {
                entry.standing.phase = Phase::Retiring { since: now };
                effects.push(Effect::RememberLogin(login.clone()));
                self.timers.insert((
                    now + entry.standing.terms.retire_delay,
                    Timer::RetireDelayOver(login.clone()),
                ));
                entry.await_processes(effects);
                self.note(login);
            }
            // It was only ever reserved: nothing ran under its UID.
            Phase::Live => {
                if entry.departed.is_empty() {
                    self.drop_login(login, effects);
                }
            }
            Phase::Retiring { since } => {
                self.timers.insert((
                    since + entry.standing.terms.retire_delay,
                    Timer::RetireDelayOver(login.clone()),
                ));
                entry.await_processes(effects);
                self.note(login);
            }
            Phase::Lingering => {
                entry.await_processes(effects);
                self.note(login);
            }
            Phase::Terminating => {
                effects.push(Effect::EndRemains(login.clone(), entry.standing.uid));
                self.note(login);
            }
        }
    }

    /// How many sessions and logins are remembered.
    pub fn size(&self) -> usize {
        self.sessions.len() + self.logins.len()
    }

    /// Holds no more memory than what is remembered needs.
    pub fn shrink(&mut self) {
        self.sessions.shrink_to_fit();
        self.members.shrink_to_fit();
    }

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
            plan: policy::combine(&plans, terms.shared)
                .unwrap_or_else(|| without_rights(&first.plan)),
            sessions: u32::try_from(open.len()).unwrap_or(u32::MAX),
            since_usec: first.since_usec,
            retire_delay: terms.retire_delay,
        })
    }

    /// Makes file and record say what the login's sessions grant together now.
    fn show(&mut self, login: &Login, effects: &mut Vec<Effect>) {
        let published = self.published(login);
        let (specs, groups) = match &published {
            Some(published) => (
                published.plan.sudoers.clone(),
                synthesized_groups(&published.plan),
            ),
            None => Default::default(),
        };
        let Some(entry) = self.logins.get_mut(login) else {
            return;
        };
        if entry.sudoers.as_ref() != Some(&specs) {
            entry.sudoers = Some(specs.clone());
            effects.push(Effect::Sudoers(login.clone(), specs));
        }
        let lingers = entry.lingers();
        let before = std::mem::replace(&mut entry.groups, groups.clone());
        self.count_groups(&before, groups, effects);
        effects.push(match published {
            Some(_) => Effect::Publish(login.clone()),
            None if lingers => Effect::Lock(login.clone()),
            None => Effect::Withdraw(login.clone()),
        });
        self.note(login);
    }

    /// Its sudoers file could not be written: whatever shows it next tries again.
    pub fn sudoers_not_written(&mut self, login: &Login) {
        if let Some(entry) = self.logins.get_mut(login) {
            entry.sudoers = None;
        }
    }

    /// The leader of a departed session has exited or was waited for long enough.
    fn depart(&mut self, now: Boottime, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        if !matches!(session.state, State::Departed { .. }) {
            return;
        }
        let login = session.login().clone();
        self.sessions.remove(&id);
        effects.push(Effect::Unwatch(id));
        effects.push(Effect::ForgetSession(id));
        if let Some(entry) = self.logins.get_mut(&login) {
            entry.departed.remove(&id);
            let standing = &entry.standing;
            if standing.phase == Phase::Live && !standing.may_have_remains {
                if entry.sessions.is_empty() && entry.departed.is_empty() {
                    self.drop_login(&login, effects);
                }
            } else {
                self.terminate(now, &login, effects);
            }
        }
    }

    /// Begins to end the login's remains, if its delay is over and its leaders are gone. Sooner would
    /// kill the very process that is reporting the session's exit status: pam_systemd has moved it
    /// into the user's scope.
    fn terminate(&mut self, now: Boottime, login: &Login, effects: &mut Vec<Effect>) {
        let Some(entry) = self.logins.get_mut(login) else {
            return;
        };
        let Phase::Retiring { since } = entry.standing.phase else {
            return;
        };
        let delay = entry.standing.terms.retire_delay;
        if now.since(since) < delay || !entry.departed.is_empty() {
            return;
        }
        if entry.standing.linger {
            entry.standing.phase = Phase::Lingering;
            effects.push(Effect::RememberLogin(login.clone()));
            entry.await_processes(effects);
        } else {
            entry.standing.phase = Phase::Terminating;
            effects.push(Effect::RememberLogin(login.clone()));
            effects.push(Effect::EndRemains(login.clone(), entry.standing.uid));
        }
        self.note(login);
    }

    /// Nothing of the login is left but the memory of its UID.
    fn drop_login(&mut self, login: &Login, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.logins.remove(login) {
            let Standing {
                uid, gid, given, ..
            } = entry.standing;
            self.occupancy.logins.remove(login);
            if gid.get() != uid.get() {
                self.occupancy.gids.insert(gid, given.clone());
                effects.push(Effect::QuarantineGroup(gid, given.clone()));
            }
            effects.push(Effect::Quarantine(uid, given));
            effects.push(Effect::ForgetLogin(login.clone()));
        }
    }
}

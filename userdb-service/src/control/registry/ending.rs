//! How sessions end, and with the last one their login: closed, departed, retiring, terminating, gone.
//!
//! When a leader exits and when nothing is left of a login is the daemon's to see; nothing is granted in here.

use super::entry::{Phase, Standing};
use super::session::{Session, SessionId, State};
use super::{DEPARTURE, Effect, RESERVATION, Registry, Timer};
use crate::control::host::clock::Boottime;
use crate::policy::Login;

impl Registry {
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
        session.state = session.state.departed(now);
        let login = session.login().clone();
        let order = session.order;
        let Some(entry) = self.logins.get_mut(&login) else {
            return Vec::new();
        };
        entry.sessions.remove(&order);
        entry.departed.insert(id);
        self.timers
            .insert((now + DEPARTURE, Timer::DepartureOverdue(id)));
        let mut effects = Vec::new();
        let shows = self.order_and_await(&login, &mut effects);
        // Written down while its rights are taken away, and before anybody is told: after a crash it must not come back with
        // them. Should the crash come before that, then whoever has closed it has had no answer, and asks again.
        effects.push(Effect::RememberSession(id));
        self.retire(now, &login, shows, &mut effects);
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
    pub(super) fn show_or_retire(
        &mut self,
        now: Boottime,
        login: &Login,
        effects: &mut Vec<Effect>,
    ) {
        let shows = self.order(login, effects);
        self.retire(now, login, shows, effects);
    }

    /// Shows what the login's sessions grant now, as [`Registry::order`] has returned it, and begins its end if there are none.
    fn retire(
        &mut self,
        now: Boottime,
        login: &Login,
        shows: Option<Effect>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.logins.get_mut(login) else {
            return;
        };
        let is_over = entry.sessions.is_empty();
        if is_over && entry.standing.phase == Phase::Live && entry.standing.may_have_remains {
            entry.standing.phase = Phase::Retiring { since: now };
            // As long as a session of it is written down, that one says so: it is over. See `depart`.
            if entry.departed.is_empty() {
                effects.push(Effect::RememberLogin(login.clone()));
            }
        }
        effects.extend(shows);
        if !is_over {
            return;
        }
        match entry.standing.phase {
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

    /// The leader of a departed session has exited or was waited for long enough.
    fn depart(&mut self, now: Boottime, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let State::Departed { at, .. } = session.state else {
            return;
        };
        let login = session.login().clone();
        self.sessions.remove(&id);
        // Left until its time, ten thousand of them would outlast the giving back of a burst's memory, and each keep the page it is in.
        self.timers
            .remove(&(at + DEPARTURE, Timer::DepartureOverdue(id)));
        effects.push(Effect::Unwatch(id));
        let Some(entry) = self.logins.get_mut(&login) else {
            effects.push(Effect::ForgetSession(id));
            return;
        };
        entry.departed.remove(&id);
        let standing = &entry.standing;
        let was_only_reserved = standing.phase == Phase::Live && !standing.may_have_remains;
        if was_only_reserved && entry.sessions.is_empty() && entry.departed.is_empty() {
            // Its IDs are noted down before nothing else says any more that they were given out.
            self.drop_login(&login, effects);
            effects.push(Effect::ForgetSession(id));
            return;
        }
        // Where nothing is written down of its sessions, nobody knows which of them live.
        effects.push(Effect::RememberLogin(login.clone()));
        effects.push(Effect::ForgetSession(id));
        if !was_only_reserved {
            self.terminate(now, &login, effects);
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
            self.count_sudo(login);
            // After a restart it may have come and gone without another word of it.
            self.occupancy.uids.insert(uid, given.as_str().into());
            if gid.get() != uid.get() {
                self.occupancy.gids.insert(gid, given.as_str().into());
                effects.push(Effect::RememberGid(gid, given.clone()));
            }
            effects.push(Effect::RememberUid(uid, given));
            effects.push(Effect::ForgetLogin(login.clone()));
        }
    }
}

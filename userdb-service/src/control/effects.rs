//! Carries out what the registry asks for, in the order in which it asks.
//!
//! What withdraws something always goes on to the next step; what grants something stops at the first
//! step that fails, so that the caller can take the rest back.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::daemon::Daemon;
use super::messages;
use super::publish;
use super::registry::{Effect, Published, SessionId, State};
use super::sudo_rs;
use super::written::Note;
use crate::policy::room::{self, Room};
use crate::policy::{Login, SudoersSpec};

/// How often what has failed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// What came of a grant.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// What the person logging in should be told.
    pub(super) messages: Vec<String>,
    /// Why the grant cannot be made, for the journal. Whoever asked for it takes it back.
    pub(super) failed: Option<String>,
}

impl Daemon {
    /// Carries out what a reservation or an opening asks for, up to the first step that fails.
    pub(super) fn grant(self: &Rc<Self>, effects: Vec<Effect>) -> Granted {
        let mut done = Granted::default();
        for effect in effects {
            if let Err(why) = self.carry_out_one(effect, &mut done.messages) {
                done.failed = Some(why);
                break;
            }
        }
        self.something_changed();
        done
    }

    /// Carries out everything else: what ends, what shrinks, what time brings, for one login or many. A
    /// step that fails keeps none of the others from being made.
    pub(super) fn carry_out(self: &Rc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            let (login, watched) = match &effect {
                Effect::Publish(published) => (Some(published.plan.login.clone()), None),
                Effect::Watch(id) => (None, Some(*id)),
                _ => (None, None),
            };
            if let Err(why) = self.carry_out_one(effect, &mut Vec::new()) {
                error!("{why}");
                if let Some(login) = login {
                    self.withdraw_until_published(login);
                }
                if let Some(id) = watched {
                    // Not now: the effects that follow were meant for a session that goes on.
                    let daemon = self.clone();
                    spawn_local(async move { daemon.leader_gone(id) });
                }
            }
        }
        self.something_changed();
    }

    fn something_changed(&self) {
        self.deadline_moved.notify_one();
        self.settled.notify_waiters();
    }

    /// What is published of `login` may say more than its sessions still grant, and cannot be replaced
    /// now: better nothing than too much, until it can.
    fn withdraw_until_published(self: &Rc<Self>, login: Login) {
        self.withdraw(&login);
        let daemon = self.clone();
        spawn_local(async move {
            loop {
                sleep(RETRY).await;
                let published = daemon.registry.borrow().published(&login);
                match published {
                    Some(published) if daemon.publish(&published).is_err() => {}
                    _ => return,
                }
            }
        });
    }

    fn carry_out_one(
        self: &Rc<Self>,
        effect: Effect,
        messages: &mut Vec<String>,
    ) -> Result<(), String> {
        match effect {
            Effect::RememberSession(id) => return self.remember_session(id),
            Effect::ForgetSession(id) => {
                self.leaders.borrow_mut().remove(&id);
                self.write_down_in_time(Note::Session(id));
            }
            Effect::RememberLogin(login) | Effect::ForgetLogin(login) => {
                self.write_down_in_time(Note::Login(login));
            }
            Effect::Quarantine(uid, given) => {
                self.write_down_in_time(Note::UsedUid(uid, given));
            }
            Effect::QuarantineGroup(gid, name) => {
                self.write_down_in_time(Note::UsedGid(gid, name));
            }
            Effect::Sudoers(login, specs) => self.sudoers(&login, &specs, messages),
            Effect::Publish(published) => return self.publish(&published),
            Effect::Withdraw(login) => self.withdraw(&login),
            Effect::Lock(login) => self.lock(&login),
            Effect::AwaitProcesses(login, uid) => self.await_processes(login, uid),
            Effect::Watch(id) => return self.watch(id),
            Effect::Unwatch(id) => {
                if let Some(watch) = self.watches.borrow_mut().remove(&id) {
                    watch.abort();
                }
            }
            Effect::EndRemains(login, uid) => self.end_remains(login, uid),
        }
        Ok(())
    }

    fn remember_session(self: &Rc<Self>, id: SessionId) -> Result<(), String> {
        let state = self
            .registry
            .borrow()
            .session(id)
            .map(|session| session.state);
        match state {
            None => Ok(()),
            // The end of a session does not wait for its being written down.
            Some(State::Departed { .. }) => {
                self.write_down_in_time(Note::Session(id));
                Ok(())
            }
            Some(_) => self
                .write_down(&Note::Session(id))
                .map_err(|error| format!("the session cannot be written down: {error}")),
        }
    }

    fn sudoers(self: &Rc<Self>, login: &Login, specs: &[SudoersSpec], messages: &mut Vec<String>) {
        if specs.is_empty() {
            self.remove_sudoers(login);
            return;
        }
        if let Err(why) = self.has_room_for(login) {
            warn!(
                MESSAGE_ID = messages::NO_SUDO,
                TELEPORT_LOGIN = %login,
                "{login} goes without sudo: {why}"
            );
            messages.push(why);
            self.registry.borrow_mut().sudoers_not_written(login);
            return;
        }
        if let Err(error) = self.sudoers.write(login, specs) {
            warn!(
                MESSAGE_ID = messages::NO_SUDO,
                TELEPORT_LOGIN = %login,
                "{login} goes without sudo: {error}"
            );
            messages.push(format!(
                "This session has no sudo rights: its sudoers file cannot be written ({error})."
            ));
            // What an older file granted must not outlast it.
            self.remove_sudoers(login);
            self.registry.borrow_mut().sudoers_not_written(login);
        }
    }

    /// May the login have a file, if it has none yet? What is in place may be changed at any time.
    fn has_room_for(&self, login: &Login) -> Result<(), String> {
        if self.sudoers.has(login) {
            return Ok(());
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let registry = self.registry.borrow();
        let (ours, of_user, teleport_user) = registry.sudoers_beside(login);
        let sudo_rs = sudo_rs::is_installed();
        let others = match sudo_rs {
            true => self.sudoers.read_by_sudo().saturating_sub(ours),
            false => 0,
        };
        let room = Room {
            ours: count(ours),
            of_user: count(of_user),
            others: count(others),
            sudo_rs,
        };
        room::for_one_more(self.max_sudoers_files(), room, teleport_user)
    }

    /// A grant that cannot be taken away now is taken away as soon as the file system allows it, unless
    /// the login has been granted it again meanwhile.
    fn remove_sudoers(self: &Rc<Self>, login: &Login) {
        let Err(error) = self.sudoers.remove(login) else {
            return;
        };
        error!(TELEPORT_LOGIN = %login, %error, "cannot remove a sudoers file; trying again");
        let (daemon, login) = (self.clone(), login.clone());
        spawn_local(async move {
            loop {
                sleep(RETRY).await;
                let granted = daemon
                    .registry
                    .borrow()
                    .sudoers()
                    .any(|have| *have == login);
                if granted || daemon.sudoers.remove(&login).is_ok() {
                    return;
                }
            }
        });
    }

    fn publish(&self, published: &Published) -> Result<(), String> {
        let account = publish::account(published);
        self.table
            .borrow_mut()
            .publish(&account)
            .map_err(|error| format!("the user cannot be published: {error}"))
    }

    pub(super) fn withdraw(&self, login: &Login) {
        match self.table.borrow_mut().withdraw(login.as_ref()) {
            Ok(true) => info!(
                MESSAGE_ID = messages::WITHDRAWN,
                TELEPORT_LOGIN = %login,
                "{login} is withdrawn"
            ),
            Ok(false) => {}
            Err(error) => error!(TELEPORT_LOGIN = %login, %error, "cannot withdraw a user"),
        }
    }
}

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
use crate::policy::{Login, SudoersSpec};

/// How often what has failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

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
            let login = match &effect {
                Effect::Publish(published) => Some(published.plan.login.clone()),
                _ => None,
            };
            if let Err(why) = self.carry_out_one(effect, &mut Vec::new()) {
                error!("{why}");
                if let Some(login) = login {
                    self.withdraw_until_published(login);
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
                or_log(self.state.forget_session(id), "forgetting a session");
            }
            Effect::RememberLogin(login) => {
                if let Some(standing) = self.registry.borrow().standing(&login) {
                    or_log(self.state.save_login(standing), "writing a login down");
                }
            }
            Effect::ForgetLogin(login) => {
                or_log(self.state.forget_login(&login), "forgetting a login");
            }
            Effect::Quarantine(uid, given) => {
                or_log(self.state.save_uid(uid, &given), "writing a used UID down");
            }
            Effect::QuarantineGroup(gid, name) => {
                or_log(self.state.save_gid(gid, &name), "writing a used GID down");
            }
            Effect::Sudoers(login, specs) => self.sudoers(&login, &specs, messages),
            Effect::Publish(published) => return self.publish(&published),
            Effect::Withdraw(login) => self.withdraw(&login),
            Effect::Watch(id) => self.watch(id),
            Effect::Unwatch(id) => {
                if let Some(watch) = self.watches.borrow_mut().remove(&id) {
                    watch.abort();
                }
            }
            Effect::EndRemains(login, uid) => self.end_remains(login, uid),
        }
        Ok(())
    }

    fn remember_session(&self, id: SessionId) -> Result<(), String> {
        let registry = self.registry.borrow();
        let Some(session) = registry.session(id) else {
            return Ok(());
        };
        match self.state.save_session(session) {
            Ok(()) => Ok(()),
            // The end of a session does not wait for its being written down.
            Err(error) if matches!(session.state, State::Departed { .. }) => {
                error!(%error, "cannot write down that a session has ended");
                Ok(())
            }
            Err(error) => Err(format!("the session cannot be written down: {error}")),
        }
    }

    fn sudoers(self: &Rc<Self>, login: &Login, specs: &[SudoersSpec], messages: &mut Vec<String>) {
        if specs.is_empty() {
            self.remove_sudoers(login);
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

    fn withdraw(&self, login: &Login) {
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

fn or_log(result: std::io::Result<()>, what: &str) {
    if let Err(error) = result {
        error!(%error, "{what} failed");
    }
}

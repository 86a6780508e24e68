//! Carries out what the registry asks for, in the order in which it asks. An order for sudoers.d is given in its turn, and waited
//! for before anything that shows: what is only written down meanwhile takes no time then.
//!
//! What withdraws something always goes on to the next step; what grants something stops at the first
//! step that fails, so that the caller can take the rest back.

use std::iter::Peekable;
use std::rc::Rc;
use std::time::Duration;
use std::vec;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;
use tracing::{error, info};

use crate::control::daemon::Daemon;
use crate::control::daemon::messages;
use crate::control::publication::publish;
use crate::control::registry::{Effect, Published, Session, SessionId, State};
use crate::control::state::notes::{self, Note};
use crate::control::sudo::rights::{OrderOutcome, Ordered};
use crate::policy::Login;
use crate::runtime::memory;

/// How often what has failed is tried again.
pub(in crate::control) const RETRY: Duration = Duration::from_millis(500);

/// From the end of most of a burst to giving its memory back.
const AFTER_A_BURST: Duration = Duration::from_secs(1);

/// What came of a grant.
#[derive(Debug, Default)]
pub(in crate::control) struct Granted {
    /// What the person logging in should be told.
    pub(in crate::control) messages: Vec<String>,
    /// Why the grant cannot be made, for the journal. Whoever asked for it takes it back.
    pub(in crate::control) failed: Option<String>,
}

/// Effects on their way.
#[derive(Debug)]
struct Steps {
    effects: Peekable<vec::IntoIter<Effect>>,
    /// The order for sudoers.d that was given last, until something has come of it.
    ordered: Option<Ordered>,
    /// Whether a step that fails stops the others.
    granting: bool,
    done: Granted,
}

/// Effects of which the first part has been carried out, up to the first that takes waiting.
#[derive(Debug)]
pub(in crate::control) enum Carried {
    Done(Granted),
    /// The rest goes on whether or not anybody waits for it.
    UnderWay(JoinHandle<Granted>),
}

impl Carried {
    /// Waits for the rest.
    pub(in crate::control) async fn finished(self) -> Granted {
        match self {
            Carried::Done(done) => done,
            Carried::UnderWay(rest) => rest.await.unwrap_or_else(|error| Granted {
                failed: Some(error.to_string()),
                ..Granted::default()
            }),
        }
    }
}

impl Daemon {
    /// Carries out what a reservation or an opening asks for, up to the first step that fails.
    pub(in crate::control) async fn grant(self: &Rc<Self>, effects: Vec<Effect>) -> Granted {
        self.carry(effects, true).finished().await
    }

    /// Carries out everything else: what ends, what shrinks, what time brings, for one login or many. A
    /// step that fails keeps none of the others from being made.
    pub(in crate::control) fn carry_out(self: &Rc<Self>, effects: Vec<Effect>) -> Carried {
        self.carry(effects, false)
    }

    /// Everything up to the first sudoers file that takes long is done when this returns, before anybody else runs. What comes
    /// after it is told by login and reads what holds by then, so that it may come late.
    fn carry(self: &Rc<Self>, effects: Vec<Effect>, granting: bool) -> Carried {
        let mut steps = Steps {
            effects: effects.into_iter().peekable(),
            ordered: None,
            granting,
            done: Granted::default(),
        };
        let ordered = loop {
            let Some(ordered) = self.advance(&mut steps) else {
                return Carried::Done(steps.done);
            };
            match self.outcome_soon(ordered) {
                Ok(outcome) => self.take_note(&mut steps, outcome),
                Err(ordered) => break ordered,
            }
        };
        let daemon = self.clone();
        Carried::UnderWay(spawn_local(async move {
            let mut ordered = ordered;
            loop {
                let outcome = daemon.wait_for_order(ordered).await;
                daemon.take_note(&mut steps, outcome);
                match daemon.advance(&mut steps) {
                    Some(next) => ordered = next,
                    None => return steps.done,
                }
            }
        }))
    }

    fn take_note(&self, steps: &mut Steps, outcome: OrderOutcome) {
        steps.done.messages.extend(outcome.message);
        if steps.granting {
            steps.done.failed = outcome.too_much;
        }
    }

    /// Carries out steps up to the next that an order has to be waited for.
    fn advance(self: &Rc<Self>, steps: &mut Steps) -> Option<Ordered> {
        while steps.done.failed.is_none() {
            let Some(effect) = steps.effects.next_if(|next| {
                let waits = matches!(
                    next,
                    Effect::Sudoers(..)
                        | Effect::AwaitSudoers(_)
                        | Effect::Publish(_)
                        | Effect::Withdraw(_)
                        | Effect::Lock(_)
                );
                steps.ordered.is_none() || !waits
            }) else {
                break;
            };
            let (login, watched) = match effect {
                Effect::Publish(ref login) => (Some(login.clone()), None),
                Effect::Watch(id) => (None, Some(id)),
                _ => (None, None),
            };
            let why = match self.carry_out_one(effect) {
                Ok(Some(ordered)) => {
                    steps.ordered = Some(ordered);
                    continue;
                }
                Ok(None) => continue,
                Err(why) => why,
            };
            if steps.granting {
                steps.done.failed = Some(why);
                break;
            }
            error!("{why}");
            if let Some(login) = login {
                self.show_less_until_published(login);
            }
            if let Some(id) = watched {
                self.watch_in_time(id);
            }
        }
        let ordered = steps.ordered.take();
        match ordered {
            // What was granted is taken back.
            Some(ordered) if steps.done.failed.is_some() => self.let_go(ordered),
            Some(ordered) => return Some(ordered),
            None => {}
        }
        self.something_changed();
        None
    }

    fn something_changed(&self) {
        let now = self.registry.borrow().size();
        if self.burst.borrow_mut().is_over(now) {
            self.burst_is_over.notify_one();
        }
        self.keep_deadline();
        self.look_again.notify_waiters();
    }

    /// Gives memory back that a burst has needed. Not at once: tasks that have ended are still to be taken down.
    pub(in crate::control) async fn give_back_in_time(self: Rc<Self>) {
        loop {
            self.burst_is_over.notified().await;
            sleep(AFTER_A_BURST).await;
            self.shrink();
        }
    }

    fn shrink(&self) {
        self.registry.borrow_mut().shrink();
        self.table.borrow_mut().shrink();
        self.leaders.borrow_mut().shrink_to_fit();
        self.watches.borrow_mut().shrink_to_fit();
        self.home_locks.borrow_mut().shrink_to_fit();
        self.kept_homes.shrink();
        memory::give_back();
    }

    /// What is published of `login` may say more than its sessions still grant, and cannot be replaced now: until it can, better
    /// its name without a right (there is room for that where its groups are too many), and better nothing than too much.
    fn show_less_until_published(self: &Rc<Self>, login: Login) {
        let published = self.registry.borrow().published(&login);
        let less = published.map(Published::without_rights);
        if less.is_none_or(|less| self.publish(&less).is_err()) {
            self.withdraw(&login);
        }
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

    /// An order for sudoers.d is given, and returned: it is still to be waited for.
    fn carry_out_one(self: &Rc<Self>, effect: Effect) -> Result<Option<Ordered>, String> {
        match effect {
            Effect::RememberSession(id) => self.remember_session(id)?,
            Effect::ForgetSession(id) => {
                self.leaders.borrow_mut().remove(&id);
                self.forget_in_time(id);
            }
            Effect::RememberLogin(login) | Effect::ForgetLogin(login) => {
                self.write_down_in_time(Note::Login(login));
            }
            Effect::RememberLoginSoon(login) => self.write_down_soon(Note::Login(login)),
            Effect::RememberUid(uid, given) => {
                self.write_down_in_time(Note::UsedUid(uid, given));
            }
            Effect::RememberGid(gid, name) => {
                self.write_down_in_time(Note::UsedGid(gid, name));
            }
            Effect::Sudoers(login, specs) => {
                return Ok(Some(self.order_sudoers(login, &specs)));
            }
            Effect::AwaitSudoers(login) => return Ok(self.order_sudoers_again(login)),
            Effect::Publish(login) | Effect::Withdraw(login) | Effect::Lock(login) => {
                self.show(&login)?;
            }
            Effect::AwaitProcesses(..) => self.somebody_lingers.notify_one(),
            Effect::Watch(id) => self.watch(id)?,
            Effect::Unwatch(id) => {
                if let Some(watch) = self.watches.borrow_mut().remove(&id) {
                    watch.abort();
                }
            }
            Effect::EndRemains(login, uid) => self.end_remains(login, uid),
        }
        Ok(None)
    }

    fn remember_session(self: &Rc<Self>, id: SessionId) -> Result<(), String> {
        let ends = |session: &Session| {
            session.renounced || matches!(session.state, State::Departed { .. })
        };
        let ends = self.registry.borrow().session(id).map(ends);
        match ends {
            None => Ok(()),
            // The end of a session, or of its rights, does not wait for its being written down.
            Some(true) => {
                self.write_down_in_time(Note::Session(id));
                Ok(())
            }
            Some(false) => self
                .write_down(&Note::Session(id))
                .map_err(|error| notes::not_written(&error)),
        }
    }

    /// Publishes what holds of the login now, or that nothing does.
    fn show(&self, login: &Login) -> Result<(), String> {
        let published = self.registry.borrow().published(login);
        match published {
            Some(published) => return self.publish(&published),
            None if self.registry.borrow().lingers(login) => self.lock(login),
            None => self.withdraw(login),
        }
        Ok(())
    }

    fn publish(&self, published: &Published) -> Result<(), String> {
        let account = publish::account(published);
        let done = self.table.borrow_mut().publish(&account);
        self.nscd.table_changed();
        done.map_err(|error| format!("the user cannot be published: {error}"))
    }

    pub(in crate::control) fn withdraw(&self, login: &Login) {
        let uid = self.table.borrow().uid_of(login.as_ref());
        let done = self.table.borrow_mut().withdraw(login.as_ref());
        self.nscd.table_changed();
        match done {
            Ok(true) => info!(
                MESSAGE_ID = messages::WITHDRAWN,
                TELEPORT_LOGIN = %login,
                TELEPORT_UID = uid,
                "{login} is withdrawn"
            ),
            Ok(false) => {}
            Err(error) => error!(TELEPORT_LOGIN = %login, %error, "cannot withdraw a user"),
        }
    }
}

//! That nobody has more sudo than was granted, whatever the disk does: orders to the thread that writes,
//! how long they are waited for, and what becomes of a login whose rights cannot be taken away.
//! What is granted is decided by the registry; how files are written, by `files`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{error, warn};

use super::answer::Answer;
use super::awaited::{Awaited, AwaitedOrders};
use super::files::{Removal, SudoersError};
use crate::control::daemon::Daemon;
use crate::control::daemon::messages;
use crate::policy::sudoers::{SUDOERS_D, file_name};
use crate::policy::{Login, Plan, SudoersSpec};

/// How long who is given sudo waits for its file. Later it is a session without sudo.
const GRANT: Duration = Duration::from_secs(1);
/// How long the end of a session waits for its file to go. Later its user goes first, whom sudo then
/// does not know; PAM gives a close one second.
pub(in crate::control) const WITHDRAWAL: Duration = Duration::from_millis(500);
/// From a removal that failed to the next attempt, or from a grant that a restart owes: at first, and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE_OF_A_GRANT: Duration = Duration::from_secs(300);

/// What is known of the files, beside what the registry wants of them.
#[derive(Debug, Default)]
pub(in crate::control) struct SudoRights {
    /// Logins that may have a file.
    pub(in crate::control) on_disk: BTreeSet<Login>,
    /// Logins that have one, as far as we know.
    pub(in crate::control) in_place: BTreeSet<Login>,
    /// Logins whose file grants what they do not have any more, with how many removals are under way.
    stale: BTreeMap<Login, u32>,
    /// Those of them whose removal has failed: it is written down why.
    pub(in crate::control) stuck: BTreeSet<Login>,
    /// Logins that were granted a file for which there was no room.
    pub(in crate::control) waiting: BTreeSet<Login>,
    /// Orders that somebody waits for.
    pub(super) awaited: AwaitedOrders,
}

/// An order that is under way.
#[derive(Debug)]
pub(in crate::control) enum Ordered {
    Grant {
        order: Awaited,
        answer: Answer<()>,
        /// Whether an older file may say something else.
        older: bool,
        /// Whether it was given for another session, which still waits, too.
        again: bool,
    },
    Removal {
        order: Awaited,
        answer: Answer<Removal>,
    },
    /// Carried out, but something else of the login is still on disk.
    Removed(Login),
    /// None was given: it may have no file, for this reason.
    NoRoom(Login, String),
}

/// What whoever has waited for an order should know.
#[derive(Debug, Default)]
pub(in crate::control) struct OrderOutcome {
    /// For the person.
    pub(in crate::control) message: Option<String>,
    /// The login may have more rights on disk than it was granted.
    pub(in crate::control) too_much: Option<String>,
}

/// A look whether a login has a file.
#[derive(Debug)]
pub(in crate::control) struct Look {
    login: Login,
    /// Once it is over: whether there is one, if that could be seen.
    outcome: Cell<Option<Option<bool>>>,
    over: Notify,
}

impl Look {
    pub(in crate::control) fn is_for(&self, login: &Login) -> bool {
        self.login == *login
    }

    /// What has come of it; `None` while it is not over.
    pub(in crate::control) fn outcome(&self) -> Option<Option<bool>> {
        self.outcome.get()
    }

    pub(in crate::control) async fn is_over(&self) {
        if self.outcome.get().is_none() {
            self.over.notified().await;
        }
    }
}

impl SudoRights {
    /// After a restart: any of them may have a file.
    pub(in crate::control) fn may_have_files(&mut self, logins: impl Iterator<Item = Login>) {
        self.on_disk.extend(logins);
    }

    fn now_stale(&mut self, login: &Login) {
        *self.stale.entry(login.clone()).or_default() += 1;
    }

    /// Whether it was the last, after some that could not be carried out at once.
    fn one_less(&mut self, login: &Login) -> bool {
        if let Some(under_way) = self.stale.get_mut(login) {
            *under_way -= 1;
            if *under_way == 0 {
                self.stale.remove(login);
                return self.stuck.remove(login);
            }
        }
        false
    }
}

impl Daemon {
    /// Orders that the login's file say this; nothing: that there be none.
    pub(in crate::control) fn order_sudoers(
        self: &Rc<Self>,
        login: Login,
        specs: &[SudoersSpec],
    ) -> Ordered {
        self.rights.borrow_mut().waiting.remove(&login);
        if specs.is_empty() {
            return self.order_removal(login);
        }
        if let Err(why) = self.has_room_for(&login) {
            self.wait_for_room(&login);
            return Ordered::NoRoom(login, why.to_string());
        }
        let older = !self.rights.borrow_mut().on_disk.insert(login.clone());
        self.order_grant(login, specs, older, false)
    }

    pub(super) fn order_grant(
        &self,
        login: Login,
        specs: &[SudoersSpec],
        older: bool,
        again: bool,
    ) -> Ordered {
        // Ordered here and now: what is ordered next comes after it.
        let answer = self.sudoers.write(&login, specs);
        let order = self.rights.borrow().awaited.one_more(login, older);
        Ordered::Grant {
            order,
            answer,
            older,
            again,
        }
    }

    pub(super) fn order_removal(&self, login: Login) -> Ordered {
        let answer = self.sudoers.remove(&login);
        let mut rights = self.rights.borrow_mut();
        rights.now_stale(&login);
        rights.in_place.remove(&login);
        let order = rights.awaited.one_more(login, true);
        Ordered::Removal { order, answer }
    }

    /// Has the file finished that whoever comes in with this plan is granted when the session opens: the disk takes longer for it
    /// than anything else that a login waits for, and until then there is nothing to do for it.
    pub(in crate::control) fn prepare_sudoers(&self, plan: &Plan) {
        if !plan.sudoers.is_empty() && !self.registry.borrow().has_sudoers(&plan.login) {
            self.sudoers
                .prepare(plan.login.clone(), plan.sudoers.clone());
        }
    }

    /// What has come of an order that was the last one, if it was carried out in a moment; otherwise it is still to be
    /// waited for.
    pub(in crate::control) fn outcome_soon(
        &self,
        mut ordered: Ordered,
    ) -> Result<OrderOutcome, Ordered> {
        match &mut ordered {
            Ordered::Grant { order, answer, .. } => {
                if let Some(Ok(())) = self.sudoers.soon(answer) {
                    self.granted(order.login());
                    return Ok(OrderOutcome::default());
                }
            }
            Ordered::Removal { order, answer } => {
                if let Some(Ok(removal)) = self.sudoers.soon(answer) {
                    let login = order.login().clone();
                    self.removed(&login, *removal);
                    self.not_stale_any_more(&login, &mut true);
                    if !self.rights.borrow().stale.contains_key(&login) {
                        return Ok(OrderOutcome::default());
                    }
                    ordered = Ordered::Removed(login);
                }
            }
            Ordered::Removed(_) | Ordered::NoRoom(..) => {}
        }
        Err(ordered)
    }

    /// Nobody waits for an order any more. A removal is carried out all the same.
    pub(in crate::control) fn let_go(self: &Rc<Self>, ordered: Ordered) {
        if let Ordered::Removal { order, answer } = ordered {
            self.pursue_removal(order.login(), answer, true);
        }
    }

    /// Waits for an order, as long as it may take.
    pub(in crate::control) async fn wait_for_order(
        self: &Rc<Self>,
        ordered: Ordered,
    ) -> OrderOutcome {
        let mut outcome = OrderOutcome::default();
        // `_order` is kept until something has come of it.
        let (login, older, _order) = match ordered {
            Ordered::Removal { order, answer } => {
                self.pursue_removal(order.login(), answer, true);
                (order.login().clone(), true, Some(order))
            }
            Ordered::Removed(login) => (login, true, None),
            Ordered::NoRoom(login, why) => {
                warn!(
                    MESSAGE_ID = messages::NO_SUDO,
                    TELEPORT_LOGIN = %login,
                    "{login} goes without sudo: {why}"
                );
                outcome.message = Some(why);
                return outcome;
            }
            Ordered::Grant {
                order,
                answer,
                older,
                again,
            } => {
                let login = order.login().clone();
                let error = match timeout(GRANT, answer.come()).await {
                    Ok(Some(Ok(()))) if !self.is_taken_back(&login) => {
                        self.granted(&login);
                        return outcome;
                    }
                    Ok(Some(Err(error @ SudoersError::Replaced(_)))) => {
                        // The daemon ends now; the next one writes what living sessions have.
                        outcome.message = Some(format!(
                            "The sudo rights of this session will come in a few seconds ({error})."
                        ));
                        return outcome;
                    }
                    Ok(Some(Err(error))) => error,
                    // The file is there, and only this answer is late.
                    Err(_) if again && self.rights.borrow().in_place.contains(&login) => {
                        return outcome;
                    }
                    Ok(Some(Ok(())) | None) | Err(_) => SudoersError::Late(SUDOERS_D.into()),
                };
                warn!(
                    MESSAGE_ID = messages::NO_SUDO,
                    TELEPORT_LOGIN = %login,
                    "{login} goes without sudo: {error}"
                );
                outcome.message = Some(format!(
                    "This session has no sudo rights: its sudoers file cannot be written ({error})."
                ));
                // It is for who gave the order first to take it back.
                if !again {
                    let others_had_it = self.rights.borrow().in_place.contains(&login);
                    self.registry.borrow_mut().sudoers_not_written(&login);
                    // What an older file granted must not outlast it, nor a late one come.
                    self.see_to_removal(&login, older);
                    if others_had_it {
                        self.grant_in_time(login.clone());
                    }
                }
                (login, older, Some(order))
            }
        };
        if older
            && !self
                .is_rid_of_old_rights(&login, Instant::now() + WITHDRAWAL)
                .await
        {
            let why = format!(
                "what earlier sessions of {login} were granted in {SUDOERS_D} cannot be taken away yet"
            );
            warn!(TELEPORT_LOGIN = %login, "{why}");
            outcome.too_much = Some(why);
        }
        outcome
    }

    /// Gives a login what its sessions had, or are to have, as soon as the file system allows it.
    pub(in crate::control) fn grant_in_time(self: &Rc<Self>, login: Login) {
        let daemon = self.clone();
        spawn_local(async move {
            let mut pause = PAUSE;
            loop {
                sleep(pause).await;
                pause = LONGEST_PAUSE_OF_A_GRANT.min(pause * 2);
                let order = daemon.registry.borrow_mut().sudoers_again(&login);
                let Some(order) = order else {
                    return;
                };
                let carried = daemon.carry_out(vec![order]).finished().await;
                // Who waits for room is given it by others.
                let waits = daemon.rights.borrow().waiting.contains(&login);
                if carried.messages.is_empty() || waits {
                    return;
                }
            }
        });
    }

    /// Gives living sessions back what somebody else has taken away from sudoers.d.
    pub(in crate::control) async fn put_back_what_is_lost(self: Rc<Self>) {
        loop {
            for login in self.sudoers.lost().await {
                self.rights.borrow_mut().in_place.remove(&login);
                if self.registry.borrow().has_sudoers(&login) {
                    warn!(
                        TELEPORT_LOGIN = %login,
                        "somebody has removed the sudoers file of {login}, which has sessions; it is written again (a right ends with the sessions that have it)"
                    );
                    self.registry.borrow_mut().sudoers_not_written(&login);
                    self.grant_in_time(login);
                }
            }
        }
    }

    /// Removes the login's file, as soon as the file system allows it, unless the login has been granted
    /// something again meanwhile. While a `stale` one stands, nobody comes in under the login.
    fn see_to_removal(self: &Rc<Self>, login: &Login, stale: bool) {
        self.rights.borrow_mut().in_place.remove(login);
        if stale {
            self.rights.borrow_mut().now_stale(login);
        }
        let answer = self.sudoers.remove(login);
        self.pursue_removal(login, answer, stale);
    }

    /// Has the removal made again, in time, until it succeeds.
    fn pursue_removal(self: &Rc<Self>, login: &Login, answer: Answer<Removal>, stale: bool) {
        let (daemon, login, mut answer) = (self.clone(), login.clone(), answer);
        spawn_local(async move {
            let (mut stale, mut pause, mut said) = (stale, PAUSE, String::new());
            loop {
                match answer.come().await {
                    Some(Ok(removal)) => {
                        daemon.removed(&login, removal);
                        break;
                    }
                    Some(Err(error)) => {
                        // Nobody knows any more that we have written it: perhaps we have not.
                        if matches!(error, SudoersError::Linked { .. }) {
                            daemon.not_stale_any_more(&login, &mut stale);
                        }
                        let why = error.to_string();
                        if why != said {
                            error!(
                                MESSAGE_ID = messages::SUDO_LEFT,
                                TELEPORT_LOGIN = %login,
                                "cannot remove a sudoers file, trying again: {why}"
                            );
                            if stale {
                                daemon.right_is_stuck(&login, &why);
                            }
                            said = why;
                        }
                    }
                    // The thread has ended, and so does the daemon.
                    None => break,
                }
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
                if daemon.registry.borrow().has_sudoers(&login) {
                    break;
                }
                answer = daemon.sudoers.remove(&login);
            }
            daemon.not_stale_any_more(&login, &mut stale);
        });
    }

    /// Whether the login is to have a file and was not given it: somebody else who waited for the same has had it removed.
    fn is_taken_back(&self, login: &Login) -> bool {
        let registry = self.registry.borrow();
        let published = || registry.published(login);
        registry.specs(login).is_none() && published().is_some_and(|it| !it.plan.sudoers.is_empty())
    }

    fn granted(&self, login: &Login) {
        // Not where the grant has been undone meanwhile.
        if self.registry.borrow().has_sudoers(login) {
            self.rights.borrow_mut().in_place.insert(login.clone());
        }
    }

    fn removed(&self, login: &Login, removal: Removal) {
        let mut rights = self.rights.borrow_mut();
        if removal == Removal::NotOurs && rights.on_disk.contains(login) {
            let path = format!("{SUDOERS_D}/{}", file_name(login));
            error!(
                MESSAGE_ID = messages::SUDO_LEFT,
                TELEPORT_LOGIN = %login,
                "{path} is not ours, and is left alone: if it is a file that sudo reads, who is made as {login} again has what it grants; remove it unless it is meant to stay"
            );
        }
        // What has been granted meanwhile is written after it.
        if !self.registry.borrow().has_sudoers(login) {
            rights.on_disk.remove(login);
        }
        // Who begins to wait looks for room by himself.
        if !rights.waiting.is_empty() {
            self.room.notify_one();
        }
    }

    fn not_stale_any_more(&self, login: &Login, stale: &mut bool) {
        if std::mem::take(stale) {
            if self.rights.borrow_mut().one_less(login) {
                self.right_is_gone(login);
            }
            self.look_again.notify_waiters();
        }
    }

    /// Whether rights on disk stand in the way of a login that comes in: of an earlier session, or in a file that came there by itself,
    /// such as from a backup. `is_taken` says whether there is a file, where none is known.
    pub(in crate::control) fn has_old_rights(
        self: &Rc<Self>,
        login: &Login,
        is_taken: bool,
    ) -> bool {
        if self.rights.borrow().stale.contains_key(login) {
            return true;
        }
        let stray = is_taken && !self.rights.borrow().on_disk.contains(login);
        if stray {
            self.see_to_removal(login, true);
        }
        stray
    }

    /// Begins to look whether there is a file of the login that nobody knows of. Takes as long as the disk, and at most this.
    pub(in crate::control) fn look_for_a_file(
        self: &Rc<Self>,
        login: &Login,
        limit: Duration,
    ) -> Rc<Look> {
        let look = Rc::new(Look {
            login: login.clone(),
            outcome: Cell::new(None),
            over: Notify::new(),
        });
        let (daemon, looks) = (self.clone(), look.clone());
        spawn_local(async move {
            let is_taken = daemon.sudoers.is_taken(&looks.login, limit).await;
            looks.outcome.set(Some(is_taken));
            looks.over.notify_waiters();
        });
        look
    }

    /// Waits until no rights of earlier sessions are left on disk. False: not before the deadline. A daemon that
    /// stops has what ends now go like any other end, and keeps nobody longer.
    pub(in crate::control) async fn is_rid_of_old_rights(
        &self,
        login: &Login,
        deadline: Instant,
    ) -> bool {
        let stopped = deadline.min(Instant::now() + WITHDRAWAL);
        loop {
            // Registered before it is looked, so that no change is missed in between.
            let look_again = self.look_again.notified();
            tokio::pin!(look_again);
            look_again.as_mut().enable();
            if !self.rights.borrow().stale.contains_key(login) {
                return true;
            }
            let is_stopping = self.stopping.get();
            let until = if is_stopping { stopped } else { deadline };
            if timeout_at(until, look_again).await.is_err() {
                return false;
            }
        }
    }
}

//! How a login comes in: asked about, decided on, registered, told.
//!
//! Between the decision and the registration nothing else runs, so that a plan is never registered on
//! an occupancy that has changed under it.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::control::calls::passwd_lock::Hold;
use crate::control::daemon::messages;
use crate::control::daemon::{Daemon, PASSWD_LOCK};
use crate::control::host::clock::{Boottime, realtime_usec};
use crate::control::leader::Leader;
use crate::control::lookup;
use crate::control::registry::{Arrival, Begun, Joinable, SessionId, Standing, State};
use crate::policy::config::Role;
use crate::policy::decide::{MAX_ROUNDS, Reason};
use crate::policy::glob::Glob;
use crate::policy::{self, Config, Decision, Facts, Login, LoginRequest, Plan, Refusal};

/// What the caller is told.
#[derive(Debug)]
pub(in crate::control) enum Reception {
    /// The login is registered under this handle.
    Admitted {
        session: SessionId,
        plan: Box<Plan>,
        messages: Vec<String>,
    },
    /// The login belongs to somebody else.
    Foreign,
    /// The PAM service is not one of ours.
    NotOurs,
    /// It may not come in.
    Refused(Refusal),
}

impl Daemon {
    /// The account phase. `handle` is the one that the caller wants; where that is of this login and of
    /// this caller already, it is asking again because it was hung up on.
    pub(in crate::control) async fn reserve(
        self: &Rc<Self>,
        handle: Option<SessionId>,
        request: &LoginRequest,
        leader: Rc<Leader>,
        patience: Duration,
    ) -> Reception {
        if let Some(known) = self.made_before(handle, request, &leader) {
            return known;
        }
        let reception = self.arrive(handle, request, leader, patience).await;
        self.report(request, &reception);
        reception
    }

    fn made_before(
        &self,
        handle: Option<SessionId>,
        request: &LoginRequest,
        leader: &Leader,
    ) -> Option<Reception> {
        let id = handle.filter(|id| self.is_held_by(*id, leader))?;
        let registry = self.registry.borrow();
        let plan = &registry.session(id)?.plan;
        policy::same_request(request, plan).ok()?;
        Some(Reception::Admitted {
            session: id,
            messages: plan.notes.clone(),
            plan: Box::new(plan.clone()),
        })
    }

    /// The session phase: the caller's reservation, or a new one, becomes a session.
    pub(in crate::control) async fn open(
        self: &Rc<Self>,
        handle: Option<SessionId>,
        request: &LoginRequest,
        leader: Rc<Leader>,
        patience: Duration,
    ) -> Reception {
        let deadline = Instant::now() + patience;
        let reserved = handle.filter(|id| self.is_held_by(*id, &leader));
        if let Some(id) = reserved
            && let Err(refusal) = self.may_open(id, request)
        {
            let reception = Reception::Refused(refusal);
            self.report(request, &reception);
            return reception;
        }
        let (id, mut messages) = match reserved {
            Some(id) => (id, Vec::new()),
            None => match self.reserve(handle, request, leader, patience).await {
                Reception::Admitted {
                    session, messages, ..
                } => (session, messages),
                other => return other,
            },
        };
        let begun = self.registry.borrow_mut().begin_to_open(id);
        let has_waited = reserved.is_none() || begun.is_some();
        if let Some(Begun { plan, effects }) = begun {
            self.carry_out(effects);
            if let Err(message) = self.provide_home(&plan, deadline).await {
                self.registry.borrow_mut().without_home(id);
                messages.push(message);
            }
        }
        // Asked again where others have had their turn: from here nobody has.
        if has_waited && let Err(refusal) = self.may_open(id, request) {
            let effects = self.registry.borrow_mut().close(Boottime::now(), id);
            self.carry_out(effects);
            let reception = Reception::Refused(refusal);
            self.report(request, &reception);
            return reception;
        }
        let opened = self.registry.borrow_mut().open(id);
        let Ok(effects) = opened else {
            return Reception::Refused(policy::withdrawn_meanwhile(&request.login));
        };
        let done = self.grant(effects).await;
        if let Some(why) = done.failed {
            return self.take_back(id, &why).await;
        }
        messages.extend(done.messages);
        let Some(plan) = self
            .registry
            .borrow()
            .session(id)
            .map(|session| Box::new(session.plan.clone()))
        else {
            return Reception::Refused(policy::ended_meanwhile(&request.login));
        };
        info!(
            TELEPORT_LOGIN = %plan.login,
            TELEPORT_USER = %plan.teleport_user,
            TELEPORT_SESSION = %id,
            TELEPORT_UID = %plan.uid,
            "session of {} opened",
            plan.login
        );
        Reception::Admitted {
            session: id,
            plan,
            messages,
        }
    }

    fn is_held_by(&self, id: SessionId, leader: &Leader) -> bool {
        self.registry.borrow().session(id).is_some_and(|session| {
            session.leader == *leader.id() && !matches!(session.state, State::Departed { .. })
        })
    }

    /// A reservation serves the login and the Teleport user that it was made for, and only while what
    /// else is on the login allows it: sessions may have come and gone since.
    fn may_open(&self, id: SessionId, request: &LoginRequest) -> Result<(), Refusal> {
        let registry = self.registry.borrow();
        let Some(session) = registry.session(id) else {
            return Ok(());
        };
        policy::same_request(request, &session.plan)?;
        match registry.others(id) {
            Some(others) => policy::may_open(&session.plan, &others),
            None => Ok(()),
        }
    }

    async fn arrive(
        self: &Rc<Self>,
        handle: Option<SessionId>,
        request: &LoginRequest,
        leader: Rc<Leader>,
        patience: Duration,
    ) -> Reception {
        let deadline = Instant::now() + patience;
        self.reload.is_over(patience / 2).await;
        // Whether there is a sudoers file that nobody knows of is looked for while others are asked.
        let named = Login::try_from(&*request.login).ok();
        let seen_by = patience * 3 / 4;
        let mut look = named.map(|login| self.look_for_a_file(&login, seen_by));
        // Whether that has been seen to.
        let mut looked = false;
        loop {
            // Anew in each round: who has waited is decided on by what holds now.
            let current = self.config.borrow().clone();
            let (config, wrong) = match current {
                Ok(config) => (config, None),
                Err(why) => (Rc::new(everybody()), Some(why)),
            };
            // What is begun needs time, too.
            let left = deadline.saturating_duration_since(Instant::now());
            let begun_by = Instant::now() + left / 2;
            let decided = timeout_at(deadline, self.decide(&config, request, begun_by)).await;
            // Whoever exists elsewhere, and other services, have nothing to do with what is wrong.
            if let Some(why) = wrong
                && !matches!(decided, Ok(Err(Reception::Foreign | Reception::NotOurs)))
            {
                return Reception::Refused(policy::configuration_wrong(&why));
            }
            let (plan, hold) = match decided {
                Ok(Ok(decided)) => decided,
                Ok(Err(reception)) => return reception,
                Err(_) => {
                    let why = "no answer while the login waited";
                    let refusal = policy::lookup_failed("the lookup worker", why);
                    return unless_local(&config, request, refusal);
                }
            };
            let joinable = self.registry.borrow().joinable(&plan);
            match joinable {
                Joinable::Now => {
                    // The call that was hung up on may have been at it all the same.
                    if let Some(known) = self.made_before(handle, request, &leader) {
                        return known;
                    }
                    let seen = match look.take() {
                        Some(look) if look.is_for(&plan.login) => look,
                        // It has another name than it came under.
                        _ => self.look_for_a_file(&plan.login, seen_by),
                    };
                    look = Some(seen.clone());
                    let outcome = match self.rights.borrow().on_disk.contains(&plan.login) {
                        true => Some(Some(false)),
                        false => seen.outcome(),
                    };
                    match outcome {
                        None => {
                            drop(hold);
                            seen.is_over().await;
                            continue;
                        }
                        Some(None) => return Reception::Refused(policy::old_rights(&plan.login)),
                        Some(Some(is_taken)) => {
                            if !self.has_old_rights(&plan.login, is_taken && !looked) {
                                return self.register(handle, *plan, request, leader, hold).await;
                            }
                        }
                    }
                    drop(hold);
                    looked = true;
                    if !self.is_rid_of_old_rights(&plan.login, deadline).await {
                        return Reception::Refused(policy::old_rights(&plan.login));
                    }
                }
                Joinable::AfterRemains => {
                    drop(hold);
                    if !self.can_join_before(deadline, &plan).await {
                        let registry = self.registry.borrow();
                        let standing = registry.standing(&plan.login);
                        let is_stranded = standing.is_some_and(Standing::is_stranded);
                        return Reception::Refused(match is_stranded {
                            true => policy::stranded(&plan.login),
                            false => policy::remains(&plan.login),
                        });
                    }
                }
            }
        }
    }

    /// Waits until what an earlier user left has ended; what lingers is ended for whoever comes. False: not before the deadline, or not in the
    /// life of this daemon.
    async fn can_join_before(self: &Rc<Self>, deadline: Instant, plan: &Plan) -> bool {
        loop {
            // Registered before the registry is looked at, so that no change is missed in between.
            let look_again = self.look_again.notified();
            tokio::pin!(look_again);
            look_again.as_mut().enable();
            let joinable = self.registry.borrow().joinable(plan);
            if joinable == Joinable::Now {
                return true;
            }
            let effects = self.registry.borrow_mut().make_way(plan);
            if !effects.is_empty() {
                self.carry_out(effects);
                continue;
            }
            if self.stopping.get() || timeout_at(deadline, look_again).await.is_err() {
                return false;
            }
        }
    }

    /// Asks the policy until it has heard enough. The last decision is made on the occupancy of now. Whose
    /// turn has not come by `begun_by` is told to ask again: nobody is asked for a login that will not wait for the answer.
    async fn decide(
        &self,
        config: &Config,
        request: &LoginRequest,
        begun_by: Instant,
    ) -> Result<(Box<Plan>, Rc<Hold>), Reception> {
        // Who holds it for long (vipw does) keeps nobody out who exists already.
        let waits = || unless_local(config, request, policy::waiting(&request.login));
        let Ok(hold) = timeout_at(begun_by, self.passwd_lock.hold()).await else {
            return Err(waits());
        };
        let mut facts = Facts::default();
        let mut turn = None;
        for _ in 0..MAX_ROUNDS {
            let decision =
                policy::decide(config, request, &facts, self.registry.borrow().occupancy());
            match decision {
                Decision::Ask(questions) => {
                    let home_base = config.home_base();
                    let turn = match turn {
                        Some(ref turn) => turn,
                        None => match timeout_at(begun_by, self.lookups.turn()).await {
                            Ok(come) => &*turn.insert(come),
                            Err(_) => return Err(waits()),
                        },
                    };
                    let more = turn.facts(&questions, home_base).await;
                    lookup::absorb(&mut facts, more);
                }
                Decision::Grant(plan) => {
                    return match hold {
                        Ok(hold) => Ok((plan, hold)),
                        Err(error) => {
                            let refusal = policy::lookup_failed(PASSWD_LOCK, &error.to_string());
                            Err(Reception::Refused(refusal))
                        }
                    };
                }
                Decision::Foreign => return Err(Reception::Foreign),
                Decision::NotOurs => return Err(Reception::NotOurs),
                Decision::Refuse(refusal) => return Err(Reception::Refused(refusal)),
            }
        }
        Err(Reception::Refused(policy::undecided(config)))
    }

    async fn register(
        self: &Rc<Self>,
        handle: Option<SessionId>,
        plan: Plan,
        request: &LoginRequest,
        leader: Rc<Leader>,
        _until_published: Rc<Hold>,
    ) -> Reception {
        let id = handle
            .filter(|id| self.registry.borrow().session(*id).is_none())
            .unwrap_or_else(SessionId::random);
        self.prepare_sudoers(&plan);
        let identity = leader.id().clone();
        self.leaders.borrow_mut().insert(id, leader);
        let effects = self.registry.borrow_mut().reserve(
            Boottime::now(),
            Arrival {
                id,
                plan: plan.clone(),
                leader: identity,
                service: request.service.clone(),
                since_usec: realtime_usec(),
            },
        );
        let done = self.grant(effects).await;
        if let Some(why) = done.failed {
            return self.take_back(id, &why).await;
        }
        Reception::Admitted {
            session: id,
            messages: plan.notes.iter().cloned().chain(done.messages).collect(),
            plan: Box::new(plan),
        }
    }

    /// A grant that could not be carried out to its end leaves nothing behind.
    async fn take_back(self: &Rc<Self>, id: SessionId, why: &str) -> Reception {
        let login = self
            .registry
            .borrow()
            .session(id)
            .map_or_else(String::new, |session| session.plan.given.clone());
        let effects = self.registry.borrow_mut().close(Boottime::now(), id);
        self.carry_out(effects).finished().await;
        warn!(TELEPORT_SESSION = %id, "login taken back: {why}");
        Reception::Refused(policy::cannot_be_made(&login, why))
    }

    fn report(&self, request: &LoginRequest, reception: &Reception) {
        // Teleport's word: what a log would act upon must not reach it.
        let variable = |name: &str| {
            let value = request.environment.get(name).map_or("", String::as_str);
            policy::escaped(value)
        };
        let login = policy::escaped(&request.login);
        let login = login.as_str();
        let (user, roles) = (variable("TELEPORT_USERNAME"), variable("TELEPORT_ROLES"));
        let (user, roles) = (user.as_str(), roles.as_str());
        match reception {
            Reception::Admitted { session, plan, .. } => info!(
                MESSAGE_ID = messages::PUBLISHED,
                TELEPORT_LOGIN = %plan.login,
                TELEPORT_USER = user,
                TELEPORT_ROLES = roles,
                TELEPORT_SESSION = %session,
                TELEPORT_UID = %plan.uid,
                "{} is made for {user}",
                plan.login
            ),
            Reception::Foreign => info!(
                TELEPORT_LOGIN = login,
                TELEPORT_USER = user,
                "{login} exists already and is left alone"
            ),
            Reception::NotOurs => {}
            Reception::Refused(refusal) if refusal.reason == Reason::Waiting => info!(
                TELEPORT_LOGIN = login,
                TELEPORT_USER = user,
                "{login} waits for others to be decided on"
            ),
            Reception::Refused(refusal) => warn!(
                MESSAGE_ID = messages::REFUSED,
                TELEPORT_LOGIN = login,
                TELEPORT_USER = user,
                TELEPORT_ROLES = roles,
                TELEPORT_REASON = refusal.reason.as_str(),
                "{login} is refused: {}",
                refusal.message
            ),
        }
    }
}

/// What becomes of a login when time is up: who is in `/etc/passwd` goes on all the same.
fn unless_local(config: &Config, request: &LoginRequest, refusal: Refusal) -> Reception {
    let occupancy = policy::Occupancy::default();
    match policy::decide(config, request, &lookup::local(&request.login), &occupancy) {
        Decision::Foreign => Reception::Foreign,
        Decision::NotOurs => Reception::NotOurs,
        _ => Reception::Refused(refusal),
    }
}

/// What stands in for a configuration that is wrong, to find out whether a login is ours at all.
fn everybody() -> Config {
    let role = Role::new(Glob::new("*"), String::new());
    Config {
        roles: vec![Role {
            create_user: Some(true),
            ..role
        }],
        ..Config::default()
    }
}

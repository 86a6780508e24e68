//! When homes are made, kept and thrown away. How that is done safely is in [`homes`](super).
//!
//! A home is there before its session is open; it outlives its user by `home.keep`, out of reach, for
//! the same Teleport user to find again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{error, warn};

use crate::control::daemon::Daemon;
use crate::control::end::janitor::Janitor;
use crate::control::homes::{HomeError, Homes, Tenant};
use crate::control::registry::Standing;
use crate::policy::Login;
use crate::policy::config::EPHEMERAL_BASE;
use crate::policy::plan::{Home, Plan};

/// After how long what could not be thrown away is tried again, at first and in the end.
const SOON: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// One task at a time works on the home of a login.
pub(in crate::control) type Doors = HashMap<Login, Weak<Mutex<()>>>;

impl Daemon {
    /// Sees to it that the plan's home is there. A sentence for the person if there is none.
    pub(in crate::control) async fn provide_home(&self, plan: &Plan) -> Result<(), String> {
        let door = self.door(&plan.login);
        let _inside = door.lock().await;
        let tenant = Tenant {
            login: &plan.login,
            uid: plan.uid,
            gid: plan.gid,
            teleport_user: &plan.teleport_user,
        };
        // Asked behind the door: who came before us has either given it a home or not.
        let again = self
            .registry
            .borrow()
            .standing(&plan.login)
            .is_some_and(|standing| standing.has_home);
        let provided = match &plan.home {
            Home::None => return Ok(()),
            Home::Ephemeral { .. } => match ephemeral() {
                Ok(homes) => {
                    let provided = match again {
                        true => homes.provide_again(&tenant).await,
                        false => homes.provide(&tenant).await,
                    };
                    // What was kept there for somebody else, whether or not there is another home now.
                    if homes.is_untidy() {
                        self.thrown_away.notify_one();
                    }
                    provided
                }
                Err(error) => Err(error),
            },
            Home::Persistent { path } => {
                let base = path.rsplit_once('/').map_or("/", |(base, _)| base);
                Homes::provide_lasting(Path::new(base), Janitor::default(), &tenant).await
            }
        };
        if provided.is_ok() && matches!(plan.home, Home::Ephemeral { .. }) {
            self.registry.borrow_mut().given_a_home(&plan.login);
        }
        provided.map(drop).map_err(|error| {
            warn!(TELEPORT_LOGIN = %plan.login, "no home: {error}");
            format!("This session has no home directory ({error}); it starts in /.")
        })
    }

    /// Puts the ephemeral home of a login that has ended out of reach, and throws it away when nobody
    /// has come back for it. One that cannot be kept, as on a file system that is nearly full, is thrown away at
    /// once: whoever is next under this login has the same UID.
    ///
    /// # Errors
    /// The home may still be in place: the login must not end yet.
    pub(in crate::control) async fn keep_home(
        self: &Rc<Self>,
        standing: &Standing,
    ) -> Result<(), HomeError> {
        let login = &standing.login;
        let door = self.door(login);
        let _inside = door.lock().await;
        let Some(homes) = ephemeral_if_any()? else {
            return Ok(());
        };
        let mut owners = standing.owners.iter();
        let parked = match (owners.next(), owners.next()) {
            // Where there is hardly any, whoever has filled it would go on keeping the others from writing.
            (Some(teleport_user), None) if homes.has_room() => {
                let tenant = Tenant {
                    login,
                    uid: standing.uid,
                    gid: standing.gid,
                    teleport_user,
                };
                homes.park(&tenant, standing.terms.home_keep)
            }
            // Or it was shared: nobody can say whose it is.
            _ => Ok(false),
        };
        match parked {
            Ok(true) => {
                let rest = standing.terms.home_keep;
                self.kept_homes.look_after(login.clone(), rest);
            }
            Ok(false) => {}
            Err(error) => {
                warn!(TELEPORT_LOGIN = %login, "the home is thrown away, not kept: {error}")
            }
        }
        if homes.evict(login)? {
            self.thrown_away.notify_one();
        }
        Ok(())
    }

    /// At start: homes of logins of which nothing is left are thrown away, those that are kept go on waiting.
    pub(in crate::control) fn take_over_homes(self: &Rc<Self>) {
        let homes = match ephemeral() {
            Ok(homes) => homes,
            Err(error) => {
                warn!("there are no ephemeral homes: {error}");
                return;
            }
        };
        let standing: BTreeSet<Login> = self
            .registry
            .borrow()
            .standings()
            .map(|standing| standing.login.clone())
            .collect();
        if let Err(error) = homes.sweep(&standing) {
            error!("cannot throw away all stale homes: {error}");
        }
        for parked in homes.parked().unwrap_or_default() {
            // One that cannot be looked at now is looked at in time, and what is wrong said then.
            let rest = homes.rest(&parked.login).ok().flatten();
            self.kept_homes
                .look_after(parked.login, rest.unwrap_or_default());
        }
        self.thrown_away.notify_one();
    }

    /// Removes what is thrown away, one home at a time. What cannot be removed, because somebody rearranges it or it is too
    /// much for one attempt, is tried again without anybody's asking for it.
    pub(in crate::control) async fn keep_trash_empty(self: Rc<Self>) {
        let mut pause = SOON;
        let mut told = String::new();
        loop {
            let Err(error) = empty_trash().await else {
                (pause, told) = (SOON, String::new());
                self.thrown_away.notified().await;
                continue;
            };
            let error = error.to_string();
            if error != told {
                error!("cannot remove what old homes have left, trying again: {error}");
                told = error;
            }
            tokio::select! {
                () = sleep(pause) => pause = LONGEST.min(pause * 2),
                () = self.thrown_away.notified() => {}
            }
        }
    }

    /// Throws kept homes away, each when its time has come.
    pub(in crate::control) async fn throw_away_in_time(self: Rc<Self>) {
        loop {
            let login = self.kept_homes.next().await;
            // By itself: whoever is at work in one home keeps no other waiting.
            spawn_local(self.clone().throw_away_until_done(login));
        }
    }

    async fn throw_away_until_done(self: Rc<Self>, login: Login) {
        let mut pause = SOON;
        loop {
            match self.throw_away_if_due(&login).await {
                Ok(Some(rest)) => break self.kept_homes.look_after(login, rest),
                Ok(None) => break self.thrown_away.notify_one(),
                Err(error) => {
                    error!(TELEPORT_LOGIN = %login, "cannot remove a kept home, trying again: {error}");
                    sleep(pause).await;
                    pause = LONGEST.min(pause * 2);
                }
            }
        }
    }

    /// How long the kept home of `login` may stay yet; `None` if there is none (any more).
    async fn throw_away_if_due(&self, login: &Login) -> Result<Option<Duration>, HomeError> {
        let door = self.door(login);
        let _inside = door.lock().await;
        let Some(homes) = ephemeral_if_any()? else {
            return Ok(None);
        };
        let Some(rest) = homes.rest(login)? else {
            return Ok(None);
        };
        if rest.is_zero() {
            homes.discard(login)?;
            return Ok(None);
        }
        Ok(Some(rest))
    }

    fn door(&self, login: &Login) -> Rc<Mutex<()>> {
        let mut doors = self.doors.borrow_mut();
        if let Some(door) = doors.get(login).and_then(Weak::upgrade) {
            return door;
        }
        doors.retain(|_, door| door.strong_count() > 0);
        let door = Rc::new(Mutex::new(()));
        doors.insert(login.clone(), Rc::downgrade(&door));
        door
    }
}

fn ephemeral() -> Result<Homes, HomeError> {
    Homes::open_mounted(EPHEMERAL_BASE, Janitor::default())
}

/// Where the file system of homes is not mounted, there is none to keep and nothing to throw away.
fn ephemeral_if_any() -> Result<Option<Homes>, HomeError> {
    match ephemeral() {
        Ok(homes) => Ok(Some(homes)),
        Err(HomeError::NotMounted(_)) => Ok(None),
        Err(HomeError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn empty_trash() -> Result<(), HomeError> {
    let Some(homes) = ephemeral_if_any()? else {
        return Ok(());
    };
    let emptied = homes.empty_trash().await;
    homes.keep_spares();
    emptied
}

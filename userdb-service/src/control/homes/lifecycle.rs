//! When homes are made, kept and thrown away. How that is done safely is in [`homes`](super).
//!
//! A home is there before its session is open; it outlives its user by `home.keep`, out of reach, for
//! the same Teleport user to find again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, warn};

use crate::control::daemon::Daemon;
use crate::control::end::janitor::Janitor;
use crate::control::homes::{HomeError, Homes, Provided, Tenant};
use crate::control::registry::Standing;
use crate::policy::Login;
use crate::policy::config::EPHEMERAL_BASE;
use crate::policy::plan::{Home, Plan};

/// After how long what could not be thrown away is tried again, at first and in the end.
const SOON: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// How long a login waits for its home, for all that there is to do together. PAM waits for 5 s in all.
const PATIENCE: Duration = Duration::from_secs(3);

/// One task at a time works on the home of a login.
pub(in crate::control) type HomeLocks = HashMap<Login, Weak<Mutex<()>>>;

impl Daemon {
    /// Sees to it that the plan's home is there, for a login that is to be answered by `deadline`. A sentence for the
    /// person if there is none.
    pub(in crate::control) async fn provide_home(
        &self,
        plan: &Plan,
        deadline: Instant,
    ) -> Result<(), String> {
        let by = home_by(Instant::now(), deadline);
        let lock = self.home_lock(&plan.login);
        let provided = match locked(&lock, &plan.home, by).await {
            Ok(_held) => self.provide_locked(plan, by).await,
            Err(error) => Err(error),
        };
        provided.map_err(|error| {
            let hint = match error.is_read_only() {
                true => {
                    "; if it is not so for everybody, a drop-in of teleport-sessiond.service has to name the folder in ReadWritePaths="
                }
                false => "",
            };
            warn!(TELEPORT_LOGIN = %plan.login, "no home for {}: {error}{hint}", plan.login);
            format!("This session has no home directory ({error}); it starts in /.")
        })
    }

    async fn provide_locked(&self, plan: &Plan, by: Instant) -> Result<(), HomeError> {
        let tenant = Tenant {
            login: &plan.login,
            uid: plan.uid,
            gid: plan.gid,
            teleport_user: &plan.teleport_user,
        };
        match &plan.home {
            Home::None => {}
            Home::Ephemeral { .. } => {
                self.provide_ephemeral(&tenant, by).await?;
                self.registry.borrow_mut().given_a_home(&plan.login);
            }
            Home::Persistent { path } => {
                let base = path.rsplit_once('/').map_or("/", |(base, _)| base);
                Homes::provide_persistent(Path::new(base), Janitor::default(), &tenant, by).await?;
            }
        }
        Ok(())
    }

    async fn provide_ephemeral(
        &self,
        tenant: &Tenant<'_>,
        by: Instant,
    ) -> Result<Provided, HomeError> {
        // Asked with the lock held: who came before us has either given it a home or not.
        let again = self
            .registry
            .borrow()
            .standing(tenant.login)
            .is_some_and(|standing| standing.has_home);
        let homes = ephemeral()?;
        let provided = match again {
            true => homes.provide_again(tenant, by).await,
            false => homes.provide(tenant, by).await,
        };
        // What was kept there for somebody else, whether or not there is another home now.
        if homes.is_untidy() {
            self.thrown_away.notify_one();
        }
        provided
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
        let lock = self.home_lock(login);
        let _held = lock.lock().await;
        let Some(homes) = ephemeral_if_any()? else {
            return Ok(());
        };
        // Where there is hardly any room, whoever has filled it would go on keeping the others from writing.
        let kept = match whose(standing) {
            Some(tenant) if homes.has_room() => homes.keep(&tenant, standing.terms.home_keep),
            _ => Ok(false),
        };
        match kept {
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
        for kept in homes.kept().unwrap_or_default() {
            // One that cannot be looked at now is looked at in time, and what is wrong said then.
            let rest = homes.rest(&kept.login).ok().flatten();
            self.kept_homes
                .look_after(kept.login, rest.unwrap_or_default());
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
        let lock = self.home_lock(login);
        let _held = lock.lock().await;
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

    fn home_lock(&self, login: &Login) -> Rc<Mutex<()>> {
        let mut locks = self.home_locks.borrow_mut();
        if let Some(lock) = locks.get(login).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Rc::new(Mutex::new(()));
        locks.insert(login.clone(), Rc::downgrade(&lock));
        lock
    }
}

/// When a home is to be there, or to be done without: what comes after it in a login (a sudoers file, nscd) needs time, too.
fn home_by(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    now + PATIENCE.min(left * 3 / 5)
}

/// Waits for whoever is at work on the home of this login.
async fn locked<'d>(
    lock: &'d Mutex<()>,
    home: &Home,
    by: Instant,
) -> Result<MutexGuard<'d, ()>, HomeError> {
    let held = timeout_at(by, lock.lock()).await;
    held.map_err(|_| HomeError::TooSlow(home.path().into()))
}

/// Whose the home is that an ended login leaves in place. Nobody can say if it was shared; and if it was given none,
/// what is in place was left by somebody before, who had the same UID.
fn whose(standing: &Standing) -> Option<Tenant<'_>> {
    let mut owners = standing.owners.iter();
    match (owners.next(), owners.next()) {
        (Some(teleport_user), None) if standing.has_home => Some(Tenant {
            login: &standing.login,
            uid: standing.uid,
            gid: standing.gid,
            teleport_user,
        }),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::registry::{Phase, Terms};
    use crate::policy::plan::Grants;

    fn standing(owners: &[&str], has_home: bool) -> Standing {
        let login = Login::try_from("dev").unwrap();
        let uid = crate::policy::Uid::try_from(0x7000_0206).unwrap();
        Standing {
            given: login.to_string(),
            login,
            uid,
            gid: uid.into(),
            phase: Phase::Terminating,
            owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
            may_have_remains: true,
            has_home,
            linger: false,
            granted: Grants::default(),
            terms: Terms::default(),
        }
    }

    #[test]
    fn what_is_in_place_is_kept_for_its_sole_owner_and_for_nobody_who_was_given_none() {
        let kept_for = |owners: &[&str], has_home| {
            whose(&standing(owners, has_home)).map(|tenant| tenant.teleport_user.to_owned())
        };
        assert_eq!(kept_for(&["alice"], true).as_deref(), Some("alice"));
        // Left of somebody before, since it was mounted upon.
        assert_eq!(kept_for(&["alice"], false), None);
        assert_eq!(kept_for(&["alice", "bob"], true), None);
        assert_eq!(kept_for(&[], true), None);
    }

    #[test]
    fn a_home_takes_three_seconds_at_most_and_leaves_time_for_what_comes_after_it() {
        let now = Instant::now();
        let takes = |left| home_by(now, now + Duration::from_millis(left)) - now;
        assert_eq!(takes(30_000), PATIENCE);
        // What PAM says of its five seconds. Sudo may take 1.5 s after it, and nscd 0.6 s.
        assert_eq!(takes(4750), Duration::from_millis(2850));
        assert_eq!(takes(1000), Duration::from_millis(600));
        assert_eq!(home_by(now + PATIENCE, now), now + PATIENCE);
    }

    #[tokio::test]
    async fn whoever_is_at_work_on_a_home_is_waited_for_no_longer_than_the_home_itself() {
        let (lock, path) = (Mutex::new(()), "/home/dev".to_owned());
        let home = Home::Persistent { path };
        let enter = || locked(&lock, &home, Instant::now() + Duration::from_millis(50));
        let at_work = enter().await.expect("nobody is");
        let refused = tokio::time::timeout(Duration::from_secs(30), enter()).await;
        let refused = refused.expect("it is waited for for ever").unwrap_err();
        assert_eq!(refused.to_string(), "/home/dev does not answer in time");
        drop(at_work);
        assert!(enter().await.is_ok());
    }
}

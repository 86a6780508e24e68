//! How sessions end by themselves and what is left of a UID is ended.
//!
//! Leaders are watched here; the order of a user's end is carried out here, each step with its own
//! limit, in tasks that nobody's call waits for.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::control::daemon::Daemon;
use crate::control::daemon::effects::RETRY;
use crate::control::end::logind::Outcome;
use crate::control::end::mounts::Owner;
use crate::control::end::polling::gone;
use crate::control::end::remains;
use crate::control::homes::HomeError;
use crate::control::host::clock::Boottime;
use crate::control::leader::parents::Parents;
use crate::control::leader::{Exit, Leader, LeaderError};
use crate::control::registry::{Phase, SessionId, Standing};
use crate::policy::{Login, Uid};
use crate::runtime;

/// When a leader is looked at again whose parent has gone, and the longest pause up to the next look: its session is to end within 5 s.
const ORPHAN_LOOK: Duration = Duration::from_millis(500);
const ORPHAN_LOOKS: Duration = Duration::from_secs(4);
/// When a leader is first looked at, whether it has become the user, and the longest pause up to the next look.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOKS: Duration = Duration::from_secs(60);
/// The longest pause between two attempts to end what refuses to.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After how many attempts a mount that stays keeps a login from ending no longer.
const ENOUGH: u32 = 5;
/// How much longer than its stop delay logind may take to drop a user.
const DROPPED: Duration = Duration::from_secs(3);
/// How long taking mounts away may take.
const UNMOUNTED: Duration = Duration::from_secs(5);
/// Between two looks at whether they are gone.
const LOOK: Duration = Duration::from_millis(20);

impl Daemon {
    /// Sees to it that the session ends with its leader.
    ///
    /// # Errors
    /// The leader cannot be watched, so it cannot keep a session: it would never end.
    pub(in crate::control) fn watch(self: &Rc<Self>, id: SessionId) -> Result<(), String> {
        let Some(leader) = self.leaders.borrow().get(&id).cloned() else {
            return Ok(());
        };
        let (exit, parent) = watched(&leader, &mut self.parents.borrow_mut())
            .map_err(|error| format!("the session's leader cannot be watched: {error}"))?;
        let daemon = self.clone();
        let watch = spawn_local(async move {
            // Who has just been answered goes on first.
            runtime::a_moment_passes().await;
            if let Err(error) = daemon.until_over(id, &leader, exit, parent).await {
                error!(TELEPORT_SESSION = %id, %error, "the session's leader can no longer be watched");
            }
            daemon.leader_gone(id);
        });
        self.watches.borrow_mut().insert(id, watch.abort_handle());
        Ok(())
    }

    /// The same as soon as it can be. A session that lives does not end because nothing can be watched now.
    pub(in crate::control) fn watch_in_time(self: &Rc<Self>, id: SessionId) {
        let daemon = self.clone();
        let watched = spawn_local(async move {
            loop {
                sleep(RETRY).await;
                if daemon.watch(id).is_ok() {
                    return;
                }
            }
        });
        self.watches.borrow_mut().insert(id, watched.abort_handle());
    }

    /// Waits until the session is over. If its leader becomes the user meanwhile, its rights end.
    async fn until_over(
        self: &Rc<Self>,
        id: SessionId,
        leader: &Leader,
        exit: Exit,
        parent: Option<Rc<Exit>>,
    ) -> io::Result<()> {
        let over = over(leader, exit, parent);
        tokio::pin!(over);
        if self.registry.borrow().can_renounce(id) {
            tokio::select! {
                ended = &mut over => return ended,
                () = gives_root_away(leader) => {}
            }
            info!(TELEPORT_SESSION = %id, "the session's process has become the user: it grants no rights any more");
            let effects = self.registry.borrow_mut().renounce(id);
            self.carry_out(effects);
        }
        over.await
    }

    /// The session's leader has exited, or might as well have.
    pub(in crate::control) fn leader_gone(self: &Rc<Self>, id: SessionId) {
        let effects = self.registry.borrow_mut().leader_gone(Boottime::now(), id);
        self.carry_out(effects);
    }

    pub(in crate::control) fn end_remains(self: &Rc<Self>, login: Login, uid: Uid) {
        if !self.ending.borrow_mut().insert(login.clone()) {
            return;
        }
        let standing = self.registry.borrow().standing(&login).cloned();
        // It was told a moment ago; by now it may have come again.
        let terminating = standing.filter(|standing| standing.phase == Phase::Terminating);
        let Some(standing) = terminating else {
            self.ending.borrow_mut().remove(&login);
            return;
        };
        let daemon = self.clone();
        spawn_local(async move {
            let mut pause = Duration::from_millis(200);
            let mut tries = 1;
            while let Err(why) = daemon.try_to_end(&standing, tries).await {
                warn!(TELEPORT_LOGIN = %login, TELEPORT_UID = %uid, "{login} has not ended yet: {why}");
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
                tries += 1;
            }
            info!(
                TELEPORT_LOGIN = %login,
                TELEPORT_UID = %uid,
                "{login} has ended; its journal and what it wrote outside its home stay (find / -uid {uid})"
            );
            daemon.ending.borrow_mut().remove(&login);
            let effects = daemon.registry.borrow_mut().remains_ended(&login);
            daemon.carry_out(effects);
        });
    }

    /// Each step is made whatever came of the others. Who comes next under this login has the same UID, and
    /// so everything that could work for him must be gone.
    async fn try_to_end(self: &Rc<Self>, standing: &Standing, tries: u32) -> Result<(), String> {
        let (login, uid, gid) = (&standing.login, standing.uid, standing.gid);
        let mut left = Vec::new();
        // Fails once the record is gone, and then the file among the leftovers does; a logind that still knows
        // the user may be about to start its manager again.
        let _ = self.logind.forbid_linger(uid.get()).await;
        // A mount on the runtime directory would keep systemd from removing it.
        let _ = self.unmount(standing).await;
        let is_idle = || !remains::has_processes(uid.get());
        let asked = self
            .logind
            .end_user(uid.get(), standing.terms.stop_timeout, is_idle)
            .await;
        // Who lives now has had no signal, but from systemd in vain: it is outside of the slice, or nobody could be asked.
        if !matches!(asked, Outcome::Unavailable(_)) && remains::has_living_processes(uid.get()) {
            left.extend(
                self.janitor
                    .terminate(uid)
                    .await
                    .err()
                    .map(|e| e.to_string()),
            );
            gone(standing.terms.stop_timeout, is_idle).await;
        }
        // Whatever logind says or does not say: it knows nothing of processes outside its slices.
        left.extend(self.janitor.kill(uid).await.err().map(|e| e.to_string()));
        // Nobody is left to mount anything anew.
        let mounted = self.unmount(standing).await.err();
        left.extend(
            self.janitor
                .remove_ipc(uid, gid)
                .await
                .err()
                .map(|e| e.to_string()),
        );
        let removed = self.janitor.remove_leftovers(login, uid).await;
        left.extend(removed.err().map(|e| e.to_string()));
        if remains::has_living_processes(uid.get()) {
            left.push("it has processes".to_owned());
        }
        let stays_mounted = mounted.is_some();
        match mounted {
            // It is out of our hands, and harmless: who served it is gone, and a home that is mounted upon is
            // given to nobody.
            Some(why) if tries >= ENOUGH && left.is_empty() => error!(
                TELEPORT_LOGIN = %login,
                TELEPORT_UID = %uid,
                "{why}; {login} ends all the same, unmount it by hand"
            ),
            mounted => left.extend(mounted),
        }
        if !left.is_empty() {
            return Err(left.join("; "));
        }
        match self.keep_home(standing).await {
            Err(HomeError::Mounted(_)) if stays_mounted => {}
            kept => {
                kept.map_err(|error| format!("its home is still in place: {error}"))?;
            }
        }
        // Last, since it takes longest: whoever had the UID next would get this user's runtime directory and limits.
        let patience = standing.terms.retire_delay + DROPPED;
        if matches!(asked, Outcome::Idle | Outcome::StillThere) {
            self.logind.dropped(uid.get(), patience).await;
        }
        if self.logind.still_holds(uid.get()).await {
            return Err(match asked {
                Outcome::Unavailable(why) | Outcome::Untold(why) => {
                    format!("logind or systemd could not end it: {why}")
                }
                _ => format!(
                    "logind or systemd still holds something of it (user {uid} in loginctl, /run/user/{uid}, user-{uid}.slice)"
                ),
            });
        }
        if remains::has_living_processes(uid.get()) {
            return Err("it has processes again".to_owned());
        }
        self.logind.forget_failures(uid.get()).await;
        Ok(())
    }

    /// Has taken away what the user has mounted; a sentence if something stays.
    async fn unmount(&self, standing: &Standing) -> Result<(), String> {
        let owner = Owner {
            uid: standing.uid,
            login: standing.login.clone(),
        };
        let mounted = || {
            let mounted = owner.mounted();
            mounted.map_err(|error| format!("it cannot be seen what it has mounted: {error}"))
        };
        if mounted()?.is_empty() {
            return Ok(());
        }
        self.logind
            .start_unit(&owner.unit())
            .await
            .map_err(|why| format!("{} cannot be started: {why}", owner.unit()))?;
        let until = Instant::now() + UNMOUNTED;
        loop {
            let Some(first) = mounted()?.into_iter().next() else {
                return Ok(());
            };
            if Instant::now() >= until {
                return Err(format!("{} stays mounted", first.display()));
            }
            sleep(LOOK).await;
        }
    }
}

/// What is waited for: the end of the leader and that of its parent, if it has one.
fn watched(leader: &Leader, parents: &mut Parents) -> io::Result<(Exit, Option<Rc<Exit>>)> {
    let exit = leader.watch()?;
    if let Some(parent) = parents.watched_of(leader) {
        return Ok((exit, Some(parent)));
    }
    match leader.parent() {
        Ok(Some(parent)) => Ok((exit, Some(parents.watch(&parent)?))),
        // A leader that has ended meanwhile is told of by its own pidfd.
        Ok(None) | Err(LeaderError::Gone) => Ok((exit, None)),
        Err(LeaderError::Unknown(error)) => Err(error),
    }
}

/// Returns when the leader has given root away, as Teleport's forwarding process does right after its session
/// has opened. Nothing tells, so it is looked at, less and less often: most leaders never do.
async fn gives_root_away(leader: &Leader) {
    let mut pause = FIRST_LOOK;
    loop {
        sleep(pause).await;
        match leader.has_given_root_away() {
            Ok(true) => return,
            // Of its end its pidfd tells.
            Err(LeaderError::Gone) => std::future::pending().await,
            Ok(false) | Err(LeaderError::Unknown(_)) => pause = LAST_LOOKS.min(pause * 2),
        }
    }
}

/// Waits until the session that `leader` leads is over: it has exited, or nobody is left to speak for
/// it. Teleport's forwarding process becomes the user and is then the user's own to stop, so it counts
/// only as long as its parent, Teleport, lives.
async fn over(leader: &Leader, exit: Exit, parent: Option<Rc<Exit>>) -> io::Result<()> {
    if let Some(parent) = parent {
        tokio::select! {
            gone = exit.ended() => return gone,
            gone = parent.ended() => gone?,
        }
    }
    // Of those that stay root there may be many: all that were on when Teleport itself has ended.
    let mut pause = ORPHAN_LOOK;
    loop {
        match leader.is_root() {
            // No descriptor to look with, for one: that says nothing of the leader.
            Ok(true) | Err(LeaderError::Unknown(_)) => {}
            Ok(false) | Err(LeaderError::Gone) => return Ok(()),
        }
        tokio::select! {
            gone = exit.ended() => return gone,
            () = sleep(pause) => pause = ORPHAN_LOOKS.min(pause * 2),
        }
    }
}

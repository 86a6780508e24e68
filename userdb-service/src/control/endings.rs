//! How sessions end by themselves and what is left of a UID is ended.
//!
//! Leaders are watched here; the order of a user's end is carried out here, each step with its own
//! limit, in tasks that nobody's call waits for.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::clock::Boottime;
use super::daemon::Daemon;
use super::leader::{Leader, LeaderError};
use super::leftovers;
use super::logind::Outcome;
use super::lookup::remains;
use super::registry::{SessionId, Standing};
use crate::policy::{Login, Uid};

/// How often a leader is looked at whose parent has gone.
const ORPHAN_LOOK: Duration = Duration::from_millis(500);
/// The longest pause between two attempts to end what refuses to.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Daemon {
    pub(super) fn watch(self: &Rc<Self>, id: SessionId) {
        let Some(leader) = self.leaders.borrow().get(&id).cloned() else {
            return;
        };
        let daemon = self.clone();
        let watch = spawn_local(async move {
            // A leader that cannot be watched cannot keep a session: it would never end.
            if let Err(error) = over(&leader).await {
                error!(TELEPORT_SESSION = %id, %error, "the session's leader cannot be watched");
            }
            let effects = daemon
                .registry
                .borrow_mut()
                .leader_gone(Boottime::now(), id);
            daemon.carry_out(effects);
        });
        self.watches.borrow_mut().insert(id, watch.abort_handle());
    }

    pub(super) fn end_remains(self: &Rc<Self>, login: Login, uid: Uid) {
        if !self.ending.borrow_mut().insert(login.clone()) {
            return;
        }
        let Some(standing) = self.registry.borrow().standing(&login).cloned() else {
            self.ending.borrow_mut().remove(&login);
            return;
        };
        let daemon = self.clone();
        spawn_local(async move {
            let mut pause = Duration::from_millis(200);
            while let Err(why) = daemon.try_to_end(&standing).await {
                warn!(TELEPORT_LOGIN = %login, TELEPORT_UID = %uid, "{login} has not ended yet: {why}");
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            info!(TELEPORT_LOGIN = %login, TELEPORT_UID = %uid, "nothing of {login} is left");
            daemon.ending.borrow_mut().remove(&login);
            let effects = daemon.registry.borrow_mut().remains_ended(&login);
            daemon.carry_out(effects);
        });
    }

    async fn try_to_end(self: &Rc<Self>, standing: &Standing) -> Result<(), String> {
        let (uid, gid) = (standing.uid, standing.gid);
        // Fails once the record is gone, and then the file in leftovers does; a logind that still knows
        // the user may be about to start its manager again.
        let _ = self.logind.forbid_linger(uid.get()).await;
        let asked = self
            .logind
            .end_user(uid.get(), standing.terms.stop_timeout)
            .await;
        // Whatever logind says or does not say: it knows nothing of processes outside its slices.
        let killed = self.janitor.kill(uid).await;
        let freed = self.janitor.remove_ipc(uid, gid).await;
        killed.and(freed).map_err(|error| error.to_string())?;
        for (path, error) in leftovers::remove(&standing.login, uid) {
            warn!(TELEPORT_LOGIN = %standing.login, "cannot remove {}: {error}", path.display());
        }
        if self.logind.holds(uid.get()) {
            return Err(match asked {
                Outcome::Unavailable(why) => format!("logind cannot be asked: {why}"),
                Outcome::Ended | Outcome::StillThere => {
                    "logind still holds something of it".to_owned()
                }
            });
        }
        if remains::has_processes(uid.get()) {
            return Err("it has processes".to_owned());
        }
        self.logind.forget_failures(uid.get()).await;
        self.keep_home(standing)
            .await
            .map_err(|error| format!("its home is still in place: {error}"))
    }
}

/// Waits until the session that `leader` leads is over: it has exited, or nobody is left to speak for
/// it. Teleport's forwarding process becomes the user and is then the user's own to stop, so it counts
/// only as long as its parent, Teleport, lives.
async fn over(leader: &Leader) -> io::Result<()> {
    let exit = leader.watch()?;
    let parent = match leader.parent() {
        Ok(parent) => parent,
        Err(LeaderError::Gone) => return Ok(()),
        Err(LeaderError::Unknown(error)) => return Err(error),
    };
    if let Some(parent) = parent {
        let parent_exit = parent.watch()?;
        tokio::select! {
            gone = exit.ended() => return gone,
            gone = parent_exit.ended() => gone?,
        }
    }
    loop {
        match leader.is_root() {
            Ok(true) => {}
            Ok(false) | Err(LeaderError::Gone) => return Ok(()),
            Err(LeaderError::Unknown(error)) => return Err(error),
        }
        tokio::select! {
            gone = exit.ended() => return gone,
            () = sleep(ORPHAN_LOOK) => {}
        }
    }
}

//! Asking logind, and where it has forgotten a UID systemd itself, to end what a user left running.
//! A hint, never a precondition: rights are gone before, and no call here can block for ever.
//!
//! Whether logind has dropped a user is read from its files and confirmed by asking it. Its UserRemoved
//! signal would say the same, but not across a restart of logind or of the bus.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use zbus::connection::Builder;
use zbus::{Connection, OwnedObjectPath, proxy};

use super::polling::{LOOK, gone};
use super::silence::Silence;
use super::units::{runtime_dir_unit, slice_of, slice_unit, unit_of};
use crate::control::host::look::is_there;

/// Where the system bus listens. Not from the environment: the daemon has no other bus.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// How long any one call, connecting included, may take.
const CALL: Duration = Duration::from_secs(2);
/// How many calls may be under way. More users may end at once, and each call is to have its time for itself: those before it do not
/// count. (The bus refuses more than 128 that one connection has no answer to.)
const AT_ONCE: usize = 16;
/// How long a call may wait for its turn, behind others that are answered.
const TURN: Duration = Duration::from_secs(30);
/// How long what has been sent SIGKILL may take to be gone.
const KILLED: Duration = Duration::from_secs(5);
/// The same of what is in units of systemd's, before the rest is killed.
const UNITS_KILLED: Duration = Duration::from_secs(1);
/// How long systemd is given to start a slice, which takes it no time.
const STARTED: Duration = Duration::from_millis(200);

const NO_SUCH_USER: &str = "org.freedesktop.login1.NoSuchUser";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

#[proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Login {
    fn get_user(&self, uid: u32) -> zbus::Result<OwnedObjectPath>;
    fn terminate_user(&self, uid: u32) -> zbus::Result<()>;
    fn set_user_linger(&self, uid: u32, enable: bool, interactive: bool) -> zbus::Result<()>;
}

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Systemd {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
}

/// What became of a user in logind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither logind nor systemd holds anything of the UID.
    Ended,
    /// It has no processes any more. logind keeps the user for its stop delay, see [`Logind::dropped`].
    Idle,
    /// Something is left after SIGKILL and a wait: try again later, keep the UID taken.
    StillThere,
    /// logind or systemd could not do all of it; the reason is for the journal. What the UID still has must be ended without
    /// them. It has had SIGTERM and its time.
    Unavailable(String),
    /// The same, but nobody may have sent it a signal.
    Untold(String),
}

/// The way to logind. Connects when first needed, and again after a failure.
#[derive(Debug)]
pub struct Logind {
    address: String,
    run: PathBuf,
    cgroups: PathBuf,
    connection: Mutex<Option<Connection>>,
    /// Held by who connects. Others use what comes of it: the bus has room for 256 connections of root's programs, and more users
    /// than that may end at once.
    connecting: tokio::sync::Mutex<()>,
    calls: Semaphore,
    silence_of_logind: Silence,
    silence_of_systemd: Silence,
}

impl Default for Logind {
    fn default() -> Logind {
        Logind::at(SYSTEM_BUS, "/run", "/sys/fs/cgroup")
    }
}

impl Logind {
    fn at(address: &str, run: impl Into<PathBuf>, cgroups: impl Into<PathBuf>) -> Logind {
        Logind {
            address: address.to_owned(),
            run: run.into(),
            cgroups: cgroups.into(),
            connection: Mutex::new(None),
            connecting: tokio::sync::Mutex::default(),
            calls: Semaphore::new(AT_ONCE),
            silence_of_logind: Silence::default(),
            silence_of_systemd: Silence::default(),
        }
    }

    /// Ends every session and process of the user that logind or systemd knows of: SIGTERM, after `stop_timeout`
    /// SIGKILL, until `is_idle` and nobody is left in its slice but systemd itself. Takes at most `stop_timeout` and some
    /// ten seconds, apart from the wait for turns to ask.
    pub async fn end_user(
        &self,
        uid: u32,
        stop_timeout: Duration,
        is_idle: impl Fn() -> bool,
    ) -> Outcome {
        let asked = self
            .login(async |login| login.terminate_user(uid).await)
            .await;
        if let Err(Failure::Named(name)) = &asked
            && name == NO_SUCH_USER
        {
            return self.end_forgotten(uid, stop_timeout).await;
        }
        // What logind was asked in vain it may still do: a unit that is stopped twice has one SIGTERM.
        let told = self.stop_units(uid).await;
        let refused = match (asked, told) {
            (Ok(()), Ok(_)) => None,
            (Err(failure), Ok(true)) => Some(failure.to_string()),
            // Trap: the logind of systemd 252 says yes and passes over sessions that were closed before, so that its word is not enough.
            (Ok(()), Err(failure)) | (Err(failure), Ok(false) | Err(_)) => {
                return Outcome::Untold(failure.to_string());
            }
        };
        let is_over = || (is_idle() && !self.is_populated(uid)) || !self.holds(uid);
        let ended = match gone(stop_timeout, is_over).await {
            true => Ok(true),
            false => self.kill(uid, is_over).await,
        };
        match (ended, refused) {
            (Err(failure), _) => Outcome::Unavailable(failure.to_string()),
            (Ok(_), Some(why)) => Outcome::Unavailable(why),
            (Ok(true), None) => self.idle(uid).await,
            (Ok(false), None) => Outcome::StillThere,
        }
    }

    /// Has systemd stop whatever is in the user's slice: SIGTERM, in the order that a unit of several wants. Whether there was
    /// anything. Trap: no signal to the slice, as that which empties `/run/user/UID` would have it, too, nor to the user's
    /// manager and all below it, whose services end as they say.
    async fn stop_units(&self, uid: u32) -> Result<bool, Failure> {
        let folders = self.folders(uid).map_err(|e| unseen(uid, &e))?;
        for folder in &folders {
            match self.stop_unit(unit_of(folder)).await {
                // A folder of no unit, for one: it keeps none of the others.
                Ok(()) | Err(Failure::Named(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(!folders.is_empty())
    }

    async fn stop_unit(&self, unit: &str) -> Result<(), Failure> {
        self.systemd(async |s| s.stop_unit(unit, "replace").await.map(drop))
            .await
    }

    async fn idle(&self, uid: u32) -> Outcome {
        match self.dropped(uid, Duration::ZERO).await {
            true => Outcome::Ended,
            false => Outcome::Idle,
        }
    }

    /// Switches lingering off, while the user record is still there for logind to find.
    ///
    /// # Errors
    /// A sentence for the journal; the file in `/var/lib/systemd/linger` is then to be removed.
    pub async fn forbid_linger(&self, uid: u32) -> Result<(), String> {
        match self
            .login(async |login| login.set_user_linger(uid, false, false).await)
            .await
        {
            Err(Failure::Named(name)) if name == NO_SUCH_USER => Ok(()),
            outcome => outcome.map_err(|failure| failure.to_string()),
        }
    }

    /// Lets systemd forget units of the UID that count as failed because they were killed; the machine
    /// would stay "degraded" for a user that does not exist. Who cannot be asked has no such units.
    pub async fn forget_failures(&self, uid: u32) {
        for unit in [
            format!("user@{uid}.service"),
            runtime_dir_unit(uid),
            slice_unit(uid),
        ] {
            let forgotten = self
                .systemd(async |s| s.reset_failed_unit(&unit).await)
                .await;
            if let Err(Failure::NoAnswer | Failure::Other(_)) = forgotten {
                return;
            }
        }
    }

    /// Has systemd start a unit; does not wait for what it does.
    ///
    /// # Errors
    /// A sentence for the journal.
    pub async fn start_unit(&self, unit: &str) -> Result<(), String> {
        self.systemd(async |s| s.start_unit(unit, "replace").await.map(drop))
            .await
            .map_err(|failure| failure.to_string())
    }

    /// Whether logind or systemd holds anything of the UID, as far as their files tell.
    pub fn holds(&self, uid: u32) -> bool {
        is_there(&self.run.join(format!("systemd/users/{uid}"))) || self.leftover(uid)
    }

    /// The same, with logind's word on it. A logind that was restarted while the user had no record knows nobody of
    /// the UID, and never removes its own file: that is done for it, or the UID would stay taken.
    pub async fn still_holds(&self, uid: u32) -> bool {
        if !self.holds(uid) {
            return false;
        }
        let known = self.login(async |login| login.get_user(uid).await).await;
        let forgotten = matches!(known, Err(Failure::Named(name)) if name == NO_SUCH_USER);
        if !forgotten || self.leftover(uid) {
            return true;
        }
        let stale = self.run.join(format!("systemd/users/{uid}"));
        if let Err(error) = std::fs::remove_file(&stale)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", stale.display());
        }
        false
    }

    /// Whether there is a process in the user's slice, whoever it belongs to: one that sudo has started is root's, and
    /// systemd waits a minute and a half for those that ignore SIGTERM.
    fn is_populated(&self, uid: u32) -> bool {
        // What is in the slice itself is in no folder of it. What cannot be listed may have somebody.
        let itself = self.cgroups.join(slice_of(uid)).join("cgroup.procs");
        let in_itself = std::fs::read_to_string(itself).is_ok_and(|pids| !pids.trim().is_empty());
        let in_folders = self.folders(uid).map_or(true, |folders| {
            folders.iter().any(|folder| self.has_somebody(uid, folder))
        });
        in_itself || in_folders
    }

    fn has_somebody(&self, uid: u32, folder: &str) -> bool {
        let folder = self.cgroups.join(slice_of(uid)).join(folder);
        std::fs::read_to_string(folder.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// SIGKILL to everybody in the user's slice; whether it `is_over` then. Trap: not by logind's KillUser, and not to the slice at
    /// once. In it, too, is what systemd has empty `/run/user/UID` once all others have ended; killed in the middle of that it fails,
    /// nobody does it again, and the UID stays taken.
    async fn kill(&self, uid: u32, is_over: impl Fn() -> bool) -> Result<bool, Failure> {
        // One that cannot be killed keeps none of the others: a folder of no unit, or (before systemd 254) one whose user has made its
        // cgroup one of threads.
        let mut refused = None;
        for folder in self.folders(uid).map_err(|e| unseen(uid, &e))? {
            match self.kill_unit(unit_of(&folder)).await {
                Ok(()) => {}
                Err(failure @ Failure::Named(_)) => refused = Some(failure),
                // Who is not answered at all need not ask for each of them.
                Err(failure) => return Err(failure),
            }
        }
        if gone(UNITS_KILLED, &is_over).await {
            return Ok(true);
        }
        // What is in no unit: a container that was started with sudo, or who was put into the slice itself.
        if !self.has_somebody(uid, &runtime_dir_unit(uid)) {
            refused = self.kill_unit(&slice_unit(uid)).await.err().or(refused);
        }
        match (gone(KILLED, is_over).await, refused) {
            (false, Some(failure)) => Err(failure),
            (is_over, _) => Ok(is_over),
        }
    }

    async fn kill_unit(&self, unit: &str) -> Result<(), Failure> {
        self.systemd(async |s| s.kill_unit(unit, "all", libc::SIGKILL).await)
            .await
    }

    /// The folders in the user's slice, mostly of units, but that of systemd's own which empties the runtime directory.
    fn folders(&self, uid: u32) -> io::Result<BTreeSet<String>> {
        let own = runtime_dir_unit(uid);
        let mut folders = BTreeSet::new();
        for hierarchy in [self.cgroups.clone(), self.cgroups.join("systemd")] {
            let entries = match std::fs::read_dir(hierarchy.join(slice_of(uid))) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != own {
                    folders.insert(name);
                }
            }
        }
        Ok(folders)
    }

    /// What a logind that was restarted without the user record has left behind.
    fn leftover(&self, uid: u32) -> bool {
        let slice = slice_of(uid);
        // Not asked of what may be mounted there: the folder is the user's.
        is_there(&self.run.join(format!("user/{uid}")))
            || is_there(&self.cgroups.join(&slice))
            || is_there(&self.cgroups.join("systemd").join(&slice))
    }

    async fn end_forgotten(&self, uid: u32, stop_timeout: Duration) -> Outcome {
        if !self.leftover(uid) {
            return Outcome::Ended;
        }
        // Trap: not by way of the slice, which systemd 252 may have forgotten.
        if let Err(failure) = self.stop_units(uid).await {
            return Outcome::Untold(failure.to_string());
        }
        let is_empty_slice = is_there(&self.cgroups.join(slice_of(uid))) && !self.is_populated(uid);
        if is_empty_slice && self.start_unit(&slice_unit(uid)).await.is_ok() {
            // Trap: systemd 252 forgets a slice in which somebody is, and its folders stay for ever; started and stopped it takes
            // them along. Its stop would replace a start that has only been queued.
            sleep(STARTED).await;
        }
        for unit in &[runtime_dir_unit(uid), slice_unit(uid)] {
            if let Err(e) = self.stop_unit(unit).await {
                return Outcome::Untold(e.to_string());
            }
        }
        if gone(stop_timeout, || !self.leftover(uid)).await {
            return Outcome::Ended;
        }
        match self.kill(uid, || !self.leftover(uid)).await {
            Ok(true) => Outcome::Ended,
            Ok(false) => Outcome::StillThere,
            Err(failure) => Outcome::Unavailable(failure.to_string()),
        }
    }

    /// Waits until logind has dropped the user: its stop delay after the end of the last session.
    pub async fn dropped(&self, uid: u32, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !gone(left, || !self.holds(uid)).await {
                return false;
            }
            // The files go first. A logind that cannot be asked has nothing to add to them.
            match self.login(async |login| login.get_user(uid).await).await {
                Ok(_) if Instant::now() < until => sleep(LOOK).await,
                Ok(_) => return false,
                Err(_) => return true,
            }
        }
    }

    async fn login<T>(
        &self,
        call: impl AsyncFnOnce(&LoginProxy<'_>) -> zbus::Result<T>,
    ) -> Result<T, Failure> {
        let ask = async |connection: &Connection| call(&LoginProxy::new(connection).await?).await;
        self.in_turn(&self.silence_of_logind, ask).await
    }

    async fn systemd(
        &self,
        call: impl AsyncFnOnce(&SystemdProxy<'_>) -> zbus::Result<()>,
    ) -> Result<(), Failure> {
        let ask = async |connection: &Connection| call(&SystemdProxy::new(connection).await?).await;
        match self.in_turn(&self.silence_of_systemd, ask).await {
            Err(Failure::Named(name)) if name == NO_SUCH_UNIT => Ok(()),
            outcome => outcome,
        }
    }

    /// One call when its turn has come. The wait for it is no silence of the service, or who ends among many would be ended without it;
    /// but if the service has been silent to those before, it is not asked once more for each of those who wait.
    async fn in_turn<T>(
        &self,
        silence: &Silence,
        call: impl AsyncFnOnce(&Connection) -> zbus::Result<T>,
    ) -> Result<T, Failure> {
        let came = Instant::now();
        // Never closed, so it comes.
        let Ok(_turn) = timeout(TURN, self.calls.acquire()).await else {
            return Err(Failure::Other(format!("no turn to ask within {TURN:?}")));
        };
        if silence.was_noticed_after(came) {
            return Err(Failure::NoAnswer);
        }
        let asked = Instant::now();
        let outcome = self.bounded(call).await;
        match outcome {
            Ok(_) | Err(Failure::Named(_)) => silence.is_over(),
            Err(Failure::NoAnswer) => silence.noticed(asked),
            Err(Failure::Other(_)) => {}
        }
        outcome
    }

    /// One call, connecting first if need be. A connection that failed is not used again.
    async fn bounded<T>(
        &self,
        call: impl AsyncFnOnce(&Connection) -> zbus::Result<T>,
    ) -> Result<T, Failure> {
        let connection = within(self.connected()).await?;
        let outcome = within(call(&connection)).await;
        if matches!(outcome, Err(Failure::NoAnswer | Failure::Other(_))) {
            // Others whose calls failed on it may have connected anew since.
            let is_it = |kept: &mut Connection| kept.unique_name() == connection.unique_name();
            self.kept().take_if(is_it);
        }
        outcome
    }

    async fn connected(&self) -> zbus::Result<Connection> {
        let _turn = self.connecting.lock().await;
        let kept = self.kept().clone();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let connection = Builder::address(self.address.as_str()).build().await?;
        *self.kept() = Some(connection.clone());
        Ok(connection)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn unseen(uid: u32, error: &io::Error) -> Failure {
    Failure::Other(format!("cannot see what is in {}: {error}", slice_of(uid)))
}

/// Why a call had no result.
#[derive(Debug)]
enum Failure {
    /// The service answered with this D-Bus error.
    Named(String),
    /// There was none in time.
    NoAnswer,
    /// The bus or the service is absent or broken, or there are too many others.
    Other(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Named(name) => write!(f, "refused: {name}"),
            Failure::NoAnswer => write!(f, "no answer within {CALL:?}"),
            Failure::Other(why) => f.write_str(why),
        }
    }
}

async fn within<T>(call: impl Future<Output = zbus::Result<T>>) -> Result<T, Failure> {
    match timeout(CALL, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(zbus::Error::MethodError(name, _, _))) => Err(Failure::Named(name.to_string())),
        // Of a name that no unit can have; zbus makes others of those that come from a bus without the service.
        Ok(Err(zbus::Error::FDO(e))) if matches!(*e, zbus::fdo::Error::InvalidArgs(_)) => {
            Err(Failure::Named(e.to_string()))
        }
        Ok(Err(e)) => Err(Failure::Other(e.to_string())),
        Err(_) => Err(Failure::NoAnswer),
    }
}

#[cfg(test)]
#[path = "logind_tests.rs"]
mod tests;

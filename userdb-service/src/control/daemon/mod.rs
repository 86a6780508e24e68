//! `teleport-sessiond` as a running process: what it holds, how it starts, how it stops.
//!
//! Single-threaded: whoever changes the registry carries the effects out before anybody else runs.

pub(super) mod alone;
pub(super) mod burst;
mod children;
pub(super) mod effects;
pub(super) mod messages;
pub(super) mod start;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use account_table::{DEFAULT_PATH, Trust, Writer};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tracing::error;

use crate::control::calls::passwd_lock::PasswdLock;
use crate::control::calls::server;
use crate::control::configuration;
use crate::control::daemon::alone::{Alone, alone};
use crate::control::daemon::burst::Burst;
use crate::control::end::janitor::Janitor;
use crate::control::end::logind::Logind;
use crate::control::homes::kept_homes::KeptHomes;
use crate::control::homes::lifecycle::HomeLocks;
use crate::control::host::clock::{Boottime, LONGEST_SLEEP};
use crate::control::leader::Leader;
use crate::control::leader::parents::Parents;
use crate::control::lookup::{self, Lookups};
use crate::control::publication::nscd::{self, Nscd};
use crate::control::registry::{Registry, SessionId, Terms};
use crate::control::state::notes::Note;
use crate::control::state::{self, StateDir};
use crate::control::sudo::check::SudoersCheck;
use crate::control::sudo::rights::SudoRights;
use crate::control::sudo::thread::SudoersThread;
use crate::policy::sudoers::SUDOERS_D;
use crate::policy::{Config, Login};
use crate::runtime::stop::{self, Stop};
use crate::runtime::{self, activation, journal, notify};

/// Of [`DEFAULT_PATH`], as text.
pub(in crate::control) const TABLE: &str = match DEFAULT_PATH.to_str() {
    Ok(path) => path,
    Err(_) => panic!("not UTF-8"),
};
pub(in crate::control) const PASSWD_LOCK: &str = "/etc/.pwd.lock";

/// How long a sweep that has begun before us may take.
const OTHERS: Duration = Duration::from_secs(5);

/// Everything the daemon holds.
#[derive(Debug)]
pub(in crate::control) struct Daemon {
    pub(in crate::control) registry: RefCell<Registry>,
    pub(in crate::control) config: RefCell<configuration::Current>,
    pub(in crate::control) state: StateDir,
    _alone: Alone,
    pub(in crate::control) table: RefCell<Writer>,
    pub(in crate::control) nscd: Nscd,
    pub(in crate::control) sudoers: SudoersThread,
    pub(in crate::control) rights: RefCell<SudoRights>,
    /// Room in sudoers.d has come, or somebody waits for it.
    pub(in crate::control) room: Notify,
    pub(in crate::control) sudoers_check: SudoersCheck,
    /// For the configuration, or for visudo's word on it.
    pub(in crate::control) ask_again: Notify,
    pub(in crate::control) reload: configuration::Reload,
    pub(in crate::control) lookups: Lookups,
    pub(in crate::control) logind: Logind,
    pub(in crate::control) janitor: Janitor,
    pub(in crate::control) passwd_lock: PasswdLock,
    pub(in crate::control) home_locks: RefCell<HomeLocks>,
    /// Something of a home is in the trash.
    pub(in crate::control) thrown_away: Notify,
    pub(in crate::control) kept_homes: KeptHomes,
    pub(in crate::control) leaders: RefCell<HashMap<SessionId, Rc<Leader>>>,
    pub(in crate::control) parents: RefCell<Parents>,
    pub(in crate::control) watches: RefCell<HashMap<SessionId, AbortHandle>>,
    /// What is not written down as it is: nobody waits for it, or it has failed.
    pub(in crate::control) unwritten: RefCell<BTreeSet<Note>>,
    /// There is something of that.
    pub(in crate::control) to_be_written: Notify,
    /// Logins whose remains are being ended.
    pub(in crate::control) ending: RefCell<BTreeSet<Login>>,
    /// A login lingers.
    pub(in crate::control) somebody_lingers: Notify,
    /// The registry's next deadline is sooner than the one that is waited for.
    deadline_moved: Notify,
    /// That one.
    deadline: Cell<Option<Boottime>>,
    pub(in crate::control) burst: RefCell<Burst>,
    /// Memory can be given back.
    pub(in crate::control) burst_is_over: Notify,
    /// Who waits for a login looks again: the registry has changed, rights of earlier sessions are gone, or the daemon stops.
    pub(in crate::control) look_again: Notify,
    /// SIGTERM has come.
    pub(in crate::control) stopping: Cell<bool>,
}

/// Why the daemon cannot run.
#[derive(Debug)]
pub(in crate::control) struct StartError(pub(in crate::control) String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Runs the daemon until SIGTERM.
pub(in crate::control) fn run() -> Result<(), StartError> {
    end_with_a_panic();
    runtime::block_on(serve()).map_err(|error| StartError(format!("no event loop: {error}")))?
}

/// A task that panics would end alone, and what it was doing be left undone for ever: a leader not watched, a
/// user not ended. The next daemon takes all of it up from what is written down.
fn end_with_a_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        journal::tell_all();
        std::process::abort();
    }));
}

async fn serve() -> Result<(), StartError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| StartError(format!("{what}: {error}"));
    let listener = activation::socket("sessions").map_err(|error| StartError(error.to_string()))?;
    let signals = stop::on_signals().map_err(|error| failed("cannot receive signals", &error))?;
    let (stopper, stop) = stop::pair();
    let hangup =
        signal(SignalKind::hangup()).map_err(|error| failed("cannot receive signals", &error))?;
    let daemon = Rc::new(Daemon::start().await?);
    let told = daemon.clone();
    spawn_local(async move { told.nscd.keep_up_to_date().await });
    spawn_local(daemon.clone().write_down_what_is_not());
    daemon.take_up_where_it_was_left().await?;
    spawn_local(daemon.clone().keep_time());
    spawn_local(daemon.clone().give_room_as_it_comes());
    spawn_local(daemon.clone().put_back_what_is_lost());
    spawn_local(daemon.clone().keep_trash_empty());
    spawn_local(daemon.clone().throw_away_in_time());
    spawn_local(daemon.clone().give_back_in_time());
    spawn_local(daemon.clone().await_last_processes());
    spawn_local(daemon.clone().reload_when_told(hangup));
    spawn_local(daemon.clone().ask_again_in_time());
    spawn_local(daemon.clone().let_nobody_wait_for_a_stop(stop.clone()));
    spawn_local(async {
        let question = json!({"method": "org.varlink.service.GetInfo"});
        notify::watchdog(Path::new(session_protocol::client::SOCKET), &question).await;
    });
    // In our sandbox only the folder of our start can be written to, wherever it is by now. What ends
    // now, sessions kept, is followed by a sweep in the new one and by a daemon that works there.
    let replaced = Rc::new(Cell::new(false));
    let (is_replaced, bell) = (replaced.clone(), daemon.sudoers.replaced());
    spawn_local(async move {
        tokio::select! {
            () = signals.wait() => {}
            () = bell.notified() => is_replaced.set(true),
        }
        stopper.stop();
        // Kept until all have obeyed.
        std::future::pending::<()>().await;
    });
    notify::ready(&daemon.status());
    server::serve(daemon.clone(), listener, stop)
        .await
        .map_err(|error| failed("cannot serve the registry", &error))?;
    // Everything accepted has been answered; sessions stay written down for the next start.
    if let Err(error) = daemon.write_down_the_rest() {
        error!(%error, "the state for a restart cannot be written in full");
    }
    notify::stopping();
    match replaced.get() {
        true => Err(StartError(format!(
            "{SUDOERS_D} was replaced by another folder, where teleport-sessiond cannot work before it has started anew; \
             what it granted is removed now, and granted again to the sessions that live"
        ))),
        false => Ok(()),
    }
}

impl Daemon {
    async fn start() -> Result<Self, StartError> {
        let sudoers_check = SudoersCheck::default();
        let (config, is_to_be_asked) = configuration::first(&sudoers_check).await?;
        let ask_again = Notify::new();
        if is_to_be_asked {
            ask_again.notify_one();
        }
        let reload = configuration::Reload::at_start(config.is_ok() && is_to_be_asked);
        // While it is wrong nobody comes; who is there keeps what they came under.
        let terms = config
            .as_ref()
            .map_or_else(|_| Terms::default(), |config| Terms::from(&**config));
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            StartError(format!("cannot use {what}: {error}"))
        };
        let state = StateDir::open(Path::new(state::FOLDER))
            .map_err(|error| failed(state::FOLDER, &error))?;
        let only = alone(Path::new(state::FOLDER), OTHERS)
            .map_err(|error| failed(state::FOLDER, &error))?;
        let only = only.ok_or_else(|| StartError("another teleport-sessiond runs".to_owned()))?;
        Ok(Self {
            registry: RefCell::new(Registry::new(terms)),
            config: RefCell::new(config),
            state,
            _alone: only,
            table: RefCell::new(
                Writer::open(Path::new(TABLE), Trust::Root)
                    .map_err(|error| failed(TABLE, &error))?,
            ),
            nscd: Nscd::at(Path::new(nscd::SOCKET)),
            sudoers: SudoersThread::start(Path::new(SUDOERS_D))
                .map_err(|error| failed("a thread for sudoers.d", &error))?,
            rights: RefCell::default(),
            room: Notify::new(),
            sudoers_check,
            ask_again,
            reload,
            lookups: Lookups::new(lookup::Settings::default()),
            logind: Logind::default(),
            janitor: Janitor::default(),
            passwd_lock: PasswdLock::new(PASSWD_LOCK.into()),
            home_locks: RefCell::default(),
            thrown_away: Notify::new(),
            kept_homes: KeptHomes::default(),
            leaders: RefCell::default(),
            parents: RefCell::default(),
            watches: RefCell::default(),
            unwritten: RefCell::default(),
            to_be_written: Notify::new(),
            ending: RefCell::default(),
            somebody_lingers: Notify::new(),
            deadline_moved: Notify::new(),
            deadline: Cell::new(None),
            burst: RefCell::default(),
            burst_is_over: Notify::new(),
            look_again: Notify::new(),
            stopping: Cell::new(false),
        })
    }

    /// Most files of ours in sudoers.d, as configured.
    pub(in crate::control) fn max_sudoers_files(&self) -> u32 {
        match &*self.config.borrow() {
            Ok(config) => config.sudo.max_files,
            Err(_) => Config::default().sudo.max_files,
        }
    }

    async fn keep_time(self: Rc<Self>) {
        loop {
            let deadline = self.registry.borrow().next_deadline();
            self.deadline.set(deadline);
            match deadline {
                Some(deadline) => {
                    // The clock that is slept by stands still in suspend.
                    let wait = deadline.since(Boottime::now()).min(LONGEST_SLEEP);
                    let _ = tokio::time::timeout(wait, self.deadline_moved.notified()).await;
                }
                None => self.deadline_moved.notified().await,
            }
            let effects = self.registry.borrow_mut().tick(Boottime::now());
            if !effects.is_empty() {
                self.carry_out(effects);
            }
        }
    }

    /// The registry has changed. Where its next deadline has become later, the one that is waited for finds nothing to do.
    pub(in crate::control) fn keep_deadline(&self) {
        let waits_for = self.deadline.get();
        let is_sooner = |next| waits_for.is_none_or(|waits_for| next < waits_for);
        if self
            .registry
            .borrow()
            .next_deadline()
            .is_some_and(is_sooner)
        {
            self.deadline_moved.notify_one();
        }
    }

    /// Who waits for the end of somebody's remains is told to come back rather than held.
    async fn let_nobody_wait_for_a_stop(self: Rc<Self>, stop: Stop) {
        stop.wait().await;
        self.stopping.set(true);
        self.look_again.notify_waiters();
    }
}

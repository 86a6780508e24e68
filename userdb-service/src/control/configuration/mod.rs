//! The configuration of the running daemon: read at the start, and anew when told. A wrong one changes nothing for those who are in.
//! Where its files are is the subject of [`config_files`]; what they mean is the policy's.

pub mod config_files;

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::control::configuration::config_files::LoadError;
use crate::control::daemon::messages;
use crate::control::daemon::{Daemon, StartError};
use crate::control::host::blocking_pool::{BlockingPool, Undone};
use crate::control::registry::Terms;
use crate::control::sudo::check::{SudoersCheck, Withheld};
use crate::policy::Config;
use crate::runtime::notify;

/// How long a visudo that did not answer is left alone, and files that cannot be read.
const SILENCE: Duration = Duration::from_secs(10);

/// How many readings that hang are left to themselves: another one begins by itself only while there are fewer, so that whoever
/// tells the daemon to reload finds one that can.
const LEFT_ALONE: usize = 2;
/// Where the files are read. One that hangs on what is not even mounted there any more must not keep the next from reading.
static READING: BlockingPool = BlockingPool::new(4);

/// How long somebody who comes during a reload waits for it. `systemctl reload` does not: who logs in after it is to find what it has
/// brought.
const RELOADED: Duration = Duration::from_secs(1);

/// What a daemon without a configuration says of itself to systemd. `teleport-userdbctl check` knows it by that.
pub const HOLDS_NONE: &str = "Sessions are kept, and nobody new is let in: the configuration is wrong (teleport-userdbctl check).";
/// The beginning of the same, where it goes on by an older one than it was told to read.
pub const HOLDS_OLDER: &str =
    "Sessions are kept and their users published, by the configuration of before: ";

/// Whether a reload is under way, and whether one is owed.
#[derive(Debug, Default)]
pub(in crate::control) struct Reload {
    is_under_way: Cell<bool>,
    over: Notify,
    /// How many have begun.
    begun: Cell<u64>,
    /// The last one could not read the files. Nobody has told the administrator to try again.
    is_owed: Cell<bool>,
    /// What was read last was wrong, and an older configuration holds.
    is_older: Cell<bool>,
    /// It was told that nothing is read by itself any more.
    has_given_up: Cell<bool>,
    /// visudo gave no answer for the configuration that holds.
    visudo_is_silent: Cell<bool>,
}

impl Reload {
    pub(in crate::control) fn at_start(visudo_is_silent: bool) -> Reload {
        Reload {
            visudo_is_silent: Cell::new(visudo_is_silent),
            ..Reload::default()
        }
    }

    /// Waits until none is under way, but not for longer than this, nor for long: it may hang.
    pub(in crate::control) async fn is_over(&self, patience: Duration) {
        let none = async {
            // One may have been asked for while another was under way, and follows it at once.
            while self.is_under_way.get() {
                self.over.notified().await;
            }
        };
        let _ = timeout(RELOADED.min(patience), none).await;
    }

    fn begins(&self) {
        self.is_under_way.set(true);
        self.begun.set(self.begun.get() + 1);
        self.is_owed.set(false);
        self.has_given_up.set(false);
    }

    fn ends(&self) {
        self.is_under_way.set(false);
        self.over.notify_waiters();
    }

    /// What is said of a daemon that has a configuration.
    fn status(&self) -> String {
        match (self.is_owed.get(), self.is_older.get()) {
            (true, _) => format!("{HOLDS_OLDER}the new one cannot be read yet."),
            (false, true) => {
                format!("{HOLDS_OLDER}the new one is wrong (teleport-userdbctl check).")
            }
            (false, false) => "Sessions are kept and their users published.".to_owned(),
        }
    }
}

/// What was read, or the sentence that says what is wrong with it: then what lives goes on and nothing new is admitted.
pub(in crate::control) type Current = Result<Rc<Config>, String>;

/// The configuration of the start; and whether to ask again, for it or for visudo's word on it.
///
/// # Errors
/// There is not enough of something to read it with, which says nothing of it.
pub(in crate::control) async fn first(
    sudoers: &SudoersCheck,
) -> Result<(Current, bool), StartError> {
    match read(sudoers).await {
        Ok((config, is_silent)) => Ok((Ok(config), is_silent)),
        Err(error) if error.is_shortage() => Err(StartError(format!(
            "cannot read the configuration: {error}"
        ))),
        Err(error) => {
            tell(&error);
            Ok((Err(error.to_string()), error.is_unreadable()))
        }
    }
}

fn tell(error: &LoadError) {
    error!(
        MESSAGE_ID = messages::CONFIGURATION_WRONG,
        TELEPORT_FILE = %error.file().display(),
        "the configuration is wrong: {error}"
    );
}

async fn read(sudoers: &SudoersCheck) -> Result<(Rc<Config>, bool), LoadError> {
    let (late, most) = READING.late();
    if late == most {
        return Err(LoadError::of_all(io::Error::other(format!(
            "not read: {late} readings before this one still wait for a disk or a server that does not answer; \
             `systemctl restart teleport-sessiond` lets go of them"
        ))));
    }
    let read = READING.try_to_run(config_files::PATIENCE, |_| {
        config_files::load(Path::new("/"))
    });
    let mut config = read.await.unwrap_or_else(|undone| {
        Err(match undone {
            Undone::NoThread(error) => LoadError::of_all(error),
            Undone::Late => LoadError::late(),
        })
    })?;
    let withheld = sudoers.withhold_refused(&mut config).await;
    for withheld in &withheld {
        error!("{withheld}");
    }
    Ok((Rc::new(config), is_silent(&withheld)))
}

fn is_silent(withheld: &[Withheld]) -> bool {
    let unanswered =
        |one: &Withheld| matches!(one, Withheld::Unanswered(_) | Withheld::AsBefore(_));
    withheld.iter().any(unanswered)
}

impl Daemon {
    pub(in crate::control) async fn reload_when_told(self: Rc<Self>, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.reload.begins();
            self.reload().await;
            self.reload.ends();
        }
    }

    /// What `systemctl status` says.
    pub(in crate::control) fn status(&self) -> String {
        match *self.config.borrow() {
            Ok(_) => self.reload.status(),
            Err(_) => HOLDS_NONE.to_owned(),
        }
    }

    /// A good new configuration holds for new sessions; a wrong one changes nothing, and what is still to be asked about that before is asked.
    async fn reload(&self) {
        notify::reloading();
        self.sudoers_check.ask_anew();
        match read(&self.sudoers_check).await {
            Ok((config, is_silent)) => self.take(config, is_silent),
            Err(error) => {
                match error.is_shortage() {
                    true => error!("the configuration cannot be read now: {error}"),
                    false => tell(&error),
                }
                let has_one = self.config.borrow().is_ok();
                match (has_one, error.is_unreadable()) {
                    (true, true) => {
                        warn!("the configuration stays as it was until the new one can be read");
                        self.reload.is_owed.set(true);
                        self.ask_again.notify_one();
                    }
                    (true, false) => {
                        warn!("the configuration stays as it was");
                        self.reload.is_older.set(true);
                    }
                    (false, _) => {
                        warn!("there is still no configuration: nobody new is let in");
                        self.lacks_for(&error);
                    }
                }
            }
        }
        notify::ready(&self.status());
    }

    fn take(&self, config: Rc<Config>, is_silent: bool) {
        self.registry.borrow_mut().configure(Terms::from(&*config));
        *self.config.borrow_mut() = Ok(config);
        self.reload.is_owed.set(false);
        self.reload.is_older.set(false);
        self.wait_for_visudo(is_silent);
        info!("the configuration was read anew");
    }

    /// Notes whether visudo is to be asked again about the configuration that holds from now on.
    pub(in crate::control) fn wait_for_visudo(&self, is_silent: bool) {
        self.reload.visudo_is_silent.set(is_silent);
        if is_silent {
            self.ask_again.notify_one();
        }
    }

    /// A visudo that gave no answer (the disk of a node that boots is busy) is asked again, and files that could not be read are
    /// read: nobody would tell the administrator to reload. What is wrong in files is for him. Never returns.
    pub(in crate::control) async fn ask_again_in_time(self: Rc<Self>) {
        loop {
            self.ask_again.notified().await;
            sleep(SILENCE).await;
            let current = self.config.borrow().clone();
            match current {
                Ok(config) if !self.reload.is_owed.get() => {
                    if self.reload.visudo_is_silent.get() {
                        self.ask_visudo_again(&config).await;
                    }
                }
                _ if READING.late().0 >= LEFT_ALONE => self.give_up_reading(),
                Ok(_) => self.read_what_is_owed().await,
                Err(why) => self.read_again(&why).await,
            }
        }
    }

    /// Until one of those that hang has ended.
    fn give_up_reading(&self) {
        if !self.reload.has_given_up.replace(true) {
            let (late, most) = READING.late();
            let next = match late < most {
                true => "`systemctl reload teleport-sessiond` begins one",
                false => {
                    "none can be begun before one of them ends, or `systemctl restart teleport-sessiond` lets go of them"
                }
            };
            warn!(
                "{late} readings of the configuration still wait for a disk or a server that does not answer, and no other begins by \
                 itself; {next}"
            );
        }
        self.ask_again.notify_one();
    }

    async fn ask_visudo_again(&self, config: &Rc<Config>) {
        let mut asked = Config::clone(config);
        let withheld = self.sudoers_check.withhold_refused(&mut asked).await;
        let is_same = |now: &Current| now.as_ref().is_ok_and(|now| Rc::ptr_eq(now, config));
        // One that was read meanwhile was asked about by itself.
        if !is_same(&self.config.borrow()) {
            return;
        }
        *self.config.borrow_mut() = Ok(Rc::new(asked));
        let is_silent = is_silent(&withheld);
        self.wait_for_visudo(is_silent);
        if !is_silent {
            info!("visudo answers now: what it takes is given");
            for withheld in &withheld {
                error!("{withheld}");
            }
        }
    }

    /// What is read now, unless it was told to reload meanwhile: what that has found is newer.
    async fn read_unless_told(&self) -> Option<Result<(Rc<Config>, bool), LoadError>> {
        let begun = self.reload.begun.get();
        let read = read(&self.sudoers_check).await;
        (self.reload.begun.get() == begun).then_some(read)
    }

    /// There is one, and a newer one could not be read.
    async fn read_what_is_owed(&self) {
        match self.read_unless_told().await {
            // By now it may have what that has found, or go on as it was.
            None => return self.wait_for_visudo(self.reload.visudo_is_silent.get()),
            Some(Ok((config, is_silent))) => self.take(config, is_silent),
            Some(Err(error)) if error.is_unreadable() => return self.ask_again.notify_one(),
            Some(Err(error)) => {
                tell(&error);
                warn!("the configuration stays as it was");
                self.reload.is_owed.set(false);
                self.reload.is_older.set(true);
                self.wait_for_visudo(self.reload.visudo_is_silent.get());
            }
        }
        notify::status(&self.status());
    }

    /// There is none yet, for this reason.
    async fn read_again(&self, why: &str) {
        let Some(read) = self.read_unless_told().await else {
            return;
        };
        match read {
            Ok((config, is_silent)) => self.take(config, is_silent),
            Err(error) => {
                if !error.is_shortage() && error.to_string() != why {
                    tell(&error);
                }
                self.lacks_for(&error);
            }
        }
        notify::status(&self.status());
    }

    /// There still is none, for this reason by now. What cannot be read is tried again.
    fn lacks_for(&self, error: &LoadError) {
        if !error.is_shortage() {
            *self.config.borrow_mut() = Err(error.to_string());
        }
        if error.is_unreadable() {
            self.ask_again.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local, yield_now};

    #[test]
    fn who_comes_during_a_reload_waits_for_it_and_for_the_next_that_was_asked_for_by_then() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let reload = Rc::new(Reload::default());
            reload.is_over(RELOADED).await;
            reload.begins();
            let of_him = Rc::clone(&reload);
            let comes = spawn_local(async move { of_him.is_over(RELOADED).await });
            yield_now().await;
            reload.ends();
            reload.begins();
            yield_now().await;
            assert!(!comes.is_finished());
            reload.ends();
            timeout(RELOADED / 2, comes)
                .await
                .expect("in time")
                .unwrap();
        });
    }

    #[test]
    fn a_configuration_that_is_older_than_the_files_is_told_of() {
        let reload = Reload::default();
        assert!(!reload.status().starts_with(HOLDS_OLDER));
        reload.is_older.set(true);
        assert!(reload.status().starts_with(HOLDS_OLDER));
        assert!(reload.status().contains("is wrong"));
        reload.is_owed.set(true);
        assert!(reload.status().starts_with(HOLDS_OLDER));
        assert!(reload.status().contains("cannot be read yet"));
    }

    #[test]
    fn a_reload_that_hangs_is_not_waited_for() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let reload = Reload::default();
            reload.begins();
            let waited = timeout(RELOADED * 10, reload.is_over(RELOADED * 20)).await;
            assert!(waited.is_ok());
            let waited = timeout(RELOADED / 2, reload.is_over(Duration::from_millis(1))).await;
            assert!(waited.is_ok(), "who has less time waits less");
        });
    }
}

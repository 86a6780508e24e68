//! The configuration of the running daemon: read at the start, and anew when told. A wrong one changes nothing for those who are in.
//! Where its files are, and what they mean, is not of this place.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::config_files::{self, LoadError};
use super::daemon::{Daemon, StartError};
use super::messages;
use super::registry::Terms;
use super::sudoers_check::{SudoersCheck, Withheld};
use crate::policy::Config;
use crate::runtime::notify;

/// How long a visudo that did not answer is left alone.
const SILENCE: Duration = Duration::from_secs(10);

/// What was read, or the sentence that says what is wrong with it: then what lives goes on and nothing new is admitted.
pub(super) type Current = Result<Rc<Config>, String>;

/// The configuration of the start; and whether visudo is to be asked again.
///
/// # Errors
/// There is not enough of something to read it with, which says nothing of it.
pub(super) async fn first(sudoers: &SudoersCheck) -> Result<(Current, bool), StartError> {
    match read(sudoers).await {
        Ok((config, is_silent)) => Ok((Ok(config), is_silent)),
        Err(error) if error.is_shortage() => Err(StartError(format!(
            "cannot read the configuration: {error}"
        ))),
        Err(error) => Ok((Err(error.to_string()), false)),
    }
}

async fn read(sudoers: &SudoersCheck) -> Result<(Rc<Config>, bool), LoadError> {
    match config_files::load(Path::new("/")) {
        Ok(mut config) => {
            let withheld = sudoers.withhold_refused(&mut config).await;
            for withheld in &withheld {
                error!("{withheld}");
            }
            Ok((Rc::new(config), is_silent(&withheld)))
        }
        Err(error) => {
            if !error.is_shortage() {
                error!(
                    MESSAGE_ID = messages::CONFIGURATION_WRONG,
                    TELEPORT_FILE = %error.file().display(),
                    "the configuration is wrong: {error}"
                );
            }
            Err(error)
        }
    }
}

fn is_silent(withheld: &[Withheld]) -> bool {
    let unanswered = |one: &Withheld| matches!(one, Withheld::Unanswered(_));
    withheld.iter().any(unanswered)
}

impl Daemon {
    pub(super) async fn reload_when_told(self: Rc<Self>, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.reload().await;
        }
    }

    /// What `systemctl status` says.
    pub(super) fn status(&self) -> &'static str {
        match *self.config.borrow() {
            Ok(_) => "Sessions are kept and their users published.",
            Err(_) => {
                "Sessions are kept, and nobody new is let in: the configuration is wrong (teleport-userdbctl check)."
            }
        }
    }

    /// A good new configuration holds for new sessions; a wrong one changes nothing.
    async fn reload(&self) {
        notify::reloading();
        match read(&self.sudoers_check).await {
            Ok((config, is_silent)) => {
                self.registry.borrow_mut().configure(Terms::from(&*config));
                *self.config.borrow_mut() = Ok(config);
                info!("the configuration was read anew");
                if is_silent {
                    self.visudo_is_silent.notify_one();
                }
            }
            Err(error) if error.is_shortage() => {
                error!("the configuration cannot be read now, and stays as it was: {error}");
            }
            Err(_) if self.config.borrow().is_err() => {
                warn!("there is still no configuration: nobody new is let in");
            }
            Err(_) => warn!("the configuration stays as it was"),
        }
        notify::ready(self.status());
    }

    /// A visudo that gave no answer (the disk of a node that boots is busy) is asked again: nobody would tell the administrator to
    /// reload. Never returns.
    pub(super) async fn ask_visudo_again(self: Rc<Self>) {
        loop {
            self.visudo_is_silent.notified().await;
            sleep(SILENCE).await;
            let current = self.config.borrow().clone();
            let Ok(config) = current else {
                continue;
            };
            let mut asked = Config::clone(&config);
            let withheld = self.sudoers_check.withhold_refused(&mut asked).await;
            let is_same = |now: &Current| now.as_ref().is_ok_and(|now| Rc::ptr_eq(now, &config));
            // One that was read meanwhile was asked about by itself.
            if !is_same(&self.config.borrow()) {
                continue;
            }
            *self.config.borrow_mut() = Ok(Rc::new(asked));
            match is_silent(&withheld) {
                true => self.visudo_is_silent.notify_one(),
                false => info!(
                    "visudo answers now: roles give the sudo that was withheld for its silence"
                ),
            }
        }
    }
}

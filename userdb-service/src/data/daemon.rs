//! teleport-userdbd: gives its privileges away, takes its socket over, answers until told to stop.
//! The order is the point; the parts are elsewhere.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::{Accounts, Provider, machine_id, privileges};
use crate::USERDB_SERVICE;
use crate::runtime::shortage::is_shortage;
use crate::runtime::stop::{self, Signals, Stopper};
use crate::runtime::transport::{Limits, serve};
use crate::runtime::{activation, block_on, journal, notify, raise_descriptor_limit};

/// `FileDescriptorName=` of the socket unit.
const SOCKET: &str = "userdb";

/// How long an answer is remembered that nobody asks for again; twice that at the most.
const MEMORY: Duration = Duration::from_secs(10);

/// `EX_TEMPFAIL`: systemd makes another start at once, and who has queued waits for it. After 1 it would close the socket.
const ANOTHER_START_MAY_HELP: u8 = 75;

/// Runs the daemon until SIGTERM or SIGINT.
#[must_use]
pub fn run() -> ExitCode {
    let privileges = privileges::give_away();
    journal::start();
    match run_with(privileges) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            journal::last_words(&format_args!("teleport-userdbd cannot run: {error}"));
            match is_for_want_of_something(&*error) {
                true => ExitCode::from(ANOTHER_START_MAY_HELP),
                false => ExitCode::FAILURE,
            }
        }
    }
}

type Failure = Box<dyn Error>;

/// Of descriptors or memory, which there may be in a moment.
fn is_for_want_of_something(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(is_shortage)
}

fn run_with(
    privileges: Result<privileges::Outcome, privileges::PrivilegeError>,
) -> Result<(), Failure> {
    match privileges? {
        privileges::Outcome::User(_) => {}
        privileges::Outcome::Fallback => tracing::warn!(
            uid = privileges::FALLBACK,
            "no user {} in /etc/passwd: running under a fixed UID (systemd-sysusers makes the user)",
            privileges::USER
        ),
        privileges::Outcome::NotRoot(uid) => {
            tracing::info!(uid, "not started as root: no other user to become");
        }
    }
    raise_descriptor_limit();
    let listener = activation::socket(SOCKET)?;
    let path = listener.local_addr()?.as_pathname().map(PathBuf::from);
    // A question of the kind everybody asks, about a name nobody has: `:` cannot be in one.
    let question = json!({
        "method": "io.systemd.UserDatabase.GetUserRecord",
        "parameters": {"userName": ":watchdog", "service": USERDB_SERVICE},
    });
    let provider = Rc::new(Provider::new(Accounts::published(), machine_id()));
    block_on(async {
        let mut signals = Signals::watched()?;
        let (stopper, stop) = stop::pair();
        let answering = Rc::clone(&provider);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(MEMORY).await;
                answering.rest();
            }
        });
        notify::ready("Answering io.systemd.UserDatabase");
        tokio::select! {
            served = serve(listener, Limits::default(), provider, stop) => served,
            () = watch(path, question) => Ok(()),
            // Not in a task: thousands of searches would be ahead of it.
            () = obey(&mut signals, &stopper) => Ok(()),
        }
    })??;
    Ok(())
}

/// Tells of the wish to stop once there is one. It never returns.
async fn obey(signals: &mut Signals, stopper: &Stopper) {
    signals.come().await;
    stopper.stop();
    notify::stopping();
    std::future::pending().await
}

/// Feeds the watchdog, unless the socket has no path to be asked at.
async fn watch(path: Option<PathBuf>, question: serde_json::Value) {
    match path {
        Some(path) => notify::watchdog(&path, &question).await,
        None => std::future::pending().await,
    }
}

//! How systemd is told: over its socket, in order, and without anybody waiting for it. What the socket has no room for is kept here, and
//! sent when there is some. What is told, and when, is not of this place.
//!
//! Trap: everybody may write to that socket, and PID 1 may be busy or hang. Whoever sends there with a socket that waits stands still
//! until it is read, with all that the one thread of a daemon has to do.

use std::collections::VecDeque;
use std::env::var_os;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sd_notify::NotifyState;
use tokio::sync::Notify;

use super::datagrams::{Datagrams, NAP, Progress};

/// It is waited for room, and tried without any after so long at most: the time by which a sign of life may be late.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// How long a process that ends tries to get rid of what is kept.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// Kinds of what is told. At most one of each waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a status.
    Ready,
    Reloading,
    Stopping,
    Status,
    Watchdog,
}

/// The socket of systemd, and what it has had no room for yet.
#[derive(Debug)]
pub(super) struct ToSystemd {
    socket: Datagrams,
    kept: Mutex<Kept>,
    /// Something is kept, and was not a moment ago.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<(Kind, String)>,
    /// It has been said that nobody is there.
    is_away: bool,
}

impl Kind {
    /// Whether who is told this need not be told of `older` any more.
    fn replaces(self, older: Kind) -> bool {
        self == older || self == Kind::Ready && matches!(older, Kind::Reloading | Kind::Status)
    }
}

impl ToSystemd {
    /// Systemd as the environment names it, if this process is a service that has something to tell it.
    pub(super) fn of_this_service() -> Option<&'static Self> {
        static SYSTEMD: OnceLock<Option<ToSystemd>> = OnceLock::new();
        let find = || {
            let path = var_os("NOTIFY_SOCKET")?;
            let found = Self::at(&path);
            if let Err(error) = &found {
                tracing::warn!(%error, "systemd cannot be told anything at {path:?}");
            }
            found.ok()
        };
        SYSTEMD.get_or_init(find).as_ref()
    }

    fn at(path: impl AsRef<Path>) -> std::io::Result<Self> {
        Ok(Self {
            socket: Datagrams::to(path)?,
            kept: Mutex::default(),
            begun: Notify::new(),
        })
    }

    pub(super) fn tell(&self, kind: Kind, state: &[NotifyState<'_>]) {
        let message = state.iter().map(|line| format!("{line}\n")).collect();
        let is_first = {
            let mut kept = self.kept();
            let is_first = kept.messages.is_empty();
            kept.put(kind, message);
            is_first
        };
        // Where others wait it is not their turn either.
        if is_first && self.send_kept() != Progress::Done {
            self.begun.notify_one();
        }
    }

    /// Sends what is kept as soon as there is room for it. Never returns, and needs an event loop of tokio's.
    pub(super) async fn keep_telling(&self) {
        loop {
            self.begun.notified().await;
            let attempt = || self.send_kept();
            self.socket.send_in_time(LONGEST_WAIT, attempt).await;
        }
    }

    /// What is kept goes with the process: waits a little for systemd to take it.
    pub(super) fn tell_last(&self) {
        let until = Instant::now() + LAST_PATIENCE;
        while self.send_kept() != Progress::Done && Instant::now() < until {
            thread::sleep(NAP);
        }
    }

    fn send_kept(&self) -> Progress {
        let mut kept = self.kept();
        let mut progress = Progress::None;
        while let Some((_, message)) = kept.messages.front() {
            match self.socket.send(message.as_bytes()) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return progress,
                Err(error) => {
                    // Once: each attempt that follows meets the same.
                    if !std::mem::replace(&mut kept.is_away, true) {
                        tracing::warn!(%error, "systemd could not be told anything; trying again");
                    }
                    return Progress::Away;
                }
            }
            kept.messages.pop_front();
            kept.is_away = false;
            progress = Progress::Some;
        }
        Progress::Done
    }

    /// It is whole after each statement, so a panic elsewhere spoils nothing.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, kind: Kind, message: String) {
        self.messages.retain(|(older, _)| !kind.replaces(*older));
        self.messages.push_back((kind, message));
    }
}

#[cfg(test)]
#[path = "to_systemd_tests.rs"]
mod tests;

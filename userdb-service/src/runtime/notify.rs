//! What systemd is told: ready, stopping, reloading, still alive.
//! Alive means that a question asked like any client's was answered, not that a timer ticks.

use std::io;
use std::path::Path;

use sd_notify::NotifyState;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Everything is restored and every socket is served; `status` is a sentence for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read anew; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock cannot be read"),
    }
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A sentence for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told {state:?}");
    }
}

/// Tells systemd's watchdog, if the unit has one, that the daemon is alive: every third of its time,
/// and only after `question` (a varlink call) has been answered on the socket at `path`. So a loop
/// that hangs, accepts no more or no longer answers is replaced after `WatchdogSec=`.
///
/// Never returns; drop it to end it.
pub async fn watchdog(path: &Path, question: &Value) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pause = limit / 3;
    let question = format!("{question}\0");
    loop {
        match timeout(pause, ask(path, &question)).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "no answer on our own socket"),
            Err(_) => tracing::error!(waited = ?pause, "no answer on our own socket"),
        }
        sleep(pause).await;
    }
}

async fn ask(path: &Path, question: &str) -> io::Result<()> {
    let mut socket = UnixStream::connect(path).await?;
    socket.write_all(question.as_bytes()).await?;
    let mut last = 1;
    let mut piece = [0; 512];
    while last != 0 {
        let count = socket.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        last = piece[count - 1];
    }
    Ok(())
}

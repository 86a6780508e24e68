//! What systemd is told: ready, stopping, reloading, still alive.
//! Alive means that a question asked like any client's was answered, not that a timer ticks.

use std::io;
use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::to_systemd::{Kind, ToSystemd};

/// How soon it is tried again to get into a full queue.
const AGAIN: Duration = Duration::from_millis(1);

/// Everything is restored and every socket is served; `status` is a sentence for `systemctl status`.
pub fn ready(status: &str) {
    tell(
        Kind::Ready,
        &[NotifyState::Ready, NotifyState::Status(status)],
    );
}

/// The configuration is being read anew; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(Kind::Reloading, &[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock cannot be read"),
    }
}

/// The daemon has begun to stop.
pub fn stopping() {
    tell(Kind::Stopping, &[NotifyState::Stopping]);
}

/// A sentence for `systemctl status`.
pub fn status(status: &str) {
    tell(Kind::Status, &[NotifyState::Status(status)]);
}

/// Nobody waits here: trap of `sd_notify::notify`, which does.
fn tell(kind: Kind, state: &[NotifyState<'_>]) {
    if let Some(systemd) = ToSystemd::of_this_service() {
        systemd.tell(kind, state);
    }
}

/// Tells systemd what it has had no room for, when it has. Never returns, if there is a systemd to be told.
pub(super) async fn keep_telling() {
    if let Some(systemd) = ToSystemd::of_this_service() {
        systemd.keep_telling().await;
    }
}

/// The same before the process ends, and waits a tenth of a second for a systemd that has no room.
pub(super) fn tell_last() {
    if let Some(systemd) = ToSystemd::of_this_service() {
        systemd.tell_last();
    }
}

/// Tells systemd's watchdog, if the unit has one, that the daemon is alive: every third of its time,
/// and only after `question` (a varlink call) has been answered on the socket at `path`. So a loop
/// that hangs, accepts no more or no longer answers is replaced after `WatchdogSec=`.
///
/// The first question comes a third of that time after the start. Trap: until systemd has heard that the service is ready it listens on
/// the socket itself, and a connection to it is a wish to have the service started, which takes back a wish to have it stopped.
///
/// Never returns; drop it to end it.
pub async fn watchdog(path: &Path, question: &Value) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pause = limit / 3;
    let question = format!("{question}\0");
    loop {
        sleep(pause).await;
        match timeout(pause, ask(path, &question)).await {
            Ok(Ok(())) => tell(Kind::Watchdog, &[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "no answer on our own socket"),
            Err(_) => tracing::error!(waited = ?pause, "no answer on our own socket"),
        }
    }
}

async fn ask(path: &Path, question: &str) -> io::Result<()> {
    let mut socket = connect(path).await?;
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

/// Who connects without waiting is turned away while the queue is full. Strangers who connect faster than anybody can let
/// them in keep it so, and must not have us replaced for that: what counts is that the queue moves.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(AGAIN).await,
            connected => return connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream as Stranger};

    use super::*;
    use crate::runtime::block_on;

    #[test]
    fn a_full_queue_is_waited_for_and_one_that_does_not_move_is_no_answer() {
        let folder = std::env::temp_dir().join(format!("notify-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // Shorter than it was: there is room for one who waits.
        rustix::net::listen(&listener, 0).unwrap();
        let _stranger = Stranger::connect(&path).unwrap();
        block_on(async {
            let question = "{}\0";
            let standing = timeout(Duration::from_millis(200), ask(&path, question));
            assert!(standing.await.is_err(), "nobody lets anybody in");
            let letting_in = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                let _stranger = listener.accept().unwrap();
                let (mut asker, _) = listener.accept().unwrap();
                let mut asked = [0; 3];
                std::io::Read::read_exact(&mut asker, &mut asked).unwrap();
                std::io::Write::write_all(&mut asker, b"{}\0").unwrap();
            });
            let answer = timeout(Duration::from_secs(60), ask(&path, question)).await;
            answer.expect("in time").expect("an answer");
            letting_in.join().unwrap();
        })
        .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! The wish to stop, seen by everything that runs for as long as the daemon does.
//! It knows when, never how: each part ends its own work.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The end that wishes.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The end that obeys. Clones see the same wish.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A wish nobody has had yet. Dropping the [`Stopper`] is the wish as well.
#[must_use]
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Makes every [`Stop::wait`] return, now and later.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once the daemon is to stop.
    pub async fn wait(&self) {
        // An error means that the sender is gone: nobody could ever wish again.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}

/// SIGTERM and SIGINT are the wish to stop.
///
/// # Errors
/// A signal handler could not be installed.
pub fn on_signals() -> io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stopper, stop) = pair();
    tokio::task::spawn_local(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.stop();
        // Kept until all have obeyed, so that the wish is one signal and not a closed channel.
        stopper.0.closed().await;
    });
    Ok(stop)
}

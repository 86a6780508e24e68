//! The wish to stop, seen by everything that runs for as long as the daemon does.
//! It knows when, never how: each part ends its own work.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// SIGTERM and SIGINT, which are the wish to stop.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they no longer end the process by themselves.
    ///
    /// # Errors
    /// A signal handler could not be installed.
    pub fn watched() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns once one of them has come. Trap: in a task of its own this has its turn after all that others have to do, which
    /// may be seconds; what [`block_on`](super::block_on) runs has one after few.
    pub async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGTERM and SIGINT are the wish to stop.
///
/// # Errors
/// A signal handler could not be installed.
pub fn on_signals() -> io::Result<Stop> {
    let mut signals = Signals::watched()?;
    let (stopper, stop) = pair();
    tokio::task::spawn_local(async move {
        signals.come().await;
        stopper.stop();
        // Kept until all have obeyed, so that the wish is one signal and not a closed channel.
        stopper.0.closed().await;
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use nix::sys::signal::{Signal::SIGTERM, raise};
    use tokio::task::{spawn_local, yield_now};

    use super::*;
    use crate::runtime::block_on;

    #[test]
    fn a_signal_is_noticed_before_all_others_have_had_their_turn() {
        const TASKS: u32 = 1000;
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        block_on(async move {
            let mut signals = Signals::watched().unwrap();
            for _ in 0..TASKS {
                let turns = Rc::clone(&counted);
                spawn_local(async move {
                    loop {
                        turns.set(turns.get() + 1);
                        yield_now().await;
                    }
                });
            }
            yield_now().await;
            counted.set(0);
            raise(SIGTERM).unwrap();
            signals.come().await;
        })
        .unwrap();
        assert!(turns.get() < TASKS / 2, "{} turns", turns.get());
    }
}

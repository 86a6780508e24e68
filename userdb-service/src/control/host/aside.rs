//! Work that may wait for a disk, on threads beside the daemon's only one: a few at a time, waited for only so long.
//! What the work is, and what becomes of what a late one has begun, is for who gives it to say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// Threads for one disk, or for what is on one: those that wait for it must not keep the work on others waiting.
#[derive(Debug)]
pub(in crate::control) struct Aside {
    turns: Semaphore,
    most: usize,
    late: AtomicUsize,
}

/// One of the threads, for as long as the work or who has asked for it is there.
struct Turn {
    aside: &'static Aside,
    is_late: AtomicBool,
    _permit: SemaphorePermit<'static>,
}

/// Why work was not done in time.
#[derive(Debug)]
pub(in crate::control) enum Undone {
    /// It waits, or what was begun before it does.
    Late,
    /// There was no thread for it.
    NoThread(io::Error),
}

impl Aside {
    /// With `most` threads. Who comes when all are busy waits for one, unless none of them is waited for any more.
    pub(in crate::control) const fn new(most: usize) -> Self {
        Self {
            turns: Semaphore::const_new(most),
            most,
            late: AtomicUsize::new(0),
        }
    }

    /// How many threads are at work that nobody waits for any more, of how many.
    pub(in crate::control) fn late(&self) -> (usize, usize) {
        (self.late.load(Ordering::Relaxed), self.most)
    }

    /// Does `work`; `None` if it is not done within `limit`, or never will be. Late work goes on until it asks what it is
    /// given: whether its outcome is still waited for. An outcome that is not is dropped on its thread.
    ///
    /// A thread for each piece of work, not one of tokio's: tokio panics if it can start none.
    pub(in crate::control) async fn run<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Option<T> {
        let done = self.try_to_run(limit, work).await;
        if let Err(Undone::NoThread(error)) = &done {
            warn!("no thread for a disk that may be slow: {error}");
        }
        done.ok()
    }

    /// The same for who has to know why nothing was done.
    pub(in crate::control) async fn try_to_run<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
    ) -> Result<T, Undone> {
        if self.late.load(Ordering::Relaxed) >= self.most {
            return Err(Undone::Late);
        }
        let deadline = Instant::now() + limit;
        let permit = timeout_at(deadline, self.turns.acquire()).await;
        let turn = Arc::new(Turn {
            aside: self,
            is_late: AtomicBool::new(false),
            _permit: permit.ok().and_then(Result::ok).ok_or(Undone::Late)?,
        });
        let (answer, answered) = oneshot::channel();
        let of_the_thread = turn.clone();
        let started = std::thread::Builder::new()
            .name("aside".to_owned())
            .spawn(move || {
                // Until what nobody waits for is dropped: to close a file may take a disk, too.
                let _turn = of_the_thread;
                let outcome = work(&|| !answer.is_closed());
                let _ = answer.send(outcome);
            });
        started.map_err(Undone::NoThread)?;
        let outcome = timeout_at(deadline, answered).await;
        if outcome.is_err() {
            turn.is_late.store(true, Ordering::Relaxed);
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        outcome.ok().and_then(Result::ok).ok_or(Undone::Late)
    }
}

/// Keeps threads waiting until it is dropped.
#[cfg(test)]
#[derive(Debug)]
pub(in crate::control) struct Hung {
    _disks: Vec<std::sync::mpsc::Sender<()>>,
}

#[cfg(test)]
impl Aside {
    /// Has all threads wait for a disk that does not answer.
    pub(in crate::control) async fn hang(&'static self) -> Hung {
        let hang = |_| {
            let (disk, read) = std::sync::mpsc::channel();
            let limit = Duration::from_secs(600);
            tokio::spawn(self.run(limit, move |_| read.recv().is_ok()));
            disk
        };
        let hung = Hung {
            _disks: (0..self.most).map(hang).collect(),
        };
        // Until all have had their turn.
        while self.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        hung
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if *self.is_late.get_mut() {
            self.aside.late.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    /// Work on a disk that answers once it is sent something; says whether it is still waited for then.
    fn stuck(disk: Receiver<()>, told: Sender<bool>) -> impl FnOnce(&dyn Fn() -> bool) {
        move |wanted| {
            let _ = disk.recv();
            let _ = told.send(wanted());
        }
    }

    #[tokio::test]
    async fn who_finds_all_threads_busy_waits_for_one() {
        static ASIDE: Aside = Aside::new(1);
        let (disk, read) = channel();
        let first = tokio::spawn(ASIDE.run(LONG, stuck(read, channel().0)));
        tokio::task::yield_now().await;
        assert_eq!(ASIDE.run(SHORT, |_| ()).await, None);
        let second = tokio::spawn(ASIDE.run(LONG, |_| "done"));
        disk.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(()));
        assert_eq!(second.await.unwrap(), Some("done"));
    }

    #[tokio::test]
    async fn who_finds_all_threads_late_is_sent_away_at_once_until_one_comes_back() {
        static ASIDE: Aside = Aside::new(1);
        let (disk, read) = channel();
        let (told, wanted) = channel();
        assert_eq!(ASIDE.run(SHORT, stuck(read, told)).await, None);
        // At once: this would wait for a minute otherwise.
        assert_eq!(ASIDE.run(2 * LONG, |_| ()).await, None);
        disk.send(()).unwrap();
        assert!(!wanted.recv_timeout(LONG).unwrap());
        let until = Instant::now() + LONG;
        while ASIDE.run(LONG, |_| ()).await.is_none() {
            assert!(Instant::now() < until, "its turn is never over");
            tokio::task::yield_now().await;
        }
    }
}

//! Work that may wait for a disk, on threads beside the daemon's only one: a few at a time, waited for only so long.
//! What the work is, and what becomes of what a late one has begun, is for who gives it to say.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// How long a thread waits for more work: to start one takes ten times as long as a look at a file.
const REST: Duration = Duration::from_secs(60);

/// Threads for one disk, or for what is on one: those that wait for it must not keep the work on others waiting.
#[derive(Debug)]
pub(in crate::control) struct BlockingPool {
    turns: Semaphore,
    most: usize,
    late: AtomicUsize,
    handover: Mutex<Handover>,
    given: Condvar,
}

type Work = Box<dyn FnOnce() + Send>;

/// Work on its way to threads that have nothing to do.
struct Handover {
    works: VecDeque<Work>,
    /// Threads that rest and have not been given any of it.
    resting: usize,
}

/// One of the threads, for as long as the work or who has asked for it is there.
struct Turn {
    pool: &'static BlockingPool,
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

impl BlockingPool {
    /// With `most` threads. Who comes when all are busy waits for one, unless none of them is waited for any more.
    pub(in crate::control) const fn new(most: usize) -> Self {
        Self {
            turns: Semaphore::const_new(most),
            most,
            late: AtomicUsize::new(0),
            handover: Mutex::new(Handover {
                works: VecDeque::new(),
                resting: 0,
            }),
            given: Condvar::new(),
        }
    }

    /// How many threads are at work that nobody waits for any more, of how many.
    pub(in crate::control) fn late(&self) -> (usize, usize) {
        (self.late.load(Ordering::Relaxed), self.most)
    }

    /// Does `work`; `None` if it is not done within `limit`, or never will be. Late work goes on until it asks what it is
    /// given: whether its outcome is still waited for. An outcome that is not is dropped on its thread.
    ///
    /// Not on one of tokio's threads: tokio panics if it can start none.
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
            pool: self,
            is_late: AtomicBool::new(false),
            _permit: permit.ok().and_then(Result::ok).ok_or(Undone::Late)?,
        });
        let (answer, answered) = oneshot::channel();
        let of_the_thread = turn.clone();
        let given = self.give(Box::new(move || {
            // Until what nobody waits for is dropped: to close a file may take a disk, too.
            let _turn = of_the_thread;
            let outcome = work(&|| !answer.is_closed());
            let _ = answer.send(outcome);
        }));
        given.map_err(Undone::NoThread)?;
        let outcome = timeout_at(deadline, answered).await;
        if outcome.is_err() {
            turn.is_late.store(true, Ordering::Relaxed);
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        outcome.ok().and_then(Result::ok).ok_or(Undone::Late)
    }

    /// Gives work to a thread that rests, or to a new one.
    fn give(&'static self, work: Work) -> io::Result<()> {
        let mut handover = self.handover();
        if handover.resting > 0 {
            handover.resting -= 1;
            handover.works.push_back(work);
            drop(handover);
            self.given.notify_one();
            return Ok(());
        }
        drop(handover);
        std::thread::Builder::new()
            .name("blocking".to_owned())
            .spawn(move || self.do_all(work))
            .map(drop)
    }

    /// What one of the threads does: `first`, and whatever it is given until it has rested for long.
    fn do_all(&self, first: Work) {
        let mut work = first;
        loop {
            // If this panics the thread ends, and holds nothing that others need.
            work();
            let mut handover = self.handover();
            handover.resting += 1;
            work = loop {
                if let Some(work) = handover.works.pop_front() {
                    break work;
                }
                let rested;
                (handover, rested) = self
                    .given
                    .wait_timeout(handover, REST)
                    .unwrap_or_else(PoisonError::into_inner);
                if rested.timed_out() && handover.works.is_empty() {
                    handover.resting -= 1;
                    return;
                }
            };
        }
    }

    /// Whole after each statement, whoever panics.
    fn handover(&self) -> MutexGuard<'_, Handover> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover")
            .field("works", &self.works.len())
            .field("resting", &self.resting)
            .finish()
    }
}

/// Keeps threads waiting until it is dropped.
#[cfg(test)]
#[derive(Debug)]
pub(in crate::control) struct Hung {
    _disks: Vec<std::sync::mpsc::Sender<()>>,
}

#[cfg(test)]
impl BlockingPool {
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
            self.pool.late.fetch_sub(1, Ordering::Relaxed);
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
        static POOL: BlockingPool = BlockingPool::new(1);
        let (disk, read) = channel();
        let first = tokio::spawn(POOL.run(LONG, stuck(read, channel().0)));
        tokio::task::yield_now().await;
        assert_eq!(POOL.run(SHORT, |_| ()).await, None);
        let second = tokio::spawn(POOL.run(LONG, |_| "done"));
        disk.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(()));
        assert_eq!(second.await.unwrap(), Some("done"));
    }

    #[tokio::test]
    async fn a_thread_that_has_done_its_work_is_given_the_next_and_one_that_has_not_is_not() {
        static POOL: BlockingPool = BlockingPool::new(2);
        let id = |_: &dyn Fn() -> bool| std::thread::current().id();
        let first = POOL.run(LONG, id).await;
        let until = Instant::now() + LONG;
        while POOL.handover().resting == 0 {
            assert!(Instant::now() < until, "it never rests");
            tokio::task::yield_now().await;
        }
        let (disk, read) = channel();
        let busy = tokio::spawn(POOL.run(LONG, move |wanted| {
            let _ = read.recv();
            id(wanted)
        }));
        tokio::task::yield_now().await;
        assert_eq!(POOL.handover().resting, 0);
        let second = POOL.run(LONG, id).await;
        assert!(second.is_some() && second != first);
        disk.send(()).unwrap();
        // The second may have done its own work before the first woke.
        let busy = busy.await.unwrap();
        assert!(busy.is_some() && (busy == first || busy == second));
    }

    #[tokio::test]
    async fn who_finds_all_threads_late_is_sent_away_at_once_until_one_comes_back() {
        static POOL: BlockingPool = BlockingPool::new(1);
        let (disk, read) = channel();
        let (told, wanted) = channel();
        assert_eq!(POOL.run(SHORT, stuck(read, told)).await, None);
        // At once: this would wait for a minute otherwise.
        assert_eq!(POOL.run(2 * LONG, |_| ()).await, None);
        disk.send(()).unwrap();
        assert!(!wanted.recv_timeout(LONG).unwrap());
        let until = Instant::now() + LONG;
        while POOL.run(LONG, |_| ()).await.is_none() {
            assert!(Instant::now() < until, "its turn is never over");
            tokio::task::yield_now().await;
        }
    }
}

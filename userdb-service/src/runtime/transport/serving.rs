//! What serves a connection, as a task that can be taken down at once from outside, with all it holds.
//! What it does, and who takes it down, does not enter.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// The work on one connection. While it is under way, nobody else has it.
#[derive(Default)]
pub(super) struct Serving {
    work: Cell<Option<Work>>,
    given_up: Cell<bool>,
    /// Wakes the task. What else would, goes with the work: without a last turn the task would be kept for ever.
    waker: Cell<Option<Waker>>,
}

impl Serving {
    /// Drops the work, its socket and its buffers. To be told, and to end by itself, it would have to wait for its turn: among
    /// thousands who search, that is longer than it takes for thousands more to come. What gives itself up goes on until it waits.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        drop(self.work.take());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn go_on(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(mut work) = self.work.take() else {
            return Poll::Ready(());
        };
        if work.as_mut().poll(context).is_ready() || self.given_up.get() {
            return Poll::Ready(());
        }
        self.work.set(Some(work));
        let known = self.waker.take();
        let known = known.filter(|known| known.will_wake(context.waker()));
        self.waker
            .set(known.or_else(|| Some(context.waker().clone())));
        Poll::Pending
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("given_up", &self.given_up)
            .finish_non_exhaustive()
    }
}

/// Does the work. Holds nothing of the connection, so that an entry in the queue of tasks is all that is left of one given up.
pub(super) struct Task {
    serving: Rc<Serving>,
    /// Counted by its owner, to know how many such entries there are.
    _entry: Rc<()>,
}

impl Task {
    pub(super) fn new(
        serving: Rc<Serving>,
        entry: Rc<()>,
        work: impl Future<Output = ()> + 'static,
    ) -> Task {
        serving.work.set(Some(Box::pin(work)));
        Task {
            serving,
            _entry: entry,
        }
    }
}

impl Task {
    /// Its connection has been given up.
    pub(super) fn is_over(&self) -> bool {
        self.serving.given_up.get()
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.serving.go_on(context)
    }
}

/// The work holds its connection, which holds the work.
impl Drop for Task {
    fn drop(&mut self) {
        self.serving.waker.take();
        self.serving.give_up();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{spawn_local, yield_now};

    use super::*;
    use crate::runtime::block_on;

    #[test]
    fn nothing_is_left_of_the_task_of_one_given_up_while_it_waits() {
        block_on(async {
            let (serving, entry) = (Rc::<Serving>::default(), Rc::new(()));
            let waits = std::future::pending();
            drop(spawn_local(Task::new(
                Rc::clone(&serving),
                Rc::clone(&entry),
                waits,
            )));
            yield_now().await;
            assert_eq!(Rc::strong_count(&entry), 2);
            serving.give_up();
            yield_now().await;
            assert_eq!(Rc::strong_count(&entry), 1);
        })
        .unwrap();
    }
}

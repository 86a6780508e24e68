//! What is put off until those who have just been answered have gone on: a millisecond or some, and all of it together.
//! Where there is one processor for all, whatever is done after an answer is done before the one who waits for it, and whatever is
//! done while somebody is being answered is done in his time: a moment ends in a pause.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

const LENGTH: Duration = Duration::from_millis(1);
/// So many times this at most, however long others take to be answered, and however many they are.
const LENGTHS: u32 = 8;
/// Who has been answered goes on, hangs up and asks the next question, if there is one, in less than this.
const PAUSE: Duration = Duration::from_micros(300);

thread_local! {
    static THIS: Rc<Moment> = Rc::default();
}

#[derive(Debug, Default)]
struct Moment {
    is_on: Cell<bool>,
    begun: Notify,
    over: Notify,
    /// So many are being answered.
    answers: Cell<usize>,
    /// When the last one was.
    answered: Cell<Option<Instant>>,
}

impl Moment {
    fn begin(&self) {
        if !self.is_on.replace(true) {
            self.begun.notify_one();
        }
    }

    /// Trap: a timer that is due but has not gone off yet, because it comes with the kernel's next tick, does so as soon as anything
    /// else wakes us, and before we sleep again: when somebody asks, and when he has been answered.
    fn is_pause(&self) -> bool {
        let answered = self.answered.get();
        self.answers.get() == 0 && answered.is_none_or(|at| at.elapsed() >= PAUSE)
    }
}

/// Begins one, unless one has begun.
pub(super) fn begin() {
    THIS.with(|moment| moment.begin());
}

/// Returns a moment later, under [`block_on`](super::block_on).
pub(super) async fn passes() {
    let moment = THIS.with(Rc::clone);
    let over = moment.over.notified();
    tokio::pin!(over);
    over.as_mut().enable();
    moment.begin();
    over.await;
}

/// Somebody is being answered, or is about to ask, until this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Rc<Moment>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answers.update(|answers| answers - 1);
        self.0.answered.set(Some(Instant::now()));
    }
}

/// From here on somebody is being answered.
pub(super) fn answering() -> Answering {
    let moment = THIS.with(Rc::clone);
    moment.answers.update(|answers| answers + 1);
    Answering(moment)
}

/// Has moments pass on this thread, and `then` done at the end of each. Never returns.
pub(super) async fn pass(then: impl Fn()) {
    let moment = THIS.with(Rc::clone);
    loop {
        moment.begun.notified().await;
        for _ in 0..LENGTHS {
            sleep(LENGTH).await;
            if moment.is_pause() {
                break;
            }
        }
        moment.is_on.set(false);
        then();
        moment.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does `some` while moments pass, which it is given the number of.
    fn while_moments_pass(some: impl AsyncFnOnce(&Cell<u32>)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let passed = Cell::new(0);
        runtime.unwrap().block_on(async {
            tokio::select! {
                () = pass(|| passed.set(passed.get() + 1)) => {}
                () = some(&passed) => {}
            }
        });
    }

    #[test]
    fn those_who_wait_for_a_moment_to_pass_share_it() {
        while_moments_pass(async |passed| {
            begin();
            tokio::join!(passes(), passes());
            assert_eq!(passed.get(), 1);
            passes().await;
            assert_eq!(passed.get(), 2);
            sleep(LENGTH * 10).await;
            assert_eq!(passed.get(), 2, "nobody waited");
        });
    }

    #[test]
    fn a_moment_ends_some_time_after_the_answers_but_does_not_wait_for_them_for_ever() {
        while_moments_pass(async |passed| {
            let (first, second) = (answering(), answering());
            begin();
            drop(first);
            sleep(LENGTH * 3).await;
            assert_eq!(passed.get(), 0, "while somebody is being answered");
            let answered = Instant::now();
            drop(second);
            passes().await;
            assert_eq!(passed.get(), 1);
            assert!(answered.elapsed() >= PAUSE);
            let _hangs = answering();
            let began = Instant::now();
            passes().await;
            assert!(began.elapsed() >= LENGTH * LENGTHS);
        });
    }
}

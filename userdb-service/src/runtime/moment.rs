//! What is put off until those who have just been answered have gone on: a millisecond or some, and all of it together.
//! Where there is one processor for all, whatever is done after an answer is done before the one who waits for it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

const LENGTH: Duration = Duration::from_millis(1);

thread_local! {
    static THIS: Rc<Moment> = Rc::default();
}

#[derive(Debug, Default)]
struct Moment {
    is_on: Cell<bool>,
    begun: Notify,
    over: Notify,
}

impl Moment {
    fn begin(&self) {
        if !self.is_on.replace(true) {
            self.begun.notify_one();
        }
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

/// Has moments pass on this thread, and `then` done at the end of each. Never returns.
pub(super) async fn pass(then: impl Fn()) {
    let moment = THIS.with(Rc::clone);
    loop {
        moment.begun.notified().await;
        sleep(LENGTH).await;
        moment.is_on.set(false);
        then();
        moment.over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_for_a_moment_to_pass_share_it() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let passed = Cell::new(0);
        runtime.unwrap().block_on(async {
            let some = async {
                begin();
                tokio::join!(passes(), passes());
                assert_eq!(passed.get(), 1);
                passes().await;
                assert_eq!(passed.get(), 2);
                sleep(LENGTH * 10).await;
            };
            tokio::select! {
                () = pass(|| passed.set(passed.get() + 1)) => {}
                () = some => {}
            }
        });
        // Nobody waited any more.
        assert_eq!(passed.get(), 2);
    }
}

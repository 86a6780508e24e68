//! What comes of an order for sudoers.d: awaited, come, or never to come; and how long it has taken.
//! Who gives orders and who carries them out is in `thread`.

use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::files::SudoersError;

/// What an order takes at most that does not have to wait for anything. Who waits for that wakes with the next tick of the kernel
/// only, by the timer slack of our unit.
pub(super) const MOMENT: Duration = Duration::from_micros(150);

/// What has taken so long has waited for a disk, or for a processor, and the next of its kind may do so, too.
const LONG: Duration = Duration::from_micros(500);

/// How an order is answered.
#[derive(Debug)]
pub(super) struct Reply<T> {
    to: Sender<Result<T, SudoersError>>,
    ordered: Instant,
}

impl<T> Reply<T> {
    pub(super) fn send(self, result: Result<T, SudoersError>) {
        let _ = self.to.send(result);
    }

    /// Nobody waits for it.
    pub(super) fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Whether the order has taken long so far.
    pub(super) fn takes_long(&self) -> bool {
        self.ordered.elapsed() > LONG
    }
}

/// What comes of an order.
#[derive(Debug)]
pub(in crate::control) enum Answer<T> {
    Awaited(Receiver<Result<T, SudoersError>>),
    Come(Result<T, SudoersError>),
    /// The thread has ended.
    Never,
}

impl<T> Answer<T> {
    pub(super) fn to_come() -> (Reply<T>, Self) {
        let (to, answer) = oneshot::channel();
        let ordered = Instant::now();
        (Reply { to, ordered }, Answer::Awaited(answer))
    }

    /// Waits for it. `None`: it never comes.
    pub(in crate::control) async fn come(self) -> Option<Result<T, SudoersError>> {
        match self {
            Answer::Awaited(answer) => answer.await.ok(),
            Answer::Come(result) => Some(result),
            Answer::Never => None,
        }
    }

    /// Whether it is still to come, by now.
    pub(super) fn is_awaited(&mut self) -> bool {
        if let Answer::Awaited(answer) = self {
            *self = match answer.try_recv() {
                Ok(result) => Answer::Come(result),
                Err(TryRecvError::Closed) => Answer::Never,
                Err(TryRecvError::Empty) => return true,
            };
        }
        false
    }
}

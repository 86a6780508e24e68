//! Varlink over unix sockets for both daemons: accepting, framing, limits, replies, graceful stop.
//! What methods mean does not enter; a [`Service`] is asked.
//!
//! One task per connection on one thread. A lookup that hangs costs every process of the host 45 s,
//! so nobody may hold up anybody else: a message, a reply and an idle connection have limits in size
//! and time, a call that takes long lets others have their turn again and again, and where there are too
//! many connections one gives way to the new: of the UID that has most, even in the middle of such a call.

mod arguments;
mod by_uid;
mod call;
mod connections;
mod crowd;
mod deserted;
mod files;
mod giving_way;
mod introspection;
mod link;
mod next;
mod pieces;
mod replies;
mod serving;
mod waiting;

use std::cell::Cell;
use std::future::{Future, poll_fn, ready};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep};

pub use arguments::InvalidParameter;
pub use call::Call;
pub use introspection::Interface;
pub use link::Asker;
pub use replies::{Disconnect, Item, NoParameters, Replies};

use super::TURNS;
use super::memory;
use super::stop::Stop;
use super::watched::{Watched, watch};
use connections::Connections;
use files::{Files, Socket};
use giving_way::Activity;
use serving::Task;
use waiting::Waiting;

/// What one listening socket allows its callers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message, in bytes, without its terminating NUL.
    pub message: usize,
    /// Bytes that all connections together hold, of messages and of replies, beyond a first KiB of each: whatever they are doing, but
    /// in the middle of a call that does not pause. What the kernel keeps for who does not read is counted, too.
    pub held: usize,
    /// Connections of one UID; root is not counted.
    pub per_uid: usize,
    /// Connections of everybody.
    pub total: usize,
    /// From the first byte of a message to its last.
    pub partial: Duration,
    /// Until a reply, or a piece of a long one, has been taken.
    pub write: Duration,
    /// Without a call.
    pub idle: Duration,
    /// Whether [`Peer::pidfd`] is wanted.
    pub pidfd: bool,
    /// Whether who has been answered mostly hangs up. Then that is looked for a moment later rather than watched for: to be told of
    /// it at once takes the time of who hangs up. And what is put off does not come while somebody is being answered.
    pub brief: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message: 64 << 10,
            held: 32 << 20,
            per_uid: 128,
            total: 4096,
            partial: Duration::from_secs(5),
            write: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            pidfd: false,
            brief: false,
        }
    }
}

impl Limits {
    fn of(&self, activity: Activity) -> Option<Duration> {
        match activity {
            Activity::New | Activity::Idle => Some(self.idle),
            Activity::Partial => Some(self.partial),
            Activity::Writing => Some(self.write),
            Activity::Paused | Activity::Busy => None,
        }
    }

    /// How often to look for what is overdue: often enough that a limit is kept to a tenth.
    pub(super) fn period(&self) -> Duration {
        (self.partial.min(self.write).min(self.idle) / 10)
            .clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// What is served on a socket.
pub trait Service: 'static {
    /// The name of the product in `org.varlink.service.GetInfo`.
    const PRODUCT: &'static str;
    /// The interfaces it answers, beside `org.varlink.service`, which is answered for it.
    const INTERFACES: &'static [Interface];

    /// The whole answer to a message, as it goes over the wire, if it is already known: to one that is byte for byte the same, see
    /// [`Replies::whole`]. It need not be parsed then.
    fn recall(&self, _: &[u8]) -> Option<Rc<[u8]>> {
        None
    }

    /// Answers one call of one of its interfaces with exactly one final reply or error; for a method
    /// it does not know that is [`Replies::method_not_found`]. Calls of one connection come one after
    /// the other; nothing else is promised about order. One that pauses, or whose reply is not taken, may be dropped there.
    fn call(
        &self,
        asker: Asker<'_>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> impl Future<Output = Result<(), Disconnect>>;
}

/// How long a connection that has just been made, half a message, or a call that pauses, is waited for at the end.
const GRACE: Duration = Duration::from_secs(1);
/// How many are let in before some of those who are in have a turn: more than have one, so that nobody waits unseen in the queue of
/// the socket, behind thousands whose turns are long. Who asks little is answered when he is let in.
const NEWCOMERS: u32 = 2 * TURNS;
/// Each takes a turn later, if only the one in which it is forgotten. While so many wait for that, fewer are let in than have turns:
/// what is left of them takes memory.
const LEFT_BEHIND: usize = 1 << 10;
const FEWER: u32 = TURNS / 2;
/// How long accepting rests when the kernel cannot give another descriptor.
const REST: Duration = Duration::from_millis(20);
/// How often that is told: it is tried again and again.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// Serves `listener` until `stop`: then nothing is accepted any more (the kernel keeps the queue for
/// the next process on this socket), calls in progress are answered, and it returns: after
/// a second or little more, unless one of them neither ends nor pauses.
///
/// Runs under [`block_on`](super::block_on).
///
/// # Errors
/// The listener cannot be watched; nothing a client does ends it.
pub async fn serve<S: Service>(
    listener: UnixListener,
    limits: Limits,
    service: Rc<S>,
    stop: Stop,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (files, of_newcomers) = (Cell::new(Files::Possible), Files::of_newcomers(&listener)?);
    let listener = watch(Rc::new(listener.into()), Interest::READABLE)?;
    let connections = Rc::new(Connections::new(limits));
    let stopped = stop.wait();
    let sweeping = sweep(&connections);
    tokio::pin!(stopped, sweeping);
    let (mut newcomers, mut waiting, mut told) = (0, Waiting::default(), None);
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = &mut sweeping => {}
            accepted = accept(&listener, &files, of_newcomers) => match accepted {
                Ok(socket) => {
                    admit(&connections, socket, &service, &mut waiting).await;
                    newcomers += 1;
                    if newcomers >= how_many(connections.left_behind()) {
                        newcomers = 0;
                        waiting.begin(FEWER);
                        yield_now().await;
                    }
                }
                Err(error) => survive(&connections, error, &mut told).await,
            },
            // Nobody else comes.
            () = ready(()), if !waiting.is_empty() => {
                newcomers = 0;
                waiting.begin(TURNS);
                yield_now().await;
            }
        }
    }
    drop(listener);
    waiting.begin(u32::MAX);
    drain(&connections).await;
    Ok(())
}

/// Closes what is overdue, and gives memory back that a crowd has needed, for as long as anybody is connected; it wakes no daemon that nobody is connected to. It never returns.
///
/// One timer for all, which runs on when the last one leaves: to set one costs a wake-up.
async fn sweep(connections: &Connections) {
    let period = connections.limits.period();
    loop {
        connections.occupied().await;
        sleep(period).await;
        connections.close_overdue();
        if connections.has_lost_a_crowd() {
            memory::give_back();
        }
    }
}

/// How many are let in while so many have been given up and are not forgotten yet.
fn how_many(left_behind: usize) -> u32 {
    if left_behind < LEFT_BEHIND {
        NEWCOMERS
    } else {
        FEWER
    }
}

async fn accept(
    listener: &Watched,
    files: &Cell<Files>,
    of_newcomers: Files,
) -> io::Result<Socket> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let accept = |listener: &Rc<OwnedFd>| {
        let accepted = accept_with(listener, flags);
        if matches!(accepted, Err(Errno::WOULDBLOCK)) {
            // All are in who waited when we came.
            files.set(of_newcomers);
        }
        Ok(Socket::new(accepted?, files.get()))
    };
    listener.async_io(Interest::READABLE, accept).await
}

async fn admit<S: Service>(
    connections: &Rc<Connections>,
    socket: Socket,
    service: &Rc<S>,
    waiting: &mut Waiting,
) {
    match connections.admit(socket) {
        Ok(Some(link)) => {
            let (service, serving) = (Rc::clone(service), link.serving());
            let is_one_of_many = link.is_one_of_many();
            let mut task = Task::new(serving, connections.entry(), async move {
                link.serve(&*service).await
            });
            if is_one_of_many {
                waiting.push(task);
                return;
            }
            // Most who connect have asked by now, and are answered here: before the next questions of those who never stop, and
            // without another look at the sockets. A panic that the process outlives (teleport-sessiond does not) ends a connection
            // and nothing else, as it does in a task.
            let first = poll_fn(|context| {
                let poll = AssertUnwindSafe(|| Pin::new(&mut task).poll(context));
                Poll::Ready(catch_unwind(poll).is_ok_and(|poll| poll.is_pending()))
            });
            if first.await {
                spawn_local(task);
            }
        }
        // Nobody can give way; the caller sees a closed connection at once.
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "connection dropped"),
    }
}

/// Accepting failed: the caller has given up in the queue, or descriptors or memory are out. Then
/// the queue waits and one of those who are in makes room.
async fn survive(connections: &Connections, error: io::Error, told: &mut Option<Instant>) {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    if is_due(told, Instant::now()) {
        tracing::warn!(%error, connections = connections.len(), "cannot accept a connection");
    }
    connections.make_room();
    sleep(REST).await;
}

/// Whether it is to be told now what was `told` last.
fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = told.is_none_or(|told| now - told >= TOLD_AGAIN);
    if is_due {
        *told = Some(now);
    }
    is_due
}

/// Lets every connection hear the answer to the call that is in progress, or under way to us. Those behind it are not begun: whoever
/// has sent them sees a closed connection and asks the next process. [`GRACE`] is all that anybody has who could take for ever.
async fn drain(connections: &Connections) {
    let end = Instant::now() + GRACE;
    while !connections.is_empty() {
        connections.finish(Instant::now() >= end);
        let _ = tokio::time::timeout(REST, connections.emptied()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_can_be_let_in_is_told_at_once_and_then_now_and_then() {
        let (mut told, begin) = (None, Instant::now());
        let told_after: Vec<u64> = (0..25_000)
            .step_by(20)
            .filter(|after| is_due(&mut told, begin + Duration::from_millis(*after)))
            .collect();
        assert_eq!(told_after, [0, 10_000, 20_000]);
    }

    #[test]
    fn more_are_let_in_than_have_turns_unless_those_who_are_left_behind_come_together() {
        assert!(how_many(0) > TURNS);
        assert!(how_many(LEFT_BEHIND) < TURNS);
    }
}

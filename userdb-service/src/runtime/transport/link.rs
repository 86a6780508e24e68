//! One connection's life: bytes in, calls out to the service, one after the other.
//! Limits are kept by [`Connections`]; what is replied is made in `replies`.

use std::io;
use std::rc::Rc;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::task::yield_now;

use super::Service;
use super::call::Call;
use super::connections::{Connection, Connections, FREE};
use super::giving_way::Activity;
use super::introspection;
use super::replies::{Disconnect, Replies, write};
use super::serving::Serving;
use crate::runtime::moment;
use crate::runtime::peer::Peer;

/// What is read and written first: nearly every call and reply fits, and glibc keeps blocks of up to
/// this size at hand.
const FIRST: usize = FREE;

/// When a socket is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// At once: it is new, and the event loop is told of it only when it has to be waited for.
    Now,
    /// When the event loop has told that there is something.
    WhenTold,
}

/// What the peer has said from silence to silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Something,
}

/// The other end of the connection that a call came over.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'c>(&'c Connection);

impl Asker<'_> {
    /// Who it is. The kernel is asked when this is asked first.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peer(&self) -> Result<&Rc<Peer>, Disconnect> {
        self.0.peer()
    }
}

/// A connection and its place among the others, which it gives back when dropped.
#[derive(Debug)]
pub(super) struct Link {
    connection: Rc<Connection>,
    id: u64,
    among: Rc<Connections>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.among.leave(self.id);
    }
}

impl Link {
    pub(super) fn new(connection: Rc<Connection>, id: u64, among: Rc<Connections>) -> Self {
        Link {
            connection,
            id,
            among,
        }
    }

    pub(super) fn serving(&self) -> Rc<Serving> {
        Rc::clone(&self.connection.serving)
    }

    pub(super) fn is_one_of_many(&self) -> bool {
        self.connection.is_one_of_many()
    }

    /// Answers until the peer has gone, sends what is no request, or is shut out.
    pub(super) async fn serve<S: Service>(self, service: &S) {
        let mut look = Look::Now;
        let mut is_new = self.answering();
        while let Ok(said) = self.converse(service, look).await {
            look = match said {
                Said::Something if self.among.limits.brief => {
                    drop(is_new.take());
                    moment::passes().await;
                    Look::Now
                }
                _ => Look::WhenTold,
            };
        }
    }

    /// Nothing that was put off is to come in between.
    fn answering(&self) -> Option<moment::Answering> {
        self.among.limits.brief.then(moment::answering)
    }

    /// From silence to silence. The buffers live only this long: an idle connection has none.
    async fn converse<S: Service>(&self, service: &S, mut look: Look) -> Result<Said, Disconnect> {
        let connection = &*self.connection;
        if look == Look::WhenTold {
            connection.readable().await?;
        }
        let limit = self.among.limits.message;
        let mut input = Vec::with_capacity(FIRST.min(limit + 1));
        let mut output = Vec::with_capacity(FIRST);
        loop {
            let seen = input.len();
            if !self.read(&mut input, limit, look).await? {
                // Woken for nothing, which is no sign of life.
                return Ok(Said::Nothing);
            }
            look = Look::WhenTold;
            let mut start = 0;
            let mut from = seen;
            while let Some(length) = input[from..].iter().position(|byte| *byte == 0) {
                let end = from + length;
                // Whoever has more than one call waiting has others before the next: among as many who
                // never stop asking as may connect, an answer for each is what somebody new waits for.
                if start > 0 {
                    connection.pause(yield_now()).await;
                    self.begins_another()?;
                }
                // What is made of a message may be as large again.
                let made = input.capacity().saturating_sub(FIRST);
                connection.holds_messages(input.capacity() + made);
                self.answer(&input[start..end], &mut output, service)
                    .await?;
                start = end + 1;
                from = start;
            }
            if start > 0 {
                self.begins_another()?;
            }
            input.drain(..start);
            if input.is_empty() {
                connection.holds_messages(0);
                connection.holds_reply(0);
                connection.enter(Activity::Idle);
                return Ok(Said::Something);
            }
            if input.len() > limit {
                return Err(Disconnect);
            }
            // The clock runs from the first byte of a message, however often more of it comes.
            if start > 0 || connection.activity() != Activity::Partial {
                connection.enter(Activity::Partial);
            }
            connection.holds_reply(0);
            connection.holds_messages(input.capacity());
            self.among.shed();
        }
    }

    /// At the end no call is begun after another: who has sent hundreds of them would put it off.
    fn begins_another(&self) -> Result<(), Disconnect> {
        match self.among.is_ending() {
            true => Err(Disconnect),
            false => Ok(()),
        }
    }

    /// Reads what there is, waiting only for the rest of a message. False: there is nothing.
    async fn read(
        &self,
        input: &mut Vec<u8>,
        limit: usize,
        mut look: Look,
    ) -> Result<bool, Disconnect> {
        let connection = &*self.connection;
        if input.len() == input.capacity() {
            input.reserve_exact(input.len().min(limit + 1 - input.len()));
        }
        loop {
            let mut read = Err(Errno::WOULDBLOCK);
            if look == Look::Now {
                read = connection.socket.read(input);
                look = Look::WhenTold;
            } else {
                connection.readable().await?;
                let room = input.capacity() - input.len();
                let _ = connection.watched()?.try_io(Interest::READABLE, |_| {
                    read = connection.socket.read(input);
                    match read {
                        // Emptied: to be woken for the next message, not to ask again for nothing.
                        Ok(count) if count < room => Err(io::ErrorKind::WouldBlock.into()),
                        Err(error) => Err(error.into()),
                        Ok(_) => Ok(()),
                    }
                });
            }
            match read {
                Ok(0) => return Err(Disconnect),
                Ok(_) => return Ok(true),
                Err(Errno::WOULDBLOCK) if input.is_empty() => return Ok(false),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(_) => return Err(Disconnect),
            }
        }
    }

    async fn answer<S: Service>(
        &self,
        message: &[u8],
        output: &mut Vec<u8>,
        service: &S,
    ) -> Result<(), Disconnect> {
        if message.len() > self.among.limits.message {
            return Err(Disconnect);
        }
        let connection = &*self.connection;
        connection.enter(Activity::Busy);
        if self.among.limits.brief {
            // Who had to be waited for hangs up once it is answered: to be told of that would take its time.
            connection.socket.unwatch();
        }
        if let Some(answer) = service.recall(message) {
            write(connection, &answer).await?;
            return Ok(());
        }
        let _answering = self.answering();
        let call = Call::parse(message).map_err(|_| Disconnect)?;
        let mut replies = Replies::new(connection, output, &call);
        if !introspection::answered::<S>(&call, &mut replies).await? {
            service.call(Asker(connection), call, &mut replies).await?;
        }
        replies.check()
    }
}

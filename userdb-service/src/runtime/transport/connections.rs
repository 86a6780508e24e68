//! The connections of one listener: who has how many, who idles, who must go.
//! It closes sockets; it never reads or writes them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::sync::Notify;

use super::Limits;
use super::link::Link;
use super::pieces::LargePieces;
use super::replies::Disconnect;
use crate::runtime::peer::Peer;
use crate::runtime::watched::{Lazy, Watched};

/// What a connection is doing, in the order in which it may be given up for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    /// Connected, nothing sent yet.
    New,
    /// Between two calls.
    Idle,
    /// Half a message has come.
    Partial,
    /// A reply is not being taken.
    Writing,
    /// The service is at work.
    Busy,
}

/// How long a reader may take for a piece of a reply before its place is the first to be given to somebody else.
const UNREAD: Duration = Duration::from_millis(100);
/// Bytes of replies that the kernel holds for one of many, about; twice as much memory.
const CROWDED_BUFFER: usize = 8 << 10;

/// The socket of a connection and what it is doing since when.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Lazy,
    /// Known once it matters.
    peer: OnceCell<Rc<Peer>>,
    /// One of those in [`Connections::per_uid`].
    counted: Cell<bool>,
    pub(super) large: LargePieces,
    activity: Cell<Activity>,
    since: Cell<Instant>,
    /// Bytes of half a message that it holds.
    half: Cell<usize>,
    /// No longer one of the connections; its task has yet to find out.
    gone: Cell<bool>,
}

impl Connection {
    pub(super) fn enter(&self, activity: Activity) {
        self.activity.set(activity);
        // For how long the service is at work does not matter, and telling the time takes some.
        if activity != Activity::Busy {
            self.since.set(Instant::now());
        }
    }

    /// Who connected: the kernel has noted it then, and tells for as long as the connection is there.
    pub(super) fn peer(&self) -> Result<&Rc<Peer>, Disconnect> {
        if let Some(peer) = self.peer.get() {
            return Ok(peer);
        }
        // A pidfd that is wanted has been asked for already, see `admit`.
        let peer = Peer::of(self.socket.descriptor(), false).map_err(dropped)?;
        Ok(self.peer.get_or_init(|| Rc::new(peer)))
    }

    fn uid(&self) -> Option<u32> {
        Some(self.peer().ok()?.uid)
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> Result<(), Disconnect> {
        // The guard is not what tells that all has been read: `try_io` does.
        let watched = self.watched()?;
        let ready = watched.readable().await.map_err(|_| Disconnect)?;
        drop(ready);
        Ok(())
    }

    /// Watched for something to read only: to be told of room as well would wake us once more for
    /// each reply that is taken.
    pub(super) fn watched(&self) -> Result<Rc<Watched>, Disconnect> {
        let watched = self.socket.watched(Interest::READABLE);
        watched.map_err(dropped)
    }

    /// Its place among those that may be given up. Who has not read for a while comes first: a list that nobody reads is what is held most
    /// cheaply, and costs most.
    fn rank(&self) -> Option<Activity> {
        match self.activity.get() {
            Activity::Writing if self.since.get().elapsed() >= UNREAD => None,
            activity => Some(activity.max(Activity::Idle)),
        }
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity.get()
    }

    /// Shutting the socket down is how its task learns of it: at its next read or write, never in
    /// the middle of the service's work.
    fn shut(&self, how: Shutdown) {
        // Fails only if the peer has closed it already.
        let _ = shutdown(self.socket.descriptor(), how);
    }
}

/// The other end of the connection that a call came over.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'c>(pub(super) &'c Connection);

impl Asker<'_> {
    /// Who it is. The kernel is asked when this is asked first.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn peer(&self) -> Result<&Rc<Peer>, Disconnect> {
        self.0.peer()
    }
}

fn known_uid(peer: &OnceCell<Rc<Peer>>) -> Option<u32> {
    peer.get().map(|peer| peer.uid)
}

fn dropped(error: io::Error) -> Disconnect {
    tracing::debug!(%error, "connection dropped");
    Disconnect
}

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) limits: Limits,
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    /// How many there are of each UID: of the connections that are counted, see [`Connections::count_all`].
    per_uid: RefCell<HashMap<u32, usize>>,
    all_counted: Cell<bool>,
    next: Cell<u64>,
    /// The sum over [`Connection::half`].
    halves: Cell<usize>,
    large: LargePieces,
    emptied: Notify,
    occupied: Notify,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Connections {
            limits,
            open: RefCell::default(),
            per_uid: RefCell::default(),
            all_counted: Cell::new(true),
            next: Cell::new(0),
            halves: Cell::new(0),
            large: LargePieces::default(),
            emptied: Notify::new(),
            occupied: Notify::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    pub(super) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// Returns once there is a connection; sometimes when there has been one.
    pub(super) async fn occupied(&self) {
        if self.is_empty() {
            self.occupied.notified().await;
        }
    }

    /// Takes a new connection in, at the cost of the one idle for longest where there are too many.
    /// `None` if all that could give way are in the middle of a call.
    ///
    /// # Errors
    /// The kernel does not say who it is.
    pub(super) fn admit(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Option<Link>> {
        let limits = &self.limits;
        // As long as there are fewer altogether than one UID may have, nobody has too many, and nobody needs to be asked about.
        let crowded = self.len() >= limits.per_uid;
        let peer = OnceCell::new();
        if crowded || limits.pidfd {
            let known = Peer::of(&socket, limits.pidfd)?;
            let uid = known.uid;
            peer.get_or_init(|| Rc::new(known));
            if crowded && !self.has_room_for(uid) {
                return Ok(None);
            }
        }
        if self.len() >= limits.total && !self.close_longest_idle() {
            return Ok(None);
        }
        if crowded && known_uid(&peer) != Some(0) {
            // Replies that nobody reads lie in the kernel's memory, and are counted as ours.
            let _ = set_socket_send_buffer_size(&socket, CROWDED_BUFFER);
        }
        let connection = Rc::new(Connection {
            socket: Lazy::new(socket),
            peer,
            counted: Cell::new(false),
            large: self.large.clone(),
            activity: Cell::new(Activity::New),
            since: Cell::new(Instant::now()),
            half: Cell::new(0),
            gone: Cell::new(false),
        });
        if self.is_empty() {
            self.occupied.notify_one();
        }
        let id = self.next.get();
        self.next.set(id + 1);
        if crowded {
            self.count(&connection);
        } else {
            self.all_counted.set(false);
        }
        self.open.borrow_mut().insert(id, Rc::clone(&connection));
        Ok(Some(Link::new(connection, id, Rc::clone(self))))
    }

    /// False: this UID has as many as it may have, and all are in the middle of a call.
    fn has_room_for(&self, uid: u32) -> bool {
        self.count_all();
        let of_uid = self.per_uid.borrow().get(&uid).copied().unwrap_or(0);
        uid == 0 || of_uid < self.limits.per_uid || self.give_up(|c| c.uid() == Some(uid))
    }

    /// Counts those who came while nobody needed to be asked about.
    fn count_all(&self) {
        if !self.all_counted.replace(true) {
            let open = self.open.borrow();
            open.values()
                .filter(|c| !c.counted.get())
                .for_each(|c| self.count(c));
        }
    }

    fn count(&self, connection: &Connection) {
        if let Some(uid) = connection.uid() {
            *self.per_uid.borrow_mut().entry(uid).or_default() += 1;
            connection.counted.set(true);
        }
    }

    /// Closes the connection that has let us wait or been idle for longest; root's, and our own by which the watchdog is told, only if
    /// there is no other.
    pub(super) fn close_longest_idle(&self) -> bool {
        let own = geteuid().as_raw();
        let spared = |c: &Connection| matches!(c.uid(), Some(uid) if uid == 0 || uid == own);
        self.give_up(|c| !spared(c)) || self.give_up(|_| true)
    }

    fn give_up(&self, among: impl Fn(&Connection) -> bool) -> bool {
        let longest = self
            .open
            .borrow()
            .iter()
            .filter(|(_, c)| c.activity.get() != Activity::Busy && among(c))
            .min_by_key(|(_, c)| (c.rank(), c.since.get()))
            .map(|(id, _)| *id);
        match longest {
            Some(id) => {
                self.close(id);
                true
            }
            None => false,
        }
    }

    /// Notes that `connection` holds `bytes` of half a message. Where all hold too much together, the
    /// one that has been at its message for longest is closed.
    pub(super) fn holds(&self, connection: &Connection, bytes: usize) {
        if connection.gone.get() {
            return;
        }
        let before = connection.half.replace(bytes);
        self.halves.set(self.halves.get() - before + bytes);
        while self.halves.get() > self.limits.halves
            && self.give_up(|c| c.activity() == Activity::Partial && c.half.get() > 0)
        {}
    }

    /// Closes whatever has been at one thing for longer than its limit.
    pub(super) fn close_overdue(&self) {
        let now = Instant::now();
        let overdue: Vec<u64> = self
            .open
            .borrow()
            .iter()
            .filter(|(_, c)| {
                self.limits
                    .of(c.activity.get())
                    .is_some_and(|limit| now.duration_since(c.since.get()) >= limit)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            self.close(id);
        }
    }

    /// At the end: nothing new is read. What has just connected or is half-way through a message
    /// gets until `late`; so does a reader of a reply.
    pub(super) fn finish(&self, late: bool) {
        for connection in self.open.borrow().values() {
            match connection.activity.get() {
                Activity::New | Activity::Partial if !late => {}
                Activity::Writing if late => connection.shut(Shutdown::Both),
                // What has been sent can still be read after this, and is answered.
                _ => connection.shut(Shutdown::Read),
            }
        }
    }

    fn close(&self, id: u64) {
        if let Some(connection) = self.leave(id) {
            connection.shut(Shutdown::Both);
        }
    }

    /// Forgets a connection: its task has ended, or is about to.
    pub(super) fn leave(&self, id: u64) -> Option<Rc<Connection>> {
        let connection = self.open.borrow_mut().remove(&id)?;
        connection.gone.set(true);
        self.halves.set(self.halves.get() - connection.half.get());
        if connection.counted.get() {
            self.discount(&connection);
        }
        if self.is_empty() {
            self.emptied.notify_waiters();
        }
        Some(connection)
    }

    fn discount(&self, connection: &Connection) {
        let mut per_uid = self.per_uid.borrow_mut();
        if let Some(uid) = connection.uid()
            && let Some(count) = per_uid.get_mut(&uid)
        {
            *count -= 1;
            if *count == 0 {
                per_uid.remove(&uid);
            }
        }
    }
}

impl Limits {
    fn of(&self, activity: Activity) -> Option<Duration> {
        match activity {
            Activity::New | Activity::Idle => Some(self.idle),
            Activity::Partial => Some(self.partial),
            Activity::Writing => Some(self.write),
            Activity::Busy => None,
        }
    }

    /// How often to look for what is overdue: often enough that a limit is kept to a tenth.
    pub(super) fn period(&self) -> Duration {
        (self.partial.min(self.write).min(self.idle) / 10)
            .clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

//! The connections of one listener: who has how many, who idles, who must go. It closes sockets; it never reads or writes them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::sync::Notify;

use super::Limits;
use super::by_uid::{ByUid, OfUid};
use super::crowd::Crowd;
use super::deserted::deserted;
use super::files::Socket;
use super::giving_way::{Activity, Claim};
use super::link::Link;
use super::next::Next;
use super::pieces::LargePieces;
use super::replies::Disconnect;
use super::serving::Serving;
use crate::runtime::peer::Peer;
use crate::runtime::watched::Watched;

/// Bytes of replies that the kernel holds for one of many, about; twice as much memory.
const CROWDED_BUFFER: usize = 8 << 10;
/// So many are looked at for each newcomer, whether their peers are gone: 0.1 µs each.
const IN_A_WHILE: usize = 8;
/// Of a UID that has more, newcomers wait until there are no others.
const MANY: usize = 16;
/// What a connection may hold of messages, and again of a reply, without being asked about: nearly all need no more.
pub(super) const FREE: usize = 1 << 10;

/// The socket of a connection and what it is doing since when.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// Known once it matters.
    peer: OnceCell<Rc<Peer>>,
    among: Weak<Connections>,
    /// Those of its UID, where it is one of those in [`Connections::per_uid`].
    of_its_uid: OnceCell<Rc<OfUid>>,
    pub(super) large: LargePieces,
    pub(super) serving: Rc<Serving>,
    activity: Cell<Activity>,
    since: Cell<Instant>,
    /// Bytes that it holds: of what it was sent, with what is made of that, and of a reply.
    message: Cell<usize>,
    reply: Cell<usize>,
    /// No longer one of the connections.
    gone: Cell<bool>,
    /// Nothing is read from it any more.
    deaf: Cell<bool>,
}

impl Connection {
    pub(super) fn enter(&self, activity: Activity) {
        self.activity.set(activity);
        // For how long the service is at work does not matter, and telling the time takes some: what is paused has been at it since
        // it had to be waited for last.
        if !matches!(activity, Activity::Busy | Activity::Paused) {
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

    /// Others have their turn until `then` has come about, and this connection may be given up meanwhile.
    pub(super) async fn pause(&self, then: impl Future<Output = ()>) {
        self.enter(Activity::Paused);
        self.sheds();
        then.await;
        self.enter(Activity::Busy);
    }

    /// The peer has closed its end: not only the half it sends by, after which it may still read.
    pub(super) fn is_deserted(&self) -> bool {
        let mut ends = [PollFd::new(
            self.socket.descriptor().as_fd(),
            PollFlags::empty(),
        )];
        poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
    }

    /// It has been sent something that has not been read, before a call or half of one. What follows a call in progress is nobody's
    /// who has hung up.
    pub(super) fn is_unread(&self) -> bool {
        let is_at_work = matches!(self.activity.get(), Activity::Paused | Activity::Writing);
        !is_at_work && rustix::io::ioctl_fionread(self.socket.descriptor()).is_ok_and(|n| n > 0)
    }

    /// Its claim to its place; `None` if it cannot give way.
    fn claim(&self, own: u32, now: Instant) -> Option<Claim> {
        let of_its_uid = self.of_its_uid.get().map_or(0, |of| of.count());
        let (activity, since) = (self.activity.get(), self.since.get());
        Claim::of(is_spared(self.uid(), own), of_its_uid, activity, since, now)
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity.get()
    }

    pub(super) fn since(&self) -> Instant {
        self.since.get()
    }

    pub(super) fn gives_way(&self) -> bool {
        self.activity.get() != Activity::Busy
    }

    /// Its UID has so many that others go before it.
    pub(super) fn is_one_of_many(&self) -> bool {
        let is_one = |of: &Rc<OfUid>| of.count() > MANY;
        self.of_its_uid.get().is_some_and(is_one) && !is_spared(self.uid(), geteuid().as_raw())
    }

    /// Bytes that it holds beyond the [`FREE`] ones.
    pub(super) fn held(&self) -> usize {
        self.message.get() + self.reply.get()
    }

    /// Notes that messages, whole ones or half of one, take so many bytes of it.
    pub(super) fn holds_messages(&self, bytes: usize) {
        self.holds(&self.message, bytes.saturating_sub(FREE));
    }

    /// Notes that a reply that is not sent yet takes so many.
    pub(super) fn holds_reply(&self, bytes: usize) {
        self.holds(&self.reply, bytes.saturating_sub(FREE));
    }

    /// Notes that it waits for its reader, with so many bytes of a reply: the kernel holds what has been sent of it.
    pub(super) fn holds_unread(&self, bytes: usize) {
        self.holds(&self.reply, bytes + 2 * CROWDED_BUFFER);
    }

    fn holds(&self, part: &Cell<usize>, bytes: usize) {
        let before = part.replace(bytes);
        if before == bytes || self.gone.get() {
            return;
        }
        if let Some(of_its_uid) = self.of_its_uid.get() {
            of_its_uid.holds(bytes, before);
        }
        if let Some(among) = self.among.upgrade() {
            among.held.update(|all| all + bytes - before);
        }
    }

    /// It is going to wait with what it holds: that may be too much for all together.
    pub(super) fn sheds(&self) {
        if let Some(among) = self.among.upgrade() {
            among.shed();
        }
    }

    /// What has been sent can still be read after this.
    fn hear_no_more(&self) {
        if !self.deaf.replace(true) {
            self.shut(Shutdown::Read);
        }
    }

    /// At its next read or write its task learns of it, never in the middle of the service's work.
    fn shut(&self, how: Shutdown) {
        // Fails only if the peer has closed it already.
        let _ = shutdown(self.socket.descriptor(), how);
    }
}

/// Root's, or our own, by which the watchdog is told.
fn is_spared(uid: Option<u32>, own: u32) -> bool {
    uid.is_some_and(|uid| uid == 0 || uid == own)
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
    per_uid: RefCell<ByUid>,
    all_counted: Cell<bool>,
    next: Cell<u64>,
    /// So many have come since it was looked whose peers are gone.
    newcomers: Cell<usize>,
    next_to_go: RefCell<Next>,
    crowd: Crowd,
    /// Held by each of their tasks, also those of connections that have been given up.
    entries: Rc<()>,
    /// The sum over [`Connection::held`].
    held: Cell<usize>,
    large: LargePieces,
    ending: Cell<bool>,
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
            newcomers: Cell::new(0),
            next_to_go: RefCell::default(),
            crowd: Crowd::default(),
            entries: Rc::default(),
            held: Cell::new(0),
            large: LargePieces::default(),
            ending: Cell::new(false),
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

    pub(super) fn entry(&self) -> Rc<()> {
        Rc::clone(&self.entries)
    }

    /// How many tasks there are of connections that have been given up.
    pub(super) fn left_behind(&self) -> usize {
        (Rc::strong_count(&self.entries) - 1).saturating_sub(self.len())
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

    /// Takes a new connection in, at the cost of another where there are too many.
    /// `None` if all that could give way are in the middle of a call that cannot be given up.
    ///
    /// # Errors
    /// The kernel does not say who it is.
    pub(super) fn admit(self: &Rc<Self>, socket: Socket) -> io::Result<Option<Link>> {
        let limits = &self.limits;
        // As long as there are fewer altogether than one UID may have, nobody has too many, and nobody needs to be asked about.
        let crowded = self.len() >= limits.per_uid;
        if crowded && self.is_look_due() {
            self.close_deserted();
        }
        let peer = OnceCell::new();
        if crowded || limits.pidfd {
            let known = Peer::of(socket.descriptor(), limits.pidfd)?;
            let uid = known.uid;
            peer.get_or_init(|| Rc::new(known));
            if crowded && !self.has_room_for(uid) {
                return Ok(None);
            }
        }
        if self.len() >= limits.total && !self.make_room() {
            return Ok(None);
        }
        if crowded && peer.get().is_none_or(|peer| peer.uid != 0) {
            // Replies that nobody reads lie in the kernel's memory, and are counted as ours.
            let _ = set_socket_send_buffer_size(socket.descriptor(), CROWDED_BUFFER);
        }
        let connection = Rc::new(Connection {
            socket,
            peer,
            among: Rc::downgrade(self),
            of_its_uid: OnceCell::new(),
            large: self.large.clone(),
            serving: Rc::default(),
            activity: Cell::new(Activity::New),
            since: Cell::new(Instant::now()),
            message: Cell::new(0),
            reply: Cell::new(0),
            gone: Cell::new(false),
            deaf: Cell::new(false),
        });
        if self.is_empty() {
            self.occupied.notify_one();
        }
        let id = self.next.get();
        self.next.set(id + 1);
        if crowded {
            self.count(id, &connection);
        } else {
            self.all_counted.set(false);
        }
        self.open.borrow_mut().insert(id, Rc::clone(&connection));
        self.crowd.sees(self.len(), self.held.get());
        Ok(Some(Link::new(connection, id, Rc::clone(self))))
    }

    /// False: this UID has as many as it may have, and all are in the middle of a call that cannot be given up.
    fn has_room_for(&self, uid: u32) -> bool {
        self.count_all();
        let of_uid = self.per_uid.borrow().of(uid).cloned();
        let Some(of_uid) = of_uid.filter(|of| uid != 0 && of.count() >= self.limits.per_uid) else {
            return true;
        };
        let (own, now) = (geteuid().as_raw(), Instant::now());
        self.close_one(of_uid.least(|c| c.claim(own, now)))
    }

    /// Counts those who came while nobody needed to be asked about.
    fn count_all(&self) {
        if !self.all_counted.replace(true) {
            let open = self.open.borrow();
            open.iter()
                .filter(|(_, c)| c.of_its_uid.get().is_none())
                .for_each(|(id, c)| self.count(*id, c));
        }
    }

    fn count(&self, id: u64, connection: &Rc<Connection>) {
        if let Some(uid) = connection.uid() {
            let of_its_uid = self.per_uid.borrow_mut().insert(uid, id, connection);
            connection.of_its_uid.get_or_init(|| of_its_uid);
        }
    }

    /// Whether it is to be looked again whose peer has hung up. Each of these would notice in its turn, but where newcomers are as
    /// many as the turns, or thousands search, they would come together until others had to give way.
    fn is_look_due(&self) -> bool {
        self.newcomers.update(|count| count + 1);
        self.newcomers.get() * IN_A_WHILE >= self.len()
    }

    /// Closes those whose peer has hung up. False: there are none.
    fn close_deserted(&self) -> bool {
        self.newcomers.set(0);
        let deserted = deserted(&self.open.borrow());
        deserted.iter().for_each(|id| self.close(*id));
        !deserted.is_empty()
    }

    /// Closes those whose peer has hung up, or else the connection with the least claim to its place, or one of those with the least.
    pub(super) fn make_room(&self) -> bool {
        self.count_all();
        let (own, now) = (geteuid().as_raw(), Instant::now());
        // Where some have many, whose claims are greater once one of theirs is gone, they are not looked at all together.
        let by_count = |c: &Connection| c.claim(own, now).filter(Claim::goes_by_count);
        let of_many = (self.per_uid.borrow()).more_than(MANY, |uid| is_spared(Some(uid), own));
        if let Some(id) = of_many.and_then(|of| of.least(by_count)) {
            return self.close_one(Some(id));
        }
        let claim = |id: u64| self.open.borrow().get(&id)?.claim(own, now);
        let known = self.next_to_go.borrow_mut().take(claim);
        if known.is_none() && self.close_deserted() {
            return true;
        }
        self.close_one(known.or_else(|| {
            let open = self.open.borrow();
            let claims = open.keys().filter_map(|id| Some((claim(*id)?, *id)));
            let mut next = Next::of(claims.collect());
            let least = next.take(claim);
            self.next_to_go.replace(next);
            least
        }))
    }

    /// False: there is none to be closed.
    fn close_one(&self, id: Option<u64>) -> bool {
        id.inspect(|id| self.close(*id)).is_some()
    }

    /// Where all hold too much together, the one that holds most of the UID that holds most is closed.
    pub(super) fn shed(&self) {
        self.crowd.sees(self.len(), self.held.get());
        while self.held.get() > self.limits.held {
            self.count_all();
            let own = geteuid().as_raw();
            let holder = self
                .per_uid
                .borrow()
                .holder(|uid| is_spared(Some(uid), own));
            if !self.close_one(holder) {
                break;
            }
        }
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

    /// A crowd has gone, and most of what it has needed is free; it is told once.
    pub(super) fn has_lost_a_crowd(&self) -> bool {
        self.crowd.has_gone(self.len(), self.held.get())
    }

    /// At the end: no call is begun after the one in progress, or after the first that comes of who has just connected or is
    /// half-way through a message. They have until `late` for it; so have a reader of a reply, and a call that pauses.
    pub(super) fn finish(&self, late: bool) {
        self.ending.set(true);
        let mut overdue = Vec::new();
        for (id, connection) in self.open.borrow().iter() {
            match connection.activity.get() {
                Activity::New | Activity::Partial if !late => {}
                Activity::Busy => connection.hear_no_more(),
                _ if late => overdue.push(*id),
                _ => connection.hear_no_more(),
            }
        }
        overdue.into_iter().for_each(|id| self.close(id));
    }

    /// Whether it has come to the end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Closes one that is not in the middle of a call, or is where that can be given up.
    fn close(&self, id: u64) {
        if let Some(connection) = self.leave(id) {
            connection.shut(Shutdown::Both);
            connection.serving.give_up();
        }
    }

    /// Forgets a connection.
    pub(super) fn leave(&self, id: u64) -> Option<Rc<Connection>> {
        let connection = self.open.borrow_mut().remove(&id)?;
        connection.gone.set(true);
        self.held.update(|all| all - connection.held());
        if connection.of_its_uid.get().is_some()
            && let Some(uid) = connection.uid()
        {
            self.per_uid.borrow_mut().remove(uid, id);
        }
        if self.is_empty() {
            self.emptied.notify_waiters();
        }
        Some(connection)
    }
}

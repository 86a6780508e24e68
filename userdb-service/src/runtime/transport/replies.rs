//! Replies to one call: made, counted and written as fast as they are taken.
//! Only what systemd's strict clients accept can be said: `parameters`, `error`, `continues`.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use serde::Serialize;
use tokio::io::Interest;
use varlink::ErrorMethodNotImplemented;
use varlink::{ErrorInterfaceNotFound, ErrorInvalidParameter, ErrorMethodNotFound};

use super::arguments::{InvalidParameter, cut};
use super::call::Call;
use super::connections::Connection;
use super::giving_way::Activity;
use super::pieces::{Pace, Piece};
use crate::runtime::watched::watch;

/// The connection is of no more use: the peer is gone, does not read, or broke the protocol. The
/// service just returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect;

/// What to do after one [`Replies::item`] of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Item {
    /// Go on.
    Next,
    /// Go on after [`Replies::drain`]: a piece has come together.
    Drain,
    /// Stop: the caller takes one reply and there are more; it will be told `ExpectedMore`.
    Stop,
}

/// `{}`: for errors that say it all by their name.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct NoParameters {}

/// After so many pauses it is looked whether anybody still waits for the answer: it takes a system call, which most lists get by without.
const LOOK: u32 = 8;

const PARAMETERS: &[u8] = b"{\"parameters\":";
/// The end of an item that others follow.
const CONTINUES: &[u8] = b",\"continues\":true}\0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// An item whose end is still open: whether others follow is not known yet.
    OpenItem,
    TooMuch,
    All,
}

/// Takes the replies to one call. Those to a `oneway` call are dropped.
#[derive(Debug)]
pub struct Replies<'c> {
    connection: &'c Connection,
    output: &'c mut Vec<u8>,
    more: bool,
    oneway: bool,
    said: Said,
    /// A piece of the answer has gone out before.
    in_pieces: bool,
    piece: Piece,
    pauses: u32,
}

#[derive(Serialize)]
struct Error<'e, P> {
    error: &'e str,
    parameters: P,
}

impl<'c> Replies<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        output: &'c mut Vec<u8>,
        call: &Call<'_>,
    ) -> Self {
        let piece = Piece::first(output);
        Replies {
            connection,
            output,
            more: call.more,
            oneway: call.oneway,
            said: Said::Nothing,
            in_pieces: false,
            piece,
            pauses: 0,
        }
    }

    /// The one reply to the call. Returns when the kernel has taken it.
    ///
    /// # Errors
    /// The peer is gone or has not read for too long.
    pub async fn reply(&mut self, parameters: impl Serialize) -> Result<(), Disconnect> {
        self.open(&parameters)?;
        self.close().await
    }

    /// Ends the call with the error `name` (its full name), whatever items there were before.
    ///
    /// # Errors
    /// As for [`Replies::reply`].
    pub async fn error(
        &mut self,
        name: &str,
        parameters: impl Serialize,
    ) -> Result<(), Disconnect> {
        let error = Error {
            error: name,
            parameters,
        };
        match self.said {
            Said::OpenItem if self.more => self.output.extend_from_slice(CONTINUES),
            _ => self.output.clear(),
        }
        self.said = Said::All;
        serde_json::to_writer(&mut *self.output, &error).map_err(unserializable)?;
        self.output.push(0);
        self.flush().await
    }

    /// One of none, one or several replies; [`Replies::end`] must follow them all.
    pub fn item(&mut self, parameters: impl Serialize) -> Item {
        if self.is_one_too_many() || self.open(&parameters).is_err() {
            return Item::Stop;
        }
        self.next()
    }

    /// [`Replies::item`] of parameters that are JSON already.
    pub fn item_json(&mut self, parameters: &[u8]) -> Item {
        if self.is_one_too_many() {
            return Item::Stop;
        }
        self.said = Said::OpenItem;
        self.output.extend_from_slice(PARAMETERS);
        self.output.extend_from_slice(parameters);
        self.next()
    }

    /// Ends the item before the next one, unless the caller takes only one.
    fn is_one_too_many(&mut self) -> bool {
        match self.said {
            Said::OpenItem if !self.more => {
                self.output.clear();
                self.said = Said::TooMuch;
            }
            Said::OpenItem => self.output.extend_from_slice(CONTINUES),
            _ => {}
        }
        self.said == Said::TooMuch
    }

    fn next(&self) -> Item {
        if self.has_piece() {
            return Item::Drain;
        }
        Item::Next
    }

    /// The whole answer as it went over the wire, if it is complete and went in one piece.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        let whole = self.said == Said::All && !self.in_pieces && !self.oneway;
        whole.then_some(self.output.as_slice())
    }

    /// Whether there has been an item.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.said != Said::Nothing
    }

    /// Ends a series of items: the last one is the last, none at all is the error `none`, and too
    /// many for a caller that takes one are `ExpectedMore`.
    ///
    /// # Errors
    /// As for [`Replies::reply`].
    pub async fn end(&mut self, none: &str) -> Result<(), Disconnect> {
        match self.said {
            Said::OpenItem => self.close().await,
            Said::TooMuch => {
                self.error("org.varlink.service.ExpectedMore", NoParameters {})
                    .await
            }
            Said::Nothing | Said::All => self.error(none, NoParameters {}).await,
        }
    }

    /// The method is not one of its interface.
    ///
    /// # Errors
    /// As for [`Replies::reply`].
    pub async fn method_not_found(&mut self, call: &Call<'_>) -> Result<(), Disconnect> {
        let method = Some(cut(&call.method).to_owned());
        self.error(
            "org.varlink.service.MethodNotFound",
            ErrorMethodNotFound { method },
        )
        .await
    }

    pub(super) async fn method_not_implemented(
        &mut self,
        call: &Call<'_>,
    ) -> Result<(), Disconnect> {
        let method = Some(cut(&call.method).to_owned());
        self.error(
            "org.varlink.service.MethodNotImplemented",
            ErrorMethodNotImplemented { method },
        )
        .await
    }

    pub(super) async fn interface_not_found(&mut self, name: &str) -> Result<(), Disconnect> {
        let interface = Some(cut(name).to_owned());
        self.error(
            "org.varlink.service.InterfaceNotFound",
            ErrorInterfaceNotFound { interface },
        )
        .await
    }

    /// A parameter cannot be accepted: systemd's clients ask again without a filter named here.
    ///
    /// # Errors
    /// As for [`Replies::reply`].
    pub async fn invalid_parameter(&mut self, which: &InvalidParameter) -> Result<(), Disconnect> {
        let parameter = Some(which.0.clone());
        self.error(
            "org.varlink.service.InvalidParameter",
            ErrorInvalidParameter { parameter },
        )
        .await
    }

    /// Writes out a piece that has come together, at the pace of the reader; less than that, or what
    /// may yet turn out to be one reply too many, stays here.
    ///
    /// # Errors
    /// The peer is gone or has not read for too long.
    pub async fn drain(&mut self) -> Result<(), Disconnect> {
        if self.has_piece() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Lets others have their turn in the middle of a call that may as well be made again, until `then` has come about: meanwhile
    /// its connection may be given up for another, or because the daemon ends. Then this does not return.
    ///
    /// # Errors
    /// The peer is gone.
    pub async fn pause(&mut self, then: impl Future<Output = ()>) -> Result<(), Disconnect> {
        self.connection.holds_reply(self.output.capacity());
        self.connection.pause(then).await;
        self.pauses += 1;
        if self.pauses == LOOK {
            self.pauses = 0;
            if self.connection.is_deserted() {
                return Err(Disconnect);
            }
        }
        Ok(())
    }

    fn has_piece(&self) -> bool {
        self.more && self.piece.is_full(self.output)
    }

    async fn flush(&mut self) -> Result<(), Disconnect> {
        let mut pace = Pace::AtOnce;
        if !self.oneway {
            pace = write(self.connection, self.output).await?;
        }
        if self.said != Said::All {
            self.in_pieces = true;
            self.piece.next(self.output, pace, &self.connection.large);
        }
        Ok(())
    }

    /// The call has been answered, and once.
    pub(super) fn check(&self) -> Result<(), Disconnect> {
        if self.said != Said::All {
            tracing::error!("a method ended without a reply; its connection is closed");
            return Err(Disconnect);
        }
        Ok(())
    }

    fn open(&mut self, parameters: &impl Serialize) -> Result<(), Disconnect> {
        self.said = Said::OpenItem;
        self.output.extend_from_slice(PARAMETERS);
        serde_json::to_writer(&mut *self.output, parameters).map_err(unserializable)
    }

    async fn close(&mut self) -> Result<(), Disconnect> {
        self.said = Said::All;
        self.output.extend_from_slice(b"}\0");
        self.flush().await
    }
}

fn unserializable(error: serde_json::Error) -> Disconnect {
    tracing::error!(%error, "a reply could not be written as JSON; its connection is closed");
    Disconnect
}

/// Writes it all; most of the time the socket has room for it at once.
pub(super) async fn write(connection: &Connection, mut rest: &[u8]) -> Result<Pace, Disconnect> {
    match send_piece(connection.socket.descriptor(), &mut rest) {
        Ok(()) => return Ok(Pace::AtOnce),
        Err(Errno::WOULDBLOCK) => {}
        Err(_) => return Err(Disconnect),
    }
    // Another descriptor of the same socket, for as long as there is no room, to be told of room by.
    let room = connection.socket.descriptor().try_clone();
    let room = room.and_then(|room| watch(Rc::new(room), Interest::WRITABLE));
    let room = room.map_err(|_| Disconnect)?;
    // The clock runs for the piece as a whole: who takes a byte a second does not read.
    connection.enter(Activity::Writing);
    connection.holds_unread(rest.len());
    connection.sheds();
    loop {
        let mut ready = room.writable().await.map_err(|_| Disconnect)?;
        match send_piece(room.get_ref(), &mut rest) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(_) => return Err(Disconnect),
        }
    }
    connection.enter(Activity::Busy);
    connection.holds_reply(0);
    Ok(Pace::Waited)
}

/// Sends until nothing is left, and otherwise says why not; `rest` is what is left.
fn send_piece(socket: &OwnedFd, rest: &mut &[u8]) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match send(socket, rest, flags) {
            Ok(count) if count == rest.len() => return Ok(()),
            Ok(count) => *rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

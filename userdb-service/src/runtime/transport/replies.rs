//! Replies to one call: made, counted and written as fast as they are taken.
//! Only what systemd's strict clients accept can be said: `parameters`, `error`, `continues`.

use std::io;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use serde::Serialize;
use tokio::io::Interest;
use varlink::ErrorMethodNotImplemented;
use varlink::{ErrorInterfaceNotFound, ErrorInvalidParameter, ErrorMethodNotFound};

use super::arguments::InvalidParameter;
use super::call::Call;
use super::connections::{Connection, Phase};

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

/// Long answers go out in pieces of 16 KiB (less room for the last record of one), so that thousands
/// who ask for everything and do not read cost no memory to speak of.
const PIECE: usize = 14 << 10;

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
        output.clear();
        Replies {
            connection,
            output,
            more: call.more,
            oneway: call.oneway,
            said: Said::Nothing,
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
        match self.said {
            Said::OpenItem if !self.more => {
                self.output.clear();
                self.said = Said::TooMuch;
            }
            Said::OpenItem => self.output.extend_from_slice(CONTINUES),
            _ => {}
        }
        if self.said == Said::TooMuch || self.open(&parameters).is_err() {
            return Item::Stop;
        }
        if self.more && self.output.len() >= PIECE {
            return Item::Drain;
        }
        Item::Next
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
        let method = Some(call.method.to_string());
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
        let method = Some(call.method.to_string());
        self.error(
            "org.varlink.service.MethodNotImplemented",
            ErrorMethodNotImplemented { method },
        )
        .await
    }

    pub(super) async fn interface_not_found(&mut self, name: &str) -> Result<(), Disconnect> {
        let interface = Some(name.to_owned());
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
        if self.more && self.output.len() >= PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Disconnect> {
        if !self.oneway {
            write(self.connection, self.output).await?;
        }
        self.output.clear();
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
        self.output.extend_from_slice(b"{\"parameters\":");
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

async fn write(connection: &Connection, mut rest: &[u8]) -> Result<(), Disconnect> {
    let socket = &connection.socket;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    // The first attempt asks nobody: the socket nearly always has room.
    let mut sent = send(socket, rest, flags);
    loop {
        match sent {
            Ok(count) if count == rest.len() => break,
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                // The clock runs for the piece as a whole: who takes a byte a second does not read.
                if connection.phase() != Phase::Writing {
                    connection.enter(Phase::Writing);
                }
                socket.writable().await.map_err(|_| Disconnect)?;
            }
            Err(_) => return Err(Disconnect),
        }
        sent = Err(Errno::WOULDBLOCK);
        let _ = socket.try_io(Interest::WRITABLE, || {
            sent = send(socket, rest, flags);
            sent.map_err(io::Error::from)
        });
    }
    if connection.phase() == Phase::Writing {
        connection.enter(Phase::Busy);
    }
    Ok(())
}

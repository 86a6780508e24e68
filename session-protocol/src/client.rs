//! The blocking client of the registry: one deadline for each call, and a connection for each try.
//! It keeps nothing between calls, so that no process inherits a connection root has opened.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use varlink::MethodCall;

use crate::sessions::{
    Admission, Error, ErrorKind, Session, VarlinkClient, VarlinkClientInterface,
};
use crate::stream::{self, NoConnection};

/// Where the registry listens.
pub const SOCKET: &str = "/run/teleport-userdb/sessions";

/// Largest answer to a call about one session.
const ANSWER_LIMIT: usize = 256 * 1024;

/// Largest answer to `List`: tens of thousands of sessions with their roles.
const LIST_LIMIT: usize = 64 * 1024 * 1024;

/// How long a call waits before it is made again.
const PAUSE: Duration = Duration::from_millis(10);

/// How long is asked again for a login that has to wait for others to be decided on. With each answer the registry
/// shows that it is alive; what does not answer has the time-out of one call.
const TURN: Duration = Duration::from_secs(30);

/// The reason that it gives then.
const WAITING: &str = "waiting";

/// Longest time-out: a day, which no clock arithmetic overflows with.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a call has not got what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The registry has decided against it: tell the person `message`.
    Refused {
        /// A word for programs, see the interface.
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// The registry does not talk to this process: it is not root of the host.
    NotAdmitted {
        /// A sentence for people.
        message: String,
    },
    /// The handle names nothing of this process: it has ended already.
    UnknownSession,
    /// Nobody answers on the socket; the text says what was seen.
    Unreachable(String),
    /// No answer before the deadline. What was asked for may still happen.
    TimedOut,
    /// The answer is not one of this interface; the text says what was wrong.
    Protocol(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { message, .. } | Failure::NotAdmitted { message } => {
                f.write_str(message)
            }
            Failure::UnknownSession => f.write_str("no such session"),
            Failure::Unreachable(why) | Failure::Protocol(why) => f.write_str(why),
            Failure::TimedOut => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for Failure {}

/// What the registry is told about a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginRequest {
    /// The PAM user, as given.
    pub login: String,
    /// The PAM service.
    pub service: String,
    /// The PAM environment.
    pub environment: BTreeMap<String, String>,
    /// Names of the variables that are not UTF-8.
    pub undecodable: Vec<String>,
}

/// The registry of this node, and how long a call may take as a whole.
#[derive(Clone, Debug)]
pub struct Registry {
    socket: PathBuf,
    timeout: Duration,
}

impl Registry {
    /// The registry at its own place.
    pub fn new(timeout: Duration) -> Self {
        Self::at(Path::new(SOCKET), timeout)
    }

    /// The registry at another socket, which has to be root's too.
    pub fn at(socket: &Path, timeout: Duration) -> Self {
        Self {
            socket: socket.to_owned(),
            timeout: timeout.min(LONGEST),
        }
    }

    /// Account phase: asks for a reservation of the login.
    pub fn reserve(&self, request: &LoginRequest) -> Result<Admission, Failure> {
        let handle = handle();
        in_turn(|| {
            self.call(ANSWER_LIMIT, handle.is_some(), |registry, left| {
                let (login, service, environment, undecodable) = parts(request);
                let patience = Some(patience_usec(left));
                let handle = handle.clone();
                registry.reserve(login, service, environment, undecodable, patience, handle)
            })
        })
        .map(|reply| reply.admission)
    }

    /// Session phase: turns the reservation `session` into a session, or opens one afresh.
    pub fn open(
        &self,
        session: Option<&str>,
        request: &LoginRequest,
    ) -> Result<Admission, Failure> {
        let handle = session.map(str::to_owned).or_else(handle);
        in_turn(|| {
            self.call(ANSWER_LIMIT, handle.is_some(), |registry, left| {
                let (login, service, environment, undecodable) = parts(request);
                let patience = Some(patience_usec(left));
                let handle = handle.clone();
                registry.open(handle, login, service, environment, undecodable, patience)
            })
        })
        .map(|reply| reply.admission)
    }

    /// Ends a reservation or session of this process.
    pub fn close(&self, session: &str) -> Result<(), Failure> {
        self.call(ANSWER_LIMIT, true, |registry, _| {
            registry.close(session.to_owned())
        })
        .map(|_| ())
    }

    /// Everything that is reserved or open.
    pub fn list(&self) -> Result<Vec<Session>, Failure> {
        self.call(LIST_LIMIT, true, |registry, _| registry.list())
            .map(|reply| reply.sessions)
    }

    /// One call, each time on a connection of its own. A daemon that is killed hangs up on those it has
    /// accepted, and the next one is asked again: nobody who logs in just then is turned away. Only where
    /// `repeatable`, since what was asked for may have happened.
    fn call<Arguments, Reply>(
        &self,
        limit: usize,
        repeatable: bool,
        mut method: impl FnMut(&mut VarlinkClient, Duration) -> MethodCall<Arguments, Reply, Error>,
    ) -> Result<Reply, Failure>
    where
        Arguments: serde::Serialize,
        Reply: serde::de::DeserializeOwned,
    {
        let deadline = Instant::now() + self.timeout;
        loop {
            let (reader, writer) =
                stream::dial(&self.socket, deadline, limit).map_err(|failure| match failure {
                    NoConnection::Unreachable(why) => Failure::Unreachable(why),
                    NoConnection::TimedOut => Failure::TimedOut,
                })?;
            let mut connection = varlink::Connection::default();
            connection.reader = Some(BufReader::new(Box::new(reader)));
            connection.writer = Some(Box::new(writer));
            let mut client = VarlinkClient::new(Arc::new(RwLock::new(connection)));
            let left = deadline.saturating_duration_since(Instant::now());
            match method(&mut client, left).call() {
                Ok(reply) => return Ok(reply),
                Err(error) if repeatable && hung_up(&error) && left > PAUSE => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(failure(&error, limit)),
            }
        }
    }
}

/// Asks until the registry has decided, or for long enough.
fn in_turn<Reply>(mut ask: impl FnMut() -> Result<Reply, Failure>) -> Result<Reply, Failure> {
    let enough = Instant::now() + TURN;
    loop {
        match ask() {
            Err(Failure::Refused { reason, .. })
                if reason == WAITING && Instant::now() < enough =>
            {
                std::thread::sleep(PAUSE);
            }
            decided => return decided,
        }
    }
}

/// A request as the generated calls take it; one call may be made several times.
fn parts(request: &LoginRequest) -> (String, String, varlink::StringHashMap<String>, Vec<String>) {
    let request = request.clone();
    let environment = request.environment.into_iter().collect();
    (
        request.login,
        request.service,
        environment,
        request.undecodable,
    )
}

/// What the registry is told of the time that is left: a little less, so that its reason arrives in time.
fn patience_usec(left: Duration) -> i64 {
    let patience = left.saturating_sub(left / 20);
    i64::try_from(patience.as_micros()).unwrap_or(i64::MAX)
}

/// A random UUID for a session, or `None` where the kernel has no random numbers: then the registry picks
/// one, and a call must not be repeated.
fn handle() -> Option<String> {
    let mut bytes = [0_u8; 16];
    let filled =
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK).ok()?;
    if filled < bytes.len() {
        return None;
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

/// Whether the other side has gone without a whole answer.
fn hung_up(error: &Error) -> bool {
    match error.source_varlink_kind() {
        Some(varlink::ErrorKind::ConnectionClosed) => true,
        Some(varlink::ErrorKind::Io(kind)) => matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

/// The one place where errors of the varlink crate become ours.
fn failure(error: &Error, limit: usize) -> Failure {
    match error.kind() {
        ErrorKind::Refused(Some(refused)) => Failure::Refused {
            reason: refused.reason.clone(),
            message: refused.message.clone(),
        },
        ErrorKind::NotAdmitted(Some(refused)) => Failure::NotAdmitted {
            message: refused.message.clone(),
        },
        ErrorKind::UnknownSession(_) => Failure::UnknownSession,
        ErrorKind::Refused(None) | ErrorKind::NotAdmitted(None) => {
            Failure::Protocol("the registry refuses without a reason".to_owned())
        }
        ErrorKind::Varlink_Error | ErrorKind::VarlinkReply_Error => {
            match error.source_varlink_kind() {
                Some(varlink::ErrorKind::Io(io::ErrorKind::TimedOut)) => Failure::TimedOut,
                Some(varlink::ErrorKind::Io(io::ErrorKind::InvalidData)) => {
                    Failure::Protocol(format!("the answer is larger than {limit} bytes"))
                }
                Some(varlink::ErrorKind::Io(kind)) => Failure::Unreachable(kind.to_string()),
                Some(varlink::ErrorKind::ConnectionClosed) => {
                    Failure::Unreachable("the connection was closed without an answer".to_owned())
                }
                Some(kind) => Failure::Protocol(kind.to_string()),
                None => Failure::Protocol(error.to_string()),
            }
        }
    }
}

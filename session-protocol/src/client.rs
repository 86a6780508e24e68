//! The blocking client of the registry: one deadline for each call, and a connection for each try.
//! It keeps nothing between calls, so that no process inherits a connection root has opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{self, Login};
use crate::sessions::{
    Admission, Close_Args, Close_Reply, List_Args, List_Reply, Open_Reply, Reserve_Reply, Session,
};
use crate::stream::{self, Broken};

/// Where the registry listens.
pub const SOCKET: &str = "/run/teleport-userdb/sessions";

/// Longest call that the registry reads, in bytes of JSON. Roles alone may be 64 KiB long, and take several times that.
pub const CALL_LIMIT: usize = 1 << 20;

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
    /// What is to be said of the login takes so many bytes, more than [`CALL_LIMIT`]: nobody was asked.
    TooLong(usize),
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
            Failure::TooLong(bytes) => write!(
                f,
                "its PAM environment makes a call of {bytes} bytes, and at most {CALL_LIMIT} are read"
            ),
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
            let reply: Reserve_Reply =
                self.call("Reserve", ANSWER_LIMIT, handle.is_some(), |left| {
                    Login::of(request, handle.as_deref(), left)
                })?;
            Ok(reply.admission)
        })
    }

    /// Session phase: turns the reservation `session` into a session, or opens one afresh.
    pub fn open(
        &self,
        session: Option<&str>,
        request: &LoginRequest,
    ) -> Result<Admission, Failure> {
        let handle = session.map(str::to_owned).or_else(handle);
        in_turn(|| {
            let reply: Open_Reply = self.call("Open", ANSWER_LIMIT, handle.is_some(), |left| {
                Login::of(request, handle.as_deref(), left)
            })?;
            Ok(reply.admission)
        })
    }

    /// Ends a reservation or session of this process.
    pub fn close(&self, session: &str) -> Result<(), Failure> {
        let asked = || Close_Args {
            session: session.to_owned(),
        };
        let Close_Reply {} = self.call("Close", ANSWER_LIMIT, true, |_| asked())?;
        Ok(())
    }

    /// Everything that is reserved or open.
    pub fn list(&self) -> Result<Vec<Session>, Failure> {
        let reply: List_Reply = self.call("List", LIST_LIMIT, true, |_| List_Args {})?;
        Ok(reply.sessions)
    }

    /// One call, each time on a connection of its own. A daemon that is killed hangs up on those it has
    /// accepted, and the next one is asked again: nobody who logs in just then is turned away. Only where
    /// `repeatable`, since what was asked for may have happened.
    fn call<Arguments: Serialize, Reply: DeserializeOwned>(
        &self,
        method: &str,
        limit: usize,
        repeatable: bool,
        arguments: impl Fn(Duration) -> Arguments,
    ) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = message::call(method, &arguments(left))?;
            match stream::exchange(&self.socket, deadline, &message, limit) {
                Ok(answer) => return message::reply(&answer),
                Err(Broken::HungUp) if repeatable && left > PAUSE => std::thread::sleep(PAUSE),
                Err(broken) => return Err(failure(broken, limit)),
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

/// What an exchange that has failed means.
fn failure(broken: Broken, limit: usize) -> Failure {
    match broken {
        Broken::Unreachable(why) => Failure::Unreachable(why),
        Broken::TimedOut => Failure::TimedOut,
        Broken::HungUp => {
            Failure::Unreachable("the connection was closed without an answer".to_owned())
        }
        Broken::TooLong => Failure::Protocol(format!("the answer is larger than {limit} bytes")),
    }
}

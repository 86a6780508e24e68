//! One login session: who leads it, what it was granted, how far it has come.
//!
//! Data only; the transitions are in the registry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, Version};

use super::entry::Terms;
use crate::control::host::clock::Boottime;
use crate::control::leader::LeaderId;
use crate::policy::{Login, Plan};

/// The handle of a session: a random UUID, which nobody can guess or count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Uuid", into = "Uuid")]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new random handle.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl TryFrom<Uuid> for SessionId {
    type Error = NotASessionId;
    fn try_from(uuid: Uuid) -> Result<Self, NotASessionId> {
        match uuid.get_version() {
            Some(Version::Random) => Ok(Self(uuid)),
            _ => Err(NotASessionId),
        }
    }
}

impl From<SessionId> for Uuid {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl FromStr for SessionId {
    type Err = NotASessionId;
    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        // Only the hyphenated form: one handle has one spelling.
        if text.len() != 36 {
            return Err(NotASessionId);
        }
        Uuid::parse_str(text)
            .map_err(|_| NotASessionId)
            .and_then(Self::try_from)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The text is not the hyphenated form of a random (version 4) UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASessionId;

impl fmt::Display for NotASessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a session handle; one is a random UUID as Reserve returned it")
    }
}

impl std::error::Error for NotASessionId {}

/// A session from its reservation to the exit of its leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its handle.
    pub id: SessionId,
    /// Order of arrival: the record of a login shows its first session.
    pub order: u64,
    /// What the policy decided when it came. It keeps this over reloads and restarts.
    pub plan: Plan,
    /// The process that called libpam. Its exit ends the session.
    pub leader: LeaderId,
    /// The PAM service.
    pub service: String,
    /// How far it has come.
    pub state: State,
    /// When it came, microseconds of CLOCK_REALTIME, for people to read.
    pub since_usec: u64,
    /// Whether its leader has become the user. Then it keeps the record, and grants nothing: the user
    /// could keep such a leader, stopped, for as long as Teleport runs.
    #[serde(default)]
    pub renounced: bool,
    /// What its login was under when it came. A daemon of before wrote none down.
    #[serde(default)]
    pub terms: Option<Terms>,
}

impl Session {
    /// The login it is of.
    pub fn login(&self) -> &Login {
        &self.plan.login
    }

    /// Whether it is open, or was.
    pub fn has_been_open(&self) -> bool {
        matches!(
            self.state,
            State::Open | State::Departed { opened: true, .. }
        )
    }
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The account phase has made its user; it grants no rights yet.
    Reserved {
        /// When, to bound how long that may last.
        at: Boottime,
    },
    /// The session phase has passed; its rights hold.
    Open,
    /// It is over and grants nothing; its leader has not exited yet.
    Departed {
        /// When it was closed, to bound how long the leader is waited for.
        at: Boottime,
        /// Whether it was ever open. A daemon of before did not say.
        #[serde(default = "perhaps")]
        opened: bool,
    },
}

impl State {
    /// The state of a session that is over since `at`.
    pub fn departed(self, at: Boottime) -> State {
        match self {
            State::Reserved { .. } => State::Departed { at, opened: false },
            State::Open => State::Departed { at, opened: true },
            State::Departed { .. } => self,
        }
    }
}

/// Then something of it may be left.
fn perhaps() -> bool {
    true
}

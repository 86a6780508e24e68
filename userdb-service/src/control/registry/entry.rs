//! One login while anything of it is left: its UID, its sessions, and how its end goes.
//!
//! Data and small questions about it; the transitions are in the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::{Session, SessionId, State};
use crate::control::host::clock::Boottime;
use crate::policy::plan::{Grants, Home, SharedLogins};
use crate::policy::{Config, Gid, GroupName, Login, Plan, SudoersSpec, Uid};

/// The rules of the configuration that a login came into being under. They hold until nothing of it is
/// left, whatever a reload or a restart brings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// What holds between several Teleport users on it.
    pub shared: SharedLogins,
    /// From the last close to the first signal.
    pub retire_delay: Duration,
    /// From SIGTERM to SIGKILL for what it leaves running.
    pub stop_timeout: Duration,
    /// How long its ephemeral home outlives it.
    pub home_keep: Duration,
}

impl From<&Config> for Terms {
    fn from(config: &Config) -> Terms {
        Terms {
            shared: config.logins.shared,
            retire_delay: config.retire_delay,
            stop_timeout: config.stop_timeout,
            home_keep: config.home.keep,
        }
    }
}

/// What holds where no configuration says otherwise.
impl Default for Terms {
    fn default() -> Terms {
        Terms::from(&Config::default())
    }
}

/// What is kept of a login for a restart, apart from its sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The name it is published under.
    pub login: Login,
    /// The spelling it was asked for with, which its UID was derived from.
    pub given: String,
    /// Its UID, taken until the remains have ended.
    pub uid: Uid,
    /// Its primary group.
    pub gid: Gid,
    /// How far its end has come.
    pub phase: Phase,
    /// Teleport users that had a session since this login last came into being. Only the sole owner may
    /// come back before the remains have ended: nobody else's processes can then gain what it is granted.
    pub owners: BTreeSet<String>,
    /// Whether a session was open since then, so that processes may be left.
    pub may_have_remains: bool,
    /// Whether it was given an ephemeral home since then: only such a one in place is its own.
    #[serde(default)]
    pub has_home: bool,
    /// Whether a session was open since then whose role lets the processes of the login go on after its end.
    #[serde(default)]
    pub linger: bool,
    /// Everything its sessions were granted since then: its processes may still hold it.
    #[serde(default)]
    pub granted: Grants,
    /// What it came into being under. A daemon of before wrote none down.
    #[serde(default)]
    pub terms: Terms,
}

/// How far the end of a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has sessions or reservations; or it was only ever reserved, and leaders of what is over have not exited.
    Live,
    /// Its last session has ended; nothing is touched for a while, so that it can come back.
    Retiring {
        /// When the last session ended.
        since: Boottime,
    },
    /// No session is left, and its processes end by themselves: published, locked and without rights.
    Lingering,
    /// Its processes and other remains are being ended; nobody joins it.
    Terminating,
}

impl Standing {
    /// A session with this plan has opened.
    pub(super) fn opened(&mut self, plan: &Plan) {
        self.may_have_remains = true;
        // Where none could be made, the plan has none.
        self.has_home |= matches!(plan.home, Home::Ephemeral { .. });
        self.linger |= plan.linger;
        self.granted = self.granted.union(&plan.grants());
    }

    /// After a restart: `session` is written down, and the standing was perhaps before it came or opened. Taken in the order of their
    /// arrival, sessions that live never say less than was known; of those that are over the order does not matter.
    pub(super) fn catch_up(&mut self, session: &Session) {
        // Sessions of it were lost: who is left has not had it alone.
        if self.is_stranded() {
            return;
        }
        self.owners.insert(session.plan.teleport_user.clone());
        // It may have been about to open.
        self.may_have_remains |= session.plan.home != Home::None;
        if session.has_been_open() {
            self.opened(&session.plan);
        }
        if !matches!(session.state, State::Departed { .. }) {
            self.terms = session.terms.unwrap_or(self.terms);
        }
    }
}

/// A login while anything of it is left.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) standing: Standing,
    /// Reserved and open sessions by order of arrival.
    pub(super) sessions: BTreeMap<u64, SessionId>,
    /// Sessions that are over and whose leader has not exited.
    pub(super) departed: BTreeSet<SessionId>,
    /// What its sudoers file says, empty where it has none. `None`: not known, after a restart or a
    /// write that failed.
    pub(super) sudoers: Option<Vec<SudoersSpec>>,
    /// The synthesized groups it is shown in.
    pub(super) groups: BTreeMap<GroupName, Gid>,
}

impl Entry {
    /// A login of which nothing is on disk.
    pub(super) fn new(standing: Standing) -> Self {
        Self {
            sudoers: Some(Vec::new()),
            ..Self::restored(standing)
        }
    }

    /// A login of before a restart, of which something may be on disk.
    pub(super) fn restored(standing: Standing) -> Self {
        Self {
            standing,
            sessions: BTreeMap::new(),
            departed: BTreeSet::new(),
            sudoers: None,
            groups: BTreeMap::new(),
        }
    }

    /// Whether `teleport_user` alone has used this login since it came into being.
    pub(super) fn is_owned_by(&self, teleport_user: &str) -> bool {
        self.standing.owners.len() == 1 && self.standing.owners.contains(teleport_user)
    }
}

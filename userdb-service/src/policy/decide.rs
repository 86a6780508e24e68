//! The one decision: what becomes of a login, given the configuration, the PAM environment, what
//! others own and who is on. Whoever asks answers the questions that come back and asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::evaluate::{evaluate, may_share};
use super::given::Given;
use super::ids::{Gid, Uid};
use super::names::{Alias, GroupName, Login};
use super::plan::{Grants, Plan, SharedLogins};
use super::trace::Trace;
use super::{request as environment, sentences};

/// A login as PAM presents it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// PAM_USER.
    pub login: String,
    /// PAM_SERVICE.
    pub service: String,
    /// The PAM environment: what is UTF-8.
    pub environment: BTreeMap<String, String>,
    /// Names of the variables whose value is not UTF-8.
    pub undecodable: Vec<String>,
}

/// Something only others know: what their users and groups are. Never answered from our own table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Question {
    /// Is there a user of this name?
    User(String),
    /// Is there a user of this number?
    UserId(u32),
    /// Is there a group of this name?
    Group(String),
    /// Is there a group of this number?
    GroupId(u32),
    /// Which groups list this name as a member? Meant for a name that is nobody's yet: of a user who
    /// is found, the groups need not be told, because nothing of such a user is ours to decide.
    GroupsOf(String),
}

/// A user of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundUser {
    /// Its name, which may be spelled otherwise than it was asked for.
    pub name: String,
    /// Its UID.
    pub uid: u32,
    /// Its primary GID.
    pub gid: u32,
    /// The nsswitch service that knows it, such as `files` or `sss`.
    pub source: String,
}

/// A group of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundGroup {
    /// Its name.
    pub name: String,
    /// Its GID.
    pub gid: u32,
    /// The nsswitch service that knows it.
    pub source: String,
}

/// A group of somebody else that lists a name as a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMembership {
    /// Its GID.
    pub gid: u32,
    /// The nsswitch service that says so.
    pub source: String,
}

/// What the others say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Question::User`] and [`Question::UserId`].
    User(Option<FoundUser>),
    /// To [`Question::Group`] and [`Question::GroupId`].
    Group(Option<FoundGroup>),
    /// To [`Question::GroupsOf`].
    Groups(Vec<FoundMembership>),
    /// Somebody who might know could not be asked. Nothing follows from that, least of all absence.
    Failed {
        /// Which nsswitch service.
        source: String,
        /// What happened to it.
        why: String,
    },
}

/// What is known of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// What has been asked so far.
    pub answers: BTreeMap<Question, Answer>,
    /// What needs no asking.
    pub host: HostFacts,
}

/// What the host says without being asked for a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// Ranges in subuid and subgid.
    pub subids: Vec<RangeInclusive<u32>>,
    /// Users, groups (without `%`) and alias members named in sudoers outside our files, and in doas.conf.
    pub sudoers_names: BTreeSet<String>,
    /// The numbers in there: `#UID` and `%#GID`, whichever of the two.
    pub sudoers_ids: BTreeSet<u32>,
    /// Of the names asked for, those in a netgroup that sudoers names.
    pub in_netgroups: BTreeSet<String>,
    /// Users of others that differ in case only from a user who was asked for, by the name asked for.
    pub case_twins: BTreeMap<String, String>,
    /// Entries of `home.base` and their owners.
    pub homes: BTreeMap<String, u32>,
    /// UIDs and GIDs in use by live processes, IPC objects and logind.
    pub busy_ids: BTreeSet<u32>,
    /// Primary GIDs of others' users, with or without a group of that number.
    pub primary_gids: BTreeSet<u32>,
    /// Why the other fields are not to be relied on. Nothing is made then; whoever exists goes on.
    pub failure: Option<HostFailure>,
}

/// Something of the host that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFailure {
    /// What was being looked at.
    pub source: String,
    /// What happened.
    pub why: String,
}

/// Who is on, and every number that has been given to a name since boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Occupancy {
    /// The logins that are ours now, by the name they are published under.
    pub logins: BTreeMap<Login, Occupant>,
    /// Every UID given out since boot, whether its login is live, retiring or gone, with the login it was given to
    /// as that was spelled originally ([`Plan::given`]).
    pub uids: Given<Uid>,
    /// Every GID given out since boot that is not its user's UID, with the name it was hashed from:
    /// `group:NAME` for a synthesized group, the original login for a private group.
    pub gids: Given<Gid>,
    /// The synthesized groups that have a member now.
    pub groups: BTreeMap<GroupName, Gid>,
}

impl Occupancy {
    /// The occupant of `login` that whoever comes as `given` joins. One of another spelling is somebody else, whose end is waited for.
    pub(super) fn on(&self, login: &Login, given: &str) -> Option<&Occupant> {
        self.logins
            .get(login)
            .filter(|occupant| occupant.given == given)
    }
}

/// A login of ours that is on, or whose remains are.
#[derive(Clone, Debug, PartialEq)]
pub struct Occupant {
    /// Its UID.
    pub uid: Uid,
    /// The GID of its private group.
    pub gid: Gid,
    /// The spelling it was given in.
    pub given: String,
    /// Other names it answers to.
    pub aliases: Vec<Alias>,
    /// The Teleport users on it, each with what its live sessions add up to.
    pub teleport_users: BTreeMap<String, Grants>,
    /// Live sessions, reserved ones included, the one that is being decided not.
    pub sessions: u32,
    /// Every group its sessions were granted since it came into being.
    pub granted: BTreeSet<GroupName>,
    /// Where it is in its life.
    pub phase: LoginPhase,
    /// What holds between the Teleport users on it: `logins.shared` of when it came into being.
    pub shared: SharedLogins,
}

impl Occupant {
    /// Whether nothing is left but what ends by itself.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, LoginPhase::Retiring | LoginPhase::Terminating)
    }
}

/// Where a login is in its life. Sessions, and with them rights, are in the first two only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginPhase {
    /// Reserved in the account phase, not opened yet.
    Reserved,
    /// Has open sessions.
    Active,
    /// Without sessions, nothing ended yet.
    Retiring,
    /// What it left running is being ended.
    Terminating,
    /// Without sessions; its processes go on.
    Lingering,
}

/// What becomes of a login.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Answer these first: put the answers into [`Facts::answers`] and ask again.
    Ask(Vec<Question>),
    /// Somebody else's user: register nothing, let the session go on.
    Foreign,
    /// Not a login by Teleport, or not in a PAM service of ours.
    NotOurs,
    /// Make it so.
    Grant(Box<Plan>),
    /// It may not be made or used.
    Refuse(Refusal),
}

/// A refused login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs.
    pub reason: Reason,
    /// A sentence for people: what was wrong and what would be right. No control characters.
    pub message: String,
}

/// Why a login is refused, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The configuration or the Teleport roles say no.
    Policy,
    /// The name belongs, or might come to belong, to somebody else.
    ProtectedName,
    /// The name cannot be one.
    InvalidName,
    /// The number is somebody else's, or none is left.
    Taken,
    /// Another Teleport user is on the login.
    Shared,
    /// Too many sessions.
    Limit,
    /// Somebody who might own the name could not be asked.
    LookupFailed,
    /// Not now; later.
    Busy,
    /// Not decided on yet, because others are before it: whoever asks again gets its turn.
    Waiting,
    /// The configuration is wrong.
    Configuration,
    /// A defect.
    Internal,
}

impl Reason {
    /// The word, as `com.goteleport.Sessions.Refused` carries it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Policy => "policy",
            Reason::ProtectedName => "protected-name",
            Reason::InvalidName => "invalid-name",
            Reason::Taken => "taken",
            Reason::Shared => "shared",
            Reason::Limit => "limit",
            Reason::LookupFailed => "lookup-failed",
            Reason::Busy => "busy",
            Reason::Waiting => "waiting",
            Reason::Configuration => "configuration",
            Reason::Internal => "internal",
        }
    }
}

/// Most rounds of questions that a decision may take. An ordinary one takes one or two; more are needed
/// only where most of `uids.range` is taken.
pub const MAX_ROUNDS: usize = 64;

/// What becomes of a login that [`MAX_ROUNDS`] rounds of questions have not decided.
pub fn undecided(config: &Config) -> Refusal {
    sentences::too_many_rounds(&config.uids.range, MAX_ROUNDS)
}

/// May a reservation become a session now, beside what else is reserved and open on its login?
///
/// # Errors
/// `logins.shared` says no. It said yes at the reservation, but sessions have ended since.
pub fn may_open(plan: &Plan, others: &Occupant) -> Result<(), Refusal> {
    may_share(plan, others)
}

/// Is this request about the login that the plan was made for, by the same Teleport user?
///
/// # Errors
/// It is not: the handle of a reservation serves nobody else.
pub fn same_request(request: &LoginRequest, plan: &Plan) -> Result<(), Refusal> {
    let user = environment::teleport_user(request)?;
    environment::same_login(request)?;
    if request.login == plan.given && user == plan.teleport_user {
        return Ok(());
    }
    Err(sentences::other_reservation(plan, &request.login, user))
}

/// What becomes of the login in `request`.
///
/// Pure: equal arguments give equal decisions. Call it until it does not [`Decision::Ask`] any more;
/// two rounds are the rule (none are needed for what no answer could change), a few more where
/// numbers are taken.
pub fn decide(
    config: &Config,
    request: &LoginRequest,
    facts: &Facts,
    occupancy: &Occupancy,
) -> Decision {
    evaluate(config, request, facts, occupancy, &mut Trace::off())
}

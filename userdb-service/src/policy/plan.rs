//! What a login is to become: the plan of one session, and the account that the live sessions of one
//! login add up to. Data only; how a plan comes about is in `decide`, what is done with it elsewhere.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ids::{Gid, Uid};
use super::names::{Alias, GroupName, Login};
use super::protected::SUDO_GROUP;
use super::sudoers::SudoersSpec;

/// Everything a session is given. Kept in the state file, so a session keeps it over reload and restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The name the user is published under.
    pub login: Login,
    /// The spelling Teleport asked for; differs from `login` where that had to be repaired.
    pub given: String,
    /// Other names that lookups answer to: the original spelling, if it was repaired.
    pub aliases: Vec<Alias>,
    /// The user's number.
    pub uid: Uid,
    /// The number of the private group, which is named like the user.
    pub gid: Gid,
    /// The Teleport user, as `TELEPORT_USERNAME` names it.
    pub teleport_user: String,
    /// The words of `TELEPORT_ROLES`, in order, each once.
    pub roles: Vec<String>,
    /// The comment field: at most 255 bytes, without control characters and colons.
    pub gecos: String,
    /// The home directory.
    pub home: Home,
    /// The login shell, an absolute path.
    pub shell: String,
    /// Supplementary groups, `teleport-tmp` among them.
    pub groups: Vec<GrantedGroup>,
    /// What the file in sudoers.d says; no file where this is empty.
    pub sudoers: Vec<SudoersSpec>,
    /// Whether full rights came by file or by membership in `teleport-sudo`.
    pub sudo_mode: SudoMode,
    /// Member of `teleport-doas`.
    pub doas: bool,
    /// What the user leaves running is left alone.
    pub linger: bool,
    /// Most live sessions of the login; `None` for no limit.
    pub max_sessions: Option<u32>,
    /// Limits and environment for logind and pam_systemd.
    pub resources: Resources,
    /// What systemd takes the user for.
    pub disposition: Disposition,
    /// What could not be granted and why: a sentence each, for the log and for the person logging in.
    pub notes: Vec<String>,
}

/// The home directory of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// None: the home is `/`.
    None,
    /// Made for the user and removed some time after it.
    Ephemeral {
        /// Absolute path.
        path: String,
    },
    /// Made at the first login and kept.
    Persistent {
        /// Absolute path.
        path: String,
    },
}

impl Home {
    /// The path that is published.
    pub fn path(&self) -> &str {
        match self {
            Home::None => "/",
            Home::Ephemeral { path } | Home::Persistent { path } => path,
        }
    }
}

/// Membership in one supplementary group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GrantedGroup {
    /// The group's name.
    pub name: GroupName,
    /// Its number. A plain one: groups of others may have system numbers.
    pub gid: u32,
    /// Whose group it is.
    pub origin: GroupOrigin,
}

/// Whose group a membership is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupOrigin {
    /// Ours: it vanishes with its last member.
    Synthesized,
    /// Somebody else's, in /etc/group.
    ForeignFiles,
    /// Somebody else's, elsewhere (LDAP, userdb).
    Foreign,
}

/// How the right to run everything is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SudoMode {
    /// A file in sudoers.d.
    #[default]
    File,
    /// Membership in `teleport-sudo`; other specifications still come by file.
    Group,
}

/// The `disposition` of the user record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// A transient user.
    #[default]
    Dynamic,
    /// An ordinary user, who gets a full `systemd --user` manager.
    Regular,
}

/// Fields of the user record that logind and pam_systemd apply. `None` and empty mean not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Most tasks (threads and processes).
    pub tasks_max: Option<u64>,
    /// Most memory, in bytes.
    pub memory_max: Option<u64>,
    /// CPU weight, 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// File mode creation mask, 0 to 0o777.
    pub umask: Option<u32>,
    /// `K=V` each.
    pub environment: Vec<String>,
}

/// The rights in a plan, in a form that can be compared: two sessions of one login differ in rights
/// exactly if their grants are unequal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Names of the supplementary groups.
    pub groups: BTreeSet<GroupName>,
    /// Lines in sudoers.
    pub sudoers: BTreeSet<SudoersSpec>,
    /// Member of `teleport-doas`.
    pub doas: bool,
}

impl Grants {
    /// These and those.
    pub fn union(&self, other: &Grants) -> Grants {
        Grants {
            groups: self.groups.union(&other.groups).cloned().collect(),
            sudoers: self.sudoers.union(&other.sudoers).cloned().collect(),
            doas: self.doas || other.doas,
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Grants) -> Grants {
        Grants {
            groups: self.groups.intersection(&other.groups).cloned().collect(),
            sudoers: self.sudoers.intersection(&other.sudoers).cloned().collect(),
            doas: self.doas && other.doas,
        }
    }
}

impl Plan {
    /// Whether full rights come by membership in `teleport-sudo`.
    pub fn is_in_sudo_group(&self) -> bool {
        let is_it = |group: &GrantedGroup| group.name.as_str() == SUDO_GROUP;
        self.sudo_mode == SudoMode::Group && self.groups.iter().any(is_it)
    }

    /// The plan's rights.
    pub fn grants(&self) -> Grants {
        Grants {
            groups: self.groups.iter().map(|group| group.name.clone()).collect(),
            sudoers: self.sudoers.iter().cloned().collect(),
            doas: self.doas,
        }
    }
}

/// What happens when two Teleport users are on one login with different rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedLogins {
    /// The second one is refused.
    #[default]
    Refuse,
    /// Both have what both were granted.
    Intersect,
    /// Both have what either was granted.
    Union,
    /// One Teleport user at a time, whatever the rights.
    Never,
}

/// The account that the live sessions of one login add up to; `plans` in the order in which the
/// sessions began. `None` for no sessions.
///
/// The rights of one Teleport user's sessions add up; between Teleport users `shared` decides, and
/// where two were not to differ at all (but one of them has closed a session since) both have what
/// both were granted. Identity, GECOS, home, shell, limits and environment are the first session's;
/// linger is on if any session has it, the largest session limit holds.
pub fn combine(plans: &[&Plan], shared: SharedLogins) -> Option<Plan> {
    let mut effective = (*plans.first()?).clone();
    let mut users: Vec<(&str, Grants)> = Vec::new();
    for plan in plans {
        match users
            .iter_mut()
            .find(|(user, _)| *user == plan.teleport_user)
        {
            Some((_, grants)) => *grants = grants.union(&plan.grants()),
            None => users.push((&plan.teleport_user, plan.grants())),
        }
    }
    let meet = match shared {
        SharedLogins::Union => Grants::union,
        SharedLogins::Intersect | SharedLogins::Refuse | SharedLogins::Never => {
            Grants::intersection
        }
    };
    let grants = users
        .into_iter()
        .map(|(_, grants)| grants)
        .reduce(|a, b| meet(&a, &b))
        .unwrap_or_default();

    // In the order in which the sessions brought them, so that a file changes only with its rights.
    effective.groups.clear();
    effective.sudoers.clear();
    for plan in plans {
        for group in &plan.groups {
            let known = effective.groups.iter().any(|have| have.name == group.name);
            if !known && grants.groups.contains(&group.name) {
                effective.groups.push(group.clone());
            }
        }
        for spec in &plan.sudoers {
            if !effective.sudoers.contains(spec) && grants.sudoers.contains(spec) {
                effective.sudoers.push(spec.clone());
            }
        }
        effective.linger |= plan.linger;
        effective.max_sessions = match (effective.max_sessions, plan.max_sessions) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }
    effective.doas = grants.doas;
    Some(effective)
}

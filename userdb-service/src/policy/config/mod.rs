//! The configuration as the policy uses it: every key of config.toml, typed, with its default.
//! How text becomes this is in `file`, `role` and `value`; which files there are is not known here.

mod file;
mod role;
mod value;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::glob::Glob;
use super::ids;
use super::names::GroupName;
use super::plan::{Disposition, SharedLogins, SudoMode};
use super::sudoers::SudoersSpec;

/// All of config.toml. `Default` is what holds where no file says anything: it makes no user,
/// because no role says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `false` makes nobody, whatever roles say (RFD 57's `disable_auto_create_user`).
    pub auto_create_users: bool,
    /// PAM services the module acts in.
    pub pam_services: Vec<String>,
    /// What `{{env.X}}` in a role's groups may name.
    pub templated_groups: Vec<Glob>,
    /// Template of the comment field: `{user}`, `{roles}`, `{login}`.
    pub gecos: String,
    /// From the last close to the first signal.
    pub retire_delay: Duration,
    /// From SIGTERM to SIGKILL for what a user leaves running.
    pub stop_timeout: Duration,
    /// What systemd takes the users for.
    pub disposition: Disposition,
    /// `[names]`
    pub names: Names,
    /// `[uids]`
    pub uids: Uids,
    /// `[logins]`
    pub logins: Logins,
    /// `[home]`
    pub home: HomeConfig,
    /// `[sudo]`
    pub sudo: Sudo,
    /// `[[role]]`, in file order.
    pub roles: Vec<Role>,
}

/// `[names]`: which logins may be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// What becomes of a login that is not a valid name.
    pub invalid: InvalidNames,
    /// May a repaired login have sudo and doas?
    pub repaired_may_sudo: bool,
    /// Names that are refused as logins and never synthesized from a template.
    pub protected: Vec<Glob>,
    /// Single names that a list protects and that are allowed nevertheless.
    pub allow: Vec<String>,
}

/// What becomes of a login that is not a valid name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidNames {
    /// What is invalid is removed, as RFD 57 says.
    #[default]
    Remove,
    /// It is refused.
    Refuse,
}

/// `[uids]`: where numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Uids {
    /// The key of the hash, 16 bytes (32 hexadecimal digits in the file).
    pub key: [u8; 16],
    /// Where numbers are hashed into.
    pub range: RangeInclusive<u32>,
    /// Where `TELEPORT_UID` and `TELEPORT_GID` are honoured; `None` is nowhere.
    pub requested: Option<RangeInclusive<u32>>,
}

/// `[logins]`: several Teleport users on one login.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Logins {
    /// What happens when their rights differ.
    pub shared: SharedLogins,
}

/// `[home]`: home directories.
#[derive(Clone, Debug, PartialEq)]
pub struct HomeConfig {
    /// Which kind, unless a role says otherwise.
    pub mode: HomeMode,
    /// How long an ephemeral home outlives its user.
    pub keep: Duration,
    /// Folder of the persistent homes, absolute, without a slash at the end.
    pub base: String,
}

/// Which kind of home directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HomeMode {
    /// Below [`EPHEMERAL_BASE`], removed after the user.
    #[default]
    Ephemeral,
    /// Below `home.base`, kept.
    Persistent,
    /// None: the home is `/`.
    None,
}

/// Folder of the ephemeral homes.
pub const EPHEMERAL_BASE: &str = "/run/teleport-userdb/home";

/// `[sudo]`: how sudo rights are given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sudo {
    /// By file or by membership in `teleport-sudo`.
    pub mode: SudoMode,
    /// Most files of ours in sudoers.d.
    pub max_files: u32,
}

/// One `[[role]]`: what Teleport roles whose name matches are given. `None`: no opinion.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Which Teleport roles.
    pub pattern: Glob,
    /// May users be made for them?
    pub create_user: Option<bool>,
    /// Supplementary groups.
    pub groups: Vec<GroupTemplate>,
    /// Groups that no role gives.
    pub deny_groups: Vec<Glob>,
    /// Everything as anybody: [`SudoersSpec::full`] beside `sudoers`.
    pub sudo: bool,
    /// Lines in sudoers.
    pub sudoers: Vec<SudoersSpec>,
    /// Why the role gives no sudo all the same: what was found when the configuration was loaded.
    pub sudo_withheld: Option<String>,
    /// Membership in `teleport-doas`.
    pub doas: bool,
    /// Login shell.
    pub shell: Option<String>,
    /// Kind of home directory.
    pub home: Option<HomeMode>,
    /// What the user leaves running is left alone.
    pub linger: bool,
    /// Most live sessions of the login.
    pub max_sessions: Option<u32>,
    /// Most tasks.
    pub tasks_max: Option<u64>,
    /// Most memory, in bytes.
    pub memory_max: Option<u64>,
    /// CPU weight.
    pub cpu_weight: Option<u64>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Environment, `K=V` each.
    pub environment: Vec<String>,
    /// Where it stands, `FILE:LINE`, for explanations.
    pub place: String,
}

impl Role {
    /// A role without opinions.
    pub fn new(pattern: Glob, place: String) -> Role {
        Role {
            pattern,
            create_user: None,
            groups: Vec::new(),
            deny_groups: Vec::new(),
            sudo: false,
            sudoers: Vec::new(),
            sudo_withheld: None,
            doas: false,
            shell: None,
            home: None,
            linger: false,
            max_sessions: None,
            tasks_max: None,
            memory_max: None,
            cpu_weight: None,
            umask: None,
            environment: Vec::new(),
            place,
        }
    }

    /// What the role puts into sudoers: `sudo = true` is [`SudoersSpec::full`]. Nothing if it is withheld.
    pub fn specs(&self) -> impl Iterator<Item = SudoersSpec> + '_ {
        self.sudo
            .then(SudoersSpec::full)
            .into_iter()
            .chain(self.sudoers.iter().cloned())
            .filter(|_| self.sudo_withheld.is_none())
    }
}

/// One entry of a role's `groups`.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupTemplate {
    /// This group.
    Literal(GroupName),
    /// One group for each word of a variable of the PAM environment, between `prefix` and `suffix`.
    Variable {
        /// What stands before `{{env.NAME}}`.
        prefix: String,
        /// NAME.
        variable: String,
        /// What stands after it.
        suffix: String,
    },
}

impl fmt::Display for GroupTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupTemplate::Literal(name) => name.fmt(f),
            GroupTemplate::Variable {
                prefix,
                variable,
                suffix,
            } => write!(f, "{prefix}{{{{env.{variable}}}}}{suffix}"),
        }
    }
}

impl fmt::Display for HomeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HomeMode::Ephemeral => "ephemeral",
            HomeMode::Persistent => "persistent",
            HomeMode::None => "none",
        })
    }
}

/// The shell of users for whom no role names one.
pub const DEFAULT_SHELL: &str = "/bin/bash";

impl Config {
    /// Whether anybody can have a home of this kind.
    pub fn has_homes(&self, mode: HomeMode) -> bool {
        self.home.mode == mode || self.roles.iter().any(|role| role.home == Some(mode))
    }

    /// The folder of the persistent homes, if anybody can have one: their owners are the memory of UIDs.
    pub fn home_base(&self) -> Option<&Path> {
        self.has_homes(HomeMode::Persistent)
            .then(|| Path::new(&self.home.base))
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            auto_create_users: true,
            pam_services: vec!["teleport".to_owned(), "sshd".to_owned()],
            templated_groups: Vec::new(),
            gecos: "User {user} with roles {roles} created by Teleport.".to_owned(),
            retire_delay: Duration::from_secs(3),
            stop_timeout: Duration::from_secs(5),
            disposition: Disposition::Dynamic,
            names: Names::default(),
            uids: Uids::default(),
            logins: Logins::default(),
            home: HomeConfig::default(),
            sudo: Sudo::default(),
            roles: Vec::new(),
        }
    }
}

impl Default for Uids {
    fn default() -> Uids {
        Uids {
            key: ids::DEFAULT_KEY,
            range: 0x7000_0000..=0x7FFD_FFFF,
            requested: None,
        }
    }
}

impl Default for HomeConfig {
    fn default() -> HomeConfig {
        HomeConfig {
            mode: HomeMode::Ephemeral,
            keep: Duration::from_secs(600),
            base: "/home".to_owned(),
        }
    }
}

impl Default for Sudo {
    fn default() -> Sudo {
        Sudo {
            mode: SudoMode::File,
            max_files: 1000,
        }
    }
}

/// What is wrong with a configuration, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The key, such as `uids.range` or `role.groups`; empty where the text is not TOML.
    pub key: String,
    /// What was found and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

//! What the writer is asked to publish, the checks it must pass, and its record in words.
//! Nothing here touches the table.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use crate::account::Account;
use crate::layout::MAX_RECORD_WORDS;
use crate::record::{Disposition, GroupOrigin, MAX_NAME, group, user};

/// An account to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountSpec {
    /// The user's name, also of its private group. At most [`MAX_NAME`] bytes.
    pub login: String,
    /// Other names to resolve under; the login among them and repetitions are ignored. At most 255.
    pub aliases: Vec<String>,
    /// UID; neither 0 nor 2^32-1.
    pub uid: u32,
    /// GID of the private group; neither 0 nor 2^32-1.
    pub gid: u32,
    /// The comment field.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Whether logging in is barred.
    pub locked: bool,
    /// When the account was made: microseconds of CLOCK_REALTIME.
    pub since_usec: u64,
    /// Live sessions.
    pub sessions: u32,
    /// Microseconds logind is to wait after the last session.
    pub stop_delay_usec: u64,
    /// How systemd is to treat the user.
    pub disposition: Disposition,
    /// Limit on tasks.
    pub tasks_max: Option<u64>,
    /// Limit on memory, in bytes.
    pub memory_max: Option<u64>,
    /// CPU weight.
    pub cpu_weight: Option<u64>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Environment as `NAME=value`; at most 255 of them.
    pub environment: Vec<String>,
    /// Supplementary groups; repetitions are ignored.
    pub groups: Vec<GroupSpec>,
}

/// A supplementary group of an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupSpec {
    /// Name; at most [`MAX_NAME`] bytes.
    pub name: String,
    /// GID; not 2^32-1.
    pub gid: u32,
    /// Whose the group is.
    pub origin: GroupOrigin,
}

/// Why an account was not published; what was published before is untouched.
#[derive(Debug)]
pub enum WriteError {
    /// Something is longer than the table can hold: make it shorter.
    TooLong {
        /// What it is.
        what: &'static str,
        /// The most it may be.
        limit: &'static str,
    },
    /// Something that cannot stand in a user record: do not publish it.
    Unfit {
        /// What it is.
        what: &'static str,
        /// What it would have to be.
        must: &'static str,
    },
    /// A name or ID is another account's: withdraw that one first.
    Taken {
        /// The name or ID.
        what: String,
        /// The login it belongs to.
        by: String,
    },
    /// The table holds as much as a table can.
    Full,
    /// The file could not be made or replaced.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::TooLong { what, limit } => {
                write!(f, "{what} too long for the account table: at most {limit}")
            }
            WriteError::Unfit { what, must } => write!(f, "{what} cannot be published: {must}"),
            WriteError::Taken { what, by } => write!(f, "{what} already belongs to {by}"),
            WriteError::Full => f.write_str("the account table is full"),
            WriteError::Io { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WriteError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

const NAME_LIMIT: &str = "255 bytes";
const RECORD_LIMIT: &str = "4 KiB for the whole account";

fn check_text(what: &'static str, text: &str) -> Result<(), WriteError> {
    if text.contains(['\0', ':', '\n']) {
        return Err(WriteError::Unfit {
            what,
            must: "no NUL, colon or line break, as in passwd",
        });
    }
    Ok(())
}

fn check_name(what: &'static str, name: &str) -> Result<(), WriteError> {
    check_text(what, name)?;
    if name.is_empty() {
        return Err(WriteError::Unfit {
            what,
            must: "not empty",
        });
    }
    if name.len() > MAX_NAME {
        return Err(WriteError::TooLong {
            what,
            limit: NAME_LIMIT,
        });
    }
    Ok(())
}

impl AccountSpec {
    /// Refuses what readers could not make a passwd line or a user record of.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        check_name("login", &self.login)?;
        self.aliases
            .iter()
            .try_for_each(|alias| check_name("alias", alias))?;
        check_text("GECOS", &self.gecos)?;
        check_text("home", &self.home)?;
        check_text("shell", &self.shell)?;
        for (what, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id == 0 || id == u32::MAX {
                return Err(WriteError::Unfit {
                    what,
                    must: "neither 0 nor 4294967295",
                });
            }
        }
        for line in &self.environment {
            if line.contains(['\0', '\n']) || !line.contains('=') {
                return Err(WriteError::Unfit {
                    what: "environment",
                    must: "NAME=value without NUL or line break",
                });
            }
        }
        for group in &self.groups {
            check_name("group name", &group.name)?;
            if group.name.contains(',') {
                return Err(WriteError::Unfit {
                    what: "group name",
                    must: "no comma, as in group",
                });
            }
            if group.gid == u32::MAX {
                return Err(WriteError::Unfit {
                    what: "group gid",
                    must: "not 4294967295",
                });
            }
        }
        if self.aliases.len() > 255 || self.environment.len() > 255 {
            return Err(WriteError::TooLong {
                what: "aliases or environment",
                limit: "255 entries",
            });
        }
        self.check_size()
    }

    /// Refuses what the record has no room for.
    fn check_size(&self) -> Result<(), WriteError> {
        let too_long = |what| WriteError::TooLong {
            what,
            limit: RECORD_LIMIT,
        };
        let fields = [&self.gecos, &self.home, &self.shell];
        if fields.iter().any(|text| text.len() > usize::from(u16::MAX)) {
            return Err(too_long("GECOS, home or shell"));
        }
        let texts = self.names().into_iter().chain(fields);
        let texts = texts.chain(&self.environment);
        let strings = texts.map(|text| text.len() + 1).sum();
        match record_words(self.unique_groups().len(), strings) > MAX_RECORD_WORDS {
            true => Err(too_long(self.longest_part())),
            false => Ok(()),
        }
    }

    /// Login and aliases, each once, the login first.
    pub(crate) fn names(&self) -> Vec<&String> {
        let mut seen = BTreeSet::new();
        std::iter::once(&self.login)
            .chain(&self.aliases)
            .filter(|name| seen.insert(*name))
            .collect()
    }

    /// The groups, each once, in the order given.
    pub(crate) fn unique_groups(&self) -> Vec<&GroupSpec> {
        let mut seen = BTreeSet::new();
        self.groups
            .iter()
            .filter(|group| seen.insert(*group))
            .collect()
    }

    /// The record in words, of a spec that passes [`AccountSpec::check`]. `slots` are those of
    /// [`AccountSpec::unique_groups`].
    pub(crate) fn encode(&self, slots: &[u32]) -> Vec<u64> {
        let names = self.names();
        let aliases = names.get(1..).unwrap_or_default().iter().copied();
        let groups = self.unique_groups();

        let leading = [&self.login, &self.gecos, &self.home, &self.shell];
        let mut lengths = 0;
        for (position, text) in leading.iter().enumerate() {
            lengths |= (text.len() as u64) << (16 * position);
        }
        let mut strings = Vec::new();
        for text in leading
            .into_iter()
            .chain(aliases.clone())
            .chain(&self.environment)
        {
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
        }

        let words = record_words(groups.len(), strings.len());
        let mut flags = user::KIND;
        for (flag, set) in [
            (user::LOCKED, self.locked),
            (user::REGULAR, self.disposition == Disposition::Regular),
            (user::HAS_TASKS_MAX, self.tasks_max.is_some()),
            (user::HAS_MEMORY_MAX, self.memory_max.is_some()),
            (user::HAS_CPU_WEIGHT, self.cpu_weight.is_some()),
            (user::HAS_UMASK, self.umask.is_some()),
        ] {
            if set {
                flags |= flag;
            }
        }
        let counts = (aliases.len() as u64) << 16
            | (self.environment.len() as u64) << 24
            | (groups.len() as u64) << 32;
        let mut record = vec![0; user::GROUPS];
        record[user::SHAPE] = flags | counts | (words as u64) << 48;
        record[user::IDS] = u64::from(self.uid) | u64::from(self.gid) << 32;
        record[user::LENGTHS] = lengths;
        record.extend(
            groups
                .iter()
                .zip(slots)
                .map(|(group, &slot)| u64::from(group.gid) | (u64::from(slot) + 1) << 32),
        );
        record.extend(words_of(&strings));
        let mut numbers = [0; user::NUMBERS];
        numbers[user::SINCE] = self.since_usec;
        numbers[user::STOP_DELAY] = self.stop_delay_usec;
        numbers[user::TASKS_MAX] = self.tasks_max.unwrap_or(0);
        numbers[user::MEMORY_MAX] = self.memory_max.unwrap_or(0);
        numbers[user::CPU_WEIGHT] = self.cpu_weight.unwrap_or(0);
        numbers[user::SESSIONS] =
            u64::from(self.sessions) | u64::from(self.umask.unwrap_or(0)) << 32;
        record.extend(numbers);
        record
    }

    fn longest_part(&self) -> &'static str {
        let sum = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
        let parts = [
            ("GECOS", self.gecos.len()),
            ("home", self.home.len()),
            ("shell", self.shell.len()),
            ("the aliases together", sum(&self.aliases)),
            ("environment", sum(&self.environment)),
            ("the list of groups", self.groups.len() * 8),
        ];
        parts
            .into_iter()
            .max_by_key(|&(_, length)| length)
            .map_or("account", |(what, _)| what)
    }
}

impl GroupSpec {
    /// The group's record in words, given the link to its first member chunk.
    pub(crate) fn encode(&self, members: u64) -> Vec<u64> {
        let mut record = vec![0; group::NAME];
        record[group::SHAPE] =
            group::KIND | self.origin.code() << 8 | (self.name.len() as u64) << 16;
        record[group::GID] = u64::from(self.gid);
        record[group::MEMBERS] = members;
        record.extend(words_of(self.name.as_bytes()));
        record
    }
}

/// Words of an account's record with so many groups and so many bytes of text.
fn record_words(groups: usize, strings: usize) -> usize {
    user::GROUPS + groups + strings.div_ceil(8) + user::NUMBERS
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// What the writer must know of a live account to keep its hints: everything else stays in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Login first, then the aliases, each once.
    pub(crate) names: Vec<String>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Slots of its shared groups, each once.
    pub(crate) groups: Vec<u32>,
}

impl Keys {
    pub(crate) fn login(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    pub(crate) fn ids(&self) -> Vec<u32> {
        if self.uid == self.gid {
            vec![self.uid]
        } else {
            vec![self.uid, self.gid]
        }
    }

    pub(crate) fn of_spec(spec: &AccountSpec, groups: Vec<u32>) -> Keys {
        Keys {
            names: spec.names().into_iter().cloned().collect(),
            uid: spec.uid,
            gid: spec.gid,
            groups,
        }
    }

    /// The keys in a record found in a table, if that could have been written from a spec that passes [`AccountSpec::check`].
    pub(crate) fn of_account(account: &Account) -> Option<Keys> {
        let names: Vec<String> = std::iter::once(account.login())
            .chain(account.aliases())
            .map(str::to_owned)
            .collect();
        let groups: Vec<u32> = account.groups().map(|group| group.slot).collect();
        let keys = Keys {
            names,
            uid: account.uid(),
            gid: account.gid(),
            groups,
        };
        let texts = [account.gecos(), account.home(), account.shell()];
        let sound = keys
            .names
            .iter()
            .all(|name| check_name("name", name).is_ok())
            && texts.iter().all(|text| check_text("text", text).is_ok())
            && keys.ids().iter().all(|&id| id != 0 && id != u32::MAX)
            && keys.names.iter().collect::<BTreeSet<_>>().len() == keys.names.len()
            && keys.groups.iter().collect::<BTreeSet<_>>().len() == keys.groups.len();
        sound.then_some(keys)
    }
}

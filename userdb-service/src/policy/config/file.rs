//! From the texts of the configuration files to a [`Config`]: which key sets what. Later files win
//! key by key, `[[role]]` entries add up. Nothing is read from disk here.

use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::DeTable;

use super::value::{Entry, File, Value, entries};
use super::{Config, ConfigError, HomeMode, InvalidNames, role};
use crate::invisible::is_invisible;
use crate::policy::glob::{Glob, is_pattern, is_wild};
use crate::policy::names::{GroupName, is_inner};
use crate::policy::plan::{Disposition, SharedLogins, SudoMode};
use crate::policy::quoting::quoted;

const TOP: &[&str] = &[
    "auto-create-users",
    "pam-services",
    "templated-groups",
    "gecos",
    "retire-delay",
    "stop-timeout",
    "disposition",
    "names",
    "uids",
    "logins",
    "home",
    "sudo",
    "forget-roles",
    "role",
];
const NAMES: &[&str] = &["invalid", "repaired-may-sudo", "protected", "allow"];
const UIDS: &[&str] = &["key", "range", "requested"];
const LOGINS: &[&str] = &["shared"];
const HOME: &[&str] = &["mode", "keep", "base"];
const SUDO: &[&str] = &["mode", "max-files"];

/// What `gecos` may have between braces.
const FIELDS: [&str; 3] = ["user", "roles", "login"];

/// What `home` and `home.mode` may say.
pub(super) const HOME_MODES: &[(&str, HomeMode)] = &[
    ("ephemeral", HomeMode::Ephemeral),
    ("persistent", HomeMode::Persistent),
    ("none", HomeMode::None),
];

const TABLE: &str = "write it as a table, with its keys below";
const SERVICES: &str = "write an array of PAM services, such as [\"teleport\", \"sshd\"]";
const PATTERNS: &str =
    "write an array of names, in which * and ? may stand for others, such as [\"team-*\"]";

impl Config {
    /// The configuration that `files` (path and text, in the order in which they are to be read) make
    /// of the defaults. The first thing that is wrong is the error, and nothing is half applied.
    pub fn parse<P: AsRef<Path>, T: AsRef<str>>(files: &[(P, T)]) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for (path, text) in files {
            let text = text.as_ref();
            let line_ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
            let file = File {
                path: path.as_ref(),
                line_ends: &line_ends,
            };
            let table = DeTable::parse(text).map_err(|error| {
                file.error(
                    error.span().unwrap_or_default(),
                    "",
                    format!("this is not TOML: {}", one_line(error.message())),
                )
            })?;
            apply(&mut config, file, table.get_ref())?;
        }
        Ok(config)
    }
}

fn apply(config: &mut Config, file: File<'_>, table: &DeTable<'_>) -> Result<(), ConfigError> {
    // First, wherever it stands: it is about the files before, not about the lines above.
    for Entry { name, value, .. } in entries(file, "", table) {
        if name == "forget-roles" && value.boolean()? {
            config.roles.clear();
        }
    }
    for Entry { at, name, value } in entries(file, "", table) {
        match name {
            "auto-create-users" => config.auto_create_users = value.boolean()?,
            "pam-services" => config.pam_services = value.list(SERVICES, service)?,
            "templated-groups" => config.templated_groups = value.list(PATTERNS, name_glob(PATTERNS))?,
            "gecos" => config.gecos = value.text("write one line of at most 255 bytes without a colon, in which {user}, {roles} and {login} may stand", gecos)?,
            "retire-delay" => config.retire_delay = value.duration()?,
            "stop-timeout" => config.stop_timeout = value.duration()?,
            "disposition" => config.disposition = value.word(&[("dynamic", Disposition::Dynamic), ("regular", Disposition::Regular)])?,
            "names" => names(config, &value)?,
            "uids" => uids(config, &value)?,
            "logins" => logins(config, &value)?,
            "home" => home(config, &value)?,
            "sudo" => sudo(config, &value)?,
            "forget-roles" => {}
            "role" => {
                for entry in value.elements("write each role as a table of its own under [[role]]")? {
                    config.roles.push(role::read(&entry)?);
                }
            }
            _ => return Err(value.unknown(at, TOP)),
        }
    }
    Ok(())
}

fn names(config: &mut Config, table: &Value<'_>) -> Result<(), ConfigError> {
    for Entry { at, name, value } in table.entries(TABLE)? {
        match name {
            "invalid" => {
                config.names.invalid = value.word(&[
                    ("remove", InvalidNames::Remove),
                    ("refuse", InvalidNames::Refuse),
                ])?
            }
            "repaired-may-sudo" => config.names.repaired_may_sudo = value.boolean()?,
            "protected" => config.names.protected = value.list(PATTERNS, name_glob(PATTERNS))?,
            "allow" => {
                let right = "write an array of single names, without * and ?, such as [\"git\"]";
                config.names.allow = value.list(right, |text| {
                    let name = GroupName::try_from(text);
                    name.map(String::from)
                        .map_err(|why| match in_capitals(text, is_group) {
                            Some(right) => right,
                            None if text.is_empty() || is_pattern(text) => right.to_owned(),
                            None => format!("{right}; {why}"),
                        })
                })?;
            }
            _ => return Err(value.unknown(at, NAMES)),
        }
    }
    Ok(())
}

fn uids(config: &mut Config, table: &Value<'_>) -> Result<(), ConfigError> {
    let mut last = None;
    for Entry { at, name, value } in table.entries(TABLE)? {
        match name {
            "key" => {
                config.uids.key =
                    value.text("write 32 hexadecimal digits, the same on all nodes", key)?;
            }
            "range" => config.uids.range = value.id_range()?,
            "requested" => config.uids.requested = Some(value.id_range()?),
            _ => return Err(value.unknown(at, UIDS)),
        }
        last = Some(value);
    }
    // Checked after the table: either key may stand first, or in an earlier file.
    let range = &config.uids.range;
    let overlap =
        |other: &RangeInclusive<u32>| other.start() <= range.end() && range.start() <= other.end();
    match last {
        Some(value) if config.uids.requested.as_ref().is_some_and(overlap) => Err(value.wrong(
            "uids.requested keeps clear of uids.range, else TELEPORT_UID could name the UID of another login",
        )),
        _ => Ok(()),
    }
}

fn logins(config: &mut Config, table: &Value<'_>) -> Result<(), ConfigError> {
    let words = [
        ("refuse", SharedLogins::Refuse),
        ("intersect", SharedLogins::Intersect),
        ("union", SharedLogins::Union),
        ("never", SharedLogins::Never),
    ];
    for Entry { at, name, value } in table.entries(TABLE)? {
        match name {
            "shared" => config.logins.shared = value.word(&words)?,
            _ => return Err(value.unknown(at, LOGINS)),
        }
    }
    Ok(())
}

fn home(config: &mut Config, table: &Value<'_>) -> Result<(), ConfigError> {
    for Entry { at, name, value } in table.entries(TABLE)? {
        match name {
            "mode" => config.home.mode = value.word(HOME_MODES)?,
            "keep" => config.home.keep = value.duration()?,
            "base" => {
                let right = "write the absolute path of a folder for homes, such as \"/home\", none of the system's own";
                config.home.base = value.told(right, |text| {
                    let path = path(right)(text)?;
                    match is_of_the_system(&path) {
                        true => Err(right.to_owned()),
                        false => Ok(path),
                    }
                })?
            }
            _ => return Err(value.unknown(at, HOME)),
        }
    }
    Ok(())
}

fn sudo(config: &mut Config, table: &Value<'_>) -> Result<(), ConfigError> {
    for Entry { at, name, value } in table.entries(TABLE)? {
        match name {
            "mode" => {
                config.sudo.mode =
                    value.word(&[("file", SudoMode::File), ("group", SudoMode::Group)])?
            }
            "max-files" => config.sudo.max_files = value.integer(0..=1_000_000)? as u32,
            _ => return Err(value.unknown(at, SUDO)),
        }
    }
    Ok(())
}

/// Longest path, in bytes.
const MAX_PATH: usize = 200;

/// Reads an absolute path without `.`, `..`, empty parts and what would end a field of passwd. `right` is what to write where it
/// is none at all.
pub(super) fn path(right: &str) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let Some(parts) = text.strip_prefix('/').filter(|parts| !parts.is_empty()) else {
            return Err(right.to_owned());
        };
        if text.contains(':') || text.chars().any(is_invisible) {
            return Err("write a path without \":\" and without invisible characters".to_owned());
        }
        if text.len() > MAX_PATH {
            return Err(format!("a path here has at most {MAX_PATH} bytes"));
        }
        if parts.ends_with('/') {
            return Err("write the path without a slash at its end".to_owned());
        }
        if parts.split('/').any(str::is_empty) {
            return Err("write the path with a single slash between two names".to_owned());
        }
        if parts.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("write the path without \".\" and \"..\" in it".to_owned());
        }
        Ok(text.to_owned())
    }
}

/// Whether homes in this folder would be in the system's way, or the system in theirs: a home's owner is taken for the
/// ID of its login, and homes are made and given away in there.
fn is_of_the_system(path: &str) -> bool {
    const SYSTEM: [&str; 15] = [
        "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run",
        "sbin", "sys", "tmp", "usr",
    ];
    // Inside /var there is room for people: /var/home. These are other names of /run, and everybody's.
    const IN_VAR: [&str; 3] = ["lock", "run", "tmp"];
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("var"), None) => true,
        (Some("var"), Some(part)) => IN_VAR.contains(&part),
        (top, _) => top.is_some_and(|top| SYSTEM.contains(&top)),
    }
}

/// Reads a pattern that could match a name. `right` is what to write where it could not, whatever the case of its letters.
pub(super) fn name_glob(right: &str) -> impl Fn(&str) -> Result<Glob, String> {
    move |text| {
        let is_right =
            |text: &str| !text.is_empty() && text.chars().all(|c| is_inner(c) || is_wild(c));
        match in_capitals(text, is_right) {
            _ if is_right(text) => Ok(Glob::new(text)),
            Some(right) => Err(right),
            None if text.is_empty() => Err(right.to_owned()),
            None => Err(format!(
                "{right}; a name holds a-z, 0-9, '_', '-' and '.' only"
            )),
        }
    }
}

/// What to say of a name, or a pattern of names, in which only capitals are wrong.
pub(super) fn in_capitals(text: &str, is_right: impl Fn(&str) -> bool) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    (lower != text && is_right(&lower))
        .then(|| format!("names are in lower case, write {}", quoted(&lower)))
}

pub(super) fn is_group(text: &str) -> bool {
    GroupName::try_from(text).is_ok()
}

fn service(text: &str) -> Result<String, String> {
    let sensible = !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'@'));
    sensible
        .then(|| text.to_owned())
        .ok_or_else(|| SERVICES.to_owned())
}

fn gecos(text: &str) -> Option<String> {
    let mut parts = text.split('{');
    let before = parts.next().unwrap_or_default();
    // Behind each brace a field, and no other brace up to the next one.
    let mut fields = parts.map(|part| part.split_once('}'));
    let is_filled = fields.all(|part| {
        part.is_some_and(|(name, after)| FIELDS.contains(&name) && !after.contains('}'))
    });
    let clean = text.len() <= 255 && !text.contains(':') && !text.chars().any(is_invisible);
    (clean && is_filled && !before.contains('}')).then(|| text.to_owned())
}

fn key(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// The TOML parser's own words, which quote the text only through escapes, on one line.
fn one_line(message: &str) -> String {
    message
        .split(is_invisible)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

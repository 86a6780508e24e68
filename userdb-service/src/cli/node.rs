//! What is to be seen of this machine, as `status` and `check` need it. Nothing is judged in here.
//!
//! Whatever only root may see is [`Seen::RootOnly`] for others, so that nobody takes it for absent.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use account_table::{Cursor, DEFAULT_PATH, Lookup, Table, Trust};
use serde::Serialize;
use session_protocol::client::Registry;

use super::list::users;
use super::sessions::{PATIENCE, sentence};
use crate::control::config_files;
use crate::control::lookup::nsswitch::{self, Services};
use crate::control::sudoers_check::{SudoersCheck, Withheld};
use crate::control::sudoers_files::SudoersFiles;
use crate::policy::config::DEFAULT_SHELL;
use crate::policy::sudoers::file_name;
use crate::policy::{Config, Login};

/// Where systemd asks us.
pub const USERDB: &str = "/run/systemd/userdb/com.goteleport.DynamicUser";
/// The order of the name services.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";
/// The PAM service.
pub const PAM: &str = "/etc/pam.d/teleport";
/// Units that have to be enabled. All but [`SWEEP`] also run all the time.
pub const UNITS: [&str; 5] = [
    "teleport-sessiond.service",
    "teleport-sessiond.socket",
    "teleport-userdbd.service",
    "teleport-userdbd.socket",
    SWEEP,
];
/// Runs once, at boot.
pub const SWEEP: &str = "teleport-sudoers-sweep.service";
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Something that may be hidden or broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen<T> {
    /// This.
    Known(T),
    /// Only root may see it, and this is somebody else.
    RootOnly,
    /// It cannot be seen; the sentence says why.
    Failed(String),
}

impl<T> Seen<T> {
    /// What was seen, if it was.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::RootOnly | Seen::Failed(_) => None,
        }
    }
}

/// The published table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSeen {
    /// Published logins, in order.
    pub logins: Vec<String>,
    /// Shared groups with a member of ours.
    pub groups: u64,
    /// When the latest of the users came, in microseconds of CLOCK_REALTIME.
    pub latest_usec: u64,
}

/// A unit's state in systemctl's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// `is-enabled`.
    pub enabled: String,
    /// `is-active`.
    pub active: String,
}

/// Everything that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The logins of the sessions in the registry, one for each session.
    pub registry: Seen<Vec<String>>,
    /// What the userdb provider calls itself.
    pub userdb: Seen<String>,
    /// The table.
    pub table: Seen<TableSeen>,
    /// Logins with sessions and without a user, or the other way round.
    pub unmatched: Seen<Vec<String>>,
    /// Names of our files in sudoers.d.
    pub sudoers: Seen<Vec<String>>,
    /// Those of them that belong to no live login.
    pub stale_sudoers: Seen<Vec<String>>,
    /// Services of the `passwd` line, in order.
    pub nsswitch_passwd: Vec<String>,
    /// Services of the `group` line, in order.
    pub nsswitch_group: Vec<String>,
    /// Services of the `initgroups` line, if there is one.
    pub nsswitch_initgroups: Option<Vec<String>>,
    /// Whether the PAM service exists and uses our module; the sentence otherwise.
    pub pam: Seen<()>,
    /// Whether the configuration is good; the sentence otherwise.
    pub configuration: Seen<()>,
    /// Shells that users would get and that are not on this node, each with who names it.
    pub missing_shells: Vec<String>,
    /// Our units.
    pub units: Seen<Vec<Unit>>,
    /// Whether there is a sudo.
    pub sudo: bool,
    /// Whether there is a visudo.
    pub visudo: bool,
    /// Now, in microseconds of CLOCK_REALTIME.
    pub now_usec: u64,
}

impl Node {
    /// Looks at this machine.
    pub fn look() -> Node {
        let root = nix::unistd::geteuid().is_root();
        let before = registry(root);
        let table = table();
        let sudoers = sudoers(root);
        // Who came since the first look is in this one, who went is in the first: people come and go
        // while we look, and that is nothing wrong.
        let registry = registry(root);
        let nsswitch = fs::read(NSSWITCH).unwrap_or_default();
        let Services {
            passwd,
            group,
            initgroups,
            ..
        } = nsswitch::parse(&String::from_utf8_lossy(&nsswitch));
        let configuration = config_files::load(Path::new("/"));
        let stale_sudoers = stale(&sudoers, [&before, &registry], &table);
        Node {
            unmatched: unmatched([&before, &registry], &table),
            userdb: userdb(Path::new(USERDB)),
            stale_sudoers,
            registry,
            table,
            sudoers,
            nsswitch_passwd: passwd,
            nsswitch_group: group,
            nsswitch_initgroups: initgroups,
            pam: pam(),
            missing_shells: configuration
                .as_ref()
                .map(missing_shells)
                .unwrap_or_default(),
            configuration: match configuration {
                Ok(config) => specifications(config),
                Err(config_files::LoadError::Unreadable(_, error))
                    if error.kind() == io::ErrorKind::PermissionDenied && !root =>
                {
                    Seen::RootOnly
                }
                Err(error) => Seen::Failed(error.to_string()),
            },
            units: units(),
            sudo: has_program("sudo"),
            visudo: has_program("visudo"),
            now_usec: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

/// A login with such a shell succeeds, and its session ends at once.
fn missing_shells(config: &Config) -> Vec<String> {
    let named = config.roles.iter().filter_map(|role| {
        let shell = role.shell.as_deref()?;
        Some((
            shell,
            format!("{shell} ({}, role \"{}\")", role.place, role.pattern),
        ))
    });
    let usual = (
        DEFAULT_SHELL,
        format!("{DEFAULT_SHELL} (where no role names one)"),
    );
    std::iter::once(usual)
        .chain(named)
        .filter(|(shell, _)| !is_program(Path::new(shell)))
        .map(|(_, who)| who)
        .collect()
}

/// Whether visudo takes what the roles give. That there is no visudo is seen elsewhere.
fn specifications(mut config: Config) -> Seen<()> {
    let withheld = match SudoersCheck::default().withhold_refused_blocking(&mut config) {
        Ok(withheld) => withheld,
        Err(error) => return Seen::Failed(format!("visudo cannot be asked: {error}")),
    };
    let wrong: Vec<String> = withheld
        .iter()
        .filter(|role| !matches!(role, Withheld::NoVisudo(_)))
        .map(Withheld::to_string)
        .collect();
    if wrong.is_empty() {
        Seen::Known(())
    } else {
        Seen::Failed(wrong.join("; "))
    }
}

fn registry(root: bool) -> Seen<Vec<String>> {
    if !root {
        return Seen::RootOnly;
    }
    match Registry::new(PATIENCE).list() {
        Ok(sessions) => Seen::Known(
            sessions
                .into_iter()
                .map(|session| session.userName)
                .collect(),
        ),
        Err(failure) => Seen::Failed(sentence(&failure)),
    }
}

/// Asks a varlink service who it is.
fn userdb(path: &Path) -> Seen<String> {
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0")?;
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while answer.len() < 64 * 1024 {
            stream.read_exact(&mut byte)?;
            if byte == [0] {
                break;
            }
            answer.extend(byte);
        }
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        match answer.pointer("/parameters/product") {
            Some(serde_json::Value::String(product)) => Ok(product.clone()),
            _ => Err(io::Error::other("its answer to GetInfo names no product")),
        }
    };
    match ask() {
        Ok(product) => Seen::Known(product),
        Err(error) => Seen::Failed(format!(
            "teleport-userdbd does not answer on {}: {error}; `systemctl start teleport-userdbd` starts it, its journal says why it ended",
            path.display()
        )),
    }
}

fn table() -> Seen<TableSeen> {
    let path = DEFAULT_PATH.to_string_lossy();
    let Some(table) = Table::open(DEFAULT_PATH, Trust::Root) else {
        return Seen::Failed(format!(
            "there is no table of users at {path} that can be trusted (a regular file of root that nobody else can write); teleport-sessiond makes it when it starts"
        ));
    };
    if table.is_retired() {
        return Seen::Failed(format!(
            "the table at {path} is retired; teleport-sessiond makes a new one when it starts"
        ));
    }
    let Some(users) = users(&table) else {
        return Seen::Failed(format!("{path} is being changed all the time; try again"));
    };
    let (mut groups, mut cursor) = (0, Cursor::default());
    while let Lookup::Found(_) = table.next_group(&mut cursor) {
        groups += 1;
    }
    Seen::Known(TableSeen {
        groups,
        latest_usec: users.iter().map(|user| user.since_usec).max().unwrap_or(0),
        logins: users.into_iter().map(|user| user.login).collect(),
    })
}

fn sudoers(root: bool) -> Seen<Vec<String>> {
    // Others may see their names, but not the line by which they are known to be ours.
    if !root {
        return Seen::RootOnly;
    }
    match SudoersFiles::default().list() {
        Ok((ours, _)) => Seen::Known(ours),
        Err(error) => Seen::Failed(format!("the sudoers files cannot be looked at: {error}")),
    }
}

/// Our sudoers files whose login neither the registry nor, where that does not answer, the table knows.
fn stale(
    sudoers: &Seen<Vec<String>>,
    registry: [&Seen<Vec<String>>; 2],
    table: &Seen<TableSeen>,
) -> Seen<Vec<String>> {
    let files = match sudoers {
        Seen::Known(files) => files,
        Seen::RootOnly => return Seen::RootOnly,
        Seen::Failed(why) => return Seen::Failed(why.clone()),
    };
    let mut live: BTreeSet<&str> = BTreeSet::new();
    for logins in registry.into_iter().filter_map(Seen::known) {
        live.extend(logins.iter().map(String::as_str));
    }
    if let Some(table) = table.known() {
        live.extend(table.logins.iter().map(String::as_str));
    }
    let needed: BTreeSet<String> = live
        .into_iter()
        .filter_map(|login| Login::try_from(login).ok())
        .map(|login| file_name(&login))
        .collect();
    let mut stale = files.clone();
    stale.retain(|name| !needed.contains(name));
    Seen::Known(stale)
}

/// Logins that had sessions all the while and are not published, and published ones that never had any.
fn unmatched(registry: [&Seen<Vec<String>>; 2], table: &Seen<TableSeen>) -> Seen<Vec<String>> {
    let ([Seen::Known(before), Seen::Known(after)], Seen::Known(table)) = (registry, table) else {
        return match registry {
            [Seen::RootOnly, _] => Seen::RootOnly,
            _ => Seen::Failed(
                "sessions and users cannot be compared while one of them is not to be seen"
                    .to_owned(),
            ),
        };
    };
    let stayed = before.iter().filter(|login| after.contains(login));
    let unpublished = stayed.filter(|login| !table.logins.contains(login));
    let without_session = table
        .logins
        .iter()
        .filter(|login| !before.contains(login) && !after.contains(login));
    let unmatched: BTreeSet<String> = unpublished.chain(without_session).cloned().collect();
    Seen::Known(unmatched.into_iter().collect())
}

fn pam() -> Seen<()> {
    let text = match fs::read_to_string(PAM) {
        Ok(text) => text,
        Err(error) => {
            return Seen::Failed(format!(
                "{PAM} cannot be read: {error}; /usr/lib/teleport-userdb/pam.d/teleport is what belongs there"
            ));
        }
    };
    for phase in ["account", "session"] {
        let ours = |line: &str| {
            let mut words = line.split_whitespace();
            words.next().map(|word| word.trim_start_matches('-')) == Some(phase)
                && words.any(|word| word.rsplit('/').next() == Some("pam_teleport.so"))
        };
        if !text.lines().any(ours) {
            return Seen::Failed(format!(
                "{PAM} has no line \"{phase} ... pam_teleport.so\"; compare it with /usr/lib/teleport-userdb/pam.d/teleport"
            ));
        }
    }
    Seen::Known(())
}

/// systemctl answers a line for each unit, whatever its exit status.
fn units() -> Seen<Vec<Unit>> {
    let ask = |verb: &str| -> io::Result<Vec<String>> {
        let output = Command::new("systemctl")
            .arg(verb)
            .args(UNITS)
            .stdin(Stdio::null())
            .output()?;
        let lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect();
        if lines.len() == UNITS.len() {
            return Ok(lines);
        }
        Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    };
    match ask("is-enabled").and_then(|enabled| Ok((enabled, ask("is-active")?))) {
        Ok((enabled, active)) => Seen::Known(
            UNITS
                .into_iter()
                .zip(enabled.into_iter().zip(active))
                .map(|(name, (enabled, active))| Unit {
                    name: name.to_owned(),
                    enabled,
                    active,
                })
                .collect(),
        ),
        Err(error) => Seen::Failed(format!("systemctl does not say how the units are: {error}")),
    }
}

fn has_program(name: &str) -> bool {
    FOLDERS
        .iter()
        .any(|folder| is_program(&Path::new(folder).join(name)))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// How far in the future a user may have come before the clock counts as set back.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn known(logins: &[&str]) -> Seen<Vec<String>> {
        Seen::Known(logins.iter().map(|login| (*login).to_owned()).collect())
    }

    fn table(logins: &[&str]) -> Seen<TableSeen> {
        Seen::Known(TableSeen {
            logins: logins.iter().map(|login| (*login).to_owned()).collect(),
            ..TableSeen::default()
        })
    }

    #[test]
    fn who_comes_or_goes_during_the_look_is_not_unmatched() {
        let (before, after) = (known(&["stays", "goes"]), known(&["stays", "comes"]));
        for published in [&["stays"][..], &["comes", "goes", "stays"]] {
            assert_eq!(unmatched([&before, &after], &table(published)), known(&[]));
        }
        assert_eq!(
            unmatched([&before, &after], &table(&["left-over"])),
            known(&["left-over", "stays"])
        );
        assert_eq!(
            unmatched([&Seen::RootOnly, &Seen::RootOnly], &table(&[])),
            Seen::RootOnly
        );
    }

    #[test]
    fn a_sudoers_file_without_a_live_login_is_stale() {
        let files = known(&["teleport-a=2eb", "teleport-gone"]);
        let none = known(&[]);
        assert_eq!(
            stale(&files, [&none, &known(&["a.b"])], &table(&[])),
            known(&["teleport-gone"])
        );
        // With the daemon gone the table is what is left to go by.
        let failed = Seen::Failed("x".to_owned());
        assert_eq!(
            stale(&files, [&failed, &failed], &table(&["a.b", "gone"])),
            known(&[])
        );
    }
}

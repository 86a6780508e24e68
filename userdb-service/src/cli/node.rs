//! What is to be seen of this machine, as `status` and `check` need it. Nothing is judged in here.
//!
//! Whatever only root may see is [`Seen::RootOnly`] for others, so that nobody takes it for absent.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use account_table::{Cursor, DEFAULT_PATH, Lookup, Table, Trust};
use serde::Serialize;
use session_protocol::client::Registry;

use super::by_file::{self, Ignored};
use super::compare::{lingering, stale, unmatched, without_session};
use super::held::Held;
use super::hints::{ByGroup, NoUsers};
use super::list::users;
use super::sandbox::{self, View};
use super::sessions::{PATIENCE, sentence};
use super::units::{self, Unit};
use super::unread::{self, UnreadFile};
use super::written::{Leaving, WithoutFile, leaving, stuck, without_file};
use super::{asked, homes, pam, reach, userdb};
use crate::control::configuration::config_files::{self, LoadError};
use crate::control::lookup::nsswitch::{self, NSSWITCH, Services};
use crate::control::state::{self, StuckRight};
use crate::control::sudo::check::{SudoersCheck, Withheld};
use crate::control::sudo::files::SudoersFiles;
use crate::control::sudo::sudo_rs;
use crate::policy::Config;
use crate::policy::config::{DEFAULT_SHELL, EPHEMERAL_BASE, HomeMode, Role};
use crate::policy::sudoers::SUDOERS_D;

const FOLDERS: [&str; 5] = ["usr/sbin", "usr/bin", "usr/local/bin", "sbin", "bin"];

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
    /// It depends on the configuration, which is wrong, as is said of that.
    Unread,
}

impl<T> Seen<T> {
    /// What was seen, if it was.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::RootOnly | Seen::Failed(_) | Seen::Unread => None,
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
    /// Users without a session whose processes go on.
    pub lingering: Vec<String>,
    /// Logins without a session of which something is left, those that are being ended among them.
    pub leaving: Seen<Vec<Leaving>>,
    /// Names of our files in sudoers.d.
    pub sudoers: Seen<Vec<String>>,
    /// Those of them that belong to no live login.
    pub stale_sudoers: Seen<Vec<String>>,
    /// Logins that were granted sudo by a file that is not there.
    pub without_sudoers: Seen<Vec<WithoutFile>>,
    /// Logins whose rights of an earlier session cannot be taken away.
    pub stuck_rights: Seen<Vec<StuckRight>>,
    /// Whether a login could be decided on; the sentence where a lookup worker does not answer, or somebody whom it asks.
    pub lookup: Seen<()>,
    /// What sudoers and doas.conf include and a lookup worker cannot read.
    pub unread_sudoers: Seen<Vec<UnreadFile>>,
    /// Services of the `passwd` line, in order.
    pub nsswitch_passwd: Vec<String>,
    /// Services of the `group` line, in order.
    pub nsswitch_group: Vec<String>,
    /// Services of the `initgroups` line, if there is one.
    pub nsswitch_initgroups: Option<Vec<String>>,
    /// Databases of these whose line returns, for a name that is not found, before it comes to us.
    pub nsswitch_returning: Vec<String>,
    /// What everybody has to read and cannot, each with what would be right.
    pub out_of_reach: Vec<String>,
    /// The PAM services of `pam-services` that use our module; the sentence where none does.
    pub pam: Seen<Vec<String>>,
    /// Whether the configuration is good; the sentence otherwise.
    pub configuration: Seen<()>,
    /// What teleport-sessiond goes by, where it is known not to be that.
    pub held: Option<Held>,
    /// Shells that users would get and that are not on this node, each with who names it.
    pub missing_shells: Seen<Vec<String>>,
    /// The folder of persistent homes, if anybody can have one; the sentence where it is not fit for them.
    pub home_base: Seen<Option<String>>,
    /// How teleport-sessiond sees that folder.
    pub home_base_view: View,
    /// How it sees sudoers.d; that it is read-only for everybody only where files are in it or given.
    pub sudoers_view: View,
    /// Why sudo does not read what is given by file; not looked at where nothing is.
    pub sudoers_ignored: Seen<Option<Ignored>>,
    /// How it sees the folder of ephemeral homes, where anybody can have one.
    pub homes_view: View,
    /// Rights that roles give and that take a line of the administrator's.
    pub by_group: Seen<Vec<ByGroup>>,
    /// Why no user is made for anybody, if none is.
    pub no_users: Seen<Option<NoUsers>>,
    /// Our units.
    pub units: Seen<Vec<Unit>>,
    /// Whether there is a sudo, or sudo-rs under a name of its own.
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
        // Between the two, so that whoever lingers in the table without a session in `before` is in here.
        let lingering = lingering(root, Path::new(state::FOLDER));
        let table = table();
        let sudoers = sudoers(root);
        // Who came since the first look is in this one, who went is in the first: people come and go
        // while we look, and that is nothing wrong.
        let registry = registry(root);
        let nsswitch = fs::read(NSSWITCH).unwrap_or_default();
        let nsswitch = String::from_utf8_lossy(&nsswitch);
        let Services {
            passwd,
            group,
            initgroups,
            ..
        } = nsswitch::parse(&nsswitch);
        let configuration =
            config_files::load_as_the_daemon(Path::new("/")).map_err(|error| match error {
                LoadError::Unreadable(_, error)
                    if error.kind() == io::ErrorKind::PermissionDenied && !root =>
                {
                    Seen::RootOnly
                }
                error => Seen::Failed(error.to_string()),
            });
        let home_base = by(&configuration, |config| homes::look(config, root));
        // Not knowing better, everybody is taken to have an ephemeral home, as without any configuration.
        let has_ephemeral_homes = configuration
            .as_ref()
            .map_or(true, |config| config.has_homes(HomeMode::Ephemeral));
        let units = units::look(&units::needed(has_ephemeral_homes));
        let unread_sudoers = unread::look(root);
        // Who says nothing of the units says nothing of the daemon, and may take as long again for it.
        let daemon = units.known().and_then(|_| units::running(units::SESSIOND));
        let held = daemon.as_ref().and_then(|daemon| Held::of(&daemon.status));
        let daemon = daemon.map(|daemon| daemon.pid);
        let sudo = has_sudo(Path::new("/"));
        // What is there has to be taken away, whatever is given from now on.
        let has_files = sudoers.known().is_some_and(|files| !files.is_empty())
            || configuration.as_ref().is_ok_and(by_file::gives_files);
        let stale_sudoers = stale(&sudoers, [&before, &registry], &table);
        Node {
            unmatched: unmatched([&before, &registry], &table, &lingering),
            lingering: without_session([&before, &registry], &table)
                .filter(|login| lingering.contains(*login))
                .cloned()
                .collect(),
            userdb: userdb::look(&table),
            stale_sudoers,
            leaving: leaving(root, Path::new(state::FOLDER)),
            without_sudoers: match &registry {
                Seen::Known(_) => by(&configuration, |config| {
                    let files = SudoersFiles::default();
                    without_file(config, &files, Path::new(state::FOLDER))
                }),
                Seen::RootOnly => Seen::RootOnly,
                // One that is stopped takes the files along.
                Seen::Failed(_) | Seen::Unread => Seen::Unread,
            },
            // One that is stopped keeps nobody out.
            stuck_rights: match &registry {
                Seen::Failed(_) | Seen::Unread => Seen::Unread,
                Seen::Known(_) | Seen::RootOnly => stuck(root, Path::new(state::FOLDER)),
            },
            lookup: {
                let home_base = configuration.as_ref().ok().and_then(Config::home_base);
                let is_unread = unread_sudoers.known().is_none_or(|files| !files.is_empty());
                asked::look(root, home_base, is_unread)
            },
            unread_sudoers,
            registry,
            table,
            sudoers,
            nsswitch_passwd: passwd,
            nsswitch_group: group,
            nsswitch_initgroups: initgroups,
            nsswitch_returning: nsswitch::returning(&nsswitch),
            out_of_reach: reach::look(has_ephemeral_homes),
            pam: by(&configuration, |config| {
                pam::look(&config.pam_services, root)
            }),
            missing_shells: by(&configuration, |config| Seen::Known(missing_shells(config))),
            home_base_view: match &home_base {
                // Its root is for root alone to look into.
                Seen::Known(Some(base)) if root => sandbox::as_seen_by(daemon, Path::new(base)),
                _ => View::Unseen,
            },
            sudoers_view: match root {
                true => sandbox::as_seen_by_it_and_all(daemon, Path::new(SUDOERS_D)),
                false => View::Unseen,
            }
            .unless(View::ReadOnlyForAll, !has_files),
            sudoers_ignored: match sudo {
                true => by(&configuration, |config| by_file::look(config, root)),
                false => Seen::Unread,
            },
            homes_view: match has_ephemeral_homes {
                true => sandbox::as_all_write(daemon, Path::new(EPHEMERAL_BASE)),
                false => View::Unseen,
            },
            home_base,
            by_group: by(&configuration, |config| {
                Seen::Known(ByGroup::of_roles(config))
            }),
            no_users: by(&configuration, |config| Seen::Known(NoUsers::of(config))),
            configuration: match configuration {
                Ok(config) => specifications(config),
                Err(seen) => seen,
            },
            held,
            units,
            sudo,
            visudo: SudoersCheck::default().has_visudo(),
            now_usec: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

/// What the configuration says where to look for.
fn by<T>(
    configuration: &Result<Config, Seen<()>>,
    look: impl FnOnce(&Config) -> Seen<T>,
) -> Seen<T> {
    match configuration {
        Ok(config) => look(config),
        Err(Seen::RootOnly) => Seen::RootOnly,
        Err(_) => Seen::Unread,
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
    let usual = gets_usual_shell(config).then(|| {
        (
            DEFAULT_SHELL,
            format!("{DEFAULT_SHELL} (where no role names one)"),
        )
    });
    usual
        .into_iter()
        .chain(named)
        .filter(|(shell, _)| !is_program(Path::new(shell)))
        .map(|(_, who)| who)
        .collect()
}

/// Whether there is anybody whose roles need not name a shell. A role that makes users is one of theirs, and that for all is, too.
fn gets_usual_shell(config: &Config) -> bool {
    let names_one_for_all = |role: &Role| role.shell.is_some() && role.pattern.as_str() == "*";
    let makes_without = |role: &Role| role.create_user == Some(true) && role.shell.is_none();
    config.auto_create_users
        && config.roles.iter().any(makes_without)
        && !config.roles.iter().any(names_one_for_all)
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

fn table() -> Seen<TableSeen> {
    let path = DEFAULT_PATH.to_string_lossy();
    let Some(table) = Table::open(DEFAULT_PATH, Trust::Root) else {
        return Seen::Failed(format!(
            "there is no table of users at {path} that can be trusted (a regular file of root that nobody else can write); `systemctl restart teleport-sessiond teleport-userdbd` has the one make it, and the other answer from it"
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

/// Whether there is a sudo below `root` (`/` but for tests); sudo-rs may be there under a name of its own.
fn has_sudo(root: &Path) -> bool {
    let mut sudo = FOLDERS.iter().map(|folder| root.join(folder).join("sudo"));
    sudo.any(|path| is_program(&path)) || sudo_rs::is_installed_below(root)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// How far in the future a user may have come before the clock counts as set back.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_shell_counts_where_somebody_can_get_it() {
        let role = |pattern: &str, rest: &str| format!("[[role]]\nmatch = \"{pattern}\"\n{rest}\n");
        let (makes, shell) = ("create-user = true", "shell = \"/bin/zsh\"");
        let both = format!("{makes}\n{shell}");
        for (text, gets) in [
            (role("*", makes), true),
            (role("*", &both), false),
            (role("dev", &both) + &role("ops", makes), true),
            (role("dev", &both) + &role("ops", shell), false),
            (role("dev", makes) + &role("*", shell), false),
            (
                "auto-create-users = false\n".to_owned() + &role("*", makes),
                false,
            ),
            (String::new(), false),
        ] {
            let config = Config::parse(&[("config.toml", &text)]).expect("good");
            assert_eq!(gets_usual_shell(&config), gets, "{text}");
        }
    }

    #[test]
    fn sudo_rs_under_its_own_name_is_a_sudo() {
        let root = std::env::temp_dir().join(format!("has-sudo-{}", std::process::id()));
        let bin = root.join("usr/bin");
        fs::create_dir_all(&bin).expect("made");
        assert!(!has_sudo(&root));
        for name in ["sudo-rs", "sudo"] {
            let program = bin.join(name);
            fs::write(&program, "").expect("written");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
            assert!(has_sudo(&root), "{name}");
            fs::remove_file(program).expect("removed");
        }
        fs::remove_dir_all(root).expect("removed");
    }
}

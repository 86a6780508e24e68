//! What is written down for a restart, in a folder of tmpfs that a reboot empties.
//!
//! One small file per session, per login and per used UID, so that a change costs the same however
//! many there are. Every file is whole or absent: written under a dotted name, then renamed.

use std::fs;
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use siphasher::sip::SipHasher24;

use crate::control::host::clock::Boottime;
use crate::control::host::regular;
use crate::control::registry::{Session, SessionId, Standing, State, UsedIds};
use crate::policy::{Gid, Login, Uid};
use crate::runtime::shortage::is_shortage;

/// Where it is written down.
pub const FOLDER: &str = "/run/teleport-sessiond";

/// Raised when a change of the contents could be misread by an older daemon. Whoever raises it reads what its
/// predecessor wrote, so that an upgrade costs no session; any other version is treated as damage, since a
/// downgrade cannot know what the newer one meant.
const VERSION: u32 = 1;

const SESSIONS: &str = "sessions";
const LOGINS: &str = "logins";
const UIDS: &str = "uids";
const GIDS: &str = "gids";
/// How the names of sessions end that are over.
const DEPARTED: &str = ".departed";

/// What a folder has, and what cannot be used of it, with the reason.
type Read<T> = (Vec<T>, Vec<(PathBuf, String)>);

/// The folder of the state.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// All that was found at start.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Sessions, in no order.
    pub sessions: Vec<Session>,
    /// There are others, which cannot be read.
    pub lacks_sessions: bool,
    /// Logins of which anything was left.
    pub standings: Vec<Standing>,
    /// IDs that go to no other name before the next boot.
    pub used_ids: UsedIds,
    /// Files that could not be used, with the reason.
    pub damaged: Vec<(PathBuf, String)>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    version: u32,
    checksum: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Used<Id> {
    id: Id,
    name: String,
}

impl StateDir {
    /// Takes `root` as the folder of the state and makes what is missing of it (0700).
    pub fn open(root: &Path) -> io::Result<Self> {
        let state = Self::at(root);
        for folder in [SESSIONS, LOGINS, UIDS, GIDS] {
            state.make(folder)?;
        }
        Ok(state)
    }

    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn make(&self, folder: &str) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        let builder = builder.recursive(true).mode(0o700);
        builder.create(self.root.join(folder))
    }

    /// What the daemon has written down below `root`, for who only looks. A daemon that never ran has
    /// written nothing.
    pub fn read(root: &Path) -> io::Result<Loaded> {
        let present = [SESSIONS, LOGINS, UIDS, GIDS]
            .iter()
            .all(|folder| root.join(folder).is_dir());
        match present {
            true => Self::at(root).load(),
            false => Ok(Loaded::default()),
        }
    }

    /// Reads everything. Files that cannot be used are named, not removed: they are evidence.
    ///
    /// # Errors
    /// A folder cannot be read, or there are no descriptors or no memory to read something with: that says nothing of the files.
    pub fn load(&self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        let (sessions, damaged) = self.read_folder(SESSIONS)?;
        loaded.sessions = sessions;
        loaded.damaged.extend(damaged);
        let (departed, damaged) = self.read_files(SESSIONS, is_departed)?;
        loaded.sessions.extend(departed.into_iter().map(over));
        loaded.damaged.extend(damaged);
        loaded.lacks_sessions = !loaded.damaged.is_empty();
        let (standings, damaged) = self.read_folder(LOGINS)?;
        loaded.standings = standings;
        loaded.damaged.extend(damaged);
        let (used, damaged) = self.read_folder::<Used<Uid>>(UIDS)?;
        loaded.used_ids.uids = used.into_iter().map(|used| (used.id, used.name)).collect();
        loaded.used_ids.uids.extend(nameless(&damaged));
        loaded.damaged.extend(damaged);
        let (used, damaged) = self.read_folder::<Used<Gid>>(GIDS)?;
        loaded.used_ids.gids = used.into_iter().map(|used| (used.id, used.name)).collect();
        loaded.used_ids.gids.extend(nameless(&damaged));
        loaded.damaged.extend(damaged);
        Ok(loaded)
    }

    /// Writes a session down.
    pub fn save_session(&self, session: &Session) -> io::Result<()> {
        self.write(SESSIONS, &session.id.to_string(), session)
    }

    /// Notes that a session is over. Its name says so, which takes one step where writing it anew takes four.
    pub fn depart_session(&self, session: &Session) -> io::Result<()> {
        let folder = self.root.join(SESSIONS);
        let (name, departed) = (session.id.to_string(), departed(session.id));
        match fs::rename(folder.join(&name), folder.join(&departed)) {
            // It was not written down, or has been renamed before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write(SESSIONS, &departed, session)
            }
            renamed => renamed,
        }
    }

    /// Removes a session. One that is not there is fine.
    pub fn forget_session(&self, id: SessionId) -> io::Result<()> {
        self.remove(SESSIONS, &departed(id))?;
        self.remove(SESSIONS, &id.to_string())
    }

    /// Writes a login's standing down.
    pub fn save_login(&self, standing: &Standing) -> io::Result<()> {
        self.write(LOGINS, standing.login.as_ref(), standing)
    }

    /// Removes a login's standing. One that is not there is fine.
    pub fn forget_login(&self, login: &Login) -> io::Result<()> {
        self.remove(LOGINS, login.as_ref())
    }

    /// Notes that the UID was used under the login `given`.
    pub fn save_uid(&self, uid: Uid, given: &str) -> io::Result<()> {
        let name = given.to_owned();
        self.write(UIDS, &uid.to_string(), &Used { id: uid, name })
    }

    /// Notes that the GID was used for the group or login `name`.
    pub fn save_gid(&self, gid: Gid, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.write(GIDS, &gid.to_string(), &Used { id: gid, name })
    }

    /// The file of a session.
    pub fn file_of(&self, session: &Session) -> PathBuf {
        let name = match session.state {
            State::Departed { .. } => departed(session.id),
            _ => session.id.to_string(),
        };
        self.root.join(SESSIONS).join(name)
    }

    /// Whether the file at `path`, one that was found, is of a session.
    pub fn is_of_a_session(&self, path: &Path) -> bool {
        path.parent() == Some(&self.root.join(SESSIONS))
    }

    /// Sets a file aside that could not be used, so that the next start does not trip over it again. That of a used ID stays, too, until
    /// it is written anew: its name is all that says so.
    pub fn set_aside(&self, path: &Path) -> io::Result<()> {
        let mut name = std::ffi::OsString::from(".damaged-");
        name.push(path.file_name().unwrap_or_default());
        let aside = path.with_file_name(name);
        let of_ids = [UIDS, GIDS].map(|folder| self.root.join(folder));
        let is_of_an_id = path
            .parent()
            .is_some_and(|it| of_ids.iter().any(|of| of == it));
        let id = id_of(path).and_then(|id| Uid::try_from(id).ok());
        // What is no file cannot be written anew where it is, nor linked.
        if !is_of_an_id || id.is_none() || !fs::symlink_metadata(path)?.is_file() {
            return fs::rename(path, aside);
        }
        match fs::hard_link(path, aside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn write(
        &self,
        folder: &str,
        name: &str,
        content: &impl Serialize,
    ) -> io::Result<()> {
        let content = serde_json::value::to_raw_value(content)?;
        let envelope = Envelope {
            version: VERSION,
            checksum: checksum(content.get()),
            content: &content,
        };
        let folder = self.root.join(folder);
        let temporary = folder.join(format!(".{name}.new"));
        let written = (|| {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&serde_json::to_vec(&envelope)?)?;
            fs::rename(&temporary, folder.join(name))
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    pub(super) fn remove(&self, folder: &str, name: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(folder).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes whatever is in a folder, which need not be there.
    pub(super) fn empty(&self, folder: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn read_folder<T: DeserializeOwned>(&self, folder: &str) -> io::Result<Read<T>> {
        self.read_files(folder, |name| !name.starts_with('.'))
    }

    fn read_files<T: DeserializeOwned>(
        &self,
        folder: &str,
        is_one: impl Fn(&str) -> bool,
    ) -> io::Result<Read<T>> {
        let (mut good, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.root.join(folder))? {
            let path = entry?.path();
            // Ours are UTF-8. Any other name was not given by us, and is told of.
            let name = path.file_name().map(|name| name.to_string_lossy());
            if !name.is_some_and(|name| is_one(&name)) {
                continue;
            }
            let parsed = match read(&path) {
                Ok(bytes) => parse(&bytes),
                Err(error) if is_shortage(&error) => return Err(error),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(content) => good.push(content),
                Err(why) => damaged.push((path, why)),
            }
        }
        Ok((good, damaged))
    }
}

/// The largest file that can be one of ours, in bytes.
const LARGEST: u64 = 16 << 20;
/// How often a file is tried that cannot be read.
const TRIES: usize = 3;

/// An error of one moment is no damage: a session would lose its rights for it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut read = regular::read(path, LARGEST);
    for _ in 1..TRIES {
        if read.is_ok() {
            break;
        }
        read = regular::read(path, LARGEST);
    }
    read
}

/// The name of a session that is over. It has a dot, which a daemon of before passes over: it would take the session for open.
fn departed(id: SessionId) -> String {
    format!(".{id}{DEPARTED}")
}

fn is_departed(name: &str) -> bool {
    let id = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(DEPARTED));
    id.is_some_and(|id| id.parse::<SessionId>().is_ok())
}

/// A session that is over, whatever was written down while it was not. Its leader is waited for from now on.
fn over(session: Session) -> Session {
    let state = session.state.departed(Boottime::now());
    Session { state, ..session }
}

/// The ID that the name of a file says.
fn id_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Used IDs whose files are damaged: the names of the files are left. No login is called "", so they go to
/// nobody.
fn nameless<Id: TryFrom<u32>>(damaged: &[(PathBuf, String)]) -> impl Iterator<Item = (Id, String)> {
    damaged.iter().filter_map(|(path, _)| {
        let id = id_of(path)?;
        Some((Id::try_from(id).ok()?, String::new()))
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(bytes).map_err(|error| format!("not a state file: {error}"))?;
    if envelope.version != VERSION {
        return Err(format!(
            "written in format {}, this daemon reads format {VERSION}",
            envelope.version
        ));
    }
    if envelope.checksum != checksum(envelope.content.get()) {
        return Err("its checksum does not match its content".to_owned());
    }
    serde_json::from_str(envelope.content.get())
        .map_err(|error| format!("its content is not of this format: {error}"))
}

/// Guards against damage, not against malice: whoever can write here is root.
fn checksum(text: &str) -> String {
    let mut hasher = SipHasher24::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::registry::State;

    fn scratch(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        root
    }

    #[test]
    fn a_used_uid_is_found_again_after_a_restart() {
        let root = scratch("uid");
        let uid = Uid::try_from(0x7000_0001).expect("in range");
        StateDir::open(&root)
            .and_then(|state| state.save_uid(uid, "Dev"))
            .expect("written");
        let loaded = StateDir::open(&root)
            .and_then(|state| state.load())
            .expect("read");
        assert_eq!(loaded.used_ids.uids, vec![(uid, "Dev".to_owned())]);
        assert!(loaded.damaged.is_empty());
        fs::remove_dir_all(root).expect("removed");
    }

    fn session() -> Session {
        let json = serde_json::json!({
            "id": SessionId::random(), "order": 1, "service": "teleport", "since_usec": 1, "state": "open",
            "leader": {"pid": 7, "start_time": 7, "pidfd_inode": 7, "boot_id": "this"},
            "plan": {
                "login": "dev", "given": "dev", "aliases": [], "uid": 0x7000_0001, "gid": 0x7000_0001,
                "teleport_user": "alice", "roles": [], "gecos": "", "home": "none", "shell": "/bin/sh",
                "groups": [], "sudoers": [], "sudo_mode": "file", "doas": false, "linger": false,
                "max_sessions": null, "disposition": "dynamic", "notes": [],
                "resources": {
                    "tasks_max": null, "memory_max": null, "cpu_weight": null, "umask": null, "environment": [],
                },
            },
        });
        serde_json::from_value(json).expect("a session")
    }

    #[test]
    fn a_session_that_is_over_says_so_by_its_name_which_older_daemons_pass_over() {
        let root = scratch("departed");
        let state = StateDir::open(&root).expect("made");
        let open = session();
        let over = Session {
            state: open.state.departed(Boottime::from_usec(1)),
            ..open.clone()
        };
        let loaded = || state.load().expect("read");
        for written_before in [true, false] {
            if written_before {
                state.save_session(&open).expect("written");
                assert_eq!(loaded().sessions, std::slice::from_ref(&open));
            }
            state.depart_session(&over).expect("renamed or written");
            state.depart_session(&over).expect("once more");
            let found = loaded();
            assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            assert!(matches!(
                &found.sessions[..],
                [Session { state: State::Departed { .. }, id, .. }] if *id == open.id
            ));
            let names = fs::read_dir(root.join(SESSIONS)).expect("listed");
            let mut names = names.map(|entry| entry.expect("an entry").file_name());
            assert!(names.all(|name| name.as_encoded_bytes().starts_with(b".")));
            state.forget_session(open.id).expect("removed");
            assert_eq!(
                fs::read_dir(root.join(SESSIONS)).expect("listed").count(),
                0
            );
        }
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn of_what_a_daemon_of_before_has_written_less_is_known() {
        let before = |state: serde_json::Value| {
            let mut json = serde_json::to_value(session()).expect("written");
            json["state"] = state;
            json.as_object_mut().expect("a session").remove("terms");
            serde_json::from_value::<Session>(json).expect("read")
        };
        let (open, over) = (
            before("open".into()),
            before(serde_json::json!({"departed": {"at": 1}})),
        );
        assert!(open.terms.is_none() && over.terms.is_none());
        // Perhaps it was.
        assert!(over.has_been_open());
    }

    #[test]
    fn a_file_with_one_changed_byte_a_newer_one_and_an_empty_one_are_named_as_damaged() {
        let root = scratch("damage");
        let state = StateDir::open(&root).expect("made");
        let uid = Uid::try_from(0x7000_0001).expect("in range");
        state.save_uid(uid, "dev").expect("written");
        let path = root.join(UIDS).join(uid.to_string());
        let good = fs::read_to_string(&path).expect("read");
        for bad in [
            good.replace("dev", "deV"),
            good.replace("\"version\":1", "\"version\":2"),
            String::new(),
        ] {
            fs::write(&path, &bad).expect("written");
            let loaded = state.load().expect("read");
            // The ID itself stays used, by a name that nobody has.
            assert_eq!(loaded.used_ids.uids, vec![(uid, String::new())], "{bad:?}");
            assert_eq!(loaded.damaged.len(), 1, "{bad:?}");
        }
        state.set_aside(&path).expect("linked");
        // Until it is written anew nothing else says so.
        let uids = || state.load().expect("read").used_ids.uids;
        assert_eq!(uids(), [(uid, String::new())]);
        state.save_uid(uid, "").expect("written");
        assert_eq!(uids(), [(uid, String::new())]);
        assert!(state.load().expect("read").damaged.is_empty());
        let aside = format!(".damaged-{uid}");
        assert!(root.join(UIDS).join(aside).exists());
        // Nobody's ID, and no file: they cannot be written anew, and would be met again by each start.
        fs::write(root.join(UIDS).join("5"), "").expect("written");
        fs::create_dir(root.join(GIDS).join("1879048193")).expect("made");
        for (path, _) in state.load().expect("read").damaged {
            state.set_aside(&path).expect("renamed");
        }
        assert!(state.load().expect("read").damaged.is_empty());
        fs::remove_dir_all(root).expect("removed");
    }
}

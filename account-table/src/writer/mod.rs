//! The one writer of the table: its files under their names, their growth, and the public way to publish and withdraw.
//! What happens inside a file is `state.rs`; that only one writer runs at a time is its caller's to ensure.

mod adopt;
#[cfg(test)]
pub(crate) mod death;
mod groups;
mod heap;
mod index;
#[cfg(all(test, loom))]
mod model_check;
mod retire;
mod spec;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use spec::{AccountSpec, GroupSpec, WriteError};

use self::index::Shortage;
use self::state::{Refused, State};
use crate::layout::{Geometry, K_MAX, PAGE, WORD, header};
use crate::memory::{Unopened, WritableMapping, random};
use crate::table::Trust;

/// A new table has room for 2048 users (1.2 MiB); it doubles as needed. For up to a thousand, which is what most machines will ever
/// have, three quarters of its indexes are empty: who asks for nobody, as nearly everybody does, sees so at the first place.
const FIRST_K: u32 = 11;

/// Device and inode of a file.
type Identity = (u64, u64);

/// How often another seed is tried where too many entries want the same place. Entries of unequal keys come apart with the first
/// one; only a hundred groups of one name would not.
const RESEEDS: u32 = 3;

/// The writer of one table file. There must never be two at a time.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    trust: Trust,
    state: State,
    /// Device and inode of the file written to.
    identity: Identity,
}

fn doing(doing: &'static str) -> impl Fn(io::Error) -> WriteError {
    move |error| WriteError::Io { doing, error }
}

impl Writer {
    /// Opens the table for writing. A sound file is adopted in place, so that readers notice nothing; what a writer that died left
    /// half-done in it is repaired. If there is none, or it cannot be what a writer left, a fresh one takes its place. `owner` is
    /// whose file readers will expect, so this process must run as that user.
    pub fn open(path: &Path, owner: Trust) -> Result<Writer, WriteError> {
        Writer::open_sized(path, owner, FIRST_K)
    }

    fn open_sized(path: &Path, trust: Trust, first_k: u32) -> Result<Writer, WriteError> {
        if let Some((state, identity)) = adopt(path, trust)? {
            // One that a writer was making when it died. Nothing depends on it: the next fresh table says why it cannot go.
            let _ = temporary_of(path).map(fs::remove_file);
            return Ok(Writer {
                path: path.to_owned(),
                trust,
                state,
                identity,
            });
        }
        let (state, identity) = fresh_file(path, trust, first_k, None)?.put_in_place(path, None)?;
        Ok(Writer {
            path: path.to_owned(),
            trust,
            state,
            identity,
        })
    }

    /// Publishes an account, or replaces the one of the same login. With one store it becomes visible under login, aliases, uid
    /// and gid and as a member of its groups. Takes time independent of how many there are, except that a full table is copied
    /// into one of twice the size. After an error everything is as before.
    pub fn publish(&mut self, account: &AccountSpec) -> Result<(), WriteError> {
        account.check()?;
        self.stay_in_place()?;
        let mut reseeds = 0;
        loop {
            let k = self.state.geometry().k();
            match self.state.publish(account) {
                Ok(()) => return Ok(()),
                Err(Refused::Write(error)) => return Err(error),
                Err(Refused::Shortage(Shortage::Room)) => self.rebuild(k + 1)?,
                Err(Refused::Shortage(Shortage::Crowded)) if reseeds < RESEEDS => {
                    reseeds += 1;
                    self.rebuild(k)?;
                }
                Err(Refused::Shortage(Shortage::Crowded)) => return Err(WriteError::Full),
            }
        }
    }

    /// Withdraws an account: with one store it vanishes under all its names and from all its groups. False if there is none of
    /// this login. It is withdrawn even if there is an error: that is about putting back a file somebody has removed.
    pub fn withdraw(&mut self, login: &str) -> Result<bool, WriteError> {
        let withdrawn = self.state.withdraw(login);
        self.stay_in_place()?;
        Ok(withdrawn)
    }

    /// The UID of the account that is published under this login.
    pub fn uid_of(&self, login: &str) -> Option<u32> {
        let slot = self.state.by_name.get(login)?;
        let keys = &self.state.users.get(slot)?.keys;
        (keys.login() == login).then_some(keys.uid)
    }

    /// Lets go of the memory that more accounts have needed than there are now. The file stays as it is.
    pub fn shrink(&mut self) {
        self.state.shrink();
    }

    /// The logins of all published accounts.
    pub fn logins(&self) -> Vec<String> {
        self.state
            .users
            .values()
            .map(|user| user.keys.login().to_owned())
            .collect()
    }

    /// Withdraws every account whose login `keep` does not want kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        for login in self.logins() {
            if !keep(&login) {
                self.state.withdraw(&login);
            }
        }
    }

    /// Whether no word of the file hints at anything any more.
    #[cfg(all(test, not(loom)))]
    fn is_empty_throughout(&self) -> bool {
        let geometry = self.state.geometry();
        let heads = crate::layout::header::WORDS..geometry.index_base(crate::layout::Index::Names);
        let hints = crate::layout::Index::ALL.into_iter().flat_map(|index| {
            geometry.index_base(index)..geometry.index_base(index) + geometry.index_size()
        });
        heads
            .chain(hints)
            .all(|word| self.state.map.load(word) == 0)
    }

    /// Should the file have been removed or replaced behind our back, puts a copy in its place and sends readers there: those of
    /// what has replaced it, too, where that is a table, such as an older copy.
    fn stay_in_place(&mut self) -> Result<(), WriteError> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => return Ok(()),
            _ => (),
        }
        if let Some(file) = open_file(&self.path)?
            && let Some(other) = map_table(&file, self.trust)?
        {
            other.store(header::RETIRED, 1);
        }
        self.rebuild(self.state.geometry().k())
    }

    /// Moves to a fresh file of at least the given size, with another seed.
    fn rebuild(&mut self, k: u32) -> Result<(), WriteError> {
        let fresh = fresh_file(&self.path, self.trust, k, Some(&self.state))?;
        (self.state, self.identity) = fresh.put_in_place(&self.path, Some(&self.state.map))?;
        Ok(())
    }
}

/// Opens what lies at `path` for writing; `None` if that is no file. If it cannot be opened there may well be one, and nobody would
/// send its readers away from it.
fn open_file(path: &Path) -> Result<Option<File>, WriteError> {
    let flags = libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_no_file(&error) => Ok(None),
        Err(error) => Err(doing("opening the account table")(error)),
    }
}

/// Maps a file that readers would take for the table; `None` if they would not.
fn map_table(file: &File, trust: Trust) -> Result<Option<WritableMapping>, WriteError> {
    match WritableMapping::of_existing_file(file, trust.uid()) {
        Ok(map) => Ok(Some(map)),
        Err(Unopened::Absent) => Ok(None),
        Err(Unopened::Busy) => Err(doing("mapping the account table")(
            io::ErrorKind::OutOfMemory.into(),
        )),
    }
}

/// Takes over the file at `path`; `None` if there is none that can be, after sending its readers away from it.
fn adopt(path: &Path, trust: Trust) -> Result<Option<(State, Identity)>, WriteError> {
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    let metadata = file
        .metadata()
        .map_err(doing("looking at the account table"))?;
    if let Some(map) = map_table(&file, trust)?
        && let Ok(state) = State::adopt(map)
    {
        return Ok(Some((state, (metadata.dev(), metadata.ino()))));
    }
    if metadata.is_file() && metadata.uid() == trust.uid() && metadata.len() >= PAGE as u64 {
        let retired = file.write_all_at(&1u64.to_ne_bytes(), (header::RETIRED * WORD) as u64);
        retired.map_err(doing("retiring a damaged account table"))?;
    }
    Ok(None)
}

/// There is nothing, or something that is no file: a link, a folder, a pipe, a socket, a device.
fn is_no_file(error: &io::Error) -> bool {
    let others = [
        libc::ENOENT,
        libc::ELOOP,
        libc::EISDIR,
        libc::ENXIO,
        libc::ENODEV,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| others.contains(&errno))
}

/// A new table file under a temporary name, removed unless it is put in place.
struct Fresh {
    state: Option<State>,
    temporary: PathBuf,
    identity: Identity,
    is_in_place: bool,
}

/// The name of a table while it is being made.
fn temporary_of(path: &Path) -> Result<PathBuf, WriteError> {
    let name = path
        .file_name()
        .ok_or_else(|| doing("naming the account table")(io::ErrorKind::InvalidInput.into()))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".new");
    Ok(path.with_file_name(temporary_name))
}

/// Makes a table of at least the given size that holds what `old` holds.
fn fresh_file(path: &Path, trust: Trust, k: u32, old: Option<&State>) -> Result<Fresh, WriteError> {
    let temporary = temporary_of(path)?;
    let (mut k, mut reseeds) = (k, 0);
    loop {
        let geometry = Geometry::new(k).ok_or(WriteError::Full)?;
        let (file, mut fresh) = create(&temporary, trust, geometry, old)?;
        let copied = match (old, &mut fresh.state) {
            (Some(old), Some(state)) => old.copy_into(state),
            _ => Ok(()),
        };
        match copied {
            Ok(()) => (),
            Err(Shortage::Room) => {
                k += 1;
                continue;
            }
            Err(Shortage::Crowded) if reseeds < RESEEDS => {
                reseeds += 1;
                continue;
            }
            Err(Shortage::Crowded) => return Err(WriteError::Full),
        }
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(doing("making the account table readable"))?;
        return Ok(fresh);
    }
}

fn create(
    temporary: &Path,
    trust: Trust,
    geometry: Geometry,
    old: Option<&State>,
) -> Result<(File, Fresh), WriteError> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(doing("removing an unfinished account table")(error));
        }
        _ => (),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(temporary)
        .map_err(doing("making an account table"))?;
    let mut fresh = Fresh {
        state: None,
        temporary: temporary.to_owned(),
        identity: (0, 0),
        is_in_place: false,
    };
    let metadata = file
        .metadata()
        .map_err(doing("looking at the new account table"))?;
    if metadata.uid() != trust.uid() {
        let message = format!(
            "this process makes files of uid {}, readers believe uid {}",
            metadata.uid(),
            trust.uid()
        );
        return Err(doing("making an account table")(io::Error::new(
            io::ErrorKind::PermissionDenied,
            message,
        )));
    }
    fresh.identity = (metadata.dev(), metadata.ino());
    let map = WritableMapping::of_new_file(&file, geometry)
        .map_err(doing("reserving memory for the account table"))?;
    let random = || random().map_err(doing("asking the kernel for a random number"));
    let (epoch, seed) = (random()?, random()?);
    let changes = match old {
        Some(old) => old.map.load(header::CHANGES).wrapping_add(1),
        None => epoch >> 1,
    };
    fresh.state = Some(State::format(map, epoch, seed, changes));
    Ok((file, fresh))
}

impl Fresh {
    /// Sends readers of the old file to the path, then gives the path to this one. In this order nobody is ever left reading a
    /// file that has a successor; who comes in between finds the old one under the path, and it is still the truth.
    fn put_in_place(
        mut self,
        path: &Path,
        old: Option<&WritableMapping>,
    ) -> Result<(State, Identity), WriteError> {
        if let Some(old) = old {
            old.store(header::RETIRED, 1);
        }
        #[cfg(test)]
        death::step();
        if let Err(error) = fs::rename(&self.temporary, path) {
            if let Some(old) = old {
                old.store(header::RETIRED, 0);
            }
            return Err(doing("putting the account table in place")(error));
        }
        self.is_in_place = true;
        let state = self.state.take().ok_or(WriteError::Full)?;
        Ok((state, self.identity))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Nothing more can be done about it here; the next fresh table removes it first.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

const _: () = assert!(FIRST_K <= K_MAX);

//! The homes that come and go with their users, and those that stay.
//! Root makes, renames and removes entries of its own folders here; what is inside a home that somebody has been given is
//! for the janitor. The registry sees to it that one login is handled by one task at a time.
//!
//! Everything is relative to the held folder and follows no link. Besides homes, which are named like
//! logins, the folder holds, each behind a dot and so in nobody's way:
//!
//! * `.new-LOGIN`: a home that is being made, of a persistent one `.new-LOGIN~ATTEMPT`,
//! * `.kept-LOGIN/`: root's, with the home of somebody who may come back, `home`, and whose it is, `owner`,
//! * `.spare-N`: empty, for when the file system is full,
//! * `.trash/`: root's, with what nobody will see again.

pub(super) mod home_mount;
pub(super) mod kept_homes;
pub(super) mod lifecycle;
mod making;
mod owner_file;
mod persistent;
mod skeleton;
mod spares;
mod trash;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open, openat, renameat, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchownat, unlinkat};
use tokio::time::Instant;

pub(super) use self::making::begun_for;
use self::owner_file::OwnerFile;
use crate::control::end::janitor::Janitor;
use crate::control::host::clock::Boottime;
use crate::control::host::descriptors::{magic_link, mount_id};
use crate::control::host::look::{Seen, look, look_at};
use crate::policy::ids::{Gid, Uid};
use crate::policy::names::Login;

const KEPT: &str = ".kept-";

/// Why there is no home. The login goes on with `/` and the person is told.
#[derive(Debug)]
pub enum HomeError {
    /// Something that is not this user's home has its name in a folder of persistent homes.
    NotTheirs {
        /// The home.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// A persistent home that was made for another Teleport user under the same login.
    OfAnother(PathBuf),
    /// The disk of persistent homes does not answer.
    TooSlow(PathBuf),
    /// The folder of homes can be changed by others than root.
    Unsafe(PathBuf),
    /// The file system that ephemeral homes are to be on is not mounted.
    NotMounted(PathBuf),
    /// Something is mounted on the home. What serves it may hang, so nothing is done to it.
    Mounted(PathBuf),
    /// The system refused.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The refusal.
        error: io::Error,
    },
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeError::NotTheirs { path, owner } => {
                write!(
                    f,
                    "{} exists and belongs to UID {owner}: left alone",
                    path.display()
                )
            }
            HomeError::OfAnother(path) => {
                write!(
                    f,
                    "{} is of another Teleport user: left alone",
                    path.display()
                )
            }
            HomeError::TooSlow(path) => write!(f, "{} does not answer in time", path.display()),
            HomeError::Unsafe(path) => {
                write!(
                    f,
                    "{} must belong to root and be writable by nobody else",
                    path.display()
                )
            }
            HomeError::NotMounted(path) => write!(f, "nothing is mounted on {}", path.display()),
            HomeError::Mounted(path) => {
                write!(f, "something is mounted on {}", path.display())
            }
            HomeError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for HomeError {}

impl HomeError {
    /// Whether nobody can write there, or we cannot: in the daemon's sandbox most is read-only.
    pub(in crate::control) fn is_read_only(&self) -> bool {
        matches!(self, HomeError::Io { error, .. } if error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }
}

/// Whom a home is for.
#[derive(Clone, Debug)]
pub struct Tenant<'a> {
    /// Names the home.
    pub login: &'a Login,
    /// Owns it.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Finds it again; anybody else under the same login gets a new one.
    pub teleport_user: &'a str,
}

/// How a home came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provided {
    /// Made now, with the skeleton.
    Fresh,
    /// Kept since the same Teleport user was last here.
    Kept,
    /// It was there.
    Present,
}

/// A home that waits for its Teleport user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The login it is named like.
    pub login: Login,
    /// How long it still waits, from now on: time asleep counts.
    pub rest: Duration,
}

/// A folder of homes. To be opened for each piece of work: who holds it keeps it from being unmounted,
/// and misses what is mounted on it later.
#[derive(Debug)]
pub struct Homes {
    path: PathBuf,
    folder: OwnedFd,
    janitor: Janitor,
    has_thrown_away: Cell<bool>,
}

impl Homes {
    /// Opens `/run/teleport-userdb/home`, or `home.base` for persistent homes.
    ///
    /// # Errors
    /// It is absent, or others than root can change it.
    pub fn open(path: impl Into<PathBuf>, janitor: Janitor) -> Result<Homes, HomeError> {
        let path = path.into();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let failed = |error: Errno| HomeError::Io {
            what: format!("opening {}", path.display()),
            error: error.into(),
        };
        let folder = open(&path, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&folder).map_err(failed)?;
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            return Err(HomeError::Unsafe(path));
        }
        Ok(Homes {
            path,
            folder,
            janitor,
            has_thrown_away: Cell::default(),
        })
    }

    /// The same for ephemeral homes, which are on a file system of their own: what lies below its mount
    /// point has no limits, and is hidden when it is mounted.
    ///
    /// # Errors
    /// As above, or nothing is mounted there.
    pub fn open_mounted(path: impl Into<PathBuf>, janitor: Janitor) -> Result<Homes, HomeError> {
        let homes = Homes::open(path, janitor)?;
        let seen = look_at(&homes.folder).map_err(|e| homes.io("looking at", ".", e))?;
        if seen.is_mount {
            return Ok(homes);
        }
        // An old kernel does not say it like that.
        let mount = |folder| mount_id(folder).map_err(|e| homes.io("looking at", ".", e));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = openat(&homes.folder, "..", flags, Mode::empty())
            .map_err(|e| homes.io("looking above", ".", e))?;
        if mount(&homes.folder)? == mount(&parent)? {
            return Err(HomeError::NotMounted(homes.path));
        }
        Ok(homes)
    }

    /// Gives a tenant who was not on an ephemeral home: the one that was kept, or a new one, `by` then. One that is
    /// in place has outlived somebody's end, and nothing says whose it was: it is thrown away.
    ///
    /// # Errors
    /// There is none. What was there before is unreachable or as it was.
    pub async fn provide(&self, tenant: &Tenant<'_>, by: Instant) -> Result<Provided, HomeError> {
        self.evict(tenant.login)?;
        if self.give_kept(tenant)? {
            return Ok(Provided::Kept);
        }
        self.make(tenant, by).await
    }

    /// Gives a tenant who has been on without a break the ephemeral home that is in place, or one as by
    /// [`Homes::provide`].
    ///
    /// # Errors
    /// There is none. What was there before is unreachable or as it was.
    pub async fn provide_again(
        &self,
        tenant: &Tenant<'_>,
        by: Instant,
    ) -> Result<Provided, HomeError> {
        match self.stat(tenant.login.as_ref())? {
            Some(seen) if !seen.is_mount && is_home_of(&seen, tenant.uid) => Ok(Provided::Present),
            _ => self.provide(tenant, by).await,
        }
    }

    /// Puts whatever has the name of `login` out of everybody's reach, for good. False if nothing has.
    /// Takes no room: it works on a full file system.
    ///
    /// # Errors
    /// It may still be in place: try again.
    pub fn evict(&self, login: &Login) -> Result<bool, HomeError> {
        let name = login.as_ref();
        let present = self.stat(name)?.is_some();
        if present {
            self.throw_away(name)?;
        }
        Ok(present)
    }

    /// Puts the home of an ended user out of reach and keeps it for that long. False if there is none of
    /// its own.
    ///
    /// # Errors
    /// The home may still be in place: try again.
    pub fn keep(&self, tenant: &Tenant<'_>, keep: Duration) -> Result<bool, HomeError> {
        let name = tenant.login.as_ref();
        match self.stat(name)? {
            Some(seen) if !seen.is_mount && is_home_of(&seen, tenant.uid) => {}
            _ => return Ok(false),
        }
        self.discard(tenant.login)?;
        let kept = format!("{KEPT}{name}");
        mkdirat(&self.folder, kept.as_str(), Mode::S_IRWXU)
            .map_err(|e| self.io("making", &kept, e))?;
        let inner = self.enter(&kept)?;
        let owner = OwnerFile {
            teleport_user: tenant.teleport_user.to_owned(),
            uid: tenant.uid,
            gid: tenant.gid,
            since: Boottime::now(),
            keep,
        };
        owner
            .write(&inner)
            .map_err(|e| self.io("marking", &kept, e))?;
        self.take(name)?;
        renameat(&self.folder, name, &inner, "home").map_err(|e| self.io("parking", name, e))?;
        Ok(true)
    }

    /// The homes that are waiting.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>, HomeError> {
        let mut kept = Vec::new();
        for name in self.names()? {
            let Some(login) = name
                .strip_prefix(KEPT)
                .and_then(|login| Login::try_from(login).ok())
            else {
                continue;
            };
            if let Some(owner) = self.owner_of(&name) {
                kept.push(Kept {
                    login,
                    rest: owner.rest(),
                });
            }
        }
        Ok(kept)
    }

    /// How long the home of `login` still waits, if it is kept.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn rest(&self, login: &Login) -> Result<Option<Duration>, HomeError> {
        let kept = format!("{KEPT}{login}");
        Ok(match self.stat(&kept)? {
            Some(_) => self.owner_of(&kept).map(|owner| owner.rest()),
            None => None,
        })
    }

    /// Gives up waiting for somebody. False if nothing was kept.
    ///
    /// # Errors
    /// It may still be kept: try again.
    pub fn discard(&self, login: &Login) -> Result<bool, HomeError> {
        let kept = format!("{KEPT}{login}");
        if self.stat(&kept)?.is_none() {
            return Ok(false);
        }
        let inner = self.enter(&kept)?;
        let owner = OwnerFile::read(&inner);
        match self.trash()?.receive(&inner, "home") {
            // Whose it was tells the janitor whom to become.
            Ok((trash, name)) => {
                self.has_thrown_away.set(true);
                if let Some(owner) = owner {
                    trash.give(&name, owner.uid.get(), owner.gid.get())?;
                }
            }
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(self.io("discarding", &kept, e)),
        }
        match unlinkat(&inner, "owner", UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(self.io("discarding", &kept, e)),
        }
        unlinkat(&self.folder, kept.as_str(), UnlinkatFlags::RemoveDir)
            .map_err(|e| self.io("removing", &kept, e))?;
        Ok(true)
    }

    /// At start: throws away the homes of those who are not on, and what a crash has left half made.
    /// For ephemeral homes only.
    ///
    /// # Errors
    /// The first one; the others have been tried all the same.
    pub fn sweep(&self, live: &BTreeSet<Login>) -> Result<(), HomeError> {
        let mut failure = None;
        for name in self.names()? {
            let outcome = if let Some(login) = name.strip_prefix(KEPT) {
                match (Login::try_from(login), self.owner_of(&name)) {
                    (Ok(login), None) => self.discard(&login).map(drop),
                    _ => Ok(()),
                }
            } else if begun_for(&name).is_some()
                || Login::try_from(name.as_str()).is_ok_and(|login| !live.contains(&login))
            {
                self.throw_away(&name)
            } else {
                Ok(())
            };
            if let Err(e) = outcome {
                failure.get_or_insert(e);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Brings back what was kept for this tenant; what was kept for another under the same login is
    /// thrown away.
    fn give_kept(&self, tenant: &Tenant<'_>) -> Result<bool, HomeError> {
        let kept = format!("{KEPT}{}", tenant.login);
        if self.stat(&kept)?.is_none() {
            return Ok(false);
        }
        let theirs = self.owner_of(&kept).is_some_and(|owner| {
            owner.teleport_user == tenant.teleport_user
                && (owner.uid, owner.gid) == (tenant.uid, tenant.gid)
        });
        if !theirs {
            self.discard(tenant.login)?;
            return Ok(false);
        }
        let inner = self.enter(&kept)?;
        let name = tenant.login.as_ref();
        renameat2(
            &inner,
            "home",
            &self.folder,
            name,
            RenameFlags::RENAME_NOREPLACE,
        )
        .map_err(|e| self.io("bringing back", name, e))?;
        self.give(name, tenant.uid.get(), tenant.gid.get())?;
        self.discard(tenant.login)?;
        Ok(true)
    }

    /// Changes the owner of a folder of ours, and returns it.
    fn give(&self, name: &str, uid: u32, gid: u32) -> Result<OwnedFd, HomeError> {
        let folder = self.enter(name)?;
        change_owner(&folder, c"", uid, gid)
            .map_err(|e| self.io("changing the owner of", name, e))?;
        Ok(folder)
    }

    /// Makes a folder of ours root's and open to root, as it must be to get another parent: only who may
    /// write to a folder may move it, and its user may have locked it.
    fn take(&self, name: &str) -> Result<(), HomeError> {
        let home = self.give(name, 0, 0)?;
        let mode = fstat(&home)
            .map_err(|e| self.io("looking at", name, e))?
            .st_mode;
        let mode = Mode::from_bits_truncate(mode & 0o777) | Mode::S_IRWXU;
        fchmodat(
            AT_FDCWD,
            magic_link(&home).as_str(),
            mode,
            FchmodatFlags::FollowSymlink,
        )
        .map_err(|e| self.io("unlocking", name, e))
    }

    /// A folder in ours, as a mere path: opening it for reading would need a capability.
    fn enter(&self, name: &str) -> Result<OwnedFd, HomeError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&self.folder, name, flags, Mode::empty())
            .map_err(|e| self.io("opening", name, e))?;
        let seen = look_at(&folder).map_err(|e| self.io("looking at", name, e))?;
        // What is done to it next would be asked of whoever serves the mount.
        if seen.is_mount {
            return Err(HomeError::Mounted(self.path.join(name)));
        }
        Ok(folder)
    }

    fn stat(&self, name: &str) -> Result<Option<Seen>, HomeError> {
        look(&self.folder, name).map_err(|e| self.io("looking at", name, e))
    }

    /// Whose a kept home is; `None` if it is not whole.
    fn owner_of(&self, kept: &str) -> Option<OwnerFile> {
        let inner = self.enter(kept).ok()?;
        look(&inner, c"home").ok()??;
        OwnerFile::read(&inner)
    }

    fn names(&self) -> Result<Vec<String>, HomeError> {
        let failed = |e| self.io("listing", ".", e);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.folder, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(failed)?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    fn io(&self, doing: &str, name: &str, error: impl Into<io::Error>) -> HomeError {
        let what = format!("{doing} {}", self.path.join(name).display());
        HomeError::Io {
            what,
            error: error.into(),
        }
    }
}

/// Of an entry of a folder, not following a link; of the folder itself under an empty name.
fn change_owner(folder: &OwnedFd, name: &CStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let uid = nix::unistd::Uid::from_raw(uid);
    let gid = nix::unistd::Gid::from_raw(gid);
    let how = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(folder, name, Some(uid), Some(gid), how)
}

fn is_home_of(seen: &Seen, uid: Uid) -> bool {
    seen.is_folder && seen.uid == uid.get()
}

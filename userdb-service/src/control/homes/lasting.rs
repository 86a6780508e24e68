//! Homes that stay, on a disk or a server that may be slow or gone: looked at and made on a thread beside the daemon's,
//! and waited for only so long. Each is marked with the Teleport user it was made for.
//!
//! The mark is a file that root alone can write, `BASE/.teleport-userdb/LOGIN`: in the home itself, its user could
//! change it, and so leave a `.bashrc` to whoever is next under the same login.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fsync;
use serde_derive::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::making::fill;
use super::{HomeError, Homes, Provided, Tenant, is_home_of};
use crate::control::end::janitor::Janitor;
use crate::control::host::aside::Aside;

/// The folder of the marks.
const MARKS: &str = ".teleport-userdb";
/// How long a disk may take for one of the two steps. PAM waits for 5 s in all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one may take to remove what others have begun, until it counts among those that do not answer.
const LONGEST: Duration = Duration::from_secs(60);
/// When all wait for a disk that does not answer, nobody is sent after them.
static THREADS: Aside = Aside::new(16);
/// What copies the skeleton into them. Others than those above: where it is the skeleton that hangs, homes do not.
static COPYING: Aside = Aside::new(4);

#[derive(Serialize, Deserialize)]
struct Mark {
    teleport_user: String,
}

/// What was found on the first visit.
enum Found {
    Present,
    /// A home without a name yet, for the skeleton.
    New(Homes, OwnedFd),
}

impl Homes {
    /// Gives a tenant a lasting home in `base`. One that belongs to somebody else is left alone.
    ///
    /// # Errors
    /// There is none, it is somebody else's, or the disk does not answer in time.
    pub async fn provide_lasting(
        base: &Path,
        janitor: Janitor,
        tenant: &Tenant<'_>,
    ) -> Result<Provided, HomeError> {
        let found = aside(base, tenant, {
            let base = base.to_owned();
            move |tenant, wanted| Homes::open(base, janitor)?.find_lasting(tenant, wanted)
        })
        .await?;
        let Found::New(homes, home) = found else {
            return Ok(Provided::Present);
        };
        let home = fill(&COPYING, tenant, home).await;
        let homes = aside(base, tenant, {
            let base = base.to_owned();
            move |tenant, wanted| {
                let home = match home {
                    Some(home) => home,
                    None => homes.begin_if_wanted(tenant, wanted)?,
                };
                homes.mark(tenant, wanted)?;
                // By now somebody else may be making it.
                if !wanted() || !homes.is_begun(tenant, &home) {
                    return Err(HomeError::TooSlow(base));
                }
                homes.finish(tenant, home)?;
                Ok(homes)
            }
        })
        .await?;
        homes.remove_interrupted();
        Ok(Provided::Fresh)
    }

    /// Removes what attempts that were interrupted have left in the trash. Nobody waits for it.
    fn remove_interrupted(self) {
        let runtime = Handle::current();
        tokio::spawn(THREADS.run(LONGEST, move |_| {
            if let Err(error) = runtime.block_on(self.empty_trash()) {
                tracing::error!("cannot remove what was begun of a home: {error}");
            }
        }));
    }

    fn find_lasting(
        self,
        tenant: &Tenant<'_>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Found, HomeError> {
        let name: &str = tenant.login.as_ref();
        match self.stat(name)? {
            Some(seen) if is_home_of(&seen, tenant.uid) => {}
            Some(seen) => {
                return Err(HomeError::NotTheirs {
                    path: self.path.join(name),
                    owner: seen.uid,
                });
            }
            None => {
                let home = self.begin_if_wanted(tenant, wanted)?;
                return Ok(Found::New(self, home));
            }
        }
        match self.marked(name)? {
            Some(mark) if mark.teleport_user == tenant.teleport_user => {}
            Some(_) => return Err(HomeError::OfAnother(self.path.join(name))),
            // It was there before us: whose it is says its owner, from now on with a name.
            None => self.mark(tenant, wanted)?,
        }
        Ok(Found::Present)
    }

    /// Who comes late must not throw away what somebody has begun since.
    fn begin_if_wanted(
        &self,
        tenant: &Tenant<'_>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<OwnedFd, HomeError> {
        match wanted() {
            true => self.begin(tenant),
            false => Err(HomeError::TooSlow(self.path.clone())),
        }
    }

    /// Whose the home of `name` is. One whose mark cannot be read is nobody's.
    fn marked(&self, name: &str) -> Result<Option<Mark>, HomeError> {
        let marks = self.marks()?;
        let failed = |e: io::Error| self.io("reading the mark of", name, e);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&marks.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        };
        let mut text = String::new();
        File::from(file)
            .take(4096)
            .read_to_string(&mut text)
            .map_err(failed)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| failed(e.into()))
    }

    /// Says whose it is, before it has its name: on disk before anything else, or after a power cut it would be
    /// whoever's comes first.
    fn mark(&self, tenant: &Tenant<'_>, wanted: &dyn Fn() -> bool) -> Result<(), HomeError> {
        let name: &str = tenant.login.as_ref();
        let marks = self.marks()?;
        let new = format!(".new-{name}");
        let written = (|| {
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_TRUNC
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let file = openat(
                &marks.folder,
                new.as_str(),
                flags,
                Mode::S_IRUSR | Mode::S_IWUSR,
            )?;
            let mut file = File::from(file);
            let mark = Mark {
                teleport_user: tenant.teleport_user.to_owned(),
            };
            file.write_all(&serde_json::to_vec(&mark)?)?;
            file.sync_all()?;
            if !wanted() {
                // Nobody waits for it any more, and meanwhile it may have been made for another.
                return Err(io::ErrorKind::TimedOut.into());
            }
            renameat(&marks.folder, new.as_str(), &marks.folder, name)?;
            fsync(&marks.folder)?;
            Ok::<(), io::Error>(())
        })();
        written.map_err(|e| self.io("marking", name, e))
    }

    fn marks(&self) -> Result<Homes, HomeError> {
        match mkdirat(&self.folder, MARKS, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(self.io("making", MARKS, e)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = openat(&self.folder, MARKS, flags, Mode::empty())
            .map_err(|e| self.io("opening", MARKS, e))?;
        let homes = Homes {
            path: self.path.join(MARKS),
            folder,
            janitor: self.janitor.clone(),
            has_thrown_away: Cell::default(),
        };
        homes.must_be_roots().map(|()| homes)
    }
}

/// Does a piece of work that may wait for a disk, for a while.
async fn aside<T: Send + 'static>(
    base: &Path,
    tenant: &Tenant<'_>,
    work: impl FnOnce(&Tenant<'_>, &dyn Fn() -> bool) -> Result<T, HomeError> + Send + 'static,
) -> Result<T, HomeError> {
    let (login, uid, gid) = (tenant.login.clone(), tenant.uid, tenant.gid);
    let teleport_user = tenant.teleport_user.to_owned();
    let done = THREADS.run(PATIENCE, move |wanted| {
        let tenant = Tenant {
            login: &login,
            uid,
            gid,
            teleport_user: &teleport_user,
        };
        work(&tenant, wanted)
    });
    done.await
        .unwrap_or_else(|| Err(HomeError::TooSlow(base.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ids::Uid;
    use crate::policy::names::Login;

    #[test]
    fn who_comes_late_neither_takes_away_what_was_begun_since_nor_names_what_is_not_its_own() {
        let base = std::env::temp_dir().join(format!("lasting-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let homes = || Homes::open(&base, Janitor::default()).expect("this test needs root");
        let (login, uid) = (Login::try_from("zed"), Uid::try_from(0x7000_0205));
        let (login, uid) = (login.unwrap(), uid.unwrap());
        let tenant = Tenant {
            login: &login,
            uid,
            gid: uid.into(),
            teleport_user: "ann",
        };
        let begun = homes().begin(&tenant).unwrap();
        let late = homes().find_lasting(&tenant, &|| false);
        assert!(matches!(late, Err(HomeError::TooSlow(_))));
        assert!(homes().is_begun(&tenant, &begun));
        // It was late before it could see that it is.
        homes().begin(&tenant).unwrap();
        assert!(!homes().is_begun(&tenant, &begun));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

//! A new home: begun as a folder of root's that nobody else can enter, filled, given to its tenant and then named.
//! What it is filled with is of [`skeleton`].

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{HomeError, Homes, Provided, Tenant, change_owner, skeleton};
use crate::control::host::blocking_pool::BlockingPool;
use crate::policy::names::Login;

const SKELETON: &str = "/etc/skel";
/// Before the login for which something is being made.
const NEW: &str = ".new-";
/// Between that login and what tells attempts from each other. No login has it.
const ATTEMPT: char = '~';
/// What copies into ephemeral homes: more at once are not faster.
static COPYING: BlockingPool = BlockingPool::new(4);
/// An empty folder of the tenant's in its new home, in whose place the home itself will count for the tenant: where there are
/// quotas, the skeleton must not take that room.
const PLACE: &CStr = c".place";

/// A home that has been begun: a folder of root's.
#[derive(Debug)]
pub(super) struct NewHome {
    name: String,
    folder: OwnedFd,
}

impl Homes {
    /// A new home, finished before it has its name; without its skeleton, where that would not be there by then.
    pub(super) async fn make(
        &self,
        tenant: &Tenant<'_>,
        by: Instant,
    ) -> Result<Provided, HomeError> {
        let home = self.begin_with_room(tenant, by).await?;
        let home = match fill(&COPYING, tenant, home, by).await {
            Some(home) => home,
            None => self.begin_with_room(tenant, by).await?,
        };
        self.finish(tenant, home)?;
        Ok(Provided::Fresh)
    }

    /// The daemon's own thread begins it and names it: nobody can be late, and one name does for all attempts.
    async fn begin_with_room(
        &self,
        tenant: &Tenant<'_>,
        by: Instant,
    ) -> Result<NewHome, HomeError> {
        let name = || format!("{NEW}{}", tenant.login);
        match self.begin(tenant, name()) {
            // Where there are quotas, what was thrown away of this UID counts until it is gone.
            Err(HomeError::Io { error, .. }) if error.raw_os_error() == Some(libc::EDQUOT) => {
                let _ = timeout(half_until(by), self.empty_trash()).await;
                self.begin(tenant, name())
            }
            begun => begun,
        }
    }

    /// A new folder, root's until it is finished. What was begun under its name is thrown away, with whoever may still be at work there.
    pub(super) fn begin(&self, tenant: &Tenant<'_>, name: String) -> Result<NewHome, HomeError> {
        self.throw_away(&name)?;
        self.make_folder(&name)?;
        let folder = self.enter(&name)?;
        // A spare folder may be the last there is.
        if mkdirat(&folder, PLACE, Mode::empty()).is_ok() {
            change_owner(&folder, PLACE, tenant.uid.get(), tenant.gid.get())
                .map_err(|e| self.io("changing the owner of what is in", &name, e))?;
        }
        Ok(NewHome { name, folder })
    }

    /// Gives a home that was begun to its tenant, and its name to it. One that was thrown away since stays where it is.
    pub(super) fn finish(&self, tenant: &Tenant<'_>, home: NewHome) -> Result<(), HomeError> {
        let (NewHome { name: new, folder }, name) = (home, tenant.login.as_ref());
        match unlinkat(&folder, PLACE, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(self.io("finishing", &new, e)),
        }
        change_owner(&folder, c"", tenant.uid.get(), tenant.gid.get())
            .map_err(|e| self.io("changing the owner of", &new, e))?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        renameat2(&self.folder, new.as_str(), &self.folder, name, flags)
            .map_err(|e| self.io("naming", name, e))
    }
}

/// For whom something of this name was begun, by whichever attempt.
pub(in crate::control) fn begun_for(name: &str) -> Option<&str> {
    let whose = name.strip_prefix(NEW)?;
    Some(whose.split_once(ATTEMPT).map_or(whose, |(login, _)| login))
}

/// A name that no other attempt begins anything under: one whose thread wakes late must not name what was begun since.
pub(super) fn name_of_attempt(login: &Login) -> String {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), ATTEMPTS.fetch_add(1, Relaxed));
    format!("{NEW}{login}{ATTEMPT}{process}.{number}")
}

/// Half of the time that is left: what comes after needs time, too.
fn half_until(by: Instant) -> Duration {
    by.saturating_duration_since(Instant::now()) / 2
}

/// Copies the skeleton into a home that was begun. `None` if that takes too long: the thread that is at it keeps the folder, in
/// which nothing must rely on it any more.
pub(super) async fn fill(
    threads: &'static BlockingPool,
    tenant: &Tenant<'_>,
    home: NewHome,
    by: Instant,
) -> Option<NewHome> {
    let owner = (tenant.uid, tenant.gid);
    let copied = threads.run(half_until(by), move |wanted| {
        let copied = skeleton::copy(Path::new(SKELETON), &home.folder, owner, wanted);
        (home, copied)
    });
    // A home without all of its skeleton is a home.
    match copied.await {
        Some((home, copied)) => {
            if let Err(error) = copied {
                warn!(
                    "the home of {} lacks some of {SKELETON}: {error}",
                    tenant.login
                );
            }
            Some(home)
        }
        None => {
            warn!(
                "the home of {} lacks all of {SKELETON}: it does not answer in time",
                tenant.login
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::end::janitor::Janitor;
    use crate::policy::ids::Uid;

    #[tokio::test]
    async fn where_the_skeleton_takes_too_long_there_is_a_home_in_time() {
        let base = std::env::temp_dir().join(format!("making-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let homes = Homes::open(&base, Janitor::default()).expect("this test needs root");
        let (login, uid) = (Login::try_from("zed"), Uid::try_from(0x7000_0207));
        let (login, uid) = (login.unwrap(), uid.unwrap());
        let tenant = Tenant {
            login: &login,
            uid,
            gid: uid.into(),
            teleport_user: "ann",
        };
        let _hung = COPYING.hang().await;
        let by = Instant::now() + Duration::from_secs(2);
        let provided = homes.provide(&tenant, by).await;
        let is_in_time = Instant::now() < by;
        let inside = std::fs::read_dir(base.join("zed")).map(Iterator::count);
        std::fs::remove_dir_all(&base).unwrap();
        assert_eq!(provided.unwrap(), Provided::Fresh);
        assert_eq!((is_in_time, inside.unwrap()), (true, 0));
    }
}

//! A new home: begun as a folder of root's that nobody else can enter, filled, given to its tenant and then named.
//! What it is filled with is of [`skeleton`].

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::time::timeout;
use tracing::warn;

use super::{HomeError, Homes, NEW, Provided, Tenant, change_owner, skeleton};
use crate::control::host::aside::Aside;

const SKELETON: &str = "/etc/skel";
/// How long a login waits for its disk. PAM waits for 5 s in all.
const PATIENCE: Duration = Duration::from_secs(3);
/// What copies into ephemeral homes: more at once are not faster.
static COPYING: Aside = Aside::new(4);
/// How long a login waits for room that its own UID takes.
const HURRY: Duration = Duration::from_secs(2);
/// An empty folder of the tenant's in its new home, in whose place the home itself will count for the tenant: where there are
/// quotas, the skeleton must not take that room.
const PLACE: &CStr = c".place";

impl Homes {
    /// A new home, finished before it has its name.
    pub(super) async fn make(&self, tenant: &Tenant<'_>) -> Result<Provided, HomeError> {
        let home = self.begin_with_room(tenant).await?;
        let home = match fill(&COPYING, tenant, home).await {
            Some(home) => home,
            None => self.begin_with_room(tenant).await?,
        };
        self.finish(tenant, home)?;
        Ok(Provided::Fresh)
    }

    async fn begin_with_room(&self, tenant: &Tenant<'_>) -> Result<OwnedFd, HomeError> {
        match self.begin(tenant) {
            // Where there are quotas, what was thrown away of this UID counts until it is gone.
            Err(HomeError::Io { error, .. }) if error.raw_os_error() == Some(libc::EDQUOT) => {
                let _ = timeout(HURRY, self.empty_trash()).await;
                self.begin(tenant)
            }
            begun => begun,
        }
    }

    /// A new folder, root's until it is finished. What was begun before is thrown away, with whoever may still be at work there.
    pub(super) fn begin(&self, tenant: &Tenant<'_>) -> Result<OwnedFd, HomeError> {
        let new = new(tenant);
        if self.stat(&new)?.is_some() {
            self.throw_away(&new)?;
        }
        self.make_folder(&new)?;
        let home = self.enter(&new)?;
        // A spare folder may be the last there is.
        if mkdirat(&home, PLACE, Mode::empty()).is_ok() {
            change_owner(&home, PLACE, tenant.uid.get(), tenant.gid.get())
                .map_err(|e| self.io("changing the owner of what is in", &new, e))?;
        }
        Ok(home)
    }

    /// Whether a home that was begun still has the name under which it was: who comes after throws it away.
    pub(super) fn is_begun(&self, tenant: &Tenant<'_>, home: &OwnedFd) -> bool {
        let named = fstatat(
            &self.folder,
            new(tenant).as_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        let same = |named: FileStat, home: FileStat| {
            (named.st_dev, named.st_ino) == (home.st_dev, home.st_ino)
        };
        matches!((named, fstat(home)), (Ok(named), Ok(home)) if same(named, home))
    }

    /// Gives a home that was begun to its tenant, and its name to it.
    pub(super) fn finish(&self, tenant: &Tenant<'_>, home: OwnedFd) -> Result<(), HomeError> {
        let (new, name): (_, &str) = (new(tenant), tenant.login.as_ref());
        match unlinkat(&home, PLACE, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(self.io("finishing", &new, e)),
        }
        change_owner(&home, c"", tenant.uid.get(), tenant.gid.get())
            .map_err(|e| self.io("changing the owner of", &new, e))?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        renameat2(&self.folder, new.as_str(), &self.folder, name, flags)
            .map_err(|e| self.io("naming", name, e))
    }
}

/// Copies the skeleton into a home that was begun. `None` if that takes too long: the thread that is at it keeps the folder, in
/// which nothing must rely on it any more.
pub(super) async fn fill(
    threads: &'static Aside,
    tenant: &Tenant<'_>,
    home: OwnedFd,
) -> Option<OwnedFd> {
    let owner = (tenant.uid, tenant.gid);
    let copied = threads.run(PATIENCE, move |wanted| {
        let copied = skeleton::copy(Path::new(SKELETON), &home, owner, wanted);
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

fn new(tenant: &Tenant<'_>) -> String {
    format!("{NEW}{}", tenant.login)
}

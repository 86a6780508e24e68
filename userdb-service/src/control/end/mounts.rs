//! What a user has mounted: found in the kernel's table, never by looking into it, since a FUSE file system answers
//! or hangs as its owner pleases. Taken away by `teleport-unmount@.service`, which, unlike the daemon,
//! has the right to and the host's view of all mounts.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use crate::control::host::descriptors::{magic_link, mount_id};
use crate::control::host::mount_table;
use crate::policy::Uid;
use crate::policy::config::EPHEMERAL_BASE;
use crate::policy::names::Login;

/// Whose mounts are meant: the instance name of `teleport-unmount@.service`, `UID-LOGIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who has mounted them, by FUSE.
    pub uid: Uid,
    /// Whose ephemeral home they are on or in, whoever has mounted them.
    pub login: Login,
}

/// One of them.
struct Mount {
    id: u64,
    point: PathBuf,
}

impl Owner {
    /// The unit that unmounts them.
    pub fn unit(&self) -> String {
        format!("teleport-unmount@{}-{}.service", self.uid, self.login)
    }

    /// From the instance name.
    pub fn parse(instance: &str) -> Option<Owner> {
        let (uid, login) = instance.split_once('-')?;
        Some(Owner {
            uid: Uid::try_from(uid.parse::<u32>().ok()?).ok()?,
            login: Login::try_from(login).ok()?,
        })
    }

    /// Where something of theirs is mounted, as this process sees it.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn mounted(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self
            .mounts()?
            .into_iter()
            .map(|mount| mount.point)
            .collect())
    }

    /// Detaches all of it, busy or not, the outermost first: what is mounted inside goes with it.
    ///
    /// # Errors
    /// What is still there, with a reason.
    pub fn unmount(&self) -> Result<(), String> {
        loop {
            let mounts = self
                .mounts()
                .map_err(|error| format!("{}: {error}", mount_table::PATH))?;
            let (mut progress, mut left) = (false, None);
            for mount in mounts {
                match mount.detach() {
                    Ok(()) => progress = true,
                    Err(error) => left = Some(format!("{}: {error}", mount.point.display())),
                }
            }
            match left {
                None if !progress => return Ok(()),
                Some(left) if !progress => return Err(left),
                _ => {}
            }
        }
    }

    fn mounts(&self) -> io::Result<Vec<Mount>> {
        Ok(self.among(&mount_table::read()?))
    }

    fn among(&self, table: &[u8]) -> Vec<Mount> {
        let home = Path::new(EPHEMERAL_BASE).join(self.login.as_ref());
        let owner = format!("user_id={}", self.uid);
        mount_table::mounts(table)
            .filter(|mount| {
                let by_fuse =
                    matches!(mount.kind, b"fuse" | b"fuseblk") || mount.kind.starts_with(b"fuse.");
                (by_fuse && mount.file_system_has(&owner)) || mount.point.starts_with(&home)
            })
            .map(|mount| Mount {
                id: mount.id,
                point: mount.point,
            })
            .collect()
    }
}

impl Mount {
    /// Held by a descriptor and compared with the table: what somebody else has put in the place of a folder
    /// on the way is not unmounted for it.
    fn detach(&self) -> io::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let point = open(&self.point, flags, Mode::empty())?;
        if mount_id(&point)? != self.id {
            return Err(io::Error::other("something else is there"));
        }
        let path = magic_link(&point);
        Ok(umount2(path.as_str(), MntFlags::MNT_DETACH)?)
    }
}

/// What `teleport-sessiond --unmount UID-LOGIN` does, in a unit of its own.
///
/// # Errors
/// A sentence for the journal.
pub(in crate::control) fn run(instance: &str) -> Result<(), String> {
    let owner = Owner::parse(instance)
        .ok_or_else(|| format!("{instance:?} is not UID-LOGIN of a login"))?;
    owner.unmount()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner::parse("1879048193-zed.a-b").expect("a good instance name")
    }

    #[test]
    fn an_instance_name_is_a_uid_and_a_login() {
        assert_eq!(
            owner().unit(),
            "teleport-unmount@1879048193-zed.a-b.service"
        );
        for bad in [
            "",
            "zed",
            "0-zed",
            "x-zed",
            "1879048193-",
            "1879048193-../x",
        ] {
            assert_eq!(Owner::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_a_user_mounted_is_found_and_nothing_of_others() {
        let table = b"22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw,user_id=1879048193\n\
            30 22 0:30 / /run/teleport-userdb/home rw - tmpfs tmpfs rw\n\
            31 30 0:31 / /run/teleport-userdb/home/zed.a-b/a\\040b rw,nosuid shared:2 - fuse.sshfs x rw,user_id=1879048193,group_id=7\n\
            32 22 0:32 / /dev/shm/m rw - fuse x rw,user_id=1879048193\n\
            33 22 0:33 / /mnt/n rw - fuse x rw,user_id=18790481931\n\
            34 30 0:34 / /run/teleport-userdb/home/zed.a-b/bound rw - ext4 /dev/vda rw\n\
            35 30 0:35 / /run/teleport-userdb/home/zed.a-bc rw - tmpfs x rw\n\
            36 22 0:36\n";
        let found: Vec<(u64, PathBuf)> = owner()
            .among(table)
            .into_iter()
            .map(|mount| (mount.id, mount.point))
            .collect();
        let home = Path::new(EPHEMERAL_BASE).join("zed.a-b");
        assert_eq!(
            found,
            [
                (31, home.join("a b")),
                (32, PathBuf::from("/dev/shm/m")),
                (34, home.join("bound"))
            ]
        );
    }
}

//! Whether the folder is one that our sandbox lets us write to.
//! Reads the kernel's table of mounts and whether the folder is younger than we are; knows nothing of sudo.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{SysconfVar, sysconf};

use crate::control::host::clock::{Boottime, realtime_usec};
use crate::control::host::descriptors::mount_id;
use crate::control::host::mount_table;
use crate::control::leader::Leader;

/// Whether the folder at `path` is not the one that systemd lets us write to, which is a mount of its own, on the folder
/// that was there when the sandbox was made; any other is on the read-only view of the whole file system. Not so where the
/// folder's file system is read-only for everybody.
///
/// Trap: neither is there such a mount where an administrator has made the folder read-only for us: systemd makes none for
/// what is read-only already. Then starting anew does not help; see [`was_there_before_us`].
pub(super) fn is_beside_the_sandbox(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    let folder = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(is_seen_through(
        &mount_table::read()?,
        mount_id(&folder)?,
        &path,
    ))
}

/// Whether the folder has been in its place, with nothing done in it, since before this process was made, and so since before
/// our sandbox was: to be asked at our start. What is not known is denied. (By the wall clock, as files have no other; if that
/// jumps just then, we start anew once for nothing, or not for a folder that has come within that moment.)
pub(super) fn was_there_before_us(path: &Path) -> bool {
    let (Ok(seen), Some(age)) = (path.metadata(), our_age()) else {
        return false;
    };
    // To take the place of another changes it, too.
    let changed = Duration::new(
        u64::try_from(seen.ctime()).unwrap_or_default(),
        u32::try_from(seen.ctime_nsec()).unwrap_or_default(),
    );
    is_older(changed, age, Duration::from_micros(realtime_usec()))
}

/// A clock that was set back since leaves changes of the future, and they are no younger than we are.
fn is_older(changed: Duration, age: Duration, now: Duration) -> bool {
    changed < now.saturating_sub(age) || changed > now
}

fn our_age() -> Option<Duration> {
    let me = Leader::from_pid(i32::try_from(std::process::id()).ok()?).ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let started = me.id().start_time.checked_mul(1_000_000)? / per_second;
    Some(Boottime::now().since(Boottime::from_usec(started)))
}

fn is_seen_through(table: &[u8], id: u64, folder: &Path) -> bool {
    mount_table::mounts(table).any(|mount| {
        mount.id == id && mount.point != folder && mount.has("ro") && mount.file_system_has("rw")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_on_a_read_only_view_of_a_writable_file_system_is_beside_the_sandbox() {
        let folder = Path::new("/etc/sudoers.d");
        let seen = |line: &str| is_seen_through(line.as_bytes(), 31, folder);
        let view = "31 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro";
        assert!(seen(view));
        for other in [
            // Another mount.
            "32 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw",
            // Nobody is kept from writing, or everybody.
            "31 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
            "31 1 8:1 / / ro,relatime - ext4 /dev/sda1 ro",
            // The folder's own mount, as an administrator wants it.
            "31 1 8:1 /etc/sudoers.d /etc/sudoers.d ro,relatime - ext4 /dev/sda1 rw",
            "31 1",
            "",
        ] {
            assert!(!seen(other), "{other}");
        }
    }

    #[test]
    fn only_what_was_changed_before_we_were_made_was_there_before_us() {
        let seconds = Duration::from_secs;
        for (changed, is_so) in [
            (10, true),
            (89, true),
            (91, false),
            (100, false),
            (101, true),
        ] {
            let older = is_older(seconds(changed), seconds(10), seconds(100));
            assert_eq!(older, is_so, "{changed}");
        }
        assert!(was_there_before_us(Path::new("/usr/bin")));
        let folder = std::env::temp_dir().join(format!("after-us-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        assert!(!was_there_before_us(&folder));
        std::fs::remove_dir(&folder).unwrap();
        assert!(!was_there_before_us(&folder));
    }

    #[test]
    fn a_folder_of_a_process_without_a_sandbox_is_within_reach() {
        assert!(!is_beside_the_sandbox(&std::env::temp_dir()).unwrap());
        assert!(is_beside_the_sandbox(Path::new("/nowhere")).is_err());
    }
}

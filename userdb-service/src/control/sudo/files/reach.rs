//! Whether the folder is one that our sandbox lets us write to.
//! Reads the kernel's table of mounts; knows nothing of sudo.

use std::io;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::control::host::descriptors::mount_id;
use crate::control::host::mount_table;

/// Whether the folder at `path` has taken its place after the sandbox was made. What systemd lets us write to
/// is a mount of its own, on the folder that was there then; any other is on the read-only view of the whole
/// file system. Starting anew helps only in this case: neither where the folder's file system is read-only
/// for everybody, nor where an administrator has made the folder so for us.
pub(super) fn is_beside_the_sandbox(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    let folder = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(is_seen_through(
        &mount_table::read()?,
        mount_id(&folder)?,
        &path,
    ))
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
    fn a_folder_of_a_process_without_a_sandbox_is_within_reach() {
        assert!(!is_beside_the_sandbox(&std::env::temp_dir()).unwrap());
        assert!(is_beside_the_sandbox(Path::new("/nowhere")).is_err());
    }
}

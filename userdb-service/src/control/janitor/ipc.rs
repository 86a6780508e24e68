//! Removes the IPC objects of the user, as the user. The three unsafe calls of SysV IPC are here.

use std::io;

use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::child::names;
use super::wipe::wipe;
use crate::control::look::look;
use crate::control::lookup::remains::{POSIX_IPC_FOLDERS, SYSV_TABLES, sysv_objects};

/// Everything of `uid`, which is our effective UID: the kernel lets us remove nothing else.
pub(super) fn remove_all(uid: u32) -> io::Result<()> {
    let mut failure = None;
    for table in SYSV_TABLES {
        let text = match std::fs::read_to_string(table) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for object in
            sysv_objects(&text).filter(|object| object.owner == uid || object.creator == uid)
        {
            match remove_sysv(table, object.id) {
                // Gone meanwhile, as shared memory goes with its last process.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIDRM)) => {}
                Err(e) => failure = Some(e),
                Ok(()) => {}
            }
        }
    }
    for folder in POSIX_IPC_FOLDERS {
        if let Err(e) = remove_posix(folder, uid) {
            failure = Some(io::Error::new(e.kind(), format!("{folder}: {e}")));
        }
    }
    failure.map_or(Ok(()), Err)
}

fn remove_sysv(table: &str, id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID reads no argument besides the ID, so a null pointer is what it takes; an ID
    // that is no more, or another's, is an error and nothing else.
    let rc = unsafe {
        match table.rsplit('/').next() {
            Some("shm") => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            Some("sem") => libc::semctl(id, 0, libc::IPC_RMID),
            _ => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn remove_posix(folder: &str, uid: u32) -> io::Result<()> {
    use nix::fcntl::{OFlag, open, openat};
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = match open(folder, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut failure = None;
    for name in names(&folder)? {
        let name = name.as_c_str();
        let Ok(Some(seen)) = look(&folder, name) else {
            continue;
        };
        // What is mounted there is no object of the folder's, and unmounted apart.
        if seen.uid != uid || seen.is_mount {
            continue;
        }
        let removed = if seen.is_folder {
            openat(&folder, name, OFlag::O_PATH | flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|inner| wipe(&inner, false))
                .and_then(|()| Ok(unlinkat(&folder, name, UnlinkatFlags::RemoveDir)?))
        } else {
            unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir).map_err(io::Error::from)
        };
        if let Err(e) = removed {
            failure = Some(e);
        }
    }
    failure.map_or(Ok(()), Err)
}

//! Removes what the kernel keeps of the user besides processes, as the user: IPC objects and keys. The unsafe calls for
//! it are here: those of SysV IPC, one of which removes nothing and tells whether there is anything, and keyctl.

use std::io;

use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags, setresuid, unlinkat};

use super::child::names;
use super::wipe::wipe;
use crate::control::end::remains::{POSIX_IPC_FOLDERS, SYSV_TABLES, sysv_objects};
use crate::control::host::look::look;

/// Everything of `uid`, which is our effective UID: the kernel lets us remove nothing else. Becomes nothing but `uid`.
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
    // Last, since from then on processes of the user could stop us.
    if let Err(e) = empty_keyrings(uid) {
        failure = Some(io::Error::new(e.kind(), format!("keyrings: {e}")));
    }
    failure.map_or(Ok(()), Err)
}

/// Empties the keyrings that outlive every process of their UID: that of the user and of its sessions until the next
/// boot, the persistent one for three days. They hold Kerberos tickets and keys of file systems and servers, and
/// whoever is next under the login has the same UID.
fn empty_keyrings(uid: u32) -> io::Result<()> {
    let user = Uid::from_raw(uid);
    // The kernel finds these by the real UID.
    setresuid(user, user, user)?;
    let mut keyrings = vec![
        libc::KEY_SPEC_USER_SESSION_KEYRING,
        libc::KEY_SPEC_USER_KEYRING,
    ];
    // Asking for it makes it.
    let persistent = format!(" _persistent.{uid}:");
    if std::fs::read_to_string("/proc/keys").is_ok_and(|keys| keys.contains(&persistent)) {
        let into = i64::from(libc::KEY_SPEC_PROCESS_KEYRING);
        let found = keyctl(libc::KEYCTL_GET_PERSISTENT, uid.into(), into);
        keyrings.extend(found.ok().and_then(|id| i32::try_from(id).ok()));
    }
    for keyring in keyrings {
        let emptied = match keyctl(libc::KEYCTL_CLEAR, keyring.into(), 0) {
            // Its user may have closed it to changes, and left it open to be read.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                keyctl(libc::KEYCTL_INVALIDATE, keyring.into(), 0)
            }
            outcome => outcome,
        };
        match emptied.map_err(|e| (e.raw_os_error(), e)) {
            Ok(_) => {}
            // Containers forbid all of it, and some kernels lack it: nobody has keys. Or it was closed to being searched.
            Err((Some(libc::EPERM | libc::EACCES | libc::ENOSYS), _)) => {}
            // Invalid since a moment ago, or used up.
            Err((Some(libc::ENOKEY | libc::EKEYREVOKED | libc::EKEYEXPIRED | libc::EDQUOT), _)) => {
            }
            Err((_, e)) => return Err(e),
        }
    }
    Ok(())
}

fn keyctl(operation: u32, first: i64, second: i64) -> io::Result<i64> {
    // SAFETY: of the operations used here none takes a pointer; a keyring that is no more, or another's, is an
    // error and nothing else.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
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

//! What is still there of a UID: processes, IPC objects, a place in logind.
//! Reads only; ending remains is the janitor's.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::process::{Uid, getpriority_user};

use super::walk::Walk;
use crate::control::host::look::{is_there, look};
use crate::control::host::proc_files;

/// Where the host shows SysV IPC objects, a table each.
pub(crate) const SYSV_TABLES: [&str; 3] = [
    "/proc/sysvipc/shm",
    "/proc/sysvipc/sem",
    "/proc/sysvipc/msg",
];
/// Where POSIX shared memory and message queues are files.
pub(crate) const POSIX_IPC_FOLDERS: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// How many entries of each of these are looked at. Everybody may make any number, and a login waits for the look: beyond this, what is
/// there counts as nobody's. By itself nothing gets a UID of ours there but by a user of ours, whose janitor removes it.
const MOST_ENTRIES: usize = 50_000;

/// Whether a process, zombies included, has this real UID. One cheap system call: the kernel finds a
/// user without processes in a hash table, so nobody has to walk `/proc`.
pub fn has_processes(uid: u32) -> bool {
    // Any error but "no such process" must not make an ID look free.
    getpriority_user(Uid::from_raw(uid)) != Err(rustix::io::Errno::SRCH)
}

/// The same without zombies, which their parents may never wait for: they do nothing, and nothing ends them. Walks
/// `/proc` where the system call says that there is something, so not to be asked often.
pub fn has_living_processes(uid: u32) -> bool {
    if !has_processes(uid) {
        return false;
    }
    let Ok(mut walk) = Walk::begin(Path::new("/proc"), [uid]) else {
        return true;
    };
    let zombies = walk.go_on(usize::MAX);
    zombies.is_none_or(|zombies| !zombies.contains(&uid))
}

/// Whether logind still holds something of the UID. What a restarted logind has forgotten in `/run/user` is out of a worker's
/// sight.
pub fn known_to_logind(uid: u32) -> bool {
    is_there(Path::new(&format!("/run/systemd/users/{uid}")))
}

/// Those of `candidates` that something of the host still belongs to.
pub(in crate::control) fn busy(candidates: &BTreeSet<u32>) -> io::Result<BTreeSet<u32>> {
    if candidates.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut owners = BTreeSet::new();
    for table in SYSV_TABLES {
        // Nearly always there is none; a table costs three calls and what it takes to make it.
        if let Ok(false) = has_sysv(table) {
            continue;
        }
        match proc_files::read(table) {
            Ok(text) => owners.extend(sysv_objects(&text).map(|object| object.creator)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {} // a kernel without SysV IPC
            Err(e) => return Err(io::Error::new(e.kind(), format!("{table}: {e}"))),
        }
    }
    for folder in POSIX_IPC_FOLDERS {
        owners.extend(owners_of_entries(Path::new(folder), MOST_ENTRIES)?);
    }
    Ok(candidates
        .iter()
        .copied()
        .filter(|id| owners.contains(id) || has_processes(*id) || known_to_logind(*id))
        .collect())
}

/// A SysV IPC object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SysvObject {
    /// What shmctl, semctl and msgctl take.
    pub(crate) id: i32,
    /// UID of the owner, who may give it to anybody; whose it is counts for nothing but removing it.
    pub(crate) owner: u32,
    /// UID of the creator, which nobody can change. It may remove it, too.
    pub(crate) creator: u32,
}

/// The objects in a table of `/proc/sysvipc`, whose first line names the columns.
pub(crate) fn sysv_objects(table: &str) -> impl Iterator<Item = SysvObject> {
    let mut lines = table.lines();
    let head: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    let column = |name: &str| head.iter().position(|head| *head == name);
    let id = ["shmid", "semid", "msqid"].into_iter().find_map(column);
    let (owner, creator) = (column("uid"), column("cuid"));
    lines.filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: Option<usize>| fields.get(at?)?.parse().ok();
        Some(SysvObject {
            id: fields.get(id?)?.parse().ok()?,
            owner: number(owner)?,
            creator: number(creator)?,
        })
    })
}

/// `SHM_INFO` of `sys/shm.h`, which the crate libc lacks.
const SHM_INFO: libc::c_int = 14;

/// Whether this table of `/proc/sysvipc` has an object, anybody's.
///
/// # Errors
/// The kernel does not say.
fn has_sysv(table: &str) -> io::Result<bool> {
    // More room than struct shm_info (48 bytes), seminfo (40) and msginfo (32) need, and aligned for each.
    #[repr(C, align(8))]
    struct Told([libc::c_int; 32]);
    let mut told = Told([0; 32]);
    let to: *mut Told = &mut told;
    // SAFETY: these operations ignore the ID and write one of the structures above, all of which fit in what `to` points to,
    // and are made of integers: any bytes are such.
    let (rc, count) = unsafe {
        match table.rsplit('/').next() {
            Some("shm") => (libc::shmctl(0, SHM_INFO, to.cast()), 0),
            Some("sem") => (libc::semctl(0, 0, libc::SEM_INFO, to), 7),
            _ => (libc::msgctl(0, libc::MSG_INFO, to.cast()), 0),
        }
    };
    match rc {
        -1 => Err(io::Error::last_os_error()),
        // In shm_info used_ids, in seminfo semusz, in msginfo msgpool: how many objects there are.
        _ => Ok(told.0[count] != 0),
    }
}

fn owners_of_entries(folder: &Path, most: usize) -> io::Result<BTreeSet<u32>> {
    let named = |e: rustix::io::Errno| {
        let e = io::Error::from(e);
        io::Error::new(e.kind(), format!("{}: {e}", folder.display()))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut entries = match openat(CWD, folder, flags, Mode::empty()) {
        Ok(held) => Dir::new(held).map_err(named)?,
        Err(rustix::io::Errno::NOENT) => return Ok(BTreeSet::new()),
        Err(e) => return Err(named(e)),
    };
    let mut owners = BTreeSet::new();
    for _ in 0..most {
        let Some(entry) = entries.read() else {
            break;
        };
        let entry = entry.map_err(named)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // What vanishes meanwhile is nobody's.
        // Whoever serves a mounted file system says what he likes of its owner.
        if let Ok(Some(seen)) = look(entries.fd().map_err(named)?, name)
            && !seen.is_mount
        {
            owners.insert(seen.uid);
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const NOBODYS: u32 = 0x7000_00a1;

    #[test]
    fn owners_and_creators_are_read_from_the_named_columns() {
        let shm = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid\n\
                   0          1  1600                524288  1211  1300      2  1000  1000  1001  1001\n";
        let found = |table| {
            sysv_objects(table)
                .map(|o| (o.id, o.owner, o.creator))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(shm), [(1, 1000, 1001)]);
        let sem = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                   5          0   600          3 70000     0     0     0          0 1700000000\n";
        assert_eq!(found(sem), [(0, 70000, 0)]);
        assert!(found("key shmid\n1\n").is_empty());
        assert!(found("").is_empty());
    }

    #[test]
    fn a_uid_has_processes_exactly_as_long_as_one_is_there() {
        assert!(has_processes(0));
        assert!(!has_processes(NOBODYS));
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .uid(NOBODYS)
            .spawn()
            .expect("this test needs root to run a process as another user");
        assert!(has_processes(NOBODYS));
        assert_eq!(
            busy(&BTreeSet::from([NOBODYS, 0x7000_00a2])).unwrap(),
            BTreeSet::from([NOBODYS])
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_processes(NOBODYS));
    }

    #[test]
    fn a_zombie_is_a_process_but_does_not_live() {
        let uid = 0x7000_00a4;
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .uid(uid)
            .spawn()
            .expect("this test needs root to run a process as another user");
        assert!(has_living_processes(uid));
        child.kill().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while has_living_processes(uid) {
            assert!(std::time::Instant::now() < until);
        }
        assert!(has_processes(uid));
        child.wait().unwrap();
        assert!(!has_processes(uid));
    }

    #[test]
    fn shared_memory_left_behind_makes_an_id_busy() {
        let uid = 0x7000_00a3;
        let path = format!("/dev/shm/left-behind-{}", std::process::id());
        std::fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(uid), None)
            .expect("this test needs root to give a file away");
        let found = busy(&BTreeSet::from([uid]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.unwrap(), BTreeSet::from([uid]));
        assert_eq!(busy(&BTreeSet::from([uid])).unwrap(), BTreeSet::new());
    }

    #[test]
    fn no_more_entries_are_looked_at_than_a_login_can_wait_for() {
        let folder = std::env::temp_dir().join(format!("crowded-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for uid in 0x7000_00b0..0x7000_00b8 {
            let path = folder.join(uid.to_string());
            std::fs::write(&path, "").unwrap();
            std::os::unix::fs::chown(&path, Some(uid), None)
                .expect("this test needs root to give a file away");
        }
        let owners = |most| owners_of_entries(&folder, most).unwrap().len();
        // The folder itself and its parent are entries, too.
        assert_eq!(owners(10), 8);
        assert!(owners(5) <= 5);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_object_of_sysv_ipc_left_behind_makes_an_id_busy() {
        for (nth, (make, remove)) in [
            (["-M", "1"], "-m"),
            (["-S", "1"], "-s"),
            (["-Q", "-p0600"], "-q"),
        ]
        .into_iter()
        .enumerate()
        {
            let uid = 0x7000_00c0 + u32::try_from(nth).unwrap();
            let made = Command::new("ipcmk").args(make).uid(uid).output();
            let made = made.expect("this test needs root, and ipcmk").stdout;
            let found = busy(&BTreeSet::from([uid]));
            let text = String::from_utf8(made).unwrap();
            let id = text.split_ascii_whitespace().next_back();
            let removed = Command::new("ipcrm").args([remove, id.unwrap()]).status();
            assert!(removed.unwrap().success());
            assert_eq!(found.unwrap(), BTreeSet::from([uid]), "{make:?}");
            assert_eq!(busy(&BTreeSet::from([uid])).unwrap(), BTreeSet::new());
        }
    }
}

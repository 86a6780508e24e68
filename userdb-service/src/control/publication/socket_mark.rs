//! Marks on our userdb socket for clients of systemd 262 and later: a Varlink service, and which UIDs and GIDs it may have.
//!
//! With them a lookup of somebody else's UID does not come to us at all. A mark that is too narrow would hide a user, so
//! whatever is in doubt takes the marks away. Names are not marked: any may be ours. Where the kernel has no attributes for
//! sockets (before 7.0) nothing is marked and everybody asks, as ever.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use account_table::{Account, Cursor, DEFAULT_PATH, GroupOrigin, Lookup, TableCell, Trust};
use rustix::fs::{XattrFlags, removexattr, setxattr};
use rustix::io::Errno;

use crate::USERDB_SOCKET;
use crate::control::configuration::config_files;
use crate::policy::Config;

const ENTRY_POINT: (&str, &str) = ("user.varlink", "entrypoint");
const IDS: [&str; 2] = ["user.userdb.uid", "user.userdb.gid"];

/// Marks the socket by the configuration and the table as they are. Run with full rights before sessiond starts and before
/// it reads its configuration anew; nothing depends on its success.
pub(in crate::control) fn run() -> ExitCode {
    let ids = match (
        config_files::load_as_the_daemon(Path::new("/")),
        published(),
    ) {
        (Ok(config), Some(published)) => Some(ranges(&config, published)),
        _ => None,
    };
    match mark(Path::new(USERDB_SOCKET), ids.as_deref()) {
        Ok(()) => {}
        // Not here: no such kernel, file system or socket.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOENT | Errno::NODATA) => {}
        Err(error) => {
            eprintln!("{USERDB_SOCKET} cannot be marked: {error}");
            // Those of before may be too narrow.
            let _ = mark(Path::new(USERDB_SOCKET), None);
        }
    }
    ExitCode::SUCCESS
}

/// IDs of who is published now, whatever configuration they came under; `None` if that cannot be known.
fn published() -> Option<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let Some(table) = TableCell::new(DEFAULT_PATH, Trust::Root).get() else {
        return Some(ids);
    };
    let (mut at, mut account) = (Cursor::default(), Account::empty());
    loop {
        match table.find_next_user(&mut at, &mut account) {
            Lookup::Found(()) => ids.extend([account.uid(), account.gid()]),
            Lookup::Absent => break,
            Lookup::Busy => return None,
        }
    }
    let mut at = Cursor::default();
    loop {
        match table.next_group(&mut at) {
            Lookup::Found(group) if group.origin() != GroupOrigin::Synthesized => {}
            Lookup::Found(group) => ids.extend([group.gid()]),
            Lookup::Absent => return Some(ids),
            Lookup::Busy => return None,
        }
    }
}

/// `from-to,from-to`: what the configuration gives out, and `others`.
fn ranges(config: &Config, others: BTreeSet<u32>) -> String {
    let configured = [
        Some(config.uids.range.clone()),
        config.uids.requested.clone(),
    ];
    let configured: Vec<_> = configured.into_iter().flatten().collect();
    let outside = |id: &u32| !configured.iter().any(|range| range.contains(id));
    let configured_text = configured
        .iter()
        .map(|range| format!("{}-{}", range.start(), range.end()));
    let others = others
        .iter()
        .filter(|id| outside(id))
        .map(|id| format!("{id}-{id}"));
    configured_text
        .chain(others)
        .collect::<Vec<String>>()
        .join(",")
}

/// Writes the marks, or takes those of IDs away where there are none to write.
fn mark(socket: &Path, ids: Option<&str>) -> Result<(), Errno> {
    for name in IDS {
        match ids {
            Some(ids) => setxattr(socket, name, ids.as_bytes(), XattrFlags::empty())?,
            None => match removexattr(socket, name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            },
        }
    }
    let (name, value) = ENTRY_POINT;
    setxattr(socket, name, value.as_bytes(), XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_ranges_are_those_of_the_configuration_and_whoever_is_outside() {
        let mut config = Config::default();
        config.uids.range = 70_000..=80_000;
        let none = BTreeSet::new();
        assert_eq!(ranges(&config, none), "70000-80000");
        config.uids.requested = Some(20_000..=20_009);
        let published = BTreeSet::from([5, 20_001, 70_000, 80_000, 80_001]);
        assert_eq!(
            ranges(&config, published),
            "70000-80000,20000-20009,5-5,80001-80001"
        );
    }

    fn value(file: &Path, name: &str) -> Option<String> {
        let mut value = [0; 100];
        let length = rustix::fs::getxattr(file, name, &mut value).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).into_owned())
    }

    /// Only new kernels take marks on sockets; on a file the same calls do the same.
    #[test]
    fn marks_are_written_replaced_and_taken_away() {
        let file = std::env::temp_dir().join(format!("socket-mark-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        for ids in ["1-2", "1-2,7-7"] {
            mark(&file, Some(ids)).unwrap();
            for name in IDS {
                assert_eq!(value(&file, name).as_deref(), Some(ids));
            }
        }
        assert_eq!(value(&file, "user.varlink").as_deref(), Some("entrypoint"));
        for _ in 0..2 {
            mark(&file, None).unwrap();
            assert_eq!(IDS.map(|name| value(&file, name)), [None, None]);
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_kernel_without_marks_on_sockets_says_so_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("socket-mark-{}.socket", std::process::id()));
        let _socket = UnixListener::bind(&path).unwrap();
        let marked = mark(&path, Some("1-2"));
        assert!(
            matches!(marked, Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP)),
            "{marked:?}"
        );
        std::fs::remove_file(&path).unwrap();
    }
}

//! Tests of the table from both ends: what one writer publishes is what readers see.
//! Shared helpers only; each subject has a file of its own.

mod basics;
mod death;
mod files;
mod fuzz;
mod growth;
mod hostile;
mod model;
mod moves;
mod stress;
mod worst;

use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use super::{AccountSpec, GroupSpec, Writer};
use crate::{Account, Group, GroupOrigin, Lookup, Table, Trust};

/// A folder of its own, removed with everything in it.
pub(super) struct Scratch {
    folder: PathBuf,
    pub(super) trust: Trust,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "account-table-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() {
            shm.join(name)
        } else {
            std::env::temp_dir().join(name)
        };
        fs::create_dir_all(&folder).expect("a scratch folder");
        let trust = Trust::Owner(fs::metadata(&folder).expect("the scratch folder").uid());
        Scratch { folder, trust }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("accounts")
    }

    pub(super) fn c_path(&self) -> CString {
        CString::new(self.path().into_os_string().into_encoded_bytes()).expect("a path without NUL")
    }

    pub(super) fn writer(&self) -> Writer {
        Writer::open(&self.path(), self.trust).expect("a writer")
    }

    /// A writer whose first table has room for 2^k users.
    pub(super) fn small_writer(&self, k: u32) -> Writer {
        Writer::open_sized(&self.path(), self.trust, k).expect("a writer")
    }

    pub(super) fn table(&self) -> Table {
        Table::open(&self.c_path(), self.trust).expect("a table")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn group(name: &str, gid: u32) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        gid,
        origin: GroupOrigin::Synthesized,
    }
}

/// An account that has everything, told apart by `version`.
pub(super) fn spec(login: &str, uid: u32, version: u32) -> AccountSpec {
    AccountSpec {
        login: login.into(),
        uid,
        gid: uid,
        gecos: format!("User {login} version {version}"),
        home: format!("/run/teleport-userdb/home/{login}"),
        shell: "/bin/bash".into(),
        sessions: version,
        ..AccountSpec::default()
    }
}

/// What a reader sees of an account, as the spec that publishes the same. Groups are looked up one by one.
pub(super) fn seen(table: &Table, account: &Account) -> AccountSpec {
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let groups = account.groups().map(|membership| {
        let group = table
            .group_of(&membership)
            .found()
            .expect("the group of a live member");
        GroupSpec {
            name: group.name().into(),
            gid: group.gid(),
            origin: group.origin(),
        }
    });
    AccountSpec {
        login: account.login().into(),
        aliases: owned(account.aliases().collect()),
        uid: account.uid(),
        gid: account.gid(),
        gecos: account.gecos().into(),
        home: account.home().into(),
        shell: account.shell().into(),
        locked: account.locked(),
        since_usec: account.since_usec(),
        sessions: account.sessions(),
        stop_delay_usec: account.stop_delay_usec(),
        disposition: account.disposition(),
        tasks_max: account.tasks_max(),
        memory_max: account.memory_max(),
        cpu_weight: account.cpu_weight(),
        umask: account.umask(),
        environment: owned(account.environment().collect()),
        groups: groups.collect(),
    }
}

/// Logins of a group's members, in the order of the list.
pub(super) fn members(table: &Table, name: &str) -> Option<Vec<String>> {
    let group = match table.group_by_name(name.as_bytes()) {
        Lookup::Found(group) => group,
        Lookup::Absent => return None,
        Lookup::Busy => panic!("nobody is writing"),
    };
    let mut logins = Vec::new();
    let outcome = table.members(&group, |account| {
        logins.push(account.login().to_owned());
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(outcome, Lookup::Found(()));
    let mut short = Vec::new();
    let outcome = table.member_logins(&group, |login| {
        short.push(String::from_utf8(login.to_vec()).expect("UTF-8"));
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!((outcome, &short), (Lookup::Found(()), &logins));
    Some(logins)
}

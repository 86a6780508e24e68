//! What must hold of a node after every fault, and how long it may take until it does.
//! It only looks; faults and logins are of others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rig::{Etc, Login, Machine};
use serde_json::Value;

/// Who is on all the time, with sudo: no fault may cost a session that is open.
pub(crate) const KEEPER: &str = "keeper";
const SUDOERS: &str = "etc/sudoers.d";
/// Until nothing of an ended session is granted or answered, a restart of the daemon on a loaded machine included.
const GONE: Duration = Duration::from_secs(30);
/// How long a look at the end of the remains takes at least.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Until its remains have been ended, and what failed at that was tried again.
const CONVERGED: Duration = Duration::from_secs(30);

/// The node as it was before the first fault, and what was seen since.
pub(crate) struct Watch<'m> {
    machine: &'m Machine,
    etc: Etc,
    sudoers: BTreeMap<String, String>,
    /// Which login had which UID.
    uids: RefCell<BTreeMap<u64, String>>,
    _keeper: Login,
}

/// What one look at the node has found that should not be.
type Faults = Vec<String>;

impl<'m> Watch<'m> {
    /// Logs the keeper in and takes the node as it is then for what it has to be.
    pub(crate) fn begin(machine: &'m Machine) -> Watch<'m> {
        let mut keeper = machine
            .login(KEEPER)
            .roles("admin")
            .service("sshd")
            .hold("open")
            .start();
        keeper.reach("open");
        let sudoers = sudoers(machine);
        assert!(
            sudoers.keys().any(|name| name.ends_with(KEEPER)),
            "the keeper has no sudo: {sudoers:?}"
        );
        Watch {
            machine,
            etc: etc(machine),
            sudoers,
            uids: RefCell::default(),
            _keeper: keeper,
        }
    }

    /// I4 and I6: an open session resolves, and to a UID that nobody else has had; I1's other half: it has its
    /// sudoers file, unless it was told that it has none.
    pub(crate) fn open_session(&self, login: &str, events: &[Value]) -> Result<(), String> {
        for after in ["account", "open"] {
            let found = events
                .iter()
                .find(|event| event["event"] == "lookup" && event["after"] == after);
            if found.is_none_or(|event| event["found"] != true || event["by_uid"] != login) {
                return Err(format!("I4: after {after} it does not resolve: {events:?}"));
            }
            let uid = found
                .and_then(|event| event["uid"].as_u64())
                .unwrap_or_default();
            let before = self.uids.borrow_mut().insert(uid, login.to_owned());
            if let Some(other) = before.filter(|other| other != login) {
                return Err(format!("I6: {uid} was of {other} and is of {login}"));
            }
        }
        let without = events.iter().any(|event| {
            event["event"] == "message"
                && event["text"]
                    .as_str()
                    .is_some_and(|text| text.to_lowercase().contains("no sudo"))
        });
        let began = Instant::now();
        while !without
            && !sudoers(self.machine)
                .keys()
                .any(|name| name.ends_with(login))
        {
            if began.elapsed() > GONE {
                return Err("it was granted sudo, not told otherwise, and has none".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// I1, I2 and I5, once the login has ended.
    pub(crate) fn withdrawn_in_time(&self, login: &str) -> Result<(), String> {
        until(GONE, || self.withdrawn(login))
    }

    /// Gives what is left of the login a while to be ended.
    pub(crate) fn may_converge(&self) {
        let _ = until(A_WHILE, || self.converging());
    }

    /// Nothing of the login is left at last; and I3.
    pub(crate) fn converges(&self) -> Result<(), String> {
        until(CONVERGED, || self.converging())?;
        let changes = self.etc.changes(&etc(self.machine));
        match changes.is_empty() {
            true => Ok(()),
            false => Err(format!("I3: /etc changed: {changes:?}")),
        }
    }

    fn withdrawn(&self, login: &str) -> Faults {
        let mut faults = Faults::new();
        let now = sudoers(self.machine);
        if now != self.sudoers {
            faults.push(format!("I1: sudoers.d has {:?}", now.keys()));
        }
        let uid = self
            .uids
            .borrow()
            .iter()
            .find(|(_, name)| *name == login)
            .map_or("1879048191".to_owned(), |(uid, _)| uid.to_string());
        let look = format!(
            "for key in {login} {uid}; do getent passwd $key && echo WRONG passwd $key; done; \
             getent group {login} && echo WRONG group; userdbctl user {login} >/dev/null 2>&1 && echo WRONG userdb; \
             getent passwd {KEEPER} >/dev/null || echo WRONG keeper in NSS; \
             userdbctl user {KEEPER} >/dev/null 2>&1 || echo WRONG keeper in userdb; \
             echo; teleport-userdbctl --json=short list; teleport-userdbctl --json=short sessions"
        );
        let ran = self.machine.sh(&look);
        let mut lines = ran.stdout.lines();
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            if line.starts_with("WRONG") {
                faults.push(format!("I2: {line}"));
            }
        }
        let mut next = || -> Value {
            let line = lines.next().unwrap_or_default();
            serde_json::from_str(line).unwrap_or_else(|_| format!("{line}{}", ran.stderr).into())
        };
        let (users, sessions) = (next(), next());
        let only_keeper = |list: &Value, name: &str| {
            list.as_array()
                .is_some_and(|list| list.len() == 1 && list[0][name] == KEEPER)
        };
        if !only_keeper(&users, "login") || users[0]["sessions"] != 1 {
            faults.push(format!("I5: published are {users}"));
        }
        if !only_keeper(&sessions, "userName") || sessions[0]["state"] != "open" {
            faults.push(format!("I5: sessions are {sessions}"));
        }
        faults
    }

    fn converging(&self) -> Faults {
        let state = self.machine.root().join("run/teleport-sessiond");
        let mut faults = Faults::new();
        for (folder, expected) in [("logins", 1), ("sessions", 1)] {
            let left = names(&state.join(folder));
            if left.len() != expected {
                faults.push(format!("{folder} still has {left:?}"));
            }
        }
        let homes = names(&self.machine.root().join("run/teleport-userdb/home"));
        let in_place: Vec<&String> = homes.iter().filter(|name| !name.starts_with('.')).collect();
        if in_place != [KEEPER] {
            faults.push(format!("homes in place are {in_place:?}"));
        }
        faults
    }
}

fn until(limit: Duration, mut look: impl FnMut() -> Faults) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let faults = look();
        if faults.is_empty() {
            return Ok(());
        }
        if began.elapsed() > limit {
            return Err(format!("after {limit:?}: {}", faults.join("; ")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// I3 is about everything but the folder of our sudoers files, which is looked at by itself.
fn etc(machine: &Machine) -> Etc {
    Etc::of(machine).without("/etc/sudoers.d")
}

/// Every entry of sudoers.d with its content, temporary ones included.
fn sudoers(machine: &Machine) -> BTreeMap<String, String> {
    let folder = machine.root().join(SUDOERS);
    names(&folder)
        .into_iter()
        .map(|name| {
            let content = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            (name, content)
        })
        .collect()
}

fn names(folder: &std::path::Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

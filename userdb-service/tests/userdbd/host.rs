//! A host with a provider on a real socket, reading a real table file that a test writes: alice and bob.
//! What is expected of the answers does not enter.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

use account_table::{AccountSpec, Disposition, GroupOrigin, GroupSpec, Trust, Writer};
use serde_json::{Value, json};
use userdb_service::USERDB_SERVICE;
use userdb_service::data::protocol::GetMemberships_Reply;
use userdb_service::data::{Accounts, Provider};
use userdb_service::runtime::transport::Limits;
use uuid::Uuid;

use crate::wire::{Client, Folder, Server};

pub(crate) const MACHINE: Uuid = Uuid::from_u128(0x3d12_19c7_c4c5_404a_aa1f_6d2a_48ad_fda4);

/// A provider and the writer of the table it reads.
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) writer: Option<Writer>,
    pub(crate) table: &'static CStr,
    pub(crate) trust: Trust,
    _folder: Folder,
}

impl Host {
    /// With no table yet.
    pub(crate) fn bare() -> Host {
        Host::limited(Limits::default())
    }

    /// With no table yet, and these limits.
    pub(crate) fn limited(limits: Limits) -> Host {
        let folder = Folder::new();
        let path = folder.path().join("accounts");
        // The provider keeps the path for good; a test leaks a few bytes.
        let table: &'static CStr = Box::leak(
            CString::new(path.as_os_str().as_bytes())
                .unwrap()
                .into_boxed_c_str(),
        );
        let trust = Trust::Owner(nix::unistd::geteuid().as_raw());
        let server = Server::start(limits, move || {
            Provider::new(Accounts::at(table, trust), Some(MACHINE))
        });
        Host {
            server,
            writer: None,
            table,
            trust,
            _folder: folder,
        }
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        let path = std::path::Path::new(self.table.to_str().unwrap());
        let trust = self.trust;
        self.writer
            .get_or_insert_with(|| Writer::open(path, trust).unwrap())
    }

    pub(crate) fn publish(&mut self, account: &AccountSpec) {
        self.writer().publish(account).unwrap();
    }

    /// alice (docker, team; an alias) and bob (team).
    pub(crate) fn with_two() -> Host {
        let mut host = Host::bare();
        host.publish(&alice());
        host.publish(&bob());
        host
    }

    pub(crate) fn connect(&self) -> Client {
        self.server.connect()
    }

    pub(crate) fn user(&self, parameters: Value) -> Value {
        self.connect().ask(
            "io.systemd.UserDatabase.GetUserRecord",
            with_service(parameters),
        )
    }

    pub(crate) fn group(&self, parameters: Value) -> Value {
        self.connect().ask(
            "io.systemd.UserDatabase.GetGroupRecord",
            with_service(parameters),
        )
    }

    pub(crate) fn memberships(&self, parameters: Value) -> Vec<(String, String)> {
        let replies = self.connect().ask_more(
            "io.systemd.UserDatabase.GetMemberships",
            with_service(parameters),
        );
        if error(&replies[0]) == "NoRecordFound" {
            return Vec::new();
        }
        replies
            .into_iter()
            .map(|reply| {
                let pair: GetMemberships_Reply =
                    serde_json::from_value(reply["parameters"].clone()).unwrap();
                (pair.userName, pair.groupName)
            })
            .collect()
    }

    pub(crate) fn names(&self, method: &str, key: &str, parameters: Value) -> Vec<String> {
        let method = format!("io.systemd.UserDatabase.{method}");
        self.connect()
            .ask_more(&method, with_service(parameters))
            .iter()
            .filter_map(|reply| Some(reply["parameters"]["record"][key].as_str()?.to_owned()))
            .collect()
    }
}

pub(crate) fn with_service(mut parameters: Value) -> Value {
    parameters["service"] = json!(USERDB_SERVICE);
    parameters
}

pub(crate) fn error(reply: &Value) -> &str {
    let name = reply["error"].as_str().unwrap_or("none");
    name.rsplit('.').next().unwrap()
}

fn group(name: &str, gid: u32, origin: GroupOrigin) -> GroupSpec {
    GroupSpec {
        name: name.into(),
        gid,
        origin,
    }
}

pub(crate) fn bob() -> AccountSpec {
    AccountSpec {
        login: "bob".into(),
        uid: 1_900_000_002,
        gid: 1_900_000_002,
        gecos: "Bob".into(),
        home: "/run/teleport-userdb/home/bob".into(),
        shell: "/bin/sh".into(),
        since_usec: 1_700_000_000_000_000,
        sessions: 1,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Regular,
        groups: vec![group("team", 1_900_000_100, GroupOrigin::Synthesized)],
        ..AccountSpec::default()
    }
}

pub(crate) fn alice() -> AccountSpec {
    AccountSpec {
        login: "alice".into(),
        aliases: vec!["Alice".into()],
        uid: 1_900_000_001,
        gid: 1_900_000_001,
        gecos: "Alice \"A\" Müller".into(),
        home: "/run/teleport-userdb/home/alice".into(),
        shell: "/bin/bash".into(),
        since_usec: 1_700_000_000_000_000,
        sessions: 2,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Dynamic,
        tasks_max: Some(512),
        memory_max: Some(1 << 30),
        cpu_weight: Some(100),
        umask: Some(0o027),
        environment: vec!["TERM=dumb".into(), "X=a=b".into()],
        groups: vec![
            group("docker", 998, GroupOrigin::ForeignFiles),
            group("team", 1_900_000_100, GroupOrigin::Synthesized),
        ],
        ..AccountSpec::default()
    }
}

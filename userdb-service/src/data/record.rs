//! User and group records as JSON: exactly the fields of the design, each of its type, none null.
//!
//! systemd's clients skip a field they do not like without a word (a UID as a string becomes
//! 2^32-1) and drop a record without `service` altogether, so a field is written only where its value
//! is one that systemd's strict loader takes.

use account_table::{Account, Disposition, Group};
use serde::Serializer;
use serde_derive::Serialize;
use uuid::Uuid;

use super::SERVICE;
use super::filters::name_of;

/// `GetUserRecord` and `GetGroupRecord` reply with this; nothing is ever left out of our records.
#[derive(Debug, Serialize)]
pub(super) struct Reply<R> {
    record: R,
    incomplete: bool,
}

impl<R> Reply<R> {
    pub(super) fn of(record: R) -> Self {
        Reply {
            record,
            incomplete: false,
        }
    }
}

/// A user record. Fields in systemd's spelling; `teleportSessions` is ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User<'a> {
    user_name: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Uuid>,
    real_name: &'a str,
    home_directory: &'a str,
    shell: &'a str,
    disposition: &'static str,
    service: &'static str,
    #[serde(skip_serializing_if = "<[Group]>::is_empty", serialize_with = "names")]
    member_of: &'a [Group],
    #[serde(rename = "lastChangeUSec")]
    last_change_usec: u64,
    locked: bool,
    kill_processes: bool,
    #[serde(rename = "stopDelayUSec")]
    stop_delay_usec: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "cpuWeight")]
    cpu_weight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    umask: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    environment: Vec<&'a str>,
    teleport_sessions: u32,
}

fn names<S: Serializer>(groups: &&[Group], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(groups.iter().map(Group::name))
}

impl<'a> User<'a> {
    /// The record of `account`, who is in `groups`; `now` in microseconds of CLOCK_REALTIME.
    pub(super) fn of(
        account: &'a Account,
        groups: &'a [Group],
        machine: Option<Uuid>,
        now: u64,
    ) -> Self {
        User {
            user_name: account.login(),
            aliases: account.aliases().collect(),
            uid: account.uid(),
            gid: account.gid(),
            uuid: machine.map(|machine| uuid_of(machine, account.login())),
            real_name: account.gecos(),
            home_directory: account.home(),
            shell: account.shell(),
            disposition: name_of(account.disposition()),
            service: SERVICE,
            member_of: groups,
            // A record from the future is refused; the clock may have been set back since.
            last_change_usec: account.since_usec().min(now),
            locked: account.locked(),
            // It acts per session: true would end what runs in one as another is closed.
            kill_processes: false,
            stop_delay_usec: account.stop_delay_usec(),
            tasks_max: account.tasks_max().filter(is_limit),
            memory_max: account.memory_max().filter(is_limit),
            cpu_weight: account
                .cpu_weight()
                .filter(|weight| (1..=10_000).contains(weight)),
            umask: account.umask().filter(|umask| *umask <= 0o777),
            environment: account.environment().collect(),
            teleport_sessions: account.sessions(),
        }
    }
}

/// systemd takes neither 0 nor its word for "unlimited" as a limit.
fn is_limit(limit: &u64) -> bool {
    !matches!(*limit, 0 | u64::MAX)
}

/// The UUID of a login on this machine: the same whenever it comes back.
pub(super) fn uuid_of(machine: Uuid, login: &str) -> Uuid {
    Uuid::new_v5(&machine, login.as_bytes())
}

/// A group record. Members are asked for by `GetMemberships`, which alone is believed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfGroup<'a> {
    group_name: &'a str,
    gid: u32,
    disposition: &'static str,
    service: &'static str,
}

impl<'a> OfGroup<'a> {
    pub(super) fn of(name: &'a str, gid: u32) -> Self {
        OfGroup {
            group_name: name,
            gid,
            disposition: name_of(Disposition::Dynamic),
            service: SERVICE,
        }
    }
}

/// `GetMemberships` replies with this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Membership<'a> {
    pub(super) user_name: &'a str,
    pub(super) group_name: &'a str,
}

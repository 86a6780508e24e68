//! User and group records as JSON: exactly the fields of the design, each of its type, none null.
//!
//! systemd's clients skip a field they do not like without a word (a UID as a string becomes
//! 2^32-1) and drop a record without `service` altogether, so a field is written only where its value
//! is one that systemd's strict loader takes.

use account_table::{Account, Disposition, Group};
use serde_derive::Serialize;
use uuid::Uuid;

use super::filters::name_of;
use super::json::Object;
use crate::USERDB_SERVICE;

/// Appends what `GetUserRecord` replies with about `account`, who is in `groups`; `now` in microseconds of CLOCK_REALTIME.
/// Fields in systemd's spelling; `teleportSessions` is ours.
pub(super) fn user(
    out: &mut Vec<u8>,
    account: &Account,
    groups: &[Group],
    machine: Option<Uuid>,
    now: u64,
) {
    out.extend_from_slice(b"{\"record\":");
    let mut record = Object::begin(out);
    record.text("userName", account.login());
    record.texts("aliases", account.aliases());
    record.number("uid", account.uid().into());
    record.number("gid", account.gid().into());
    if let Some(machine) = machine {
        let uuid = uuid_of(machine, account.login());
        record.text(
            "uuid",
            uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
        );
    }
    record.text("realName", account.gecos());
    record.text("homeDirectory", account.home());
    record.text("shell", account.shell());
    record.text("disposition", name_of(account.disposition()));
    record.text("service", USERDB_SERVICE);
    record.texts("memberOf", groups.iter().map(Group::name));
    // A record from the future is refused; the clock may have been set back since.
    record.number("lastChangeUSec", account.since_usec().min(now));
    record.flag("locked", account.locked());
    // It acts per session: true would end what runs in one as another is closed.
    record.flag("killProcesses", false);
    record.number("stopDelayUSec", account.stop_delay_usec());
    let weight = |weight: &u64| (1..=10_000).contains(weight);
    let umask = account.umask().map(u64::from);
    for (name, value) in [
        ("tasksMax", account.tasks_max().filter(is_limit)),
        ("memoryMax", account.memory_max().filter(is_limit)),
        ("cpuWeight", account.cpu_weight().filter(weight)),
        ("umask", umask.filter(|umask| *umask <= 0o777)),
    ] {
        if let Some(value) = value {
            record.number(name, value);
        }
    }
    record.texts("environment", account.environment());
    record.number("teleportSessions", account.sessions().into());
    record.end();
    // Nothing is ever left out of our records.
    out.extend_from_slice(b",\"incomplete\":false}");
}

/// systemd takes neither 0 nor its word for "unlimited" as a limit.
fn is_limit(limit: &u64) -> bool {
    !matches!(*limit, 0 | u64::MAX)
}

/// The UUID of a login on this machine: the same whenever it comes back.
pub(super) fn uuid_of(machine: Uuid, login: &str) -> Uuid {
    Uuid::new_v5(&machine, login.as_bytes())
}

/// `GetGroupRecord` replies with this.
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
            service: USERDB_SERVICE,
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

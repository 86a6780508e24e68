//! `GetUserRecord`: which user records answer a query.
//! How a record looks is in `record`, filters are in `filters`.

use account_table::{Account, Cursor, Group, Lookup, Table};
use uuid::Uuid;

use super::filters::{Asked, Candidate, Filters};
use super::protocol::GetUserRecord_Args;
use super::provider::{Answering, Query, Refusal, Step};
use super::record::{self, uuid_of};
use crate::runtime::transport::{InvalidParameter, Item, Replies};

/// A query for one user or all of them.
#[derive(Debug)]
pub(super) struct UserQuery {
    name: Option<String>,
    uid: Option<i64>,
    filters: Filters,
    at: Cursor,
}

impl UserQuery {
    pub(super) fn read(arguments: GetUserRecord_Args) -> Result<Self, InvalidParameter> {
        Ok(UserQuery {
            name: arguments.userName,
            uid: arguments.uid,
            filters: Filters::read(Asked {
                fuzzy_names: arguments.fuzzyNames,
                disposition_mask: arguments.dispositionMask,
                id_min: arguments.uidMin,
                id_max: arguments.uidMax,
                bounds: ["uidMin", "uidMax"],
                uuid: arguments.uuid,
            })?,
            at: Cursor::default(),
        })
    }

    fn passes(&self, account: &Account, machine: Option<Uuid>) -> bool {
        self.filters.pass(Candidate {
            names: [account.login(), account.gecos()]
                .into_iter()
                .chain(account.aliases()),
            disposition: account.disposition(),
            id: account.uid(),
            uuid: || machine.map(|machine| uuid_of(machine, account.login())),
        })
    }

    fn one(&self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        let account = &mut *with.account;
        let uid = self.uid.map(u32::try_from);
        let by_uid = |account: &mut Account| match uid {
            Some(Ok(uid)) => with.table.find_user_by_uid(uid, account),
            // Not a UID at all; an InvalidParameter would be an I/O error to the client.
            _ => Lookup::Absent,
        };
        let found = match &self.name {
            Some(name) => with.table.find_user_by_name(name.as_bytes(), account),
            None => by_uid(account),
        };
        match found {
            Lookup::Busy => return Step::Busy,
            Lookup::Absent if self.name.is_some() && uid.is_some() => {
                // No such name; if there is such a UID, the two are not one user.
                return match by_uid(account) {
                    Lookup::Busy => Step::Busy,
                    Lookup::Absent => Step::End(Refusal::NoRecordFound),
                    Lookup::Found(()) => Step::End(Refusal::ConflictingRecordFound),
                };
            }
            Lookup::Absent => return Step::End(Refusal::NoRecordFound),
            Lookup::Found(()) => {}
        }
        if uid.is_some_and(|uid| uid != Ok(account.uid())) {
            return Step::End(Refusal::ConflictingRecordFound);
        }
        if !self.passes(account, with.machine) {
            return Step::End(Refusal::NonMatchingRecordFound);
        }
        match say(with, replies) {
            Some(_) => Step::End(Refusal::NoRecordFound),
            None => Step::Busy,
        }
    }

    fn all(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        for _ in 0..self.filters.stride() {
            let before = self.at;
            match self.next(with, replies) {
                Lookup::Busy => {
                    self.at = before;
                    return Step::Busy;
                }
                Lookup::Absent | Lookup::Found(Item::Stop) => {
                    return Step::End(Refusal::NoRecordFound);
                }
                Lookup::Found(Item::Drain) => return Step::Pause,
                Lookup::Found(Item::Next) => {}
            }
        }
        Step::Pause
    }

    /// Says the record of the next user, if it passes.
    fn next(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Lookup<Item> {
        if self.filters.is_empty() {
            let mut at = self.at;
            match with.table.next_version(&mut at) {
                Lookup::Busy => return Lookup::Busy,
                Lookup::Absent => return Lookup::Absent,
                Lookup::Found(version) => {
                    if let Some(record) = with.rendered.known(with.file, version) {
                        self.at = at;
                        return Lookup::Found(replies.item_json(record));
                    }
                }
            }
        }
        match with.table.find_next_user(&mut self.at, with.account) {
            Lookup::Busy => return Lookup::Busy,
            Lookup::Absent => return Lookup::Absent,
            Lookup::Found(()) => {}
        }
        if !self.passes(with.account, with.machine) {
            return Lookup::Found(Item::Next);
        }
        say(with, replies).map_or(Lookup::Busy, Lookup::Found)
    }
}

impl Query for UserQuery {
    fn step(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        if self.name.is_some() || self.uid.is_some() {
            self.one(with, replies)
        } else {
            self.all(with, replies)
        }
    }
}

/// Says the record of the account at hand; `None` if one of its groups is busy.
fn say(with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Option<Item> {
    let (table, account, version) = (with.table, &*with.account, with.account.version());
    if let Some(record) = with.rendered.known(with.file, version) {
        return Some(replies.item_json(record));
    }
    let record = with.rendered.made(version, |out| {
        let groups = groups_of(table, account)?;
        record::user(out, account, &groups, with.machine, with.now);
        Some(())
    })?;
    Some(replies.item_json(record))
}

/// The groups an account is in, without its private one; `None` if one of them is busy.
pub(super) fn groups_of(table: &Table, account: &Account) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    for membership in account.groups() {
        match table.group_of(&membership) {
            Lookup::Found(group) => groups.push(group),
            // It has lost its last member since the account was read.
            Lookup::Absent => {}
            Lookup::Busy => return None,
        }
    }
    Some(groups)
}

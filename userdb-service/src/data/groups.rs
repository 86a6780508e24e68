//! `GetGroupRecord`: which group records answer a query.
//! Private and synthesized groups are ours; a group of others is theirs to describe, also if users
//! of ours are members of it.

use account_table::{Cursor, Disposition, Group, GroupOrigin, Lookup};

use super::filters::{Asked, Candidate, Filters};
use super::protocol::GetGroupRecord_Args;
use super::provider::{Answering, Query, Refusal, Step};
use super::record::{OfGroup, Reply};
use crate::runtime::transport::{InvalidParameter, Item, Replies};

/// A query for one group or all of them.
#[derive(Debug)]
pub(super) struct GroupQuery {
    name: Option<String>,
    gid: Option<i64>,
    filters: Filters,
    at: Cursor,
    /// All private groups, which come with their users, have been looked at.
    private_done: bool,
}

impl GroupQuery {
    pub(super) fn read(arguments: GetGroupRecord_Args) -> Result<Self, InvalidParameter> {
        Ok(GroupQuery {
            name: arguments.groupName,
            gid: arguments.gid,
            filters: Filters::read(Asked {
                fuzzy_names: arguments.fuzzyNames,
                disposition_mask: arguments.dispositionMask,
                id_min: arguments.gidMin,
                id_max: arguments.gidMax,
                bounds: ["gidMin", "gidMax"],
                uuid: arguments.uuid,
            })?,
            at: Cursor::default(),
            private_done: false,
        })
    }

    fn passes(&self, name: &str, gid: u32) -> bool {
        self.filters.pass(Candidate {
            names: std::iter::once(name),
            disposition: Disposition::Dynamic,
            id: gid,
            uuid: || None,
        })
    }

    fn one(&self, with: &Answering<'_>, replies: &mut Replies<'_>) -> Step {
        let gid = self.gid.map(u32::try_from);
        let by_gid = || match gid {
            Some(Ok(gid)) => ours(with.table.group_by_gid(gid)),
            _ => Lookup::Absent,
        };
        let found = match &self.name {
            Some(name) => ours(with.table.group_by_name(name.as_bytes())),
            None => by_gid(),
        };
        let group = match found {
            Lookup::Busy => return Step::Busy,
            Lookup::Absent if self.name.is_some() && gid.is_some() => {
                return match by_gid() {
                    Lookup::Busy => Step::Busy,
                    Lookup::Absent => Step::End(Refusal::NoRecordFound),
                    Lookup::Found(_) => Step::End(Refusal::ConflictingRecordFound),
                };
            }
            Lookup::Absent => return Step::End(Refusal::NoRecordFound),
            Lookup::Found(group) => group,
        };
        if gid.is_some_and(|gid| gid != Ok(group.gid())) {
            return Step::End(Refusal::ConflictingRecordFound);
        }
        if !self.passes(group.name(), group.gid()) {
            return Step::End(Refusal::NonMatchingRecordFound);
        }
        let _ = say(group.name(), group.gid(), replies);
        Step::End(Refusal::NoRecordFound)
    }

    fn all(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        for _ in 0..self.filters.stride() {
            let said = if self.private_done {
                match with.table.next_group(&mut self.at) {
                    Lookup::Busy => return Step::Busy,
                    Lookup::Absent => return Step::End(Refusal::NoRecordFound),
                    Lookup::Found(group) if !is_ours(&group) => continue,
                    Lookup::Found(group) => self.say_if_passes(group.name(), group.gid(), replies),
                }
            } else {
                match with.table.find_next_user(&mut self.at, with.account) {
                    Lookup::Busy => return Step::Busy,
                    Lookup::Absent => {
                        self.private_done = true;
                        self.at = Cursor::default();
                        continue;
                    }
                    Lookup::Found(()) => {
                        self.say_if_passes(with.account.login(), with.account.gid(), replies)
                    }
                }
            };
            match said {
                Item::Next => {}
                Item::Drain => return Step::Pause,
                Item::Stop => return Step::End(Refusal::NoRecordFound),
            }
        }
        Step::Pause
    }

    fn say_if_passes(&self, name: &str, gid: u32, replies: &mut Replies<'_>) -> Item {
        if self.passes(name, gid) {
            say(name, gid, replies)
        } else {
            Item::Next
        }
    }
}

impl Query for GroupQuery {
    fn step(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        if self.name.is_some() || self.gid.is_some() {
            self.one(with, replies)
        } else {
            self.all(with, replies)
        }
    }
}

fn say(name: &str, gid: u32, replies: &mut Replies<'_>) -> Item {
    replies.item(Reply::of(OfGroup::of(name, gid)))
}

fn is_ours(group: &Group) -> bool {
    group.private() || group.origin() == GroupOrigin::Synthesized
}

fn ours(found: Lookup<Group>) -> Lookup<Group> {
    match found {
        Lookup::Found(group) if !is_ours(&group) => Lookup::Absent,
        other => other,
    }
}

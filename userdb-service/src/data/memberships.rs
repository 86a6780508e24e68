//! `GetMemberships`: who of ours is in which group, of ours or of others, each pair once.
//! Primary groups are not listed: the user record says them.

use std::ops::ControlFlow;

use account_table::{Cursor, Lookup};

use super::protocol::GetMemberships_Args;
use super::provider::{Answering, Query, Refusal, STRIDE, Step};
use super::record::Membership;
use super::users::groups_of;
use crate::runtime::transport::{InvalidParameter, Item, Replies};

/// A query for the groups of a user, the members of a group, one pair, or all pairs.
#[derive(Debug)]
pub(super) struct MembershipQuery {
    user: Option<String>,
    group: Option<String>,
    at: Cursor,
    members: Option<Members>,
}

/// The members of a group who are still to be said. The table lists them in one go only; their UIDs
/// alone are kept, so that callers who do not read cost no memory to speak of.
#[derive(Debug)]
struct Members {
    gid: u32,
    /// The next one last.
    uids: Vec<u32>,
}

impl MembershipQuery {
    pub(super) fn read(arguments: GetMemberships_Args) -> Result<Self, InvalidParameter> {
        Ok(MembershipQuery {
            user: arguments.userName,
            group: arguments.groupName,
            at: Cursor::default(),
            members: None,
        })
    }

    /// The groups of one user, under the name that was asked for: it may be an alias, and the client
    /// compares.
    fn of_user(&self, user: &str, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        match with.table.find_user_by_name(user.as_bytes(), with.account) {
            Lookup::Busy => return Step::Busy,
            Lookup::Absent => return Step::End(Refusal::NoRecordFound),
            Lookup::Found(()) => {}
        }
        let Some(groups) = groups_of(with.table, with.account) else {
            return Step::Busy;
        };
        for group in &groups {
            if self
                .group
                .as_deref()
                .is_some_and(|only| only != group.name())
            {
                continue;
            }
            if say(user, group.name(), replies) == Item::Stop {
                break;
            }
        }
        Step::End(Refusal::NoRecordFound)
    }

    fn of_group(
        &mut self,
        group: &str,
        with: &mut Answering<'_>,
        replies: &mut Replies<'_>,
    ) -> Step {
        let members = match &mut self.members {
            Some(members) => members,
            None => match members_of(group, with) {
                Lookup::Busy => return Step::Busy,
                Lookup::Absent => return Step::End(Refusal::NoRecordFound),
                Lookup::Found(members) => self.members.insert(members),
            },
        };
        for _ in 0..STRIDE {
            let Some(uid) = members.uids.last() else {
                return Step::End(Refusal::NoRecordFound);
            };
            let is_member = match with.table.find_user_by_uid(*uid, with.account) {
                Lookup::Busy => return Step::Busy,
                // Gone since, or no longer in the group.
                Lookup::Absent => false,
                Lookup::Found(()) => with.account.groups().any(|one| one.gid == members.gid),
            };
            members.uids.pop();
            if !is_member {
                continue;
            }
            match say(with.account.login(), group, replies) {
                Item::Next => {}
                Item::Drain => return Step::Pause,
                Item::Stop => return Step::End(Refusal::NoRecordFound),
            }
        }
        Step::Pause
    }

    fn all(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        for _ in 0..STRIDE {
            let before = self.at;
            match with.table.find_next_user(&mut self.at, with.account) {
                Lookup::Busy => return Step::Busy,
                Lookup::Absent => return Step::End(Refusal::NoRecordFound),
                Lookup::Found(()) => {}
            }
            let Some(groups) = groups_of(with.table, with.account) else {
                self.at = before;
                return Step::Busy;
            };
            let mut full = false;
            for group in &groups {
                match say(with.account.login(), group.name(), replies) {
                    Item::Next => {}
                    Item::Drain => full = true,
                    Item::Stop => return Step::End(Refusal::NoRecordFound),
                }
            }
            if full {
                return Step::Pause;
            }
        }
        Step::Pause
    }
}

impl Query for MembershipQuery {
    fn step(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step {
        match (self.user.take(), self.group.take()) {
            (Some(user), group) => {
                self.group = group;
                let step = self.of_user(&user, with, replies);
                self.user = Some(user);
                step
            }
            (None, Some(group)) => {
                let step = self.of_group(&group, with, replies);
                self.group = Some(group);
                step
            }
            (None, None) => self.all(with, replies),
        }
    }
}

fn members_of(group: &str, with: &Answering<'_>) -> Lookup<Members> {
    let group = match with.table.group_by_name(group.as_bytes()) {
        Lookup::Found(group) => group,
        Lookup::Absent => return Lookup::Absent,
        Lookup::Busy => return Lookup::Busy,
    };
    let mut uids = Vec::new();
    let listed = with.table.members(&group, |account| {
        uids.push(account.uid());
        ControlFlow::Continue(())
    });
    uids.reverse();
    match listed {
        Lookup::Found(()) => Lookup::Found(Members {
            gid: group.gid(),
            uids,
        }),
        // It has vanished meanwhile, or vanished and come back: ask anew.
        Lookup::Absent | Lookup::Busy => Lookup::Busy,
    }
}

fn say(user: &str, group: &str, replies: &mut Replies<'_>) -> Item {
    replies.item(Membership {
        user_name: user,
        group_name: group,
    })
}

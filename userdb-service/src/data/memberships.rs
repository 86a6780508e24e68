//! `GetMemberships`: who of ours is in which group, of ours or of others, each pair once.
//! Primary groups are not listed: the user record says them.

use account_table::{Cursor, Lookup};

use super::members::{self, Members};
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
    /// The GID of a group that has too many members to be said at once: they are met among all users.
    in_large: Option<u32>,
}

impl MembershipQuery {
    pub(super) fn read(arguments: GetMemberships_Args) -> Result<Self, InvalidParameter> {
        Ok(MembershipQuery {
            user: arguments.userName,
            group: arguments.groupName,
            at: Cursor::default(),
            in_large: None,
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
        let gid = match self.in_large {
            Some(gid) => gid,
            None => match members::of(with.table, group) {
                Lookup::Busy => return Step::Busy,
                Lookup::Absent => return Step::End(Refusal::NoRecordFound),
                Lookup::Found(Members::Few(logins)) => {
                    // No more than makes a piece: there is nothing to wait for.
                    for login in logins.iter() {
                        if say(login, group, replies) == Item::Stop {
                            break;
                        }
                    }
                    return Step::End(Refusal::NoRecordFound);
                }
                Lookup::Found(Members::Many(gid)) => *self.in_large.insert(gid),
            },
        };
        let mut known = None;
        for _ in 0..STRIDE {
            let before = self.at;
            match with.table.find_next_user(&mut self.at, with.account) {
                Lookup::Busy => return Step::Busy,
                Lookup::Absent => return Step::End(Refusal::NoRecordFound),
                Lookup::Found(()) => {}
            }
            match members::is_one(with.table, with.account, (group, gid), &mut known) {
                Lookup::Found(()) => {}
                Lookup::Absent => continue,
                Lookup::Busy => {
                    self.at = before;
                    return Step::Busy;
                }
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

fn say(user: &str, group: &str, replies: &mut Replies<'_>) -> Item {
    replies.item(Membership {
        user_name: user,
        group_name: group,
    })
}

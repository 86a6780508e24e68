//! A question on its way from service to service: who is still to be asked, and what it has brought.
//! Nobody is asked from here.

use std::collections::VecDeque;

use super::super::glibc::Reply;
use crate::policy::decide::{Answer, FoundGroup, FoundMembership, FoundUser, Question};

/// A question on its way from service to service.
pub(super) struct Pending<'q> {
    pub(super) question: &'q Question,
    /// Who has not been asked yet.
    pub(super) services: VecDeque<String>,
    found: Option<Answer>,
    failed: Option<Answer>,
    memberships: Vec<FoundMembership>,
}

impl<'q> Pending<'q> {
    pub(super) fn new(question: &'q Question, services: VecDeque<String>) -> Pending<'q> {
        Pending {
            question,
            services,
            found: None,
            failed: None,
            memberships: Vec::new(),
        }
    }

    pub(super) fn hears(&mut self, service: &str, reply: Reply) {
        let source = service.to_owned();
        let found = match reply {
            Reply::NotFound => return,
            Reply::User { name, uid, gid } => Answer::User(Some(FoundUser {
                name,
                uid,
                gid,
                source,
            })),
            Reply::Group { name, gid } => Answer::Group(Some(FoundGroup { name, gid, source })),
            // Here the first is not all: one service adds to another.
            Reply::Groups(gids) => {
                let found = |gid| FoundMembership {
                    gid,
                    source: source.clone(),
                };
                self.memberships.extend(gids.into_iter().map(found));
                return;
            }
            Reply::Failed(why) => {
                self.failed.get_or_insert(Answer::Failed { source, why });
                return;
            }
        };
        self.found = Some(found);
        self.services.clear();
    }

    pub(super) fn answer(self) -> Answer {
        let said = match self.question {
            Question::User(_) | Question::UserId(_) => Answer::User(None),
            Question::Group(_) | Question::GroupId(_) => Answer::Group(None),
            Question::GroupsOf(_) => Answer::Groups(self.memberships),
        };
        self.found.or(self.failed).unwrap_or(said)
    }
}

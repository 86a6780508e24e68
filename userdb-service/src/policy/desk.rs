//! Where rules ask about users and groups of others: known answers are handed out, unknown ones are
//! noted down as questions for whoever called. Until then they count as "nobody", so that one pass
//! finds as many questions as possible; a pass with open questions decides nothing.

use super::decide::{
    Answer, Facts, FoundGroup, FoundMembership, FoundUser, Occupancy, Question, Refusal,
};
use super::ids::{Gid, Uid};
use super::names::Login;
use super::repair::repair;
use super::sentences;
use super::text::Text;

pub(crate) struct Desk<'a> {
    facts: &'a Facts,
    occupancy: &'a Occupancy,
    open: Vec<Question>,
}

/// Somebody could not be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) source: &'a str,
    pub(crate) why: &'a str,
}

impl From<Failure<'_>> for Refusal {
    fn from(failure: Failure<'_>) -> Refusal {
        sentences::lookup_failed(failure.source, failure.why)
    }
}

/// An answer of the wrong kind is a defect of the caller and counts as no answer.
const MISMATCH: Failure<'static> = Failure {
    source: "policy",
    why: "the answer was to another question",
};

/// Services that read files of the host. What they know was written there by somebody, whatever its
/// number: `useradd -u N alice` with the very number of our alice makes a user of somebody else.
const FILES: &[&str] = &["files", "compat", "db", "extrausers", "altfiles"];

/// Can this service repeat what we have published? A cache can, and so can whatever asks glibc again.
fn may_echo(service: &str) -> bool {
    !FILES.contains(&service)
}

impl<'a> Desk<'a> {
    pub(crate) fn new(facts: &'a Facts, occupancy: &'a Occupancy) -> Desk<'a> {
        Desk {
            facts,
            occupancy,
            open: Vec::new(),
        }
    }

    /// What has to be answered before anything is decided.
    pub(crate) fn into_questions(self) -> Vec<Question> {
        self.open
    }

    fn ask(&mut self, question: Question) -> Option<&'a Answer> {
        let answer = self.facts.answers.get(&question);
        if answer.is_none() && !self.open.contains(&question) {
            self.open.push(question);
        }
        answer
    }

    /// Is the answer known? Does not ask.
    pub(crate) fn knows(&self, question: &Question) -> bool {
        self.facts.answers.contains_key(question)
    }

    fn ask_user(&mut self, question: Question) -> Result<Option<&'a FoundUser>, Failure<'a>> {
        match self.ask(question) {
            None => Ok(None),
            Some(Answer::User(found)) => Ok(found.as_ref()),
            Some(Answer::Failed { source, why }) => Err(Failure { source, why }),
            Some(Answer::Group(_) | Answer::Groups(_)) => Err(MISMATCH),
        }
    }

    fn ask_group(&mut self, question: Question) -> Result<Option<&'a FoundGroup>, Failure<'a>> {
        match self.ask(question) {
            None => Ok(None),
            Some(Answer::Group(found)) => Ok(found.as_ref()),
            Some(Answer::Failed { source, why }) => Err(Failure { source, why }),
            Some(Answer::User(_) | Answer::Groups(_)) => Err(MISMATCH),
        }
    }

    /// Somebody else's user of this name. Our own, which a cache may echo, is not somebody else's.
    pub(crate) fn user(&mut self, name: &str) -> Result<Option<&'a FoundUser>, Failure<'a>> {
        let found = self.ask_user(Question::User(name.to_owned()))?;
        Ok(found.filter(|user| !(may_echo(&user.source) && self.is_our_user(name, user.uid))))
    }

    /// Somebody else's group of this name.
    pub(crate) fn group(&mut self, name: &str) -> Result<Option<&'a FoundGroup>, Failure<'a>> {
        let found = self.ask_group(Question::Group(name.to_owned()))?;
        Ok(found.filter(|group| !self.is_echo(group, name)))
    }

    /// Somebody else's user of this number.
    pub(crate) fn user_id(&mut self, id: u32) -> Result<Option<&'a FoundUser>, Failure<'a>> {
        let found = self.ask_user(Question::UserId(id))?;
        Ok(found.filter(|user| !(may_echo(&user.source) && self.is_our_user(&user.name, id))))
    }

    /// Somebody else's group of this number.
    pub(crate) fn group_id(&mut self, id: u32) -> Result<Option<&'a FoundGroup>, Failure<'a>> {
        let found = self.ask_group(Question::GroupId(id))?;
        Ok(found.filter(|group| !self.is_echo(group, &group.name)))
    }

    /// A group of somebody else that lists `name`, published as `login`, as a member: its GID, and its
    /// name if it has one. Whoever takes the name has its rights, whatever our roles give and deny.
    pub(crate) fn group_with_member(
        &mut self,
        name: &str,
        login: &Login,
    ) -> Result<Option<(u32, Option<&'a str>)>, Failure<'a>> {
        let found = match self.ask(Question::GroupsOf(name.to_owned())) {
            None => return Ok(None),
            Some(Answer::Groups(found)) => found,
            Some(Answer::Failed { source, why }) => return Err(Failure { source, why }),
            Some(Answer::User(_) | Answer::Group(_)) => return Err(MISMATCH),
        };
        for FoundMembership { gid, source } in found {
            let echoes = may_echo(source);
            if echoes && self.is_ours(*gid) {
                continue;
            }
            // Asked by number only now: who is a member of nothing, nearly everybody, needs no further round.
            let group = self.ask_group(Question::GroupId(*gid))?;
            let group = group.map(|group| group.name.as_str());
            let granted = self.occupancy.logins.get(login).is_some_and(|occupant| {
                group.is_some_and(|group| occupant.granted.contains(group))
            });
            if !(echoes && granted) {
                return Ok(Some((*gid, group)));
            }
        }
        Ok(None)
    }

    /// Has this number been given to anybody or anything of ours since boot?
    fn is_ours(&self, id: u32) -> bool {
        let user = Uid::try_from(id).is_ok_and(|id| self.occupancy.uids.contains_key(&id));
        user || Gid::try_from(id).is_ok_and(|id| self.occupancy.gids.contains_key(&id))
    }

    /// Is this group, which is known as `name`, one of ours that comes back to us?
    fn is_echo(&self, group: &FoundGroup, name: &str) -> bool {
        may_echo(&group.source)
            && (self.is_our_user(name, group.gid) || self.is_our_group(name, group.gid))
    }

    /// Has this number been given, since boot, to the login that is published under `name` or was
    /// spelled so?
    fn is_our_user(&self, name: &str, id: u32) -> bool {
        let spelled = |given: &Text| {
            given.as_str() == name || repair(given).is_ok_and(|login| login.as_str() == name)
        };
        let user = Uid::try_from(id)
            .ok()
            .and_then(|uid| self.occupancy.uids.get(&uid));
        let private = Gid::try_from(id)
            .ok()
            .and_then(|gid| self.occupancy.gids.get(&gid));
        user.is_some_and(spelled) || private.is_some_and(spelled)
    }

    /// Has this number been given, since boot, to the synthesized group `name`?
    fn is_our_group(&self, name: &str, id: u32) -> bool {
        let given = Gid::try_from(id)
            .ok()
            .and_then(|gid| self.occupancy.gids.get(&gid));
        given.and_then(|given| given.strip_prefix("group:")) == Some(name)
    }
}

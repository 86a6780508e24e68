//! Which number a name gets: the one it has, the one it asks for, the one its home has, else the
//! first free one of its candidates. What is taken is asked, never assumed free.

use std::collections::BTreeSet;

use super::config::Config;
use super::decide::{Facts, LoginRequest, Occupancy, Occupant, Question, Refusal};
use super::desk::Desk;
use super::ids::{Candidates, Gid, Uid};
use super::names::{GroupName, Login};
use super::protected::is_sudoers_id;
use super::request;
use super::sentences;
use super::shortfalls;
use super::text::Text;
use super::trace::Trace;

/// Most candidates that are looked at before the range counts as full.
const MAX_STEPS: usize = 1 << 16;

/// How far down its candidates a name's number of earlier today is looked for, and the home of a
/// repaired name is believed.
const NEAR: usize = 64;

/// Most questions about candidates in one round, once some have turned out to be taken.
const MAX_AHEAD: usize = 2048;

/// Chooses numbers for one plan.
pub(crate) struct Allocator<'a, 'd> {
    pub(crate) config: &'a Config,
    pub(crate) facts: &'a Facts,
    pub(crate) occupancy: &'a Occupancy,
    pub(crate) desk: &'d mut Desk<'a>,
    /// What this plan has been given already.
    pub(crate) chosen: BTreeSet<u32>,
}

/// For whom a number is sought.
#[derive(Clone, Copy)]
struct Seeker<'s> {
    /// What is hashed and remembered: the original login, or `group:NAME`.
    key: &'s str,
    /// Under what name the number will be found.
    name: &'s str,
    /// A user may have the number of the home of its name.
    is_user: bool,
}

impl Allocator<'_, '_> {
    /// The UID of the user and the GID of its private group.
    pub(crate) fn user(
        &mut self,
        request: &LoginRequest,
        login: &Login,
        notes: &mut Vec<String>,
        trace: &mut Trace,
    ) -> Result<(Uid, Gid), Refusal> {
        let occupant = self.occupancy.on(login, &request.login);
        let seeker = Seeker {
            key: &request.login,
            name: login.as_str(),
            is_user: true,
        };
        let uid = match (self.requested(request, "TELEPORT_UID", notes), occupant) {
            (Some(wanted), Some(occupant)) if wanted != occupant.uid.get() => {
                return Err(sentences::other_id_live(
                    "TELEPORT_UID",
                    wanted,
                    login,
                    occupant.uid.get(),
                ));
            }
            (_, Some(occupant)) => {
                for id in [occupant.uid.get(), occupant.gid.get()] {
                    if is_sudoers_id(&self.facts.host, id) {
                        return Err(sentences::live_id_in_sudoers(login, id));
                    }
                }
                trace.say("uids", || {
                    format!("the login is live with UID {}", occupant.uid)
                });
                occupant.uid.get()
            }
            (Some(wanted), None) => {
                trace.say("uids.requested", || {
                    format!("TELEPORT_UID asks for {wanted}")
                });
                self.exactly(seeker, "TELEPORT_UID", wanted)?
            }
            (None, None) => self.home_or_hash(seeker, login, trace)?,
        };
        self.chosen.insert(uid);
        let gid = self.private_group(request, seeker, occupant, uid, notes)?;
        self.chosen.insert(gid);
        match (Uid::try_from(uid), Gid::try_from(gid)) {
            (Ok(uid), Ok(gid)) => Ok((uid, gid)),
            _ => Err(sentences::exhausted(&self.config.uids.range)),
        }
    }

    fn private_group(
        &mut self,
        request: &LoginRequest,
        seeker: Seeker<'_>,
        occupant: Option<&Occupant>,
        uid: u32,
        notes: &mut Vec<String>,
    ) -> Result<u32, Refusal> {
        match (self.requested(request, "TELEPORT_GID", notes), occupant) {
            (Some(wanted), Some(occupant)) if wanted != occupant.gid.get() => Err(
                sentences::other_id_live("TELEPORT_GID", wanted, seeker.name, occupant.gid.get()),
            ),
            (_, Some(occupant)) => Ok(occupant.gid.get()),
            (Some(wanted), None) if wanted != uid => self.exactly(
                Seeker {
                    is_user: false,
                    ..seeker
                },
                "TELEPORT_GID",
                wanted,
            ),
            _ => Ok(uid),
        }
    }

    /// `TELEPORT_UID` or `TELEPORT_GID`, where it is honoured.
    fn requested(
        &self,
        request: &LoginRequest,
        variable: &str,
        notes: &mut Vec<String>,
    ) -> Option<u32> {
        let number = request::number(request, variable)?;
        let range = self.config.uids.requested.as_ref();
        match number {
            Ok(number) if range.is_some_and(|range| range.contains(&number)) => Some(number),
            Ok(number) => {
                notes.push(shortfalls::request_ignored(
                    variable,
                    &number.to_string(),
                    range,
                ));
                None
            }
            Err(text) => {
                notes.push(shortfalls::request_ignored(variable, &text, range));
                None
            }
        }
    }

    /// A number that was asked for: free, or refused. Another one would not be what was asked for.
    fn exactly(&mut self, seeker: Seeker<'_>, variable: &str, id: u32) -> Result<u32, Refusal> {
        if self.is_taken(seeker, id)? {
            return Err(sentences::requested_taken(variable, id));
        }
        Ok(id)
    }

    /// The number of the persistent home, if there is one, else the first free candidate.
    fn home_or_hash(
        &mut self,
        seeker: Seeker<'_>,
        login: &Login,
        trace: &mut Trace,
    ) -> Result<u32, Refusal> {
        let range = &self.config.uids.range;
        let home = format!("{}/{login}", self.config.home.base);
        let owner = self
            .facts
            .host
            .homes
            .get(login.as_str())
            .copied()
            .filter(|owner| range.contains(owner));
        let Some(owner) = owner else {
            let id = self
                .first_free(seeker)?
                .ok_or_else(|| sentences::exhausted(range))?;
            trace.say("uids.range", || format!("the login hashes to UID {id}"));
            return Ok(id);
        };
        // `Bob` and `bob` share the name of their home but are two logins in Teleport: the home is
        // the one's whose candidates its number is among.
        let repaired = seeker.key != seeker.name;
        if repaired && !self.candidates(seeker).take(NEAR).any(|id| id == owner) {
            return Err(sentences::home_of_another(&home, seeker.key));
        }
        if self.is_taken(seeker, owner)? {
            return Err(sentences::home_owner_taken(&home, owner));
        }
        trace.say("home.base", || {
            format!("{home} belongs to UID {owner}, so that is the UID of the login")
        });
        Ok(owner)
    }

    /// The GID of a group that is to be synthesized. `None` if no number is free or nobody can tell, or
    /// if sudoers has come to name the one that it has.
    pub(crate) fn group(&mut self, name: &GroupName) -> Option<u32> {
        if let Some(gid) = self.occupancy.groups.get(name) {
            let gid = Some(gid.get());
            return gid.filter(|gid| !is_sudoers_id(&self.facts.host, *gid));
        }
        let key = format!("group:{name}");
        let gid = self
            .first_free(Seeker {
                key: &key,
                name: name.as_str(),
                is_user: false,
            })
            .ok()??;
        self.chosen.insert(gid);
        Some(gid)
    }

    fn candidates(&self, seeker: Seeker<'_>) -> Candidates {
        Candidates::new(&self.config.uids.key, seeker.key, &self.config.uids.range)
    }

    fn first_free(&mut self, seeker: Seeker<'_>) -> Result<Option<u32>, Refusal> {
        // Even if a candidate before it is free by now.
        if let Some(id) = self.had(seeker)
            && !self.is_taken(seeker, id)?
        {
            return Ok(Some(id));
        }
        let mut taken_by_others = 0;
        let mut candidates = self
            .candidates(seeker)
            .take(MAX_STEPS)
            .filter(|id| Uid::try_from(*id).is_ok());
        while let Some(id) = candidates.next() {
            if self.is_taken_here(seeker, id) {
                continue;
            }
            if self.desk.knows(&Question::GroupId(id)) && self.is_taken(seeker, id)? {
                taken_by_others += 1;
                continue;
            }
            self.ask_about(id)?;
            if taken_by_others > 0 && !self.desk.knows(&Question::GroupId(id)) {
                // A dense neighbourhood: ask about many more at once, to need few rounds.
                for next in candidates
                    .by_ref()
                    .take((taken_by_others * 16).min(MAX_AHEAD))
                {
                    self.ask_about(next)?;
                }
            }
            return Ok(Some(id));
        }
        Ok(None)
    }

    /// What the name had earlier in this boot.
    fn had(&self, seeker: Seeker<'_>) -> Option<u32> {
        let Occupancy { uids, gids, .. } = self.occupancy;
        // Nearly everybody is new: for them the candidates need not be looked up.
        if !uids.may_know(seeker.key) && !gids.may_know(seeker.key) {
            return None;
        }
        let is_theirs = |id: &u32| self.remembered(*id).is_some_and(|key| key == seeker.key);
        self.candidates(seeker).take(NEAR).find(is_theirs)
    }

    /// Does anybody else have the number? Groups are asked for users' numbers too, and users for
    /// groups': a user of others has its UID as a GID, often without a group of that number.
    fn ask_about(&mut self, id: u32) -> Result<bool, Refusal> {
        let user = self.desk.user_id(id)?.is_some();
        let group = self.desk.group_id(id)?.is_some();
        Ok(user || group)
    }

    fn is_taken(&mut self, seeker: Seeker<'_>, id: u32) -> Result<bool, Refusal> {
        Ok(self.is_taken_here(seeker, id) || self.ask_about(id)?)
    }

    /// To whom this number has been given since boot.
    fn remembered(&self, id: u32) -> Option<&str> {
        let uid = Uid::try_from(id)
            .ok()
            .and_then(|uid| self.occupancy.uids.get(&uid));
        let gid = Gid::try_from(id)
            .ok()
            .and_then(|gid| self.occupancy.gids.get(&gid));
        uid.or(gid).map(Text::as_str)
    }

    /// Taken by what can be told without asking: sudoers, primary groups, names of ours, processes,
    /// subordinate ranges, homes.
    fn is_taken_here(&self, seeker: Seeker<'_>, id: u32) -> bool {
        // What sudoers gives to a number, it gives to whoever has it: not even the one who had it before.
        let powerful = is_sudoers_id(&self.facts.host, id);
        // Nor is a group that somebody else's user is in without its being listed anywhere.
        let primary = self.facts.host.primary_gids.contains(&id);
        if Uid::try_from(id).is_err() || self.chosen.contains(&id) || powerful || primary {
            return true;
        }
        match self.remembered(id) {
            // Its own processes may be what makes the number busy.
            Some(key) if key == seeker.key => return false,
            Some(_) => return true,
            None => {}
        }
        let host = &self.facts.host;
        let other_home = |(name, owner): (&String, &u32)| {
            *owner == id && !(seeker.is_user && name == seeker.name)
        };
        host.busy_ids.contains(&id)
            || host.subids.iter().any(|range| range.contains(&id))
            || host.homes.iter().any(other_home)
    }
}

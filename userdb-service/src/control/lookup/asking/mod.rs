//! Asks the services of nsswitch.conf: each by itself, in the order of its line, and several questions at a time.
//! Whom to ask and what was heard; what the host itself knows is not of this place.

mod pending;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::glibc::{self, Presence, Reply};
use super::local_files::LocalFiles;
use super::nsswitch::{self, NSSWITCH, Services};
use super::stamp::Stamp;
use super::twins;
use super::userdb::UserDatabase;
use crate::policy::decide::{Answer, HostFailure, Question};
use pending::Pending;

/// How long the absence of a library is believed.
const PRESENCE_FRESH: Duration = Duration::from_secs(10);
/// Questions that a service has at a time. Its answers may be long in coming, each by itself: from an LDAP server, or
/// from a PID 1 that is busy starting the sessions of a hundred people.
const AT_ONCE: usize = 8;

/// The service of systemd's user database.
const SYSTEMD: &str = "systemd";

/// Told of each service before it is asked.
pub(super) type Asking<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;
/// What there is to do while others think of their answers. It may be called several times, or never.
pub(super) type Meanwhile<'a> = &'a mut dyn FnMut();

/// Whom there is to ask.
#[derive(Debug)]
pub(super) struct Asker {
    nsswitch: PathBuf,
    services: Services,
    seen: Option<Stamp>,
    presence: BTreeMap<String, (Instant, Presence)>,
    files: LocalFiles,
    userdb: UserDatabase,
    /// Questions that will follow, if nobody answers those before them.
    next: Vec<Question>,
    /// What nobody in systemd's user database has answered of those already.
    nobodys: BTreeSet<Question>,
}

/// What a batch of questions has brought.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// In the order of the questions.
    pub(super) answers: Vec<Answer>,
    /// Services in nsswitch.conf whose library is not installed.
    pub(super) not_installed: BTreeSet<String>,
    /// Of users whom nobody has, other spellings that somebody has.
    pub(super) case_twins: BTreeMap<String, String>,
}

impl Asker {
    pub(super) fn new() -> Asker {
        Asker::at(NSSWITCH, LocalFiles::new(), UserDatabase::new())
    }

    fn at(nsswitch: impl Into<PathBuf>, files: LocalFiles, userdb: UserDatabase) -> Asker {
        Asker {
            nsswitch: nsswitch.into(),
            services: nsswitch::parse(""),
            seen: None,
            presence: BTreeMap::new(),
            files,
            userdb,
            next: Vec::new(),
            nobodys: BTreeSet::new(),
        }
    }

    /// Begins a batch: reads whom to ask, if that has changed. PID 1 has its questions before that, so that it has answered when
    /// everybody else has.
    ///
    /// # Errors
    /// `/etc/nsswitch.conf` is there and cannot be read.
    pub(super) fn begin(&mut self, questions: &[Question]) -> io::Result<()> {
        let expected = self.expected_in_userdb(questions);
        self.userdb.ask_ahead(&expected);
        let stamp = Stamp::of(&self.nsswitch);
        if self.seen != Some(stamp) {
            let seen = stamp.settled();
            let services = match std::fs::read(&self.nsswitch) {
                Ok(text) => nsswitch::parse(&String::from_utf8_lossy(&text)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => nsswitch::parse(""),
                Err(e) => return Err(e),
            };
            // Others may come first now, and an answer may be old when theirs are there.
            if services != self.services {
                self.userdb.hang_up();
            }
            self.services = services;
            self.seen = seen;
        }
        Ok(())
    }

    /// The questions that will come to systemd's user database if all is as it was for the last batch; none where that depends
    /// on somebody else's answer.
    fn expected_in_userdb<'q>(&self, questions: &'q [Question]) -> Vec<&'q Question> {
        let mut expected = Vec::new();
        for question in questions {
            match self.will_come_to_userdb(question) {
                Some(true) => expected.push(question),
                Some(false) => {}
                None => return Vec::new(),
            }
        }
        expected
    }

    fn will_come_to_userdb(&self, question: &Question) -> Option<bool> {
        // They come later than all others, and PID 1 is not asked.
        if matches!(question, Question::GroupsOf(_)) {
            return Some(false);
        }
        let services = self.services_for(question);
        // Behind all of them, if it is not listed.
        for service in services.iter().take_while(|service| *service != SYSTEMD) {
            if service != "files" {
                return None;
            }
            if self.files.remembered(question)? != Reply::NotFound {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Asks everybody everything.
    ///
    /// # Errors
    /// Those of `asking`.
    pub(super) fn ask(
        &mut self,
        questions: &[Question],
        asking: Asking<'_>,
        meanwhile: Meanwhile<'_>,
    ) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let is_of_groups = |question: &&Question| matches!(question, Question::GroupsOf(_));
        let (of_groups, others): (Vec<&Question>, Vec<&Question>) =
            questions.iter().partition(is_of_groups);
        self.next = of_groups.iter().copied().cloned().collect();
        self.nobodys.clear();
        let mut answers =
            self.ask_everybody(&others, asking, meanwhile, &mut heard.not_installed)?;
        for question in others {
            if let Question::User(name) = question
                && answers.get(question) == Some(&Answer::User(None))
            {
                let answer = self.in_another_case(name, asking, &mut heard.case_twins)?;
                answers.insert(question, answer);
            }
        }
        // A user of others goes on as it is, and its groups may be dear: an LDAP server is asked for them, and
        // for theirs.
        let is_nobodys = |question: &&Question| match question {
            Question::GroupsOf(name) => !matches!(
                answers.get(&Question::User(name.clone())),
                Some(Answer::User(Some(_)))
            ),
            _ => true,
        };
        let of_groups: Vec<&Question> = of_groups.into_iter().filter(is_nobodys).collect();
        let missing = &mut heard.not_installed;
        answers.extend(self.ask_everybody(&of_groups, asking, meanwhile, missing)?);
        let not_asked = || Answer::Groups(Vec::new());
        let answer = |question| answers.get(question).cloned().unwrap_or_else(not_asked);
        heard.answers = questions.iter().map(answer).collect();
        Ok(heard)
    }

    /// For each question the first service in the order of its line that has an answer; failing that, the first that
    /// failed.
    fn ask_everybody<'q>(
        &mut self,
        questions: &[&'q Question],
        asking: Asking<'_>,
        meanwhile: Meanwhile<'_>,
        not_installed: &mut BTreeSet<String>,
    ) -> io::Result<BTreeMap<&'q Question, Answer>> {
        // Whether there are users in systemd's user database, looked at once, and where it matters only.
        let is_userdb = OnceCell::new();
        let pending = |question: &&'q Question| {
            Pending::new(question, self.who_may_know(question, &is_userdb))
        };
        let mut pending: Vec<Pending<'q>> = questions.iter().map(pending).collect();
        // Whoever is next for one is asked for all for whom he is.
        let next = |pending: &[Pending<'_>]| {
            let first = pending.iter().find_map(|one| one.services.front());
            first.cloned()
        };
        while let Some(service) = next(&pending) {
            let mut due = Vec::new();
            for one in &mut pending {
                if one.services.front() == Some(&service) {
                    one.services.pop_front();
                    due.push(one);
                }
            }
            let presence = self.presence(&service);
            match presence {
                Presence::Usable => {}
                // Its users are some, whether or not glibc can be asked for them.
                Presence::NotInstalled
                    if service == SYSTEMD
                        && *is_userdb.get_or_init(|| self.userdb.has_others()) => {}
                Presence::NotInstalled => {
                    not_installed.insert(service);
                    continue;
                }
                Presence::Broken(why) => {
                    for one in due {
                        one.hears(&service, Reply::Failed(why.clone()));
                    }
                    continue;
                }
            }
            asking(&service)?;
            let questions: Vec<&Question> = due.iter().map(|one| one.question).collect();
            let replies = match presence {
                Presence::Usable => self.replies(&service, &questions, meanwhile),
                _ => self.replies_without_nss(&questions, meanwhile),
            };
            for (one, reply) in due.into_iter().zip(replies) {
                one.hears(&service, reply);
            }
        }
        let answer = |one: Pending<'q>| (one.question, one.answer());
        Ok(pending.into_iter().map(answer).collect())
    }

    /// What is plain is known without glibc: what local files say, and that nobody in systemd's user database answers.
    fn replies(
        &mut self,
        service: &str,
        questions: &[&Question],
        meanwhile: Meanwhile<'_>,
    ) -> Vec<Reply> {
        let known: Vec<Option<Reply>> = match service {
            "files" => self.files.ask_all(questions),
            SYSTEMD => self.nobody_in_userdb(questions, meanwhile),
            _ => vec![None; questions.len()],
        };
        let each = || questions.iter().zip(&known);
        let open: Vec<&Question> = each()
            .filter_map(|(question, known)| known.is_none().then_some(*question))
            .collect();
        let of_members = open.iter().any(|one| matches!(one, Question::GroupsOf(_)));
        if service == SYSTEMD && of_members {
            let mut services = self.services.group.clone();
            services.retain(|service| service != "teleport");
            if let Err(failed) = glibc::find_groups_of(&services) {
                return vec![failed; questions.len()];
            }
        }
        let mut said = match service {
            "files" => open.iter().map(|one| ask(service, one)).collect(),
            _ => several(service, &open),
        }
        .into_iter();
        let no_answer = || Reply::Failed("an answer of its was lost".to_owned());
        known
            .into_iter()
            .map(|known| known.or_else(|| said.next()).unwrap_or_else(no_answer))
            .collect()
    }

    /// Where systemd's user database cannot say who it is, only that it is not nobody.
    fn replies_without_nss(
        &mut self,
        questions: &[&Question],
        meanwhile: Meanwhile<'_>,
    ) -> Vec<Reply> {
        let unknown = || {
            // Who is told sees no more than the beginning.
            let why = "libnss_systemd.so.2 is missing; install libnss-systemd";
            Reply::Failed(why.to_owned())
        };
        let nobody = self.nobody_in_userdb(questions, meanwhile);
        nobody
            .into_iter()
            .map(|nobody| nobody.unwrap_or_else(unknown))
            .collect()
    }

    /// Those questions that follow are asked in the same breath, lest all services are connected to once more for them.
    fn nobody_in_userdb(
        &mut self,
        questions: &[&Question],
        meanwhile: Meanwhile<'_>,
    ) -> Vec<Option<Reply>> {
        if !questions.iter().all(|one| self.nobodys.contains(*one)) {
            let next = std::mem::take(&mut self.next);
            let all: Vec<&Question> = questions.iter().copied().chain(&next).collect();
            let nobody = self.userdb.has_nobody(&all, meanwhile);
            let nobodys = all.iter().zip(nobody).filter(|(_, nobody)| *nobody);
            self.nobodys = nobodys.map(|(one, _)| (*one).clone()).collect();
        }
        let answer = |one: &&Question| self.nobodys.contains(*one).then_some(Reply::NotFound);
        questions.iter().map(answer).collect()
    }

    fn who_may_know(&self, question: &Question, is_userdb: &OnceCell<bool>) -> VecDeque<String> {
        let mut services = self.services_for(question);
        // Users of other userdb providers are users, whether or not nsswitch.conf shows them.
        let listed = services.iter().any(|service| service == SYSTEMD);
        if !listed && *is_userdb.get_or_init(|| self.userdb.has_others()) {
            services.push(SYSTEMD.to_owned());
        }
        services.into()
    }

    /// Those of nsswitch.conf, but for us.
    fn services_for(&self, question: &Question) -> Vec<String> {
        let mut services = match question {
            Question::User(_) | Question::UserId(_) => self.services.passwd.clone(),
            Question::Group(_) | Question::GroupId(_) => self.services.group.clone(),
            Question::GroupsOf(_) => self.services.of_members(),
        };
        services.retain(|service| service != "teleport");
        services
    }

    fn presence(&mut self, service: &str) -> Presence {
        if let Some((at, presence)) = self.presence.get(service)
            && (*presence == Presence::Usable || at.elapsed() < PRESENCE_FRESH)
        {
            return presence.clone();
        }
        let presence = glibc::presence(service);
        self.presence
            .insert(service.to_owned(), (Instant::now(), presence.clone()));
        presence
    }

    /// The answer to whether there is a user `name`, of whom nobody knows, once others than files were
    /// asked for its other spellings: a user found so goes into `twins`, and who fails has not answered.
    fn in_another_case(
        &mut self,
        name: &str,
        asking: Asking<'_>,
        twins: &mut BTreeMap<String, String>,
    ) -> io::Result<Answer> {
        // Files are read as a whole; names in systemd's user database are in lower case.
        let elsewhere = |service: &String| !["files", "teleport", SYSTEMD].contains(&&**service);
        let spellings: Vec<Question> = twins::spellings(name)
            .into_iter()
            .map(Question::User)
            .collect();
        let spellings: Vec<&Question> = spellings.iter().collect();
        for service in self.services.passwd.clone().into_iter().filter(elsewhere) {
            if self.presence(&service) != Presence::Usable {
                continue;
            }
            asking(&service)?;
            for (spelling, reply) in spellings.iter().zip(several(&service, &spellings)) {
                match (spelling, reply) {
                    (Question::User(spelling), Reply::User { .. }) => {
                        twins
                            .entry(name.to_owned())
                            .or_insert_with(|| spelling.clone());
                    }
                    (_, Reply::Failed(why)) => {
                        let source = service;
                        return Ok(Answer::Failed { source, why });
                    }
                    _ => {}
                }
            }
        }
        Ok(Answer::User(None))
    }

    /// The users asked for who are in a netgroup that sudoers names.
    pub(super) fn in_netgroups(
        &mut self,
        netgroups: &BTreeSet<String>,
        questions: &[Question],
    ) -> Result<BTreeSet<String>, HostFailure> {
        let mut members = BTreeSet::new();
        for service in self.services.netgroup.clone() {
            let failed = |why| HostFailure {
                source: service.clone(),
                why,
            };
            match self.presence(&service) {
                Presence::Usable => {}
                Presence::NotInstalled => continue,
                Presence::Broken(why) => return Err(failed(why)),
            }
            for netgroup in netgroups {
                for question in questions {
                    let Question::User(name) = question else {
                        continue;
                    };
                    match glibc::in_netgroup(&service, netgroup, name) {
                        Some(true) => drop(members.insert(name.clone())),
                        Some(false) => {}
                        None => return Err(failed("glibc cannot ask it for netgroups".to_owned())),
                    }
                }
            }
        }
        Ok(members)
    }
}

fn ask(service: &str, question: &Question) -> Reply {
    match glibc::prepare(service, question) {
        Ok(()) => glibc::ask(service, question),
        Err(known) => known,
    }
}

/// Puts questions to a service that can be asked, some at a time.
fn several(service: &str, questions: &[&Question]) -> Vec<Reply> {
    let alone = |question: &&Question| matches!(question, Question::GroupsOf(_));
    if questions.len() == 1 || questions.iter().any(alone) {
        return questions.iter().map(|one| ask(service, one)).collect();
    }
    let some = |questions: &[&Question]| {
        // All of them before any is asked, see there.
        let prepared: Vec<Result<(), Reply>> = questions
            .iter()
            .map(|question| glibc::prepare(service, question))
            .collect();
        let put = |(question, prepared): (&&Question, &Result<(), Reply>)| match prepared {
            Ok(()) => glibc::ask(service, question),
            Err(known) => known.clone(),
        };
        let each = || questions.iter().zip(&prepared);
        thread::scope(|scope| {
            let started: Vec<_> = each()
                .map(|one| thread::Builder::new().spawn_scoped(scope, move || put(one)))
                .collect();
            let joined = started.into_iter().zip(each());
            joined
                .map(|(thread, one)| match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|_| {
                        Reply::Failed("the thread that asked it has panicked".to_owned())
                    }),
                    // There may be no more threads; then one after the other.
                    Err(_) => put(one),
                })
                .collect::<Vec<Reply>>()
        })
    };
    questions.chunks(AT_ONCE).flat_map(some).collect()
}

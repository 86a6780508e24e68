//! The lookup worker: a process that asks other people's NSS modules and may be killed at any time.
//! Holds no state that matters and takes no decision.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::OWN_SERVICE;
use super::glibc::{self, Presence};
use super::host_facts::{Homes, SubordinateIds};
use super::local_files::LocalFiles;
use super::local_users::{self, LocalUsers};
use super::named::Scanner;
use super::nsswitch::{self, Services, Stamp};
use super::remains;
use super::twins;
use super::wire::{HostReport, Reply, Request, Results};
use crate::policy::decide::{
    Answer, FoundGroup, FoundMembership, FoundUser, HostFailure, Question,
};

/// Without a question for this long the worker ends; the next one starts another.
const IDLE: Duration = Duration::from_secs(60);
/// After this long the worker ends between two questions: what modules of others leak, goes with it.
const LIFETIME: Duration = Duration::from_secs(300);
/// From the hang-up to SIGKILL. Whoever is not in a module sees the hang-up at once and ends by itself.
const GRACE: Duration = Duration::from_millis(200);
/// How long the absence of a library is believed.
const PRESENCE_FRESH: Duration = Duration::from_secs(10);

const NSSWITCH: &str = "/etc/nsswitch.conf";
const USERDB_FOLDER: &str = "/run/systemd/userdb";

/// Serves questions on file descriptor 0, a connected stream socket, until the asker hangs up or the
/// worker has been idle or alive for long enough. A hang-up ends it in the middle of a question too.
///
/// # Errors
/// Descriptor 0 is not a socket, the environment lets lookups come back to ourselves, or the other side
/// broke the protocol.
pub fn run() -> io::Result<()> {
    let bypass = std::env::var("SYSTEMD_BYPASS_USERDB").unwrap_or_default();
    if !bypass.split(':').any(|name| name == OWN_SERVICE) {
        return Err(io::Error::other(format!(
            "SYSTEMD_BYPASS_USERDB must name {OWN_SERVICE}"
        )));
    }
    let born = Instant::now();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_read_timeout(Some(IDLE))?;
    end_with(socket.try_clone()?)?;
    let mut requests = BufReader::new(socket.try_clone()?);
    let mut replies = socket;
    let mut worker = Worker::new();
    let mut line = Vec::new();
    while born.elapsed() < LIFETIME {
        line.clear();
        match requests.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        let request: Request = serde_json::from_slice(&line)?;
        let results = worker.answer(&request, &mut |reply| send(&mut replies, reply))?;
        send(&mut replies, &Reply::Done(Box::new(results)))?;
    }
    Ok(())
}

/// Kills this process soon after the asker has hung up, also while a module hangs: nobody else could
/// tell. By signal, because an exit would run what modules have registered for it, and may hang there.
fn end_with(socket: UnixStream) -> io::Result<()> {
    let watch = move || {
        // A hang-up is reported without being asked for.
        let mut hangup = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        // Any error but EINTR: not to know is not to go on.
        while poll(&mut hangup, PollTimeout::NONE) == Err(Errno::EINTR) {}
        std::thread::sleep(GRACE);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    };
    std::thread::Builder::new()
        .name("hang-up".to_owned())
        .spawn(watch)?;
    Ok(())
}

fn send(to: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    to.write_all(&line)
}

struct Worker {
    services: Services,
    seen: Option<Stamp>,
    presence: BTreeMap<String, (Instant, Presence)>,
    subids: SubordinateIds,
    homes: Homes,
    sudoers: Scanner,
    passwd: LocalUsers,
    files: LocalFiles,
}

impl Worker {
    fn new() -> Worker {
        Worker {
            services: nsswitch::parse(""),
            seen: None,
            presence: BTreeMap::new(),
            subids: SubordinateIds::default(),
            homes: Homes::default(),
            sudoers: Scanner::new(),
            passwd: LocalUsers::new(local_users::PASSWD),
            files: LocalFiles::new(),
        }
    }

    fn answer(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(&Reply) -> io::Result<()>,
    ) -> io::Result<Results> {
        let mut results = Results::default();
        let mut answers = Vec::new();
        let mut blamed = BTreeSet::from(["files".to_owned()]);
        match self.read_services() {
            Ok(()) => {
                for question in &request.questions {
                    // A user of others goes on as it is, and its groups may be dear: an LDAP server is
                    // asked for them, and for theirs.
                    if let Question::GroupsOf(name) = question
                        && is_found(name, &request.questions, &answers)
                    {
                        answers.push(Answer::Groups(Vec::new()));
                        continue;
                    }
                    let answer =
                        self.ask_all(question, &mut results.not_installed, &mut |service| {
                            match blamed.insert(service.to_owned()) {
                                true => progress(&Reply::Asking(service.to_owned())),
                                false => Ok(()),
                            }
                        })?;
                    let twins = &mut results.host.case_twins;
                    answers.push(match (question, answer) {
                        (Question::User(name), Answer::User(None)) => {
                            self.in_another_case(name, twins)
                        }
                        (_, answer) => answer,
                    });
                }
            }
            Err(e) => {
                // Nobody knows whom to ask; a local user is one all the same.
                let local = |question: &Question| match question {
                    Question::User(name) => local_users::find(Path::new(local_users::PASSWD), name),
                    _ => None,
                };
                answers.extend(
                    request
                        .questions
                        .iter()
                        .map(|question| match local(question) {
                            Some(user) => Answer::User(Some(user)),
                            None => Answer::Failed {
                                source: NSSWITCH.to_owned(),
                                why: e.to_string(),
                            },
                        }),
                );
            }
        }
        // Whoever exists goes on by these, whatever becomes of the rest.
        progress(&Reply::Answers(answers))?;
        // Everything else of the host is on local file systems; homes may be on a server that hangs.
        let about = request.home_base.as_deref().unwrap_or("the host");
        progress(&Reply::Asking(about.to_owned()))?;
        if let Err(e) = self.host(request, &mut results) {
            results.host.failure = Some(HostFailure {
                source: "the host".to_owned(),
                why: e.to_string(),
            });
        }
        // They may be on a server, too.
        if !self.sudoers.netgroups().is_empty() {
            progress(&Reply::Asking("netgroups".to_owned()))?;
            match self.in_netgroups(request) {
                Ok(members) => results.host.in_netgroups = members,
                Err(failure) => drop(results.host.failure.get_or_insert(failure)),
            }
        }
        Ok(results)
    }

    fn read_services(&mut self) -> io::Result<()> {
        let stamp = Stamp::of(Path::new(NSSWITCH));
        if self.seen != Some(stamp) {
            self.services = match std::fs::read(NSSWITCH) {
                Ok(text) => nsswitch::parse(&String::from_utf8_lossy(&text)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => nsswitch::parse(""),
                Err(e) => return Err(e),
            };
            self.seen = Some(stamp);
        }
        Ok(())
    }

    /// The first service in the order of the line that has it; failing that, the first that failed.
    fn ask_all(
        &mut self,
        question: &Question,
        not_installed: &mut BTreeSet<String>,
        asking: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> io::Result<Answer> {
        let (mut services, absent) = match question {
            Question::User(_) | Question::UserId(_) => {
                (self.services.passwd.clone(), Answer::User(None))
            }
            Question::Group(_) | Question::GroupId(_) => {
                (self.services.group.clone(), Answer::Group(None))
            }
            Question::GroupsOf(_) => (self.services.of_members(), Answer::Groups(Vec::new())),
        };
        // Users of other userdb providers are users, whether or not nsswitch.conf shows them.
        let listed = services.iter().any(|service| service == "systemd");
        if !listed && others_in_userdb(Path::new(USERDB_FOLDER)) {
            services.push("systemd".to_owned());
        }
        let mut failed = None;
        let mut memberships = Vec::new();
        for service in services.iter().filter(|service| *service != "teleport") {
            match self.presence(service) {
                Presence::Usable => {}
                Presence::NotInstalled => {
                    not_installed.insert(service.clone());
                    continue;
                }
                Presence::Broken(why) => {
                    failed.get_or_insert(Answer::Failed {
                        source: service.clone(),
                        why,
                    });
                    continue;
                }
            }
            asking(service)?;
            let source = service.clone();
            let read = match service.as_str() {
                "files" => self.files.ask(question),
                _ => None,
            };
            match read.unwrap_or_else(|| glibc::ask(service, question)) {
                glibc::Reply::NotFound => {}
                glibc::Reply::User { name, uid, gid } => {
                    return Ok(Answer::User(Some(FoundUser {
                        name,
                        uid,
                        gid,
                        source,
                    })));
                }
                glibc::Reply::Group { name, gid } => {
                    return Ok(Answer::Group(Some(FoundGroup { name, gid, source })));
                }
                // Here the first is not all: one service adds to another.
                glibc::Reply::Groups(gids) => {
                    let found = |gid| FoundMembership {
                        gid,
                        source: source.clone(),
                    };
                    memberships.extend(gids.into_iter().map(found));
                }
                glibc::Reply::Failed(why) => {
                    failed.get_or_insert(Answer::Failed { source, why });
                }
            }
        }
        Ok(match failed {
            Some(failed) => failed,
            None if memberships.is_empty() => absent,
            None => Answer::Groups(memberships),
        })
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
    fn in_another_case(&mut self, name: &str, twins: &mut BTreeMap<String, String>) -> Answer {
        // Files are read as a whole; names in systemd's user database are in lower case.
        let elsewhere = |service: &String| !["files", "teleport", "systemd"].contains(&&**service);
        for service in self.services.passwd.clone().into_iter().filter(elsewhere) {
            if self.presence(&service) != Presence::Usable {
                continue;
            }
            for spelling in twins::spellings(name) {
                match glibc::ask(&service, &Question::User(spelling.clone())) {
                    glibc::Reply::User { .. } => {
                        twins.entry(name.to_owned()).or_insert(spelling);
                    }
                    glibc::Reply::Failed(why) => {
                        let source = service;
                        return Answer::Failed { source, why };
                    }
                    glibc::Reply::NotFound
                    | glibc::Reply::Group { .. }
                    | glibc::Reply::Groups(_) => {}
                }
            }
        }
        Answer::User(None)
    }

    /// The users asked for who are in a netgroup that sudoers names.
    fn in_netgroups(&mut self, request: &Request) -> Result<BTreeSet<String>, HostFailure> {
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
            for netgroup in self.sudoers.netgroups() {
                for question in &request.questions {
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

    fn host(&mut self, request: &Request, results: &mut Results) -> io::Result<()> {
        let mut names = BTreeSet::new();
        let mut uids = BTreeSet::new();
        for question in &request.questions {
            match question {
                Question::User(name) => drop(names.insert(name.as_str())),
                Question::UserId(uid) => drop(uids.insert(*uid)),
                Question::Group(_) | Question::GroupId(_) | Question::GroupsOf(_) => {}
            }
        }
        let named = self.sudoers.read()?.clone();
        let known = request.sudoers_seen == Some(named.version);
        results.sudoers_version = named.version;
        let (sudoers_names, sudoers_ids) = match known {
            true => Default::default(),
            false => (named.names, named.ids),
        };
        let mut case_twins = std::mem::take(&mut results.host.case_twins);
        let passwd = self.passwd.read()?;
        case_twins.extend(passwd.twins(&names));
        results.host = HostReport {
            subids: self.subids.read()?.to_vec(),
            sudoers_names,
            sudoers_ids,
            in_netgroups: BTreeSet::new(),
            case_twins,
            homes: match &request.home_base {
                Some(base) => self.homes.of(Path::new(base), &names, &uids)?,
                None => BTreeMap::new(),
            },
            busy_ids: remains::busy(&uids)?,
            primary_gids: passwd.primary_gids(&uids),
            failure: None,
        };
        Ok(())
    }
}

/// Whether one of the answers so far is a user of this name.
fn is_found(name: &str, questions: &[Question], answers: &[Answer]) -> bool {
    questions
        .iter()
        .zip(answers)
        .any(|pair| matches!(pair, (Question::User(asked), Answer::User(Some(_))) if asked == name))
}

/// Whether somebody besides us offers users over varlink. The multiplexer and the NSS bridge only
/// repeat what others say.
fn others_in_userdb(folder: &Path) -> bool {
    let repeaters = [
        OWN_SERVICE,
        "io.systemd.Multiplexer",
        "io.systemd.NameServiceSwitch",
    ];
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| !repeaters.iter().any(|name| entry.file_name() == **name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_providers_make_userdb_worth_asking() {
        let dir = std::env::temp_dir().join(format!("userdb-{}", std::process::id()));
        assert!(!others_in_userdb(&dir));
        std::fs::create_dir_all(&dir).unwrap();
        for name in [
            OWN_SERVICE,
            "io.systemd.Multiplexer",
            "io.systemd.NameServiceSwitch",
        ] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        assert!(!others_in_userdb(&dir));
        std::fs::write(dir.join("io.systemd.DynamicUser"), "").unwrap();
        assert!(others_in_userdb(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

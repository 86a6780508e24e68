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

use super::THE_HOST;
use super::asking::Asker;
use super::host_facts::{Homes, SubordinateIds};
use super::local_users::{self, LocalUsers};
use super::named::Scanner;
use super::nsswitch::NSSWITCH;
use super::wire::{HostReport, Reply, Request, Results};
use crate::USERDB_SERVICE;
use crate::control::end::remains;
use crate::policy::decide::{Answer, HostFailure, Question};

/// Without a question for this long the worker ends; the next one starts another.
const IDLE: Duration = Duration::from_secs(60);
/// After this long the worker ends between two questions: what modules of others leak, goes with it.
const LIFETIME: Duration = Duration::from_secs(300);
/// Who is asked, and nearly always first, once the host is known to be quick: only our own code and services of systemd's.
const SYSTEMD_OR_HOST: &str = "systemd or the host";
/// From the hang-up to SIGKILL. Whoever is not in a module sees the hang-up at once and ends by itself.
const GRACE: Duration = Duration::from_millis(200);

/// Serves questions on file descriptor 0, a connected stream socket, until the asker hangs up or the
/// worker has been idle or alive for long enough. A hang-up ends it in the middle of a question too.
///
/// # Errors
/// Descriptor 0 is not a socket, the environment lets lookups come back to ourselves, or the other side
/// broke the protocol.
pub fn run() -> io::Result<()> {
    let bypass = std::env::var("SYSTEMD_BYPASS_USERDB").unwrap_or_default();
    if !bypass.split(':').any(|name| name == USERDB_SERVICE) {
        return Err(io::Error::other(format!(
            "SYSTEMD_BYPASS_USERDB must name {USERDB_SERVICE}"
        )));
    }
    let born = Instant::now();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_read_timeout(Some(IDLE))?;
    end_with(socket.try_clone()?)?;
    let mut requests = BufReader::new(socket.try_clone()?);
    let mut replies = Replies::to(socket);
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
        let results = worker.answer(&request, &mut |reply| replies.send(reply))?;
        replies.send(&Reply::Done(Box::new(results)))?;
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

/// The way back to the asker.
struct Replies {
    to: UnixStream,
    unsent: Vec<u8>,
}

impl Replies {
    fn to(to: UnixStream) -> Replies {
        let unsent = Vec::new();
        Replies { to, unsent }
    }

    /// Answers go with what follows them at once, be it who is asked next: each send wakes the daemon.
    fn send(&mut self, reply: &Reply) -> io::Result<()> {
        serde_json::to_writer(&mut self.unsent, reply)?;
        self.unsent.push(b'\n');
        if matches!(reply, Reply::Answers(_)) {
            return Ok(());
        }
        let sent = self.to.write_all(&self.unsent);
        self.unsent.clear();
        sent
    }
}

struct Worker {
    asker: Asker,
    host: Host,
    /// As the daemon was told with the last results: see there.
    first: Option<String>,
}

/// What is asked of the host itself.
struct Host {
    subids: SubordinateIds,
    homes: Homes,
    sudoers: Scanner,
    passwd: LocalUsers,
    /// It could be read once, so that it probably can again.
    is_quick: bool,
}

/// What is asked for, by kind.
struct Candidates<'r> {
    names: BTreeSet<&'r str>,
    uids: BTreeSet<u32>,
}

impl Worker {
    fn new() -> Worker {
        Worker {
            asker: Asker::new(),
            host: Host {
                subids: SubordinateIds::default(),
                homes: Homes::default(),
                sudoers: Scanner::new(),
                passwd: LocalUsers::new(local_users::PASSWD),
                is_quick: false,
            },
            first: None,
        }
    }

    fn answer(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(&Reply) -> io::Result<()>,
    ) -> io::Result<Results> {
        let Worker { asker, host, first } = self;
        // First of all, for it puts the question whose answer is waited for.
        let begun = asker.begin(&request.questions);
        // What the daemon takes for granted need not be said: each line wakes it.
        let mut expected = first.take();
        let mut asked_first = None;
        let mut progress = |reply: &Reply| {
            if let Reply::Asking(source) = reply {
                asked_first.get_or_insert_with(|| source.clone());
                if expected.take().is_some_and(|expected| expected == *source) {
                    return Ok(());
                }
            }
            progress(reply)
        };
        let candidates = Candidates::of(&request.questions);
        let mut results = Results::default();
        // What is quickly read, read while others think of their answers. What sudoers includes may be on a disk that hangs,
        // and keeps those who exist waiting then. So the first time, which is each time after a hang, it is read
        // when they have their answers.
        let is_quick = host.is_quick;
        let mut local = None;
        // Who was asked before may be asked again, and hang only then.
        let mut blamed = String::new();
        let answers = match begun {
            Ok(()) => {
                let heard = asker.ask(
                    &request.questions,
                    &mut |service| {
                        if service == "files" || service == blamed {
                            return Ok(());
                        }
                        service.clone_into(&mut blamed);
                        progress(&Reply::Asking(match service {
                            "systemd" if is_quick => SYSTEMD_OR_HOST.to_owned(),
                            _ => service.to_owned(),
                        }))
                    },
                    &mut || {
                        if is_quick && local.is_none() {
                            local = Some(host.local(request, &candidates));
                        }
                    },
                )?;
                results.not_installed = heard.not_installed;
                results.host.case_twins = heard.case_twins;
                heard.answers
            }
            Err(e) => {
                // Nobody knows whom to ask; a local user is one all the same.
                let local = |question: &Question| match question {
                    Question::User(name) => local_users::find(Path::new(local_users::PASSWD), name),
                    _ => None,
                };
                let answer = |question: &Question| match local(question) {
                    Some(user) => Answer::User(Some(user)),
                    None => Answer::Failed {
                        source: NSSWITCH.to_owned(),
                        why: e.to_string(),
                    },
                };
                request.questions.iter().map(answer).collect()
            }
        };
        // Whoever exists goes on by these, whatever becomes of the rest.
        progress(&Reply::Answers(answers))?;
        let local = match local {
            Some(local) => local,
            None => {
                progress(&Reply::Asking(THE_HOST.to_owned()))?;
                host.local(request, &candidates)
            }
        };
        host.is_quick = local.is_ok();
        // Homes may be on a server that hangs.
        if let Some(base) = &request.home_base {
            progress(&Reply::Asking(base.clone()))?;
        }
        let told = local.and_then(|local| {
            let homes = host.homes_of(request, &candidates)?;
            Ok((local, homes))
        });
        match told {
            Ok((local, homes)) => {
                let mut case_twins = std::mem::take(&mut results.host.case_twins);
                case_twins.extend(local.host.case_twins);
                results.sudoers_version = local.sudoers_version;
                results.host = HostReport {
                    case_twins,
                    homes,
                    ..local.host
                };
            }
            Err(e) => {
                results.host.failure = Some(HostFailure {
                    source: THE_HOST.to_owned(),
                    why: e.to_string(),
                });
            }
        }
        // They may be on a server, too.
        let netgroups = host.sudoers.netgroups();
        if !netgroups.is_empty() {
            progress(&Reply::Asking("netgroups".to_owned()))?;
            match asker.in_netgroups(netgroups, &request.questions) {
                Ok(members) => results.host.in_netgroups = members,
                Err(failure) => drop(results.host.failure.get_or_insert(failure)),
            }
        }
        *first = asked_first.filter(|first| first == SYSTEMD_OR_HOST);
        results.first.clone_from(first);
        Ok(results)
    }
}

impl<'r> Candidates<'r> {
    fn of(questions: &'r [Question]) -> Candidates<'r> {
        let mut candidates = Candidates {
            names: BTreeSet::new(),
            uids: BTreeSet::new(),
        };
        for question in questions {
            match question {
                Question::User(name) => drop(candidates.names.insert(name.as_str())),
                Question::UserId(uid) => drop(candidates.uids.insert(*uid)),
                Question::Group(_) | Question::GroupId(_) | Question::GroupsOf(_) => {}
            }
        }
        candidates
    }
}

impl Host {
    /// Everything but homes.
    fn local(&mut self, request: &Request, about: &Candidates<'_>) -> io::Result<Results> {
        let named = self.sudoers.read()?;
        let sudoers_version = named.version;
        let (sudoers_names, sudoers_ids) = match request.sudoers_seen == Some(sudoers_version) {
            true => Default::default(),
            false => (named.names.clone(), named.ids.clone()),
        };
        let passwd = self.passwd.read()?;
        Ok(Results {
            host: HostReport {
                subids: self.subids.read()?.to_vec(),
                sudoers_names,
                sudoers_ids,
                case_twins: passwd.twins(&about.names),
                busy_ids: remains::busy(&about.uids)?,
                primary_gids: passwd.primary_gids(&about.uids),
                ..HostReport::default()
            },
            sudoers_version,
            ..Results::default()
        })
    }

    fn homes_of(
        &mut self,
        request: &Request,
        about: &Candidates<'_>,
    ) -> io::Result<BTreeMap<String, u32>> {
        match &request.home_base {
            Some(base) => self.homes.of(Path::new(base), &about.names, &about.uids),
            None => Ok(BTreeMap::new()),
        }
    }
}

//! Whether nobody in systemd's user database has a name or number: its services are asked over varlink, all at once, and
//! its folders are read.
//!
//! nss-systemd asks the same, with 130 system calls and a pass over all services for each question. Here only
//! "nobody" is told; whatever else is said is left to it.

mod drop_ins;
mod manager;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod world;

use std::fs::DirEntry;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::json;
use varlink::{Reply, Request};

use crate::USERDB_SERVICE;
use crate::policy::decide::Question;
use drop_ins::Folder;
use manager::{Kept, MANAGER, for_manager};

const SERVICES: &str = "/run/systemd/userdb";
/// Where records and memberships are dropped in as files.
const FOLDERS: [&str; 5] = [
    "/etc/userdb",
    "/run/userdb",
    "/run/host/userdb",
    "/usr/local/lib/userdb",
    "/usr/lib/userdb",
];

/// The multiplexer and the NSS bridge only repeat what others say.
const REPEATERS: [&str; 3] = [
    USERDB_SERVICE,
    "io.systemd.Multiplexer",
    "io.systemd.NameServiceSwitch",
];
/// Answers from the files of [`FOLDERS`].
const DROP_INS: &str = "io.systemd.DropIn";
/// Services of systemd's own take many questions on one connection. Of others it is not known; its clients have a
/// connection for each.
const SYSTEMD: &str = "io.systemd.";

/// Errors that mean "nobody", be it because the service has nobody of this kind.
const NOBODY: [&str; 8] = [
    "io.systemd.UserDatabase.NoRecordFound",
    "io.systemd.UserDatabase.NonMatchingRecordFound",
    "io.systemd.UserDatabase.ConflictingRecordFound",
    "io.systemd.UserDatabase.EnumerationNotSupported",
    "org.varlink.service.InterfaceNotFound",
    "org.varlink.service.MethodNotFound",
    "org.varlink.service.MethodNotImplemented",
    "org.varlink.service.InvalidParameter",
];

/// How soon a full queue is tried again.
const AGAIN: Duration = Duration::from_millis(1);

/// Longest reply, as systemd has it.
const LONGEST: u64 = 16 << 20;

/// Users and groups that nss-systemd makes up: root and nobody, and from 258 on those of foreign images.
const MADE_UP: [&str; 3] = ["root", "nobody", "nogroup"];
const FOREIGN: &str = "foreign-";
const FOREIGN_IDS: std::ops::RangeInclusive<u32> = 0x7ffe_0000..=0x7ffe_ffff;
const MADE_UP_IDS: [u32; 2] = [0, 65534];

/// The database as it is found in folders.
#[derive(Debug)]
pub(super) struct UserDatabase {
    services: PathBuf,
    folders: Vec<Folder>,
    /// The connection to [`MANAGER`].
    kept: Option<Kept>,
}

/// A connection on which some of the questions were put.
struct Put {
    to: Service,
    stream: UnixStream,
    is_new: bool,
    questions: Vec<Places>,
}

/// The place of a question, and that of one which has the same answer.
#[derive(Clone, Copy)]
struct Places(usize, Option<usize>);

/// An entry of the folder of services.
#[derive(Clone)]
struct Service {
    name: String,
    inode: u64,
}

impl UserDatabase {
    pub(super) fn new() -> UserDatabase {
        UserDatabase::at(SERVICES, FOLDERS)
    }

    fn at(
        services: impl Into<PathBuf>,
        folders: impl IntoIterator<Item: Into<PathBuf>>,
    ) -> UserDatabase {
        UserDatabase {
            services: services.into(),
            folders: folders
                .into_iter()
                .map(|path| Folder::new(path.into()))
                .collect(),
            kept: None,
        }
    }

    /// First of all for a login: puts to PID 1, where a connection was kept, what it is expected to be asked, so that it answers while
    /// everything else is looked at. The answer counts if that leads to these very questions to this very socket, and for
    /// this login only.
    pub(super) fn ask_ahead(&mut self, questions: &[&Question]) {
        let Some(kept) = self.kept.take() else {
            return;
        };
        let open: Vec<usize> = (0..questions.len())
            .filter(|at| !is_made_up(questions[*at]))
            .collect();
        let to_put = for_manager(questions, &open);
        self.kept = kept.ask_ahead(&at_places(questions, &to_put));
    }

    /// Leaves unheard what was put ahead, and asks anew from now on.
    pub(super) fn hang_up(&mut self) {
        self.kept = None;
    }

    /// Whether somebody besides us offers users over varlink. Where that cannot be seen somebody may, and is asked.
    pub(super) fn has_others(&self) -> bool {
        let repeats = |entry: DirEntry| REPEATERS.iter().any(|name| entry.file_name() == **name);
        match std::fs::read_dir(&self.services) {
            Ok(mut entries) => entries.any(|entry| !entry.is_ok_and(repeats)),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// For each question, whether nobody there answers to it. `false`: nss-systemd has to be asked.
    ///
    /// Waits for services for as long as they take; does what there is to do meanwhile once all have been asked.
    pub(super) fn has_nobody(
        &mut self,
        questions: &[&Question],
        meanwhile: &mut dyn FnMut(),
    ) -> Vec<bool> {
        let mut nobody: Vec<bool> = questions.iter().map(|one| !is_made_up(one)).collect();
        if !nobody.contains(&true) {
            return nobody;
        }
        let mut folders = std::mem::take(&mut self.folders);
        // What cannot be listed may have anybody.
        let mut all_listed = false;
        let asked = self.ask(questions, &mut nobody, &mut || {
            let listed: Vec<bool> = folders.iter_mut().map(|one| one.read().is_ok()).collect();
            all_listed = !listed.contains(&false);
            meanwhile();
        });
        self.folders = folders;
        for (nobody, question) in nobody.iter_mut().zip(questions) {
            *nobody &= all_listed && !self.folders.iter().any(|folder| folder.has(question));
        }
        match asked {
            Ok(true) => nobody,
            // Without anybody to ask, what that means is nss-systemd's to say.
            Ok(false) | Err(_) => vec![false; questions.len()],
        }
    }

    /// Puts those questions that are still `nobody` to every service. Whether there was one.
    fn ask(
        &mut self,
        questions: &[&Question],
        nobody: &mut [bool],
        meanwhile: &mut dyn FnMut(),
    ) -> io::Result<bool> {
        let open: Vec<usize> = (0..questions.len()).filter(|at| nobody[*at]).collect();
        let mut put: Vec<Put> = Vec::new();
        let mut is_any = false;
        for service in services(&self.services)? {
            let to_put = match service.name == MANAGER {
                true => for_manager(questions, &open),
                false => open.iter().map(|place| Places(*place, None)).collect(),
            };
            // PID 1 is there, and has nothing to say to these.
            is_any |= to_put.is_empty();
            let at_once = match service.name.starts_with(SYSTEMD) {
                true => open.len(),
                false => 1,
            };
            for some in to_put.chunks(at_once) {
                let mut tried = self.put(&service, questions, some);
                // Full: some let in one after the other, the next one when we have hung up. So nobody is waited for before
                // that is done.
                if tried.as_ref().is_err_and(is_full) {
                    put.drain(..)
                        .try_for_each(|one| self.hear(one, questions, nobody))?;
                    while tried.as_ref().is_err_and(is_full) {
                        sleep(AGAIN);
                        tried = self.put(&service, questions, some);
                    }
                }
                match tried {
                    Ok(one) => {
                        put.push(one);
                        is_any = true;
                    }
                    // Its socket outlives it. Beside others who know nobody it counts for nothing to nss-systemd, too.
                    Err(error) if is_gone(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        meanwhile();
        put.into_iter()
            .try_for_each(|one| self.hear(one, questions, nobody))?;
        Ok(is_any)
    }

    fn put(&mut self, to: &Service, questions: &[&Question], some: &[Places]) -> io::Result<Put> {
        let to_put = at_places(questions, some);
        let put = |stream, is_new| Put {
            to: to.clone(),
            stream,
            is_new,
            questions: some.to_vec(),
        };
        if to.name == MANAGER
            && let Some(kept) = self.kept.take()
            && let Some(stream) = kept.asked(&to_put, to.inode)
        {
            return Ok(put(stream, false));
        }
        let mut stream = connected(&self.services.join(&to.name))?;
        stream.write_all(&calls(&to.name, &to_put)?)?;
        Ok(put(stream, true))
    }

    fn hear(&mut self, put: Put, questions: &[&Question], nobody: &mut [bool]) -> io::Result<()> {
        let is_at_end = match put.hear(nobody) {
            Ok(is_at_end) => is_at_end,
            // PID 1 hangs up when it is executed anew.
            Err(_) if !put.is_new => {
                let again = self.put(&put.to, questions, &put.questions)?;
                return self.hear(again, questions, nobody);
            }
            Err(error) => return Err(error),
        };
        if is_at_end && put.to.name == MANAGER {
            self.kept = Some(Kept::new(put.stream, put.to.inode));
        }
        Ok(())
    }
}

impl Put {
    /// Whether nothing more has come than what was asked for.
    fn hear(&self, nobody: &mut [bool]) -> io::Result<bool> {
        let mut replies = BufReader::new(&self.stream);
        let mut message = Vec::new();
        for Places(place, other) in &self.questions {
            loop {
                message.clear();
                (&mut replies).take(LONGEST).read_until(0, &mut message)?;
                let Some((0, text)) = message.split_last() else {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                };
                let reply: Reply = serde_json::from_slice(text)?;
                let has_nobody = reply.error.is_some_and(|error| NOBODY.contains(&&*error));
                nobody[*place] &= has_nobody;
                if let Some(other) = other {
                    nobody[*other] &= has_nobody;
                }
                if reply.continues != Some(true) {
                    break;
                }
            }
        }
        Ok(replies.buffer().is_empty())
    }
}

/// Those of a folder that are worth asking.
fn services(folder: &Path) -> io::Result<Vec<Service>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut entries = Dir::new(openat(CWD, folder, flags, Mode::empty())?)?;
    let mut services = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name.starts_with('.') || name == DROP_INS || REPEATERS.contains(&name) {
            continue;
        }
        services.push(Service {
            name: name.to_owned(),
            inode: entry.ino(),
        });
    }
    Ok(services)
}

fn is_made_up(question: &Question) -> bool {
    match question {
        Question::User(name) | Question::Group(name) | Question::GroupsOf(name) => {
            MADE_UP.contains(&name.as_str()) || name.starts_with(FOREIGN)
        }
        Question::UserId(id) | Question::GroupId(id) => {
            MADE_UP_IDS.contains(id) || FOREIGN_IDS.contains(id)
        }
    }
}

fn at_places<'q>(questions: &[&'q Question], places: &[Places]) -> Vec<&'q Question> {
    let at = |Places(place, _): &Places| questions[*place];
    places.iter().map(at).collect()
}

/// Questions to a service as they go over a connection.
fn calls(service: &str, questions: &[&Question]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for question in questions {
        serde_json::to_writer(&mut text, &call(service, question))?;
        text.push(0);
    }
    Ok(text)
}

fn call(service: &str, question: &Question) -> Request<'static> {
    let (method, key, value) = match question {
        Question::User(name) => ("GetUserRecord", "userName", json!(name)),
        Question::UserId(uid) => ("GetUserRecord", "uid", json!(uid)),
        Question::Group(name) => ("GetGroupRecord", "groupName", json!(name)),
        Question::GroupId(gid) => ("GetGroupRecord", "gid", json!(gid)),
        Question::GroupsOf(name) => ("GetMemberships", "userName", json!(name)),
    };
    let method = format!("io.systemd.UserDatabase.{method}");
    let mut call = Request::create(method, Some(json!({ key: value, "service": service })));
    // Nobody else can have several replies.
    call.more = matches!(question, Question::GroupsOf(_)).then_some(true);
    call
}

/// A connection, if its queue has room for one.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

//! Whether nobody in systemd's user database has a name or number: its services are asked over varlink, all at once, and
//! its folders are read.
//!
//! nss-systemd asks the same, with 130 system calls and a pass over all services for each question. Here only
//! "nobody" is told; whatever else is said is left to it.

mod drop_ins;
#[cfg(test)]
mod tests;

use std::fs::DirEntry;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use serde_json::json;
use varlink::{Reply, Request};

use super::OWN_SERVICE;
use crate::policy::decide::Question;
use crate::policy::ids::OF_SERVICES;
use drop_ins::Folder;

pub(super) const SERVICES: &str = "/run/systemd/userdb";
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
    OWN_SERVICE,
    "io.systemd.Multiplexer",
    "io.systemd.NameServiceSwitch",
];
/// Answers from the files of [`FOLDERS`].
const DROP_INS: &str = "io.systemd.DropIn";
/// Services of systemd's own take many questions on one connection. Of others it is not known; its clients have a
/// connection for each.
const SYSTEMD: &str = "io.systemd.";
/// PID 1, which never ends: the connection to it is kept from one login to the next. Others may want to end when nobody is
/// connected.
const MANAGER: &str = "io.systemd.DynamicUser";

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
    /// To [`MANAGER`].
    kept: Option<Kept>,
}

/// A connection on which everything that was asked has been answered.
#[derive(Debug)]
struct Kept {
    stream: UnixStream,
    /// Inode of the socket that it was made to.
    socket: u64,
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
        let mut text = Vec::new();
        for Places(place, _) in some {
            serde_json::to_writer(&mut text, &call(&to.name, questions[*place]))?;
            text.push(0);
        }
        let put = |stream, is_new| Put {
            to: to.clone(),
            stream,
            is_new,
            questions: some.to_vec(),
        };
        let kept = match to.name == MANAGER {
            true => self.kept.take().filter(|kept| kept.socket == to.inode),
            false => None,
        };
        if let Some(Kept { mut stream, .. }) = kept
            && is_silent(&stream)
            && stream.write_all(&text).is_ok()
        {
            return Ok(put(stream, false));
        }
        let mut stream = connected(&self.services.join(&to.name))?;
        stream.write_all(&text)?;
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
            self.kept = Some(Kept {
                stream: put.stream,
                socket: put.to.inode,
            });
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

/// What PID 1 need be asked of these: it takes 15 µs for each answer, and a login waits for it. Its users and groups are those of
/// `DynamicUser=` (systemd.exec(5)). They come in pairs of one name and one number, so whoever is no user of its is no group
/// either; their numbers are of one range; and they are members of nothing: its GetMemberships has no record of anybody, from
/// systemd 245 to 262.
fn for_manager(questions: &[&Question], places: &[usize]) -> Vec<Places> {
    let place_of = |question| places.iter().find(|place| *questions[**place] == question);
    let is_asked = |question| place_of(question).is_some();
    let places = places.iter().filter_map(|place| match questions[*place] {
        Question::User(name) => Some(Places(
            *place,
            place_of(Question::Group(name.clone())).copied(),
        )),
        Question::Group(name) if is_asked(Question::User(name.clone())) => None,
        Question::Group(_) => Some(Places(*place, None)),
        Question::UserId(id) | Question::GroupId(id) if !OF_SERVICES.contains(id) => None,
        Question::UserId(id) => Some(Places(*place, place_of(Question::GroupId(*id)).copied())),
        Question::GroupId(id) if is_asked(Question::UserId(*id)) => None,
        Question::GroupId(_) => Some(Places(*place, None)),
        Question::GroupsOf(_) => None,
    });
    places.collect()
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

/// Whether it is there and has said nothing that was not asked for: replies name no question, so that one too many would
/// be taken for the next one's, and each after it for another's.
fn is_silent(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut [0; 1], flags), Err(Errno::AGAIN))
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

/// Whether somebody besides us offers users over varlink. Where that cannot be seen somebody may, and is asked.
pub(super) fn has_others(folder: &Path) -> bool {
    let repeats = |entry: DirEntry| REPEATERS.iter().any(|name| entry.file_name() == **name);
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.any(|entry| !entry.is_ok_and(repeats)),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

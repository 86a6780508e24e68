//! PID 1 among the services: what it is asked, and the connection to it, on which it is asked before anything is looked at.
//! What it says is heard like what all others say.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{Places, calls};
use crate::policy::decide::Question;
use crate::policy::ids::OF_SERVICES;

/// PID 1, which never ends: the connection to it is kept from one login to the next. Others may want to end when nobody is
/// connected.
pub(super) const MANAGER: &str = "io.systemd.DynamicUser";

/// A connection on which everything has been answered but what is `ahead`.
#[derive(Debug)]
pub(super) struct Kept {
    stream: UnixStream,
    /// Inode of the socket that it was made to.
    socket: u64,
    /// Questions that are on their way. Whether an answer to them is wanted is seen only afterwards.
    ahead: Vec<Question>,
}

impl Kept {
    pub(super) fn new(stream: UnixStream, socket: u64) -> Kept {
        let ahead = Vec::new();
        Kept {
            stream,
            socket,
            ahead,
        }
    }

    /// Puts these. `None`: it is of no use any more. Waits for nobody: what was put before has been read.
    pub(super) fn ask_ahead(mut self, questions: &[&Question]) -> Option<Kept> {
        // An answer that nobody has heard would be taken for one to these.
        if !self.ahead.is_empty() {
            return None;
        }
        if questions.is_empty() {
            return Some(self);
        }
        let text = calls(MANAGER, questions).ok()?;
        // Before they are put: whatever comes after it may be an answer.
        if !is_silent(&self.stream) || self.stream.write_all(&text).is_err() {
            return None;
        }
        self.ahead = questions.iter().copied().cloned().collect();
        Some(self)
    }

    /// With these questions on their way to who listens at `socket`: those very ones that were put ahead, or put now.
    pub(super) fn asked(self, questions: &[&Question], socket: u64) -> Option<UnixStream> {
        if self.socket != socket {
            return None;
        }
        if self.ahead.iter().eq(questions.iter().copied()) {
            return Some(self.stream);
        }
        Some(self.ask_ahead(questions)?.stream)
    }
}

/// Whether it is there and has said nothing that was not asked for: replies name no question, so that one too many would
/// be taken for the next one's, and each after it for another's.
fn is_silent(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut [0; 1], flags), Err(Errno::AGAIN))
}

/// What PID 1 need be asked of these: it takes 15 µs for each answer, and a login waits for it. Its users and groups are those of
/// `DynamicUser=` (systemd.exec(5)). They come in pairs of one name and one number, so whoever is no user of its is no group
/// either; their numbers are of one range; and they are members of nothing: its GetMemberships has no record of anybody, from
/// systemd 245 to 262.
pub(super) fn for_manager(questions: &[&Question], places: &[usize]) -> Vec<Places> {
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

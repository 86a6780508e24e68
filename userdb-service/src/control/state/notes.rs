//! Keeping what is written down for a restart true to the registry, also after a write or a removal that failed.
//!
//! What a file has to say is asked of the registry each time, so that a late attempt never brings the past back.

use std::io;
use std::rc::Rc;

use tokio::time::sleep;
use tracing::error;

use crate::control::daemon::Daemon;
use crate::control::daemon::effects::RETRY;
use crate::control::registry::{SessionId, State};
use crate::control::state::FOLDER;
use crate::policy::{Gid, Login, Uid};
use crate::runtime;

/// A file of the state. In the order in which they are written: a session is what says of its login and of its IDs what no other
/// file says yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control) enum Note {
    UsedUid(Uid, String),
    UsedGid(Gid, String),
    Login(Login),
    Session(SessionId),
}

/// Why somebody is not let in who could not be found again after a restart.
pub(in crate::control) fn not_written(error: &io::Error) -> String {
    format!("the session cannot be written down in {FOLDER}: {error}")
}

impl Daemon {
    /// Makes the file say what the registry says, or removes it.
    pub(in crate::control) fn write_down(&self, note: &Note) -> io::Result<()> {
        let registry = self.registry.borrow();
        match note {
            Note::Session(id) => match registry.session(*id) {
                Some(session) if matches!(session.state, State::Departed { .. }) => {
                    self.state.depart_session(session)
                }
                Some(session) => self.state.save_session(session),
                None => self.state.forget_session(*id),
            },
            Note::Login(login) => match registry.standing(login) {
                Some(standing) => self.state.save_login(standing),
                None => self.state.forget_login(login),
            },
            Note::UsedUid(uid, given) => self.state.save_uid(*uid, given),
            Note::UsedGid(gid, name) => self.state.save_gid(*gid, name),
        }
    }

    /// The same for what is not refused to anybody for that: what fails is tried again until it is done.
    pub(in crate::control) fn write_down_in_time(&self, note: Note) {
        let done = self.write_down(&note);
        if done.is_ok() {
            self.unwritten.borrow_mut().remove(&note);
        } else {
            self.write_down_soon(note);
        }
    }

    /// Whether what is known of the logins is written down.
    pub(in crate::control) fn has_written_logins_down(&self) -> bool {
        let unwritten = self.unwritten.borrow();
        !unwritten.iter().any(|note| matches!(note, Note::Login(_)))
    }

    /// Removes what is written down of a session that is gone, once all is written down that its file says of its login.
    pub(in crate::control) fn forget_in_time(&self, id: SessionId) {
        let first = self.unwritten.borrow().first().cloned();
        match first {
            None | Some(Note::Session(_)) => self.write_down_in_time(Note::Session(id)),
            Some(_) => self.write_down_soon(Note::Session(id)),
        }
    }

    /// The same, once those who have been answered have gone on. For what a start can tell from other notes.
    pub(in crate::control) fn write_down_soon(&self, note: Note) {
        if self.unwritten.borrow_mut().insert(note) {
            self.to_be_written.notify_one();
        }
    }

    /// Writes down what is put off, and for as long as that fails.
    pub(in crate::control) async fn write_down_what_is_not(self: Rc<Self>) {
        loop {
            self.to_be_written.notified().await;
            runtime::a_moment_passes().await;
            let mut told = false;
            while let Err(error) = self.write_down_the_rest() {
                if !std::mem::replace(&mut told, true) {
                    error!("the state for a restart cannot be written, trying again: {error}");
                }
                sleep(RETRY).await;
            }
        }
    }

    /// Writes down all that is not. The last error, if some of it cannot be.
    pub(in crate::control) fn write_down_the_rest(&self) -> io::Result<()> {
        let notes = self.unwritten.take();
        let mut done = Ok(());
        for note in notes {
            let is_gone = |id: &SessionId| self.registry.borrow().session(*id).is_none();
            if done.is_err() && matches!(&note, Note::Session(id) if is_gone(id)) {
                self.unwritten.borrow_mut().insert(note);
                continue;
            }
            if let Err(error) = self.write_down(&note) {
                self.unwritten.borrow_mut().insert(note);
                done = Err(error);
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_told_which_folder_is_full_or_gone() {
        let told = not_written(&io::ErrorKind::StorageFull.into());
        assert!(told.contains("in /run/teleport-sessiond: "), "{told}");
    }
}

//! Keeping what is written down for a restart true to the registry, also after a write or a removal that failed.
//!
//! What a file has to say is asked of the registry each time, so that a late attempt never brings the past back.

use std::io;
use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::error;

use super::daemon::Daemon;
use super::effects::RETRY;
use super::registry::{SessionId, State};
use crate::policy::{Gid, Login, Uid};

/// A file of the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    Session(SessionId),
    Login(Login),
    UsedUid(Uid, String),
    UsedGid(Gid, String),
}

impl Daemon {
    /// Makes the file say what the registry says, or removes it.
    pub(super) fn write_down(&self, note: &Note) -> io::Result<()> {
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

    /// The same for what nobody waits for: what fails is tried again until it is done.
    pub(super) fn write_down_in_time(self: &Rc<Self>, note: Note) {
        let Err(error) = self.write_down(&note) else {
            return;
        };
        error!(%error, "the state for a restart cannot be written; trying again");
        let first = self.unwritten.borrow().is_empty();
        self.unwritten.borrow_mut().insert(note);
        if !first {
            return;
        }
        let daemon = self.clone();
        spawn_local(async move {
            while !daemon.unwritten.borrow().is_empty() {
                sleep(RETRY).await;
                let notes = std::mem::take(&mut *daemon.unwritten.borrow_mut());
                for note in notes {
                    if daemon.write_down(&note).is_err() {
                        daemon.unwritten.borrow_mut().insert(note);
                    }
                }
            }
        });
    }
}

//! What a daemon takes up from the one before it: sessions, their users, their rights.
//! It waits for a disk a few seconds at most: nothing that lives may hang on one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::control::daemon::messages;
use crate::control::daemon::{Daemon, StartError};
use crate::control::host::clock::Boottime;
use crate::control::leader::{Leader, LeaderError};
use crate::control::registry::{Effect, Session, Standing};
use crate::control::state::notes::Note;
use crate::control::state::{self, Loaded, stranded};
use crate::control::sudo::rights::WITHDRAWAL;
use crate::policy::sudoers::SUDOERS_D;
use crate::policy::{Login, SudoersSpec};
use crate::runtime::shortage::is_shortage;

/// How long the start waits for the disk of sudoers.d. What it has not done by then comes later: whoever logs in
/// waits for the rights of an earlier session to go, as ever.
const DISK: Duration = Duration::from_secs(3);
/// Descriptors that must be left once all leaders have theirs: the start, and the first who come, need some.
const SPARE: usize = 16;
/// How often more a leader is looked for that the kernel did not say anything of.
const TRIES: usize = 3;

impl Daemon {
    /// After a restart: sessions whose leaders live go on, the others end, and nothing else of ours is
    /// left in the table or in sudoers.d. All of it before the first call is answered, but what the disk
    /// holds up.
    ///
    /// # Errors
    /// It cannot be found out what there was. Nothing has changed then, and the next start may find it out.
    pub(in crate::control) async fn take_up_where_it_was_left(
        self: &Rc<Self>,
    ) -> Result<(), StartError> {
        let mut loaded = self.state.load().map_err(|error| {
            StartError(format!(
                "cannot read who was on before the start from {}: {error}",
                state::FOLDER
            ))
        })?;
        self.find_leaders_again(&mut loaded)?;
        let damaged = loaded.damaged.len();
        // Of sessions it is what says that some cannot be read, for as long as that is not written down of their logins.
        let (of_sessions, others) = std::mem::take(&mut loaded.damaged)
            .into_iter()
            .partition::<Vec<_>, _>(|(path, _)| self.state.is_of_a_session(path));
        let lost = of_sessions.len();
        self.set_aside(others);
        self.keep_used_ids_used(&loaded);
        self.forget_stuck_rights();
        let published = stranded::published();
        // Whose last session is over has been withdrawn.
        let in_doubt = match loaded.lacks_sessions {
            true => published.keys().cloned().collect(),
            false => BTreeSet::new(),
        };
        let strays = stranded::strays(published, &loaded.standings, &loaded.sessions);
        loaded.standings.extend(strays);
        let logins = loaded.standings.iter().map(|standing| &standing.login);
        let logins = logins.chain(loaded.sessions.iter().map(Session::login));
        let logins: BTreeSet<Login> = logins.cloned().collect();
        self.rights.borrow_mut().may_have_files(logins.into_iter());
        let effects = self.registry.borrow_mut().restore(
            Boottime::now(),
            loaded.standings,
            loaded.sessions,
            loaded.used_ids,
            &in_doubt,
            |session| self.leaders.borrow().contains_key(&session.id),
        );
        let disk = Instant::now() + DISK;
        let grants = self.carry_out_but_grants(effects).await;
        let (stranded, lingering, live) = {
            let registry = self.registry.borrow();
            let lingering: Vec<&Standing> = registry.lingering().collect();
            let login = |standing: &&Standing| standing.login.clone();
            let stranded: BTreeSet<Login> = lingering
                .iter()
                .filter(|standing| standing.is_stranded())
                .map(login)
                .collect();
            let lingering: BTreeSet<Login> = lingering.iter().map(login).collect();
            let live: BTreeSet<Login> = registry
                .list()
                .iter()
                .map(|session| session.login().clone())
                .collect();
            (stranded, lingering, live)
        };
        for login in &stranded {
            self.write_down_in_time(Note::Login(login.clone()));
        }
        // Otherwise they are met again by the next start.
        if self.has_written_logins_down() {
            self.set_aside(of_sessions);
        }
        let swept = self.sweep();
        let on_disk = self.grant_again(swept, grants);
        if timeout_at(disk, on_disk).await.is_err() {
            warn!("{SUDOERS_D} does not answer; sudo rights are taken away and given when it does");
        }
        self.table.borrow_mut().retain(|login| {
            Login::try_from(login)
                .is_ok_and(|login| live.contains(&login) || lingering.contains(&login))
        });
        self.nscd.table_changed();
        self.take_over_homes();
        if !live.is_empty() {
            info!("{} logins go on after a restart", live.len());
        }
        if damaged > 0 || !stranded.is_empty() {
            error!(
                MESSAGE_ID = messages::STATE_UNUSABLE,
                "{}",
                told_of_damage(damaged, lost, &stranded)
            );
        }
        Ok(())
    }

    fn set_aside(&self, damaged: Vec<(PathBuf, String)>) {
        for (path, why) in damaged {
            warn!("{} is set aside: {why}", path.display());
            if let Err(error) = self.state.set_aside(&path) {
                error!("{} cannot be set aside: {error}", path.display());
            }
        }
    }

    /// Rights that are over go at once and together; whatever else there is to do follows. What is to be granted is
    /// returned, by login: the last word on each.
    async fn carry_out_but_grants(
        self: &Rc<Self>,
        effects: Vec<Effect>,
    ) -> BTreeMap<Login, Vec<SudoersSpec>> {
        let mut rights = BTreeMap::new();
        let mut others = Vec::new();
        for effect in effects {
            match effect {
                Effect::Sudoers(login, specs) => drop(rights.insert(login, specs)),
                other => others.push(other),
            }
        }
        let (over, grants): (BTreeMap<_, _>, BTreeMap<_, Vec<_>>) =
            rights.into_iter().partition(|(_, specs)| specs.is_empty());
        for login in over.keys() {
            let ordered = self.order_sudoers(login.clone(), &[]);
            self.let_go(ordered);
        }
        let deadline = Instant::now() + WITHDRAWAL;
        for login in over.keys() {
            self.is_rid_of_old_rights(login, deadline).await;
        }
        self.carry_out(others).finished().await;
        grants
    }

    /// Removes what nobody who lives was granted.
    fn sweep(self: &Rc<Self>) -> JoinHandle<()> {
        let swept = self
            .sudoers
            .sweep(self.registry.borrow().sudoers().cloned().collect());
        let daemon = self.clone();
        spawn_local(async move {
            match swept.come().await {
                Some(Ok(swept)) => {
                    daemon.sudoers.has_seen(swept.read);
                    let mut rights = daemon.rights.borrow_mut();
                    rights.in_place.extend(swept.kept);
                    for doubt in swept.doubtful {
                        error!(MESSAGE_ID = messages::SUDO_LEFT, "{doubt}");
                    }
                }
                Some(Err(error)) => error!("stale sudoers files cannot be removed: {error}"),
                None => error!("nobody works in {SUDOERS_D} any more"),
            }
        })
    }

    /// Gives living sessions what they had, one after the other, so that each has its time on a slow disk; after the sweep, which says
    /// who has a file still.
    fn grant_again(
        self: &Rc<Self>,
        swept: JoinHandle<()>,
        grants: BTreeMap<Login, Vec<SudoersSpec>>,
    ) -> JoinHandle<()> {
        let daemon = self.clone();
        spawn_local(async move {
            let _ = swept.await;
            for (login, specs) in grants {
                // By its turn it may have ended, or have been told something else.
                let holds = daemon.registry.borrow().specs(&login) == Some(&specs);
                if !holds {
                    continue;
                }
                let ordered = daemon.order_sudoers(login.clone(), &specs);
                let outcome = daemon.wait_for_order(ordered).await;
                let waits = daemon.rights.borrow().waiting.contains(&login);
                if outcome.message.is_some() && !waits {
                    daemon.grant_in_time(login);
                }
            }
        })
    }

    /// Of a damaged note about a used ID only the ID is known. Written down anew, it stays so.
    fn keep_used_ids_used(self: &Rc<Self>, loaded: &Loaded) {
        for (uid, name) in &loaded.used_ids.uids {
            if name.is_empty() {
                self.write_down_in_time(Note::UsedUid(*uid, name.clone()));
            }
        }
        for (gid, name) in &loaded.used_ids.gids {
            if name.is_empty() {
                self.write_down_in_time(Note::UsedGid(*gid, name.clone()));
            }
        }
    }

    /// Those that live. A session whose leader the kernel does not tell of is as one that cannot be read: it may live.
    fn find_leaders_again(&self, loaded: &mut Loaded) -> Result<(), StartError> {
        let sessions = std::mem::take(&mut loaded.sessions);
        let count = sessions.len();
        for session in sessions {
            match found_again(&session) {
                Ok(leader) => {
                    let mut leaders = self.leaders.borrow_mut();
                    leaders.insert(session.id, Rc::new(leader));
                }
                Err(LeaderError::Gone) => {}
                Err(LeaderError::Unknown(error)) if is_shortage(&error) => {
                    return Err(short_of(count, &error));
                }
                Err(error @ LeaderError::Unknown(_)) => {
                    let file = self.state.file_of(&session);
                    loaded.damaged.push((file, error.to_string()));
                    loaded.lacks_sessions = true;
                    continue;
                }
            }
            loaded.sessions.push(session);
        }
        spare().map_err(|error| short_of(count, &error))
    }
}

fn found_again(session: &Session) -> Result<Leader, LeaderError> {
    let mut found = Leader::reidentify(&session.leader);
    for _ in 0..TRIES {
        if !matches!(found, Err(LeaderError::Unknown(_))) {
            break;
        }
        found = Leader::reidentify(&session.leader);
    }
    found
}

/// Of the damaged files so many are of sessions, which are `lost`. Who is stranded may be so since an earlier start.
fn told_of_damage(damaged: usize, lost: usize, stranded: &BTreeSet<Login>) -> String {
    let files = match damaged {
        0 => "nothing more of the saved sessions is damaged".to_owned(),
        1 => "1 file of the saved sessions cannot be used".to_owned(),
        _ => format!("{damaged} files of the saved sessions cannot be used"),
    };
    match (stranded.is_empty(), lost) {
        (true, 0) => return format!("{files}; every session goes on"),
        (true, _) => {
            return format!(
                "{files}, {lost} of them of sessions, which are over or have lost their rights and end with others of their logins"
            );
        }
        (false, _) => {}
    }
    let names: Vec<&str> = stranded.iter().map(AsRef::as_ref).collect();
    let whose = match names.len() {
        1 => "1 login has".to_owned(),
        number => format!("{number} logins have"),
    };
    format!(
        "{files}; {whose} no sudo rights and no groups any more, and each ends with its last process: {}",
        names.join(" ")
    )
}

/// Whether there are descriptors left.
fn spare() -> io::Result<()> {
    let any = std::fs::File::open("/dev/null")?;
    let spare: io::Result<Vec<_>> = (0..SPARE).map(|_| any.try_clone()).collect();
    spare.map(drop)
}

fn short_of(sessions: usize, error: &io::Error) -> StartError {
    let what = match sessions {
        0 => "cannot start".to_owned(),
        1 => "cannot go on with the session of before the start".to_owned(),
        _ => format!("cannot go on with {sessions} sessions of before the start"),
    };
    StartError(format!(
        "{what}: {error}; each session needs a descriptor or two (LimitNOFILE= of the unit, fs.file-max of the machine)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_short_of_descriptors_speaks_of_sessions_only_where_there_are_some() {
        let error = io::Error::from_raw_os_error(nix::libc::EMFILE);
        for (sessions, said) in [
            (0, "cannot start: Too many"),
            (
                1,
                "cannot go on with the session of before the start: Too many",
            ),
            (
                7,
                "cannot go on with 7 sessions of before the start: Too many",
            ),
        ] {
            let StartError(told) = short_of(sessions, &error);
            assert!(told.starts_with(said), "{told}");
        }
    }
}

//! The processes that start leaders, each watched once however many sessions it has started: Teleport is the parent of all.
//! What the end of a parent means is said where it is waited for.

use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};

use crate::control::leader::{Exit, Leader, LeaderId};

/// How many there may be before it is looked whether somebody still waits for each.
const FEW: usize = 16;

/// The parents that somebody waits for, and the last one.
#[derive(Debug, Default)]
pub(in crate::control) struct Parents {
    watched: HashMap<LeaderId, Weak<Exit>>,
    /// The same by PID, with when each started. One PID may have been several processes' in turn: the last one of them.
    of_pid: HashMap<i32, (u64, Weak<Exit>)>,
    /// How many were waited for when last looked.
    living: usize,
    /// The one of the last leader, kept for the next: Teleport's, as a rule, when nobody else is in.
    last: Option<Rc<Exit>>,
}

impl Parents {
    /// The same for the parent of `leader`, if it is watched already and lives. As long as it does, its PID is nobody else's, and
    /// nobody takes over whom it has started: it still is the parent. (Who has the PID since the leader was looked at is younger than he.)
    pub(in crate::control) fn watched_of(&mut self, leader: &Leader) -> Option<Rc<Exit>> {
        let (started, exit) = self.of_pid.get(&leader.parent_then()?)?;
        let exit = exit.upgrade()?;
        let is_it = *started < leader.id().start_time && matches!(exit.has_come(), Ok(false));
        is_it.then(|| self.kept(exit))
    }

    fn kept(&mut self, exit: Rc<Exit>) -> Rc<Exit> {
        self.last = Some(Rc::clone(&exit));
        exit
    }

    /// Something to wait on for the end of `parent`, shared with everybody who has asked for the same one.
    ///
    /// # Errors
    /// The descriptor cannot be watched (out of memory or of watches).
    pub(in crate::control) fn watch(&mut self, parent: &Leader) -> io::Result<Rc<Exit>> {
        if let Some(exit) = self.watched.get(parent.id()).and_then(Weak::upgrade) {
            return Ok(self.kept(exit));
        }
        let exit = Rc::new(parent.watch()?);
        // Seldom: a look at all of them for each new one would make logins dearer the more sessions there are.
        if self.watched.len() >= FEW.max(2 * self.living) {
            self.watched.retain(|_, exit| exit.strong_count() > 0);
            self.of_pid.retain(|_, (_, exit)| exit.strong_count() > 0);
            self.living = self.watched.len();
        }
        let LeaderId {
            pid, start_time, ..
        } = *parent.id();
        self.of_pid.insert(pid, (start_time, Rc::downgrade(&exit)));
        self.watched
            .insert(parent.id().clone(), Rc::downgrade(&exit));
        Ok(self.kept(exit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    fn sleeper() -> (Child, Leader) {
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let leader = Leader::from_pid(child.id().try_into().unwrap()).unwrap();
        (child, leader)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_watch_of_a_parent_tells_everybody_who_waits_for_it() {
        let mut parents = Parents::default();
        let (mut child, first) = sleeper();
        let again = Leader::from_pid(first.id().pid).unwrap();
        let one = parents.watch(&first).unwrap();
        let other = parents.watch(&again).unwrap();
        assert!(Rc::ptr_eq(&one, &other));
        child.kill().unwrap();
        let (one, other) = tokio::join!(one.ended(), other.ended());
        assert!(one.is_ok() && other.is_ok());
        child.wait().unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_parent_that_is_watched_is_known_as_long_as_it_lives() {
        // Not started in the same tick of the clock.
        let script = "sleep 0.05; sleep 60 & echo $!; exec sleep 60";
        let mut parent = Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let leader = Leader::from_pid(line.trim().parse().unwrap()).unwrap();
        let mut parents = Parents::default();
        assert!(parents.watched_of(&leader).is_none());
        let watched = parents.watch(&leader.parent().unwrap().unwrap()).unwrap();
        let known = parents.watched_of(&leader).unwrap();
        assert!(Rc::ptr_eq(&watched, &known));
        // Also when nobody has waited for it in between.
        let same = Rc::as_ptr(&watched);
        drop((watched, known));
        assert_eq!(
            parents.watched_of(&leader).as_ref().map(Rc::as_ptr),
            Some(same)
        );
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(parents.watched_of(&leader).is_none());
        kill(Pid::from_raw(leader.id().pid), Signal::SIGKILL).unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn parents_that_nobody_waits_for_are_forgotten() {
        let mut parents = Parents::default();
        for _ in 0..3 * FEW {
            let (mut child, leader) = sleeper();
            drop(parents.watch(&leader).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(parents.watched.len() <= FEW);
    }
}

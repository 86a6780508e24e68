//! The wait for the last process of each who lingers: one task looks for all of them.
//!
//! Whether there is a process of somebody is one system call, which takes the kernel the longer the more there are of anybody's. A
//! zombie is one, too, and its parent may never wait for it: what lives is told from it by a walk through `/proc`. So each is made for
//! all at once, in parts between which everybody else has a turn, and the pauses grow with what it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::remains::has_processes;
use super::walk::Walk;
use crate::control::daemon::Daemon;
use crate::policy::{Login, Uid};

/// The pauses between two looks, and between two walks, are not shorter than this.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const BETWEEN_WALKS: Duration = Duration::from_secs(10);
/// None is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pause is so many times as long as what it comes after.
const REST: u32 = 100;
/// So many users are looked at, or processes walked past, in one go: for half a millisecond, with a thousand processes on the machine.
const USERS: usize = 10;
const PROCESSES: usize = 50;

impl Daemon {
    /// Reports of everybody who lingers when his last process has ended. Who that is the registry says, each time anew. It never returns.
    pub(in crate::control) async fn await_last_processes(self: Rc<Self>) {
        let mut walks = Walks::default();
        loop {
            let awaited = self.who_lingers();
            if awaited.is_empty() {
                walks = Walks::default();
                self.somebody_lingers.notified().await;
                continue;
            }
            let began = Instant::now();
            let ended = without_processes(awaited.keys().copied()).await;
            let pause = pause_after(began.elapsed(), BETWEEN_LOOKS);
            // At once: during a walk somebody may come and leave others.
            self.have_ended(&awaited, &ended);
            let left = awaited.keys().filter(|uid| !ended.contains(uid));
            let ended = walks.only_zombies(Path::new("/proc"), left.copied()).await;
            self.have_ended(&awaited, &ended);
            sleep(pause).await;
        }
    }

    fn who_lingers(&self) -> BTreeMap<Uid, Login> {
        let registry = self.registry.borrow();
        let lingering = registry.lingering();
        lingering
            .map(|standing| (standing.uid, standing.login.clone()))
            .collect()
    }

    fn have_ended(self: &Rc<Self>, awaited: &BTreeMap<Uid, Login>, ended: &BTreeSet<Uid>) {
        for (uid, login) in awaited.iter().filter(|(uid, _)| ended.contains(uid)) {
            let effects = self.registry.borrow_mut().processes_ended(login, *uid);
            if !effects.is_empty() {
                info!(TELEPORT_LOGIN = %login, TELEPORT_UID = %uid, "the last process of {login} has ended");
                self.carry_out(effects);
            }
        }
    }
}

/// Those of `uids` of whom there is no process, not even a zombie.
async fn without_processes(uids: impl Iterator<Item = Uid>) -> BTreeSet<Uid> {
    let mut ended = BTreeSet::new();
    for (nth, uid) in uids.enumerate() {
        if nth > 0 && nth % USERS == 0 {
            yield_now().await;
        }
        if !has_processes(uid.get()) {
            ended.insert(uid);
        }
    }
    ended
}

/// One walk after the other.
#[derive(Debug, Default)]
struct Walks {
    /// Not before this.
    next: Option<Instant>,
    /// Of whom the last one has seen zombies alone.
    zombies: BTreeSet<u32>,
}

impl Walks {
    /// Those of `uids`, who all have processes, whose are nothing but zombies. Two walks have to say so: past one walk a living process
    /// may slip that goes on in a child and ends.
    async fn only_zombies(
        &mut self,
        proc: &Path,
        uids: impl Iterator<Item = Uid>,
    ) -> BTreeSet<Uid> {
        let uids: BTreeMap<u32, Uid> = uids.map(|uid| (uid.get(), uid)).collect();
        let began = Instant::now();
        if uids.is_empty() || self.next.is_some_and(|next| began < next) {
            return BTreeSet::new();
        }
        let zombies = match Walk::begin(proc, uids.keys().copied()) {
            Ok(walk) => to_its_end(walk).await,
            Err(_) => BTreeSet::new(),
        };
        self.next = Some(Instant::now() + pause_after(began.elapsed(), BETWEEN_WALKS));
        let before = std::mem::replace(&mut self.zombies, zombies);
        let twice = self.zombies.intersection(&before);
        twice.filter_map(|uid| uids.get(uid).copied()).collect()
    }
}

async fn to_its_end(mut walk: Walk) -> BTreeSet<u32> {
    loop {
        if let Some(zombies) = walk.go_on(PROCESSES) {
            return zombies;
        }
        yield_now().await;
    }
}

fn pause_after(taken: Duration, least: Duration) -> Duration {
    taken.saturating_mul(REST).clamp(least, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::end::walk::tests::proc;
    use std::cell::Cell;

    fn uid(number: u32) -> Uid {
        Uid::try_from(0x7000_00a0 + number).expect("in range")
    }

    /// How often somebody else has a turn meanwhile.
    async fn turns<T>(work: impl Future<Output = T>) -> (usize, T) {
        let turns = Cell::new(0);
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        };
        tokio::select! {
            biased;
            done = work => (turns.get(), done),
            () = others => unreachable!(),
        }
    }

    #[tokio::test]
    async fn of_however_many_one_walk_tells_and_others_have_their_turns_meanwhile() {
        let many: Vec<Uid> = (0..10).map(uid).collect();
        let processes: Vec<(u32, bool)> = (0..10 * PROCESSES)
            .map(|nth| (many[nth % many.len()].get(), nth % many.len() == 0))
            .collect();
        let proc = proc("turns", &processes);
        let mut walks = Walks::default();
        let walked = walks.only_zombies(&proc, many.iter().copied());
        let (turns_of_others, first) = turns(walked).await;
        assert!(first.is_empty(), "once is not enough");
        assert!(turns_of_others >= 10, "{turns_of_others}");
        let too_soon = walks.only_zombies(&proc, many.iter().copied()).await;
        assert!(too_soon.is_empty());
        walks.next = None;
        let second = walks.only_zombies(&proc, many.iter().copied()).await;
        assert!(second.iter().eq(&many[1..]), "{second:?}");
        std::fs::remove_dir_all(&proc).unwrap();
        walks.next = None;
        let unseen = walks.only_zombies(&proc, many.iter().copied()).await;
        assert!(unseen.is_empty());
    }

    #[tokio::test]
    async fn of_however_many_it_is_looked_for_processes_and_others_have_their_turns_meanwhile() {
        let many = 0..10 * u32::try_from(USERS).expect("small");
        let looked = without_processes(many.map(|nth| uid(0x1000 + nth)));
        let (turns_of_others, ended) = turns(looked).await;
        assert!(turns_of_others >= 9, "{turns_of_others}");
        assert_eq!(ended.len(), 10 * USERS);
    }

    #[test]
    fn who_takes_long_pauses_long_but_not_for_ever() {
        let ms = Duration::from_millis;
        for (taken, pause) in [(0, 10_000), (100, 10_000), (300, 30_000), (5_000, 60_000)] {
            assert_eq!(pause_after(ms(taken), BETWEEN_WALKS), ms(pause));
        }
        assert_eq!(pause_after(ms(30), BETWEEN_LOOKS), ms(3_000));
    }

    #[tokio::test]
    async fn a_zombie_that_nobody_waits_for_is_not_waited_for_either() {
        use std::os::unix::process::CommandExt;
        let uid = uid(5);
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .uid(uid.get())
            .spawn()
            .expect("this test needs root to run a process as another user");
        let mut walks = Walks::default();
        let mut look = async || {
            walks.next = None;
            let proc = Path::new("/proc");
            walks.only_zombies(proc, [uid].into_iter()).await.len()
        };
        assert_eq!((look().await, look().await), (0, 0), "it lives");
        child.kill().expect("killed");
        let began = Instant::now();
        while look().await == 0 {
            assert!(began.elapsed() < Duration::from_secs(20));
        }
        assert!(without_processes([uid].into_iter()).await.is_empty());
        child.wait().expect("ended");
        assert_eq!(without_processes([uid].into_iter()).await, [uid].into());
    }
}

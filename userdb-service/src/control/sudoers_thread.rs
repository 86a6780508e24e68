//! The thread that works in sudoers.d: a disk that does not answer holds up this thread and nobody else.
//! Orders are carried out as they were given, but removals of all that wait come first, together: what is taken away
//! goes at once, is answered as soon as it is gone, and costs one sync afterwards, however many end. Who gives orders
//! does not wait in here.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread, park_timeout};
use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};
use tracing::warn;

use super::sudoers_files::{Folder, FolderId, Removal, SudoersError, SudoersFiles, Swept};
use crate::policy::{Login, SudoersSpec};

/// How often it is looked whether the folder is still the same, without an order.
const LOOK: Duration = Duration::from_secs(5);

/// What an order takes at most that does not have to wait for anything.
const MOMENT: Duration = Duration::from_micros(150);

/// What comes of an order. An error of the receiver: the thread has ended.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, SudoersError>>;
type Reply<T> = oneshot::Sender<Result<T, SudoersError>>;

/// An answer that has come.
pub(super) fn come<T>(result: Result<T, SudoersError>) -> Answer<T> {
    let (reply, answer) = oneshot::channel();
    let _ = reply.send(result);
    answer
}

#[derive(Debug)]
enum Order {
    Remove(Login, Reply<Removal>),
    Other(Work),
}

#[derive(Debug)]
enum Work {
    Write(Login, Vec<SudoersSpec>, Reply<()>),
    Sweep(BTreeSet<Login>, Reply<Swept>),
}

/// Orders that have not been carried out.
#[derive(Debug, Default)]
struct Waiting {
    removals: Vec<(Login, Reply<Removal>)>,
    works: Vec<Work>,
}

/// What the thread and who gives it orders have in common. It sleeps parked: who wakes it holds nothing that it needs at once.
#[derive(Debug)]
struct Desk {
    orders: Mutex<Vec<Order>>,
    /// Who gives them, and may be waiting for an answer.
    giver: Thread,
    /// It has nothing to do.
    rests: AtomicBool,
    /// Nobody gives orders any more.
    closed: AtomicBool,
}

impl Desk {
    fn orders(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes orders for the thread.
#[derive(Debug)]
pub(super) struct SudoersThread {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
    look: SudoersFiles,
    replaced: Arc<Notify>,
    /// It had nothing to do when it was given its last order.
    rested: Cell<bool>,
}

impl SudoersThread {
    /// Starts the thread for the folder at `path`. It ends with the last who can give it orders.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            orders: Mutex::default(),
            giver: thread::current(),
            rests: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let replaced = Arc::new(Notify::new());
        let files = SudoersFiles::new(path);
        let (bell, its_own) = (replaced.clone(), desk.clone());
        let thread = thread::Builder::new()
            .name("sudoers".to_owned())
            .spawn(move || work(&files, &its_own, &bell))?;
        Ok(Self {
            desk,
            thread,
            look: SudoersFiles::new(path),
            replaced,
            rested: Cell::new(false),
        })
    }

    /// Grants `specs`, unless nobody waits for the answer any more when its turn has come.
    pub(super) fn write(&self, login: &Login, specs: &[SudoersSpec]) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        self.give(Order::Other(Work::Write(
            login.clone(),
            specs.to_vec(),
            reply,
        )));
        answer
    }

    /// Takes away what was granted.
    pub(super) fn remove(&self, login: &Login) -> Answer<Removal> {
        let (reply, answer) = oneshot::channel();
        self.give(Order::Remove(login.clone(), reply));
        answer
    }

    /// Removes every file of ours but those of `keep`.
    pub(super) fn sweep(&self, keep: BTreeSet<Login>) -> Answer<Swept> {
        let (reply, answer) = oneshot::channel();
        self.give(Order::Other(Work::Sweep(keep, reply)));
        answer
    }

    /// Whether something has the name of the login's file. A look at one name, which the kernel has in
    /// memory: it does not wait for the disk.
    pub(super) fn is_taken(&self, login: &Login) -> bool {
        self.look.is_taken(login)
    }

    /// Whether there is a file of ours for `login`.
    pub(super) fn has(&self, login: &Login) -> bool {
        self.look.has(login)
    }

    /// Number of the files that sudo reads, but for those of the logins in `ours`.
    pub(super) fn read_by_sudo_beside<'l>(
        &self,
        ours: impl IntoIterator<Item = &'l Login>,
    ) -> usize {
        self.look.read_by_sudo_beside(ours)
    }

    /// Rings once the folder has become another one than at the start.
    pub(super) fn replaced(&self) -> Arc<Notify> {
        self.replaced.clone()
    }

    /// What has come of the last order, if that is known in a moment. To be woken by the event loop takes longer than a file does
    /// that nothing holds up; and what does is found out before anybody has missed us.
    pub(super) fn soon<T>(&self, answer: Answer<T>) -> Result<Result<T, SudoersError>, Answer<T>> {
        let mut answer = answer;
        let until = Instant::now() + MOMENT;
        loop {
            match answer.try_recv() {
                Ok(come) => return Ok(come),
                Err(TryRecvError::Empty) => {}
                // The thread has ended.
                Err(TryRecvError::Closed) => return Err(oneshot::channel().1),
            }
            let left = until.saturating_duration_since(Instant::now());
            if !self.rested.get() || left.is_zero() {
                return Err(answer);
            }
            park_timeout(left);
        }
    }

    fn give(&self, order: Order) {
        self.rested.set(self.desk.rests.load(Ordering::Relaxed));
        // With the order goes the reply, which says that the thread has ended.
        if !self.thread.is_finished() {
            self.desk.orders().push(order);
            self.thread.thread().unpark();
        }
    }
}

impl Drop for SudoersThread {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

fn work(files: &SudoersFiles, desk: &Desk, bell: &Notify) {
    // Whoever replaced it between the making of the sandbox and now replaced it before we knew it.
    let at_start = files.folder().filter(|_| !files.is_beside_the_sandbox());
    let held = File::open(files.as_ref());
    let mut waiting = Waiting::default();
    loop {
        if waiting.works.is_empty() && desk.orders().is_empty() {
            if desk.closed.load(Ordering::Acquire) {
                return;
            }
            desk.rests.store(true, Ordering::Relaxed);
            park_timeout(LOOK);
            desk.rests.store(false, Ordering::Relaxed);
        }
        let orders = std::mem::take(&mut *desk.orders());
        orders.into_iter().for_each(|order| waiting.add(order));
        let replaced = is_another(at_start, files.folder());
        if replaced {
            // The old one may be put back some day.
            if let Ok(held) = &held {
                let old = SudoersFiles::new(format!("/proc/self/fd/{}", held.as_raw_fd()));
                let _ = old.sweep(&BTreeSet::new());
            }
            bell.notify_one();
        }
        let other = || SudoersError::Replaced(files.as_ref().to_owned());
        let mut folder = Folder::default();
        for (login, reply) in waiting.removals.drain(..) {
            let _ = reply.send(match replaced {
                true => Err(other()),
                false => files.remove_from(&mut folder, &login),
            });
            desk.giver.unpark();
        }
        // Nobody has the right any more: sudo sees names, not disks. A power cut in between is undone by the sweep at boot.
        if let Err(error) = files.keep_removed(folder) {
            warn!("{error}; after a power cut the sweep at boot removes what comes back");
        }
        // One, and then whatever is to be removed by now.
        match waiting.next() {
            None => {}
            Some(Work::Write(_, _, reply)) if reply.is_closed() => {}
            Some(Work::Write(_, _, reply)) if replaced => drop(reply.send(Err(other()))),
            Some(Work::Write(login, specs, reply)) => {
                let _ = reply.send(files.write(&login, &specs));
                desk.giver.unpark();
            }
            Some(Work::Sweep(keep, reply)) => {
                let _ = reply.send(files.sweep(&keep));
            }
        }
    }
}

impl Waiting {
    /// A grant that waits and that this removal undoes is not made: it is answered as if it had been.
    fn add(&mut self, order: Order) {
        match order {
            Order::Other(work) => self.works.push(work),
            Order::Remove(login, reply) => {
                let undone = |work: &mut Work| matches!(work, Work::Write(of, ..) if *of == login);
                for work in self.works.extract_if(.., undone) {
                    if let Work::Write(_, _, reply) = work {
                        let _ = reply.send(Ok(()));
                    }
                }
                self.removals.push((login, reply));
            }
        }
    }

    fn next(&mut self) -> Option<Work> {
        (!self.works.is_empty()).then(|| self.works.remove(0))
    }
}

/// A folder that has gone is not another one yet: nothing is in it, and nothing can be written.
fn is_another(then: Option<FolderId>, now: Option<FolderId>) -> bool {
    now.is_some() && now != then
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("sudoers-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[tokio::test]
    async fn orders_are_carried_out_in_turn_and_a_grant_that_nobody_waits_for_is_not_made() {
        let path = folder("turns");
        let thread = SudoersThread::start(&path).unwrap();
        let zed = Login::try_from("zed").unwrap();
        let yan = Login::try_from("yan").unwrap();
        let full = [SudoersSpec::full()];
        thread.write(&zed, &full).await.unwrap().unwrap();
        let removed = thread.remove(&zed);
        let again = thread.write(&zed, &full);
        // A folder of many files keeps the thread busy until the next order has lost its giver.
        for name in 0..2000 {
            std::fs::write(path.join(format!("teleport-{name}")), "x\n").unwrap();
        }
        let swept = thread.sweep(BTreeSet::from([zed.clone()]));
        drop(thread.write(&yan, &full));
        assert_eq!(removed.await.unwrap().unwrap(), Removal::Removed);
        again.await.unwrap().unwrap();
        swept.await.unwrap().unwrap();
        assert_eq!(thread.remove(&yan).await.unwrap().unwrap(), Removal::Absent);
        assert!(thread.is_taken(&zed) && !thread.is_taken(&yan));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn removals_come_before_grants_that_wait_and_undo_only_what_was_ordered_before_them() {
        let [zed, yan] = ["zed", "yan"].map(|name| Login::try_from(name).unwrap());
        let mut waiting = Waiting::default();
        let write = |waiting: &mut Waiting, login: &Login| {
            let (reply, answer) = oneshot::channel();
            waiting.add(Order::Other(Work::Write(login.clone(), Vec::new(), reply)));
            answer
        };
        let mut undone = write(&mut waiting, &zed);
        let mut other = write(&mut waiting, &yan);
        let (reply, _removed) = oneshot::channel();
        waiting.add(Order::Remove(zed.clone(), reply));
        let mut later = write(&mut waiting, &zed);
        assert!(matches!(undone.try_recv(), Ok(Ok(()))));
        assert!(other.try_recv().is_err() && later.try_recv().is_err());
        assert_eq!(waiting.removals.len(), 1);
        let left = std::iter::from_fn(|| waiting.next()).map(|work| match work {
            Work::Write(login, ..) => login,
            Work::Sweep(..) => panic!("none was ordered"),
        });
        assert_eq!(left.collect::<Vec<_>>(), [yan, zed]);
    }

    #[tokio::test]
    async fn a_folder_that_was_replaced_is_left_alone_and_rings() {
        let path = folder("replaced");
        let thread = SudoersThread::start(&path).unwrap();
        let zed = Login::try_from("zed").unwrap();
        thread
            .write(&zed, &[SudoersSpec::full()])
            .await
            .unwrap()
            .unwrap();
        let away = path.with_extension("away");
        std::fs::rename(&path, &away).unwrap();
        // Gone is not replaced.
        assert_eq!(thread.remove(&zed).await.unwrap().unwrap(), Removal::Absent);
        std::fs::create_dir(&path).unwrap();
        let refused = thread.write(&zed, &[SudoersSpec::full()]).await.unwrap();
        assert!(matches!(refused, Err(SudoersError::Replaced(_))));
        thread.replaced().notified().await;
        assert!(!thread.is_taken(&zed));
        // Nothing comes back with the old one.
        assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0);
        std::fs::remove_dir_all(path).unwrap();
        std::fs::remove_dir_all(away).unwrap();
    }
}

//! The thread that works in sudoers.d: a disk that does not answer holds up this thread and nobody else.
//! Orders are carried out as they were given, but removals of all that wait come first, together: what is taken away
//! goes at once, is answered as soon as it is gone, and costs one sync afterwards, however many end. Who gives orders
//! does not wait in here.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, park_timeout};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::warn;

use super::ahead::Ahead;
use super::answer::{Answer, MOMENT, Reply};
use super::files::{Folder, FolderId, Removal, SudoersError, SudoersFiles, Swept};
use super::sudo_rs;
use crate::control::host::blocking_pool::BlockingPool;
use crate::control::host::descriptors::magic_link;
use crate::policy::sudoers::file_name;
use crate::policy::{Login, SudoersSpec};

/// How often it is looked whether the folder and what was granted in it are still there, without an order.
const LOOK: Duration = Duration::from_secs(5);
/// How many files are made at a time where a sync takes [`SLOW`]: of a crowd each would wait for all syncs of those before it. Where
/// the disk is quick they are made one by one, since to start a thread for each takes longer.
const TOGETHER: usize = 16;
const SLOW: Duration = Duration::from_millis(5);

#[derive(Debug)]
enum Order {
    Prepare(Login, Vec<SudoersSpec>),
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
    ahead: Ahead,
    /// The last sync took long.
    is_slow: bool,
}

/// What the thread and who gives it orders have in common. It sleeps parked: who wakes it holds nothing that it needs at once.
#[derive(Debug)]
struct Desk {
    /// `None`: the thread has ended, and carries out no more.
    orders: Mutex<Option<Vec<Order>>>,
    /// Who gives them, and may be waiting for an answer.
    giver: Thread,
    /// It has nothing to do.
    rests: AtomicBool,
    /// The last grant took long, and so did the last removal: who gives the next one does other things meanwhile.
    grants_take_long: AtomicBool,
    removals_take_long: AtomicBool,
    /// Nobody gives orders any more.
    closed: AtomicBool,
    /// Whose files others have taken away.
    lost: Mutex<BTreeSet<Login>>,
    somebody_lost: Notify,
    /// The names of files that sudo reads, when they were looked at last.
    read: Mutex<Option<Vec<String>>>,
    /// Somebody wants to know these.
    is_asked_for_read: AtomicBool,
}

impl Desk {
    fn orders(&self) -> MutexGuard<'_, Option<Vec<Order>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.orders().as_ref().is_none_or(Vec::is_empty)
    }

    fn lost(&self) -> MutexGuard<'_, BTreeSet<Login>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_orders(&self) -> Vec<Order> {
        self.orders()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

/// The thread's side of the desk. With it go all orders that it has not answered, and who waits for one hears that.
struct Seat(Arc<Desk>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.orders().take();
        self.0.giver.unpark();
    }
}

/// Takes orders for the thread.
#[derive(Debug)]
pub(in crate::control) struct SudoersThread {
    desk: Arc<Desk>,
    thread: Thread,
    look: SudoersFiles,
    replaced: Arc<Notify>,
    /// Its last order may be carried out in a moment: it had nothing else to do, and the like of it does not take longer.
    is_quick: Cell<bool>,
}

impl SudoersThread {
    /// Starts the thread for the folder at `path`. It ends with the last who can give it orders.
    pub(in crate::control) fn start(path: &Path) -> io::Result<Self> {
        Self::looking_each(LOOK, path)
    }

    fn looking_each(look: Duration, path: &Path) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            orders: Mutex::new(Some(Vec::new())),
            giver: thread::current(),
            rests: AtomicBool::new(false),
            grants_take_long: AtomicBool::new(false),
            removals_take_long: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            lost: Mutex::default(),
            somebody_lost: Notify::new(),
            read: Mutex::default(),
            is_asked_for_read: AtomicBool::new(sudo_rs::is_installed()),
        });
        let replaced = Arc::new(Notify::new());
        let files = SudoersFiles::new(path);
        let (bell, seat) = (replaced.clone(), Seat(desk.clone()));
        let thread = thread::Builder::new()
            .name("sudoers".to_owned())
            .spawn(move || work(&files, &seat, &bell, look))?;
        Ok(Self {
            desk,
            thread: thread.thread().clone(),
            look: SudoersFiles::new(path),
            replaced,
            is_quick: Cell::new(false),
        })
    }

    /// Finishes the file that would grant `specs`, for when that is ordered. Nobody is told what comes of it.
    pub(in crate::control) fn prepare(&self, login: Login, specs: Vec<SudoersSpec>) {
        self.give(Order::Prepare(login, specs));
    }

    /// Grants `specs`, unless nobody waits for the answer any more when its turn has come.
    pub(in crate::control) fn write(&self, login: &Login, specs: &[SudoersSpec]) -> Answer<()> {
        let (reply, answer) = Answer::to_come();
        let order = Work::Write(login.clone(), specs.to_vec(), reply);
        self.give(Order::Other(order));
        self.wait_unless(&self.desk.grants_take_long);
        answer
    }

    /// Takes away what was granted.
    pub(in crate::control) fn remove(&self, login: &Login) -> Answer<Removal> {
        let (reply, answer) = Answer::to_come();
        self.give(Order::Remove(login.clone(), reply));
        self.wait_unless(&self.desk.removals_take_long);
        answer
    }

    /// Removes every file of ours but those of `keep`.
    pub(in crate::control) fn sweep(&self, keep: BTreeSet<Login>) -> Answer<Swept> {
        let (reply, answer) = Answer::to_come();
        self.give(Order::Other(Work::Sweep(keep, reply)));
        answer
    }

    /// Whether something has the name of the login's file: by a look on a thread of its own, since whoever removes a name holds the
    /// folder locked for as long as the disk takes. `None`: it takes longer than this.
    pub(in crate::control) async fn is_taken(
        &self,
        login: &Login,
        limit: Duration,
    ) -> Option<bool> {
        static LOOKS: BlockingPool = BlockingPool::new(4);
        let (files, login) = (SudoersFiles::new(self.look.as_ref()), login.clone());
        LOOKS.run(limit, move |_| files.is_taken(&login)).await
    }

    /// Number of the files that sudo reads, but for those of the logins in `ours`, whether they are there yet or not. A folder that
    /// could not be read counts as full. It is as the thread has seen it last: where sudo-rs is installed, or once this was asked, it
    /// looks whenever it has carried out what it was told, and every [`LOOK`]. Whoever removes a file there holds the folder locked for as long as the disk
    /// takes, so that nobody else may look.
    pub(in crate::control) fn read_by_sudo_beside<'l>(
        &self,
        ours: impl IntoIterator<Item = &'l Login>,
    ) -> usize {
        if !self.desk.is_asked_for_read.load(Ordering::Relaxed) {
            self.look_at_what_is_read();
        }
        let ours: BTreeSet<String> = ours.into_iter().map(file_name).collect();
        self.desk.read().as_ref().map_or(usize::MAX, |names| {
            names.iter().filter(|name| !ours.contains(*name)).count()
        })
    }

    /// Has the thread look which files sudo reads. Nobody waits for it.
    pub(in crate::control) fn look_at_what_is_read(&self) {
        self.desk.is_asked_for_read.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }

    /// Takes note of what the thread has seen.
    pub(in crate::control) fn has_seen(&self, read: Option<Vec<String>>) {
        *self.desk.read() = read;
    }

    /// Rings once the folder has become another one than at the start.
    pub(in crate::control) fn replaced(&self) -> Arc<Notify> {
        self.replaced.clone()
    }

    /// Waits until files that were granted are there no more, and says whose: once for each.
    pub(in crate::control) async fn lost(&self) -> BTreeSet<Login> {
        loop {
            let lost = std::mem::take(&mut *self.desk.lost());
            if !lost.is_empty() {
                return lost;
            }
            self.desk.somebody_lost.notified().await;
        }
    }

    /// What has come of the last order, if that is known in a moment. To be woken by the event loop takes longer than a file does
    /// that nothing holds up; and what does is found out before anybody has missed us.
    pub(in crate::control) fn soon<'a, T>(
        &self,
        answer: &'a mut Answer<T>,
    ) -> Option<&'a Result<T, SudoersError>> {
        let until = Instant::now() + MOMENT;
        while answer.is_awaited() {
            let left = until.saturating_duration_since(Instant::now());
            if !self.is_quick.get() || left.is_zero() {
                return None;
            }
            park_timeout(left);
        }
        match answer {
            Answer::Come(result) => Some(result),
            Answer::Awaited(_) | Answer::Never => None,
        }
    }

    fn give(&self, order: Order) {
        // From here on it has something to do, whether or not it has been woken yet.
        self.is_quick
            .set(self.desk.rests.swap(false, Ordering::Relaxed));
        // Without a thread the order goes here, and with it the reply, which says so.
        if let Some(orders) = &mut *self.desk.orders() {
            orders.push(order);
        }
        self.thread.unpark();
    }
}

impl SudoersThread {
    fn wait_unless(&self, takes_long: &AtomicBool) {
        let is_quick = self.is_quick.get() && !takes_long.load(Ordering::Relaxed);
        self.is_quick.set(is_quick);
    }
}

impl Drop for SudoersThread {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn work(files: &SudoersFiles, Seat(desk): &Seat, bell: &Notify, look: Duration) {
    // Whoever replaced it between the making of the sandbox and now replaced it before we knew it.
    let at_start = files.folder().filter(|_| !files.is_beside_the_sandbox());
    let mut granted = BTreeSet::new();
    let mut looked = Instant::now();
    let held = File::open(files.as_ref());
    let mut waiting = Waiting::default();
    loop {
        waiting.ahead.age();
        if waiting.works.is_empty() && waiting.ahead.is_done() && desk.is_empty() {
            if desk.closed.load(Ordering::Acquire) {
                return;
            }
            if desk.is_asked_for_read.load(Ordering::Relaxed) {
                let read = files.read_by_sudo().ok();
                *desk.read() = read;
            }
            desk.rests.store(true, Ordering::Relaxed);
            park_timeout(look);
            desk.rests.store(false, Ordering::Relaxed);
        }
        let orders = desk.take_orders();
        orders.into_iter().for_each(|order| waiting.add(order));
        let mut folder = Folder::default();
        let replaced = is_another(at_start, files.enter(&mut folder));
        if replaced {
            // The old one may be put back some day.
            if let Ok(held) = &held {
                let old = SudoersFiles::new(magic_link(held));
                let _ = old.sweep(&BTreeSet::new());
            }
            bell.notify_one();
        }
        let other = || SudoersError::Replaced(files.as_ref().to_owned());
        for (login, reply) in waiting.removals.drain(..) {
            let removed = match replaced {
                true => Err(other()),
                false => files.remove_from(&mut folder, &login),
            };
            granted.remove(&login);
            let takes_long = &desk.removals_take_long;
            takes_long.store(reply.takes_long(), Ordering::Relaxed);
            reply.send(removed);
            desk.giver.unpark();
        }
        // Nobody has the right any more: sudo sees names, not disks. A power cut in between is undone by the sweep at boot.
        if let Err(error) = files.keep_removed(&mut folder) {
            warn!("{error}; after a power cut the sweep at boot removes what comes back");
        }
        match replaced {
            true => waiting.ahead = Ahead::default(),
            // What comes of it is told when it is ordered.
            false => {
                let due = waiting.take_due(|login| files.is_taken(login));
                let (made, took) = files.prepare(&mut folder, &due);
                waiting.is_slow = took.map_or(waiting.is_slow, |took| took >= SLOW);
                for ((login, _), prepared) in due.into_iter().zip(made) {
                    if let Some(prepared) = prepared {
                        waiting.ahead.has_made(login, prepared);
                    }
                }
            }
        }
        // One, and then whatever is to be removed by now.
        match waiting.next() {
            None => {}
            Some(Work::Write(_, _, reply)) if reply.is_closed() => {}
            Some(Work::Write(_, _, reply)) if replaced => reply.send(Err(other())),
            Some(Work::Write(login, specs, reply)) => {
                let prepared = waiting.ahead.take(&login);
                let written = files.write_in(&mut folder, &login, &specs, prepared);
                if written.is_ok() {
                    granted.insert(login);
                }
                let takes_long = &desk.grants_take_long;
                takes_long.store(reply.takes_long(), Ordering::Relaxed);
                reply.send(written);
                desk.giver.unpark();
            }
            Some(Work::Sweep(keep, reply)) => {
                let swept = files.sweep(&keep);
                if let Ok(swept) = &swept {
                    granted.extend(swept.kept.iter().cloned());
                }
                reply.send(swept);
            }
        }
        if !replaced && looked.elapsed() >= look {
            looked = Instant::now();
            // The mount that we could write to has gone from it: a folder as well as another one.
            if at_start.is_some() && files.is_beside_the_sandbox() {
                bell.notify_one();
            }
            let (lost, there) = granted.into_iter().partition(|login| files.is_gone(login));
            granted = there;
            let lost: BTreeSet<Login> = lost;
            if !lost.is_empty() {
                desk.lost().extend(lost);
                desk.somebody_lost.notify_one();
            }
        }
    }
}

impl Waiting {
    /// A grant that waits and that this removal undoes is not made: it is answered as if it had been.
    fn add(&mut self, order: Order) {
        match order {
            Order::Prepare(login, specs) => self.ahead.want(login, specs),
            Order::Other(work) => self.works.push(work),
            Order::Remove(login, reply) => {
                self.ahead.forget(&login);
                let undone = |work: &mut Work| matches!(work, Work::Write(of, ..) if *of == login);
                for work in self.works.extract_if(.., undone) {
                    if let Work::Write(_, _, reply) = work {
                        reply.send(Ok(()));
                    }
                }
                self.removals.push((login, reply));
            }
        }
    }

    /// Files to be made now, together: of those whose order has come, unless the first has its file; failing that, those that are
    /// wanted ahead. Whoever `has_one` needs more than a new one.
    fn take_due(&mut self, has_one: impl Fn(&Login) -> bool) -> Vec<(Login, Vec<SudoersSpec>)> {
        let most = if self.is_slow { TOGETHER } else { 1 };
        let lacking = |work: &Work| match work {
            Work::Write(login, specs, reply) => {
                let lacks = !reply.is_closed() && !self.ahead.has(login) && !has_one(login);
                lacks.then(|| (login.clone(), specs.clone()))
            }
            Work::Sweep(..) => None,
        };
        let ordered = self.works.first().map(lacking);
        let mut due = match ordered {
            Some(None) => return Vec::new(),
            Some(_) => {
                let mut logins = BTreeSet::new();
                let all = self.works.iter().filter_map(lacking);
                let once = all.filter(|(login, _)| logins.insert(login.clone()));
                once.take(most).collect()
            }
            None => Vec::new(),
        };
        while due.len() < most
            && let Some(wanted) = self.ahead.next()
        {
            // It is of those whose order has come.
            if due.iter().all(|(login, _)| *login != wanted.0) {
                due.push(wanted);
            }
        }
        due
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
#[path = "thread_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "stalled_tests.rs"]
mod stalled_tests;

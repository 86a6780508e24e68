//! The thread that works in sudoers.d: a disk that does not answer holds up this thread and nobody else.
//! Orders are carried out one after the other, as they were given; who gives them does not wait in here.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::sudoers_files::{FolderId, Removal, SudoersError, SudoersFiles, Swept};
use crate::policy::{Login, SudoersSpec};

/// How often it is looked whether the folder is still the same, without an order.
const LOOK: Duration = Duration::from_secs(5);

/// What comes of an order. An error of the receiver: the thread has ended.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, SudoersError>>;
type Reply<T> = oneshot::Sender<Result<T, SudoersError>>;

#[derive(Debug)]
enum Order {
    Write(Login, Vec<SudoersSpec>, Reply<()>),
    Remove(Login, Reply<Removal>),
    Sweep(BTreeSet<Login>, Reply<Swept>),
}

/// Takes orders for the thread.
#[derive(Debug)]
pub(super) struct SudoersThread {
    orders: Sender<Order>,
    look: SudoersFiles,
    replaced: Arc<Notify>,
}

impl SudoersThread {
    /// Starts the thread for the folder at `path`. It ends with the last who can give it orders.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let (orders, taken) = channel();
        let replaced = Arc::new(Notify::new());
        let files = SudoersFiles::new(path);
        let bell = replaced.clone();
        std::thread::Builder::new()
            .name("sudoers".to_owned())
            .spawn(move || work(&files, &taken, &bell))?;
        Ok(Self {
            orders,
            look: SudoersFiles::new(path),
            replaced,
        })
    }

    /// Grants `specs`, unless nobody waits for the answer any more when its turn has come.
    pub(super) fn write(&self, login: &Login, specs: &[SudoersSpec]) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        self.give(Order::Write(login.clone(), specs.to_vec(), reply));
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
        self.give(Order::Sweep(keep, reply));
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

    /// Number of the files that sudo reads.
    pub(super) fn read_by_sudo(&self) -> usize {
        self.look.read_by_sudo()
    }

    /// Rings once the folder has become another one than at the start.
    pub(super) fn replaced(&self) -> Arc<Notify> {
        self.replaced.clone()
    }

    fn give(&self, order: Order) {
        // A thread that has ended drops the reply, which says so.
        let _ = self.orders.send(order);
    }
}

fn work(files: &SudoersFiles, orders: &Receiver<Order>, bell: &Notify) {
    let at_start = files.folder();
    let held = File::open(files.as_ref());
    loop {
        let order = match orders.recv_timeout(LOOK) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
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
        match order {
            None => {}
            Some(Order::Write(_, _, reply)) if reply.is_closed() => {}
            Some(Order::Write(_, _, reply)) if replaced => drop(reply.send(Err(other()))),
            Some(Order::Remove(_, reply)) if replaced => drop(reply.send(Err(other()))),
            Some(Order::Write(login, specs, reply)) => {
                let _ = reply.send(files.write(&login, &specs));
            }
            Some(Order::Remove(login, reply)) => {
                let _ = reply.send(files.remove(&login));
            }
            Some(Order::Sweep(keep, reply)) => {
                let _ = reply.send(files.sweep(&keep));
            }
        }
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
        let first = thread.write(&zed, &full);
        let removed = thread.remove(&zed);
        let again = thread.write(&zed, &full);
        // A folder of many files keeps the thread busy until the next order has lost its giver.
        for name in 0..2000 {
            std::fs::write(path.join(format!("teleport-{name}")), "x\n").unwrap();
        }
        let swept = thread.sweep(BTreeSet::from([zed.clone()]));
        drop(thread.write(&yan, &full));
        first.await.unwrap().unwrap();
        assert_eq!(removed.await.unwrap().unwrap(), Removal::Removed);
        again.await.unwrap().unwrap();
        swept.await.unwrap().unwrap();
        assert_eq!(thread.remove(&yan).await.unwrap().unwrap(), Removal::Absent);
        assert!(thread.is_taken(&zed) && !thread.is_taken(&yan));
        std::fs::remove_dir_all(path).unwrap();
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

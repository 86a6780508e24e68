//! Keeps nscd from answering with what no longer holds: it is told of each change of the table, over its socket.
//!
//! Where no nscd runs this costs one look at a path. One that does not answer is waited for a moment, no longer.

use std::cell::Cell;
use std::io;
use std::mem::{replace, take};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

/// Where glibc looks for it, since ever.
pub(in crate::control) const SOCKET: &str = "/var/run/nscd/socket";
/// Version of the protocol of glibc's nscd.
const VERSION: i32 = 2;
/// The request to forget everything of one database. nscd does so for uid 0 only.
const INVALIDATE: i32 = 10;
/// Its databases of ours, as the protocol has them: with a NUL. Groups of a user (initgroups) are in "group".
const DATABASES: [&[u8]; 2] = [b"passwd\0", b"group\0"];
/// How long both of them may take. It is part of the time that a login takes; twice, where its change comes while nscd is being told
/// of another.
const PATIENCE: Duration = Duration::from_millis(300);
/// The first and the longest pause before it is told again that has not answered.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What nscd has been told of the changes of the table.
#[derive(Debug)]
pub(in crate::control) struct Nscd {
    socket: PathBuf,
    /// Number of the last change.
    changes: Cell<u64>,
    /// Number of the last change that it was told of, or has not answered to in time.
    told: Cell<u64>,
    changed: Notify,
    done: Notify,
}

impl Nscd {
    /// The nscd that listens, or will listen, at `socket`.
    pub(in crate::control) fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            changes: Cell::new(0),
            told: Cell::new(0),
            changed: Notify::new(),
            done: Notify::new(),
        }
    }

    /// The table says something else now.
    pub(in crate::control) fn table_changed(&self) {
        if self.socket.exists() {
            self.changes.set(self.changes.get() + 1);
            self.changed.notify_one();
        }
    }

    /// Returns when nscd answers nothing any more that was true only before the last change, or has not
    /// answered in time.
    pub(in crate::control) async fn up_to_date(&self) {
        let change = self.changes.get();
        loop {
            // Registered before the look, so that no change is missed in between.
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.told.get() >= change {
                return;
            }
            done.await;
        }
    }

    /// Tells nscd of changes, of several at once if they come while it is being told. Never returns.
    pub(in crate::control) async fn keep_up_to_date(&self) {
        let (mut pause, mut is_deaf) = (FIRST_PAUSE, false);
        loop {
            self.changed.notified().await;
            let change = self.changes.get();
            let told = match timeout(PATIENCE, self.invalidate()).await {
                Ok(told) => told,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            self.told.set(change);
            self.done.notify_waiters();
            match told {
                Ok(is_there) => {
                    pause = FIRST_PAUSE;
                    if take(&mut is_deaf) && is_there {
                        info!("nscd takes again that users come and go");
                    }
                }
                Err(error) => {
                    // Once: each login that follows meets the same.
                    if !replace(&mut is_deaf, true) {
                        warn!(%error, "nscd does not take that users have come or gone, and may answer from its cache; trying again");
                    }
                    // A new change is told of at once, so that whoever waits for that does not wait for this.
                    let again = self.changed.notified();
                    let _ = timeout(pause, again).await;
                    self.changed.notify_one();
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
            }
        }
    }

    /// Whether there is one.
    async fn invalidate(&self) -> io::Result<bool> {
        for database in DATABASES {
            let mut socket = match UnixStream::connect(&self.socket).await {
                Ok(socket) => socket,
                Err(error) if is_absent(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            socket.write_all(&request(database)).await?;
            // It answers when it has forgotten everything, or hangs up where it does not keep that database.
            let mut answer = [0; 4];
            match socket.read_exact(&mut answer).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Nobody listens: no nscd, no cache.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Version, type and length of the key as the machine has them, and the key.
fn request(database: &[u8]) -> Vec<u8> {
    let length = i32::try_from(database.len()).unwrap_or_default();
    let mut request = Vec::with_capacity(12 + database.len());
    for number in [VERSION, INVALIDATE, length] {
        request.extend_from_slice(&number.to_ne_bytes());
    }
    request.extend_from_slice(database);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::net::UnixListener;
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::{Instant, sleep};

    /// A socket in a folder that goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("nscd-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("socket")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn told(listener: &UnixListener, answers: bool) -> String {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut header = [0; 12];
        client.read_exact(&mut header).await.unwrap();
        let number = |at: usize| i32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(4)), (2, 10));
        let mut key = vec![0; usize::try_from(number(8)).unwrap()];
        client.read_exact(&mut key).await.unwrap();
        if answers {
            client.write_all(&0_i32.to_ne_bytes()).await.unwrap();
        } else {
            sleep(Duration::from_secs(60)).await;
        }
        String::from_utf8(key).unwrap()
    }

    fn started(socket: &Path) -> Rc<Nscd> {
        let nscd = Rc::new(Nscd::at(socket));
        let runs = nscd.clone();
        spawn_local(async move { runs.keep_up_to_date().await });
        nscd
    }

    #[tokio::test]
    async fn each_database_is_invalidated_before_a_change_counts_as_told() {
        let folder = Folder::new("each");
        let socket = folder.socket();
        let listener = UnixListener::bind(&socket).unwrap();
        LocalSet::new()
            .run_until(async {
                let nscd = started(&socket);
                // Nothing has changed.
                nscd.up_to_date().await;
                // Three changes at once are told of once.
                for _ in 0..3 {
                    nscd.table_changed();
                }
                let waits = nscd.clone();
                let waits = spawn_local(async move { waits.up_to_date().await });
                assert_eq!(told(&listener, true).await, "passwd\0");
                assert!(!waits.is_finished());
                assert_eq!(told(&listener, true).await, "group\0");
                waits.await.unwrap();
                let more = timeout(Duration::from_millis(100), listener.accept()).await;
                assert!(more.is_err(), "told twice");
            })
            .await;
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_not_waited_for_and_told_again() {
        let folder = Folder::new("hangs");
        let socket = folder.socket();
        let listener = UnixListener::bind(&socket).unwrap();
        LocalSet::new()
            .run_until(async {
                let nscd = started(&socket);
                nscd.table_changed();
                let began = Instant::now();
                tokio::select! {
                    _ = told(&listener, false) => unreachable!("it never ends"),
                    () = nscd.up_to_date() => {}
                }
                // The PAM module waits for five.
                assert!(began.elapsed() < Duration::from_secs(4));
                assert_eq!(told(&listener, true).await, "passwd\0");
                assert_eq!(told(&listener, true).await, "group\0");
            })
            .await;
    }

    #[tokio::test]
    async fn without_nscd_nothing_is_waited_for() {
        let folder = Folder::new("none");
        let nscd = Nscd::at(&folder.socket());
        // Nobody would tell, and nobody need.
        nscd.table_changed();
        nscd.up_to_date().await;
    }
}

//! The daemon's side of the lookup workers: connects, asks, and hangs up on what does not answer.
//! Waits for workers only, never for somebody else's code.
//!
//! A worker has one batch at a time, so a hang harms the batch it is in and nobody else's. There are
//! at most [`Settings::workers`] of them; further batches wait for a free one, within their timeout.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::wire::{LONGEST_LINE, Reply, Request, Results};
use crate::policy::decide::{Facts, HostFacts, Question};

/// Where workers are, and how patient we are with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Each connection to this socket is a worker of its own.
    pub socket: PathBuf,
    /// How long one batch may take, the wait for a free worker and its start included.
    pub timeout: Duration,
    /// How many workers there may be at once.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            socket: PathBuf::from("/run/teleport-userdb/lookup"),
            timeout: Duration::from_secs(3),
            workers: 4,
        }
    }
}

/// A batch that got no answers at all. A service that fails by itself is an [`Answer::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupFailed {
    /// Who was being asked.
    pub source: String,
    /// What happened, for people.
    pub why: String,
}

impl std::fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "lookup of other users failed at {}: {}",
            self.source, self.why
        )
    }
}

impl std::error::Error for LookupFailed {}

/// Adds to the facts of a decision what a later round of questions has brought.
pub fn absorb(facts: &mut Facts, later: Facts) {
    facts.answers.extend(later.answers);
    facts.host.subids = later.host.subids;
    facts.host.sudoers_names = later.host.sudoers_names;
    facts.host.sudoers_ids = later.host.sudoers_ids;
    facts.host.case_twins.extend(later.host.case_twins);
    facts.host.homes.extend(later.host.homes);
    facts.host.busy_ids.extend(later.host.busy_ids);
}

/// What sudoers names, kept from one batch to the next: it seldom changes.
#[derive(Clone, Debug, Default)]
struct Named {
    names: BTreeSet<String>,
    ids: BTreeSet<u32>,
}

/// Asks the other providers.
#[derive(Debug)]
pub struct Lookups {
    settings: Settings,
    slots: Semaphore,
    idle: Mutex<Vec<Worker>>,
    sudoers: Mutex<(Option<u64>, Named)>,
    reported: Mutex<BTreeSet<String>>,
}

impl Lookups {
    /// Nothing is started before the first question.
    pub fn new(settings: Settings) -> Lookups {
        Lookups {
            slots: Semaphore::new(settings.workers),
            settings,
            idle: Mutex::default(),
            sudoers: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Asks everybody but us, each service by itself. `home_base` where homes are persistent.
    ///
    /// Of the facts of the host, `homes` holds the entries named like a user asked for or owned by a
    /// UID asked for, `busy_ids` those of the UIDs asked for that are busy: both are cheap for the
    /// few candidates of a login and dear for a whole host.
    ///
    /// # Errors
    /// No answers within the timeout, a worker that died or cannot be reached, or a fact of the host
    /// that cannot be read. Nothing may be concluded then: the login is refused.
    pub async fn ask(
        &self,
        questions: &[Question],
        home_base: Option<&Path>,
    ) -> Result<Facts, LookupFailed> {
        let mut asking = "the lookup worker".to_owned();
        let limit = self.settings.timeout;
        match timeout(limit, self.batch(questions, home_base, &mut asking)).await {
            Ok(outcome) => outcome,
            // Dropping the batch has hung up on its worker, which ends it.
            Err(_) => Err(LookupFailed {
                source: asking,
                why: format!("no answer within {limit:?}"),
            }),
        }
    }

    async fn batch(
        &self,
        questions: &[Question],
        home_base: Option<&Path>,
        asking: &mut String,
    ) -> Result<Facts, LookupFailed> {
        let failed = |source: &str, why: String| LookupFailed {
            source: source.to_owned(),
            why,
        };
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|e| failed("the lookup worker", e.to_string()))?;
        let (sudoers_seen, named) = lock(&self.sudoers).clone();
        let request = Request {
            questions: questions.to_vec(),
            home_base: home_base.map(|base| base.to_string_lossy().into_owned()),
            sudoers_seen,
        };
        let mut line =
            serde_json::to_vec(&request).map_err(|e| failed("the lookup worker", e.to_string()))?;
        line.push(b'\n');

        let pooled = lock(&self.idle).pop();
        let mut fresh = pooled.is_none();
        let mut worker = match pooled {
            Some(worker) => worker,
            None => self.connect(asking).await?,
        };
        let results = loop {
            match worker.exchange(&line, asking).await {
                Ok(results) if results.answers.len() == questions.len() => break results,
                Ok(_) => return Err(failed(asking, "the worker lost an answer".to_owned())),
                // One from the pool may have ended for idleness or age just now: that is nobody's fault.
                Err(_) if !fresh => {
                    worker = self.connect(asking).await?;
                    fresh = true;
                }
                Err(e) => return Err(failed(asking, format!("the lookup worker died: {e}"))),
            }
        };
        lock(&self.idle).push(worker);
        self.collect(questions, results, sudoers_seen, named)
    }

    fn collect(
        &self,
        questions: &[Question],
        results: Results,
        sudoers_seen: Option<u64>,
        named: Named,
    ) -> Result<Facts, LookupFailed> {
        for service in results.not_installed {
            if lock(&self.reported).insert(service.clone()) {
                tracing::info!(
                    "nsswitch.conf names {service}, but libnss_{service}.so.2 is not installed: it has no users"
                );
            }
        }
        if let Some(why) = results.host_failure {
            return Err(LookupFailed {
                source: "the host".to_owned(),
                why,
            });
        }
        let mut host = HostFacts::from(results.host);
        if sudoers_seen == Some(results.sudoers_version) {
            (host.sudoers_names, host.sudoers_ids) = (named.names, named.ids);
        } else {
            let named = Named {
                names: host.sudoers_names.clone(),
                ids: host.sudoers_ids.clone(),
            };
            *lock(&self.sudoers) = (Some(results.sudoers_version), named);
        }
        let answers = questions.iter().cloned().zip(results.answers).collect();
        Ok(Facts { answers, host })
    }

    async fn connect(&self, asking: &mut String) -> Result<Worker, LookupFailed> {
        *asking = "the lookup worker".to_owned();
        let socket = &self.settings.socket;
        match UnixStream::connect(socket).await {
            Ok(stream) => Ok(Worker(BufReader::new(stream))),
            Err(e) => Err(LookupFailed {
                source: asking.clone(),
                why: format!("cannot connect to {}: {e}", socket.display()),
            }),
        }
    }
}

/// The state behind these locks is whole after each statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One worker. Dropping it ends the worker, whatever that is doing.
#[derive(Debug)]
struct Worker(BufReader<UnixStream>);

impl Worker {
    async fn exchange(&mut self, request: &[u8], asking: &mut String) -> io::Result<Results> {
        self.0.write_all(request).await?;
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut self.0).take(LONGEST_LINE as u64);
            bounded.read_until(b'\n', &mut line).await?;
            if line.last() != Some(&b'\n') {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_slice(&line)? {
                Reply::Asking(source) => *asking = source,
                Reply::Done(results) => return Ok(*results),
            }
        }
    }
}

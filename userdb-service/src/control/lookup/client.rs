//! The daemon's side of the lookup workers: connects, asks, and hangs up on what does not answer.
//! Waits for workers only, never for somebody else's code.
//!
//! A worker has one batch at a time, so a hang harms the batch it is in and nobody else's. There are
//! at most [`Settings::workers`] of them; further batches wait for a free one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::lines::Lines;
use super::local_users;
use super::wire::{LONGEST_LINE, Reply, Request, Results};
use crate::policy::decide::{Answer, Facts, HostFacts, HostFailure, Question};

/// How long one waits for a worker that is busy before another is started: a batch is a millisecond or two of its time where
/// nobody is slow to answer, and the start of one is some tens of them of PID 1's.
const BEFORE_ANOTHER: Duration = Duration::from_millis(25);

/// Where workers are, and how patient we are with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Each connection to this socket is a worker of its own.
    pub socket: PathBuf,
    /// How long one batch may take, the start of its worker included.
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
    facts.host.in_netgroups.extend(later.host.in_netgroups);
    facts.host.case_twins.extend(later.host.case_twins);
    facts.host.homes.extend(later.host.homes);
    facts.host.busy_ids.extend(later.host.busy_ids);
    facts.host.primary_gids.extend(later.host.primary_gids);
    facts.host.failure = facts.host.failure.take().or(later.host.failure);
}

/// All that is known without asking anybody: whether `/etc/passwd` has this user.
pub fn local(name: &str) -> Facts {
    let found = local_users::find(Path::new(local_users::PASSWD), name);
    let answer = |user| (Question::User(name.to_owned()), Answer::User(Some(user)));
    Facts {
        answers: found.map(answer).into_iter().collect(),
        host: HostFacts::default(),
    }
}

/// What sudoers names, kept from one batch to the next: it seldom changes.
#[derive(Clone, Debug, Default)]
struct Named {
    names: BTreeSet<String>,
    ids: BTreeSet<u32>,
}

/// The use of a worker, for as many batches as a decision takes: whose turn has come is not sent to the end of the queue
/// in the middle of it.
#[derive(Debug)]
pub struct Turn<'l> {
    lookups: &'l Lookups,
    // The semaphore is never closed, so there is always one.
    _slot: Option<SemaphorePermit<'l>>,
}

/// Asks the other providers.
#[derive(Debug)]
pub struct Lookups {
    settings: Settings,
    slots: Semaphore,
    idle: Mutex<Vec<Worker>>,
    busy: AtomicUsize,
    /// A worker is busy no more.
    back: Notify,
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
            busy: AtomicUsize::new(0),
            back: Notify::new(),
            sudoers: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Waits for a free worker as long as the caller likes: that others hang is no failure of these questions.
    pub async fn turn(&self) -> Turn<'_> {
        Turn {
            lookups: self,
            _slot: self.slots.acquire().await.ok(),
        }
    }

    /// One batch, in a turn of its own: [`Turn::ask`].
    ///
    /// # Errors
    /// Those of [`Turn::ask`].
    pub async fn ask(
        &self,
        questions: &[Question],
        home_base: Option<&Path>,
    ) -> Result<Facts, LookupFailed> {
        self.turn().await.ask(questions, home_base).await
    }

    /// One batch, in a turn of its own: [`Turn::facts`].
    pub async fn facts(&self, questions: &[Question], home_base: Option<&Path>) -> Facts {
        self.turn().await.facts(questions, home_base).await
    }
    async fn batch(
        &self,
        questions: &[Question],
        home_base: Option<&Path>,
        heard: &mut Heard,
    ) -> Result<Facts, LookupFailed> {
        let failed = |source: &str, why: String| LookupFailed {
            source: source.to_owned(),
            why,
        };
        let (sudoers_seen, named) = lock(&self.sudoers).clone();
        let request = Request {
            questions: questions.to_vec(),
            home_base: home_base.map(|base| base.to_string_lossy().into_owned()),
            sudoers_seen,
        };
        let mut line =
            serde_json::to_vec(&request).map_err(|e| failed("the lookup worker", e.to_string()))?;
        line.push(b'\n');

        let pooled = self.idle_soon().await;
        let _busy = Busy::new(self);
        let mut fresh = pooled.is_none();
        let mut worker = match pooled {
            Some(worker) => worker,
            None => self.connect(heard).await?,
        };
        let results = loop {
            match worker.exchange(&line, heard).await {
                Ok(results) => break results,
                // One from the pool may have ended for idleness or age just now: that is nobody's fault.
                Err(_) if !fresh => {
                    *heard = Heard::default();
                    worker = self.connect(heard).await?;
                    fresh = true;
                }
                Err(e) => {
                    let why = format!("the lookup worker died: {e}");
                    return Err(failed(&heard.asking, why));
                }
            }
        };
        let answers = heard.answers.take().unwrap_or_default();
        if answers.len() != questions.len() {
            let why = "the worker lost an answer".to_owned();
            return Err(failed(&heard.asking, why));
        }
        lock(&self.idle).push(worker);
        Ok(Facts {
            answers: pairs(questions, answers),
            host: self.collect(results, sudoers_seen, named),
        })
    }

    fn collect(&self, results: Results, sudoers_seen: Option<u64>, named: Named) -> HostFacts {
        for service in results.not_installed {
            if lock(&self.reported).insert(service.clone()) {
                tracing::info!(
                    "nsswitch.conf names {service}, but libnss_{service}.so.2 is not installed: it has no users"
                );
            }
        }
        let mut host = HostFacts::from(results.host);
        if host.failure.is_some() {
            return host;
        }
        if sudoers_seen == Some(results.sudoers_version) {
            (host.sudoers_names, host.sudoers_ids) = (named.names, named.ids);
        } else {
            let named = Named {
                names: host.sudoers_names.clone(),
                ids: host.sudoers_ids.clone(),
            };
            *lock(&self.sudoers) = (Some(results.sudoers_version), named);
        }
        host
    }

    /// A worker that was started before, if one is free or soon will be.
    async fn idle_soon(&self) -> Option<Worker> {
        let until = Instant::now() + BEFORE_ANOTHER;
        loop {
            let pooled = lock(&self.idle).pop();
            if pooled.is_some() || self.busy.load(Ordering::Relaxed) == 0 {
                return pooled;
            }
            if timeout_at(until, self.back.notified()).await.is_err() {
                return lock(&self.idle).pop();
            }
        }
    }

    async fn connect(&self, heard: &Heard) -> Result<Worker, LookupFailed> {
        let socket = &self.settings.socket;
        match Lines::connect(socket).await {
            Ok(lines) => Ok(Worker { lines, first: None }),
            Err(e) => Err(LookupFailed {
                source: heard.asking.clone(),
                why: format!("cannot connect to {}: {e}", socket.display()),
            }),
        }
    }
}

/// A worker is busy for as long as this lives, whatever becomes of it.
struct Busy<'l>(&'l Lookups);

impl<'l> Busy<'l> {
    fn new(lookups: &'l Lookups) -> Busy<'l> {
        lookups.busy.fetch_add(1, Ordering::Relaxed);
        Busy(lookups)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.back.notify_one();
    }
}

impl Turn<'_> {
    /// Asks everybody but us, each service by itself. `home_base` where homes are persistent.
    ///
    /// Of the facts of the host, `homes` holds the entries named like a user asked for or owned by a
    /// UID asked for, `busy_ids` those of the UIDs asked for that are busy: both are cheap for the
    /// few candidates of a login and dear for a whole host.
    ///
    /// # Errors
    /// No answers within the timeout, or a worker that died or cannot be reached. Nothing may be
    /// concluded then. What the host itself does not tell is in [`HostFacts::failure`].
    pub async fn ask(
        &self,
        questions: &[Question],
        home_base: Option<&Path>,
    ) -> Result<Facts, LookupFailed> {
        let mut heard = Heard::default();
        let limit = self.lookups.settings.timeout;
        let failed =
            match timeout(limit, self.lookups.batch(questions, home_base, &mut heard)).await {
                Ok(Ok(facts)) => return Ok(facts),
                Ok(Err(failed)) => failed,
                // Dropping the batch has hung up on its worker, which ends it.
                Err(_) => LookupFailed {
                    source: heard.asking,
                    why: format!("no answer within {limit:?}"),
                },
            };
        // Whoever exists goes on, whatever becomes of the homes of those who do not.
        let Some(answers) = heard
            .answers
            .filter(|answers| answers.len() == questions.len())
        else {
            return Err(failed);
        };
        let failure = Some(HostFailure {
            source: failed.source,
            why: failed.why,
        });
        Ok(Facts {
            answers: pairs(questions, answers),
            host: HostFacts {
                failure,
                ..HostFacts::default()
            },
        })
    }

    /// As [`Turn::ask`]. Where nobody can be asked, that is the answer to each question, but of users
    /// whom `/etc/passwd` has: those go on, as they do while the daemon does not answer.
    pub async fn facts(&self, questions: &[Question], home_base: Option<&Path>) -> Facts {
        let failed = match self.ask(questions, home_base).await {
            Ok(facts) => return facts,
            Err(failed) => failed,
        };
        let mut facts = Facts::default();
        for question in questions {
            let nobody = Answer::Failed {
                source: failed.source.clone(),
                why: failed.why.clone(),
            };
            facts.answers.insert(question.clone(), nobody);
            if let Question::User(name) = question {
                absorb(&mut facts, local(name));
            }
        }
        facts
    }
}

fn pairs(questions: &[Question], answers: Vec<Answer>) -> BTreeMap<Question, Answer> {
    questions.iter().cloned().zip(answers).collect()
}

/// What a worker has said of a batch until now.
#[derive(Debug)]
struct Heard {
    /// Who is being asked.
    asking: String,
    answers: Option<Vec<Answer>>,
}

impl Default for Heard {
    fn default() -> Heard {
        Heard {
            asking: "the lookup worker".to_owned(),
            answers: None,
        }
    }
}

/// The state behind these locks is whole after each statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One worker. Dropping it ends the worker, whatever that is doing.
#[derive(Debug)]
struct Worker {
    lines: Lines,
    /// Whom it asks first, unless it says so.
    first: Option<String>,
}

impl Worker {
    async fn exchange(&mut self, request: &[u8], heard: &mut Heard) -> io::Result<Results> {
        self.lines.send(request).await?;
        if let Some(first) = &self.first {
            heard.asking.clone_from(first);
        }
        loop {
            match serde_json::from_slice(&self.lines.next(LONGEST_LINE).await?)? {
                Reply::Asking(source) => heard.asking = source,
                Reply::Answers(answers) => heard.answers = Some(answers),
                Reply::Done(results) => {
                    self.first.clone_from(&results.first);
                    return Ok(*results);
                }
            }
        }
    }
}

//! The varlink service: which method, whose service name, and the pace of an answer.
//! What is found for a query is decided in `users`, `groups` and `memberships`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use account_table::{Account, Table};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::accounts::Accounts;
use super::groups::GroupQuery;
use super::memberships::MembershipQuery;
use super::memo::{Memo, State};
use super::protocol::{GetGroupRecord_Args, GetMemberships_Args, GetUserRecord_Args};
use super::rendered::Rendered;
use super::users::UserQuery;
use crate::USERDB_SERVICE;
use crate::runtime::memory;
use crate::runtime::transport::{
    Asker, Call, Disconnect, Interface, InvalidParameter, NoParameters, Replies, Service,
};

/// `io.systemd.UserDatabase`, answered from the published table.
#[derive(Debug)]
pub struct Provider {
    accounts: Accounts,
    machine: Option<Uuid>,
    /// Room for the account being looked at: 4 KiB that need not be moved.
    account: RefCell<Account>,
    memo: RefCell<Memo>,
    rendered: RefCell<Rendered>,
    /// When it rested last.
    rested: Cell<u64>,
}

/// The errors of the interface that we answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NoRecordFound,
    BadService,
    ServiceNotAvailable,
    ConflictingRecordFound,
    NonMatchingRecordFound,
}

impl Refusal {
    fn name(self) -> &'static str {
        match self {
            Refusal::NoRecordFound => "io.systemd.UserDatabase.NoRecordFound",
            Refusal::BadService => "io.systemd.UserDatabase.BadService",
            Refusal::ServiceNotAvailable => "io.systemd.UserDatabase.ServiceNotAvailable",
            Refusal::ConflictingRecordFound => "io.systemd.UserDatabase.ConflictingRecordFound",
            Refusal::NonMatchingRecordFound => "io.systemd.UserDatabase.NonMatchingRecordFound",
        }
    }
}

/// How far a query has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// All has been said; if it was nothing, that is the error.
    End(Refusal),
    /// Enough for now: let it be read if it is a piece, and others have their turn.
    Pause,
    /// The writer is in the middle of the very record: look again in a moment.
    Busy,
}

/// A query and how far it has got.
pub(super) trait Query {
    /// Looks into the table and says what is found, for so short a time that others may wait for it: some [`STRIDE`] records, whatever
    /// is asked. After [`Step::Pause`] or [`Step::Busy`] it is called again and goes on, unless its connection has been given up.
    /// What it keeps until then it keeps for each of thousands of callers, who need not read: positions, no lists.
    fn step(&mut self, with: &mut Answering<'_>, replies: &mut Replies<'_>) -> Step;
}

/// What a query answers from.
#[derive(Debug)]
pub(super) struct Answering<'t> {
    pub(super) table: &'t Table,
    /// Which file the table is.
    pub(super) file: u64,
    pub(super) account: &'t mut Account,
    pub(super) rendered: &'t mut Rendered,
    pub(super) machine: Option<Uuid>,
    /// Microseconds of CLOCK_REALTIME.
    pub(super) now: u64,
}

/// Records looked at in one step, whether they are replied or filtered out.
pub(super) const STRIDE: usize = 64;

/// Bytes of answers and records: when so many have been forgotten, the memory is given back.
const MUCH: usize = 1 << 20;

/// How often and after which pause a busy record is looked at again, before the caller is told to do
/// that. The writer holds one for well under a microsecond, unless it is preempted.
const TRIES: u32 = 100;
const MOMENT: Duration = Duration::from_millis(1);

impl Provider {
    /// A provider of `accounts` on the machine with this ID; without one, records have no UUID.
    #[must_use]
    pub fn new(accounts: Accounts, machine: Option<Uuid>) -> Provider {
        Provider {
            accounts,
            machine,
            account: RefCell::new(Account::empty()),
            memo: RefCell::default(),
            rendered: RefCell::default(),
            rested: Cell::new(0),
        }
    }

    /// Forgets answers and records that nobody has asked for since the last time this was called.
    pub fn rest(&self) {
        let (mut memo, mut rendered) = (self.memo.borrow_mut(), self.rendered.borrow_mut());
        if memo.rest() + rendered.rest() >= MUCH {
            memory::give_back();
            memo.is_back();
        }
        let now = now();
        if now < self.rested.replace(now) {
            // The clock has been set back, and no record may be from the future.
            memo.forget();
            rendered.forget();
        }
    }

    fn state(&self) -> Option<State> {
        self.accounts.now()?.state()
    }

    async fn reply_to(
        &self,
        message: &[u8],
        query: Result<impl Query, NoQuery>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        match query {
            Ok(query) => {
                let before = self.state();
                let known = self.answer(query, replies).await?;
                // Nothing has changed from before the first look to after the last.
                if known
                    && let (Some(state), Some(answer)) = (before, replies.whole())
                    && self.state() == before
                {
                    self.memo.borrow_mut().keep(state, message, answer);
                }
                Ok(())
            }
            Err(NoQuery::OtherService) => self.refuse(Refusal::BadService, replies).await,
            Err(NoQuery::Parameter(invalid)) => replies.invalid_parameter(&invalid).await,
        }
    }

    /// False: it is not known now.
    async fn answer(
        &self,
        mut query: impl Query,
        replies: &mut Replies<'_>,
    ) -> Result<bool, Disconnect> {
        let mut tries = 0;
        // One table for the whole answer: what is replaced stays readable, a position in it stays good.
        let Some(mut table) = self.accounts.now() else {
            self.refuse(Refusal::NoRecordFound, replies).await?;
            return Ok(true);
        };
        loop {
            let step = query.step(
                &mut Answering {
                    table: &table,
                    file: table.state().map_or(0, |(file, _)| file),
                    account: &mut self.account.borrow_mut(),
                    rendered: &mut self.rendered.borrow_mut(),
                    machine: self.machine,
                    now: now(),
                },
                replies,
            );
            match step {
                Step::End(refusal) => {
                    // What was asked for may be long, and the answer may have to wait for its reader.
                    drop(query);
                    replies.end(refusal.name()).await?;
                    return Ok(true);
                }
                Step::Pause => {
                    tries = 0;
                    replies.drain().await?;
                    replies.pause(tokio::task::yield_now()).await?;
                }
                Step::Busy if tries == TRIES => {
                    self.refuse(Refusal::ServiceNotAvailable, replies).await?;
                    return Ok(false);
                }
                Step::Busy => {
                    tries += 1;
                    replies.pause(tokio::time::sleep(MOMENT)).await?;
                    if !replies.begun() {
                        match self.accounts.now() {
                            Some(fresh) => table = fresh,
                            None => {
                                self.refuse(Refusal::NoRecordFound, replies).await?;
                                return Ok(true);
                            }
                        }
                    }
                }
            }
        }
    }

    async fn refuse(&self, refusal: Refusal, replies: &mut Replies<'_>) -> Result<(), Disconnect> {
        replies.error(refusal.name(), NoParameters {}).await
    }
}

/// Why a call is no query.
enum NoQuery {
    OtherService,
    Parameter(InvalidParameter),
}

/// The query that a call asks. The service name comes before all else.
fn read<A: DeserializeOwned, Q>(
    call: &Call<'_>,
    service: impl Fn(&A) -> &str,
    query: impl Fn(A) -> Result<Q, InvalidParameter>,
) -> Result<Q, NoQuery> {
    match call.arguments::<A>() {
        Ok(arguments) if service(&arguments) == USERDB_SERVICE => {
            query(arguments).map_err(NoQuery::Parameter)
        }
        Err(invalid) if call.text("service").as_deref() == Some(USERDB_SERVICE) => {
            Err(NoQuery::Parameter(invalid))
        }
        _ => Err(NoQuery::OtherService),
    }
}

impl Service for Provider {
    const PRODUCT: &'static str = "teleport-userdbd";
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "io.systemd.UserDatabase",
        description: include_str!("io.systemd.UserDatabase.varlink"),
    }];

    fn recall(&self, message: &[u8]) -> Option<Rc<[u8]>> {
        let state = self.state()?;
        self.memo.borrow_mut().recall(state, message)
    }

    async fn call(
        &self,
        _: Asker<'_>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        let message = call.message();
        match call.name() {
            "GetUserRecord" => {
                let query = read(&call, |a: &GetUserRecord_Args| &a.service, UserQuery::read);
                self.reply_to(message, query, replies).await
            }
            "GetGroupRecord" => {
                let query = read(
                    &call,
                    |a: &GetGroupRecord_Args| &a.service,
                    GroupQuery::read,
                );
                self.reply_to(message, query, replies).await
            }
            "GetMemberships" => {
                let query = read(
                    &call,
                    |a: &GetMemberships_Args| &a.service,
                    MembershipQuery::read,
                );
                self.reply_to(message, query, replies).await
            }
            _ => replies.method_not_found(&call).await,
        }
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}

/// The ID of this machine, for UUIDs; `None` while it has none.
#[must_use]
pub fn machine_id() -> Option<Uuid> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    Uuid::try_parse(text.trim()).ok().filter(|id| !id.is_nil())
}

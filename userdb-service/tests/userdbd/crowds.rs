//! Crowds that are at work all the time: who still gets in, whom they cost a place, and how soon it can be ended.

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use account_table::AccountSpec;
use serde_json::json;
use userdb_service::runtime::transport::{
    Asker, Call, Disconnect, Interface, Limits, NoParameters, Replies, Service,
};

use crate::echo::{Echo, echo, while_held};
use crate::host::{Host, bob, error, with_service};
use crate::wire::{Client, Server, as_uid};

/// A service whose calls take long.
#[derive(Default)]
struct Slow {
    searches: Arc<AtomicUsize>,
    /// Of those that spin.
    turns: Arc<AtomicUsize>,
}

/// Counts a call for as long as it is at work.
struct AtWork(Arc<AtomicUsize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Slow {
    const PRODUCT: &'static str = "slow";
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "org.example.Slow",
        description: "interface org.example.Slow\nmethod Search() -> ()\n",
    }];

    async fn call(
        &self,
        _: Asker<'_>,
        call: Call<'_>,
        replies: &mut Replies<'_>,
    ) -> Result<(), Disconnect> {
        self.searches.fetch_add(1, Ordering::SeqCst);
        let _at_work = AtWork(Arc::clone(&self.searches));
        if call.name() == "Rest" {
            replies
                .pause(tokio::time::sleep(Duration::from_secs(60)))
                .await?;
        }
        while call.name() == "Spin" {
            std::thread::sleep(Duration::from_millis(2));
            self.turns.fetch_add(1, Ordering::SeqCst);
            replies.pause(tokio::task::yield_now()).await?;
        }
        let begin = Instant::now();
        let long = match call.name() {
            "Search" => Duration::from_secs(20),
            "ShortSearch" => Duration::from_millis(300),
            _ => Duration::ZERO,
        };
        while begin.elapsed() < long {
            replies.pause(tokio::task::yield_now()).await?;
        }
        replies.reply(NoParameters {}).await
    }
}

pub(crate) fn start(limits: Limits) -> (Server, Arc<AtomicUsize>) {
    let searches = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&searches);
    let make = || Slow {
        searches,
        ..Slow::default()
    };
    (Server::start(limits, make), seen)
}

fn send(client: &mut Client, method: &str) {
    client.send(&json!({"method": format!("org.example.Slow.{method}")}));
}

/// Connections of `uid`, each with the same calls.
fn crowd(path: &Path, uid: u32, count: usize, calls: &'static [&str]) -> Vec<Client> {
    let path = PathBuf::from(path);
    as_uid(uid, move || {
        let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(&path)).collect();
        for client in &mut clients {
            calls.iter().for_each(|call| send(client, call));
        }
        clients
    })
}

fn is_answered(path: &Path, uid: u32) -> bool {
    let path = PathBuf::from(path);
    as_uid(uid, move || {
        let mut client = Client::connect(&path);
        // It may be turned away before it has asked.
        let asked = client
            .stream
            .write_all(b"{\"method\":\"org.example.Slow.Nothing\"}\0");
        asked.is_ok() && client.receive().is_some()
    })
}

/// Those that have not been closed. No answer is waiting in any.
fn open(clients: &[Client]) -> usize {
    let is_open = |client: &Client| {
        client.stream.set_nonblocking(true).unwrap();
        let read = (&client.stream).read(&mut [0]);
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    clients.iter().map(is_open).filter(|open| *open).count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn where_all_are_at_work_newcomers_get_in_and_the_uids_with_most_give_way() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root, for connections of several UIDs"
    );
    let limits = Limits {
        total: 24,
        per_uid: 8,
        ..Limits::default()
    };
    let (server, searches) = start(limits);
    let path = &server.path;
    let of_root = crowd(path, 0, 4, &["Search"]);
    let of_one = crowd(path, 10_001, 8, &["Search"]);
    let of_other = crowd(path, 10_002, 8, &["Search"]);
    let of_few = crowd(path, 10_003, 4, &["Search"]);
    until("all search", || searches.load(Ordering::SeqCst) == 24);
    let of_new = crowd(path, 10_004, 4, &["Search"]);
    until("the new ones search", || {
        open(&of_one) + open(&of_other) == 12
    });
    // They are at it, and all places are taken.
    for uid in [10_005, 0, 10_005, 0] {
        assert!(is_answered(path, uid), "UID {uid}");
    }
    let (one, other) = (open(&of_one), open(&of_other));
    assert!(one.abs_diff(other) <= 1, "{one} and {other}");
    for spared in [&of_root, &of_few, &of_new] {
        assert_eq!(open(spared), 4);
    }
    // Of a UID that has all it may have, the oldest gives way.
    let _more = crowd(path, 10_001, 8, &["Search"]);
    assert!(is_answered(path, 10_001));
    until("the first have gone", || open(&of_one) == 0);
}

#[test]
fn where_some_have_dozens_those_with_most_give_way_by_turns() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root, for connections of several UIDs"
    );
    let limits = Limits {
        total: 70,
        per_uid: 32,
        ..Limits::default()
    };
    let (server, searches) = start(limits);
    let path = &server.path;
    let of_few = crowd(path, 10_003, 6, &["Rest"]);
    let of_one = crowd(path, 10_001, 32, &["Rest"]);
    let of_other = crowd(path, 10_002, 32, &["Rest"]);
    until("all are at work", || searches.load(Ordering::SeqCst) == 70);
    let of_new = crowd(path, 10_004, 12, &["Rest"]);
    until("the new ones are at work", || {
        open(&of_one) + open(&of_other) == 52
    });
    let (one, other) = (open(&of_one), open(&of_other));
    assert!(one.abs_diff(other) <= 1, "{one} and {other}");
    assert_eq!((open(&of_few), open(&of_new)), (6, 12));
}

/// Not only when its turn comes: what it holds is what the limit is for.
#[test]
fn what_gives_way_is_gone_with_all_it_holds_before_another_comes() {
    let limits = Limits {
        total: 8,
        ..Limits::default()
    };
    let (mut server, searches) = start(limits);
    let at_work = || searches.load(Ordering::SeqCst);
    let first = crowd(&server.path, 0, 8, &["Rest"]);
    until("all are at work", || at_work() == 8);
    let second = crowd(&server.path, 0, 5, &["Rest"]);
    until("five have given way", || open(&first) == 3);
    until("those who came instead are at work", || at_work() >= 8);
    assert_eq!((at_work(), open(&second)), (8, 5));
    let begin = Instant::now();
    server.wish_to_stop();
    server.stopped();
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(at_work(), 0);
}

#[test]
fn what_nobody_waits_for_any_more_is_given_up() {
    let (server, searches) = start(Limits::default());
    let gone = crowd(&server.path, 10_001, 8, &["Search"]);
    let half = crowd(&server.path, 10_001, 1, &["Search"]);
    for client in &half {
        client
            .stream
            .shutdown(std::net::Shutdown::Write)
            .expect("a half may be closed");
    }
    until("all search", || searches.load(Ordering::SeqCst) == 9);
    drop(gone);
    until("they are given up", || searches.load(Ordering::SeqCst) == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(searches.load(Ordering::SeqCst), 1, "it may still read");
}

/// None of them has had a turn since, in which it would have noticed.
#[test]
fn who_has_hung_up_gives_way_before_anybody_else_does() {
    let limits = Limits {
        total: 18,
        per_uid: 8,
        ..Limits::default()
    };
    let (server, searches) = start(limits);
    let path = &server.path;
    // As many as the others, and older: these would be next to go.
    let living = crowd(path, 10_001, 6, &["Rest"]);
    let gone = crowd(path, 10_002, 6, &["Rest"]);
    let others = crowd(path, 10_003, 6, &["Rest"]);
    until("all are at work", || searches.load(Ordering::SeqCst) == 18);
    drop(gone);
    let newcomers = crowd(path, 10_004, 5, &["Rest"]);
    assert!(is_answered(path, 0), "after they have been let in");
    for clients in [&living, &others, &newcomers] {
        assert_eq!(open(clients), clients.len());
    }
}

#[test]
fn more_are_let_in_than_have_their_turn_meanwhile() {
    const SPINNING: usize = 300;
    userdb_service::runtime::raise_descriptor_limit();
    let turns = Arc::new(AtomicUsize::new(0));
    let slow = Slow {
        turns: Arc::clone(&turns),
        ..Slow::default()
    };
    let server = Server::start(Limits::default(), || slow);
    let _spinning = crowd(&server.path, 0, SPINNING, &["Spin"]);
    until("most spin", || turns.load(Ordering::SeqCst) > 3 * SPINNING);
    let before = turns.load(Ordering::SeqCst);
    let _silent = crowd(&server.path, 0, 200, &[]);
    assert!(is_answered(&server.path, 0));
    let waited = turns.load(Ordering::SeqCst) - before;
    assert!(waited < 150, "{waited} turns");
}

#[test]
fn who_has_few_connections_is_answered_before_newcomers_of_who_has_many() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root, for connections of several UIDs"
    );
    let limits = Limits {
        per_uid: 32,
        ..Limits::default()
    };
    let server = Server::start(limits, || Echo);
    let of_many = || {
        let path = server.path.clone();
        as_uid(10_001, move || -> Vec<Client> {
            (0..20).map(|_| Client::connect(&path)).collect()
        })
    };
    let _crowd = [of_many(), of_many()];
    echo(&mut server.connect(), "all are in");
    let (mut last, mut busy) = while_held(&server, || {
        let mut busy = of_many();
        for client in &mut busy {
            client.send(&json!({"method": "org.example.Echo.Hold"}));
        }
        let mut last = server.connect();
        let call = json!({"method": "org.example.Echo.Echo", "parameters": {"text": "last"}});
        last.send(&call);
        (last, busy)
    });
    let begin = Instant::now();
    assert!(last.receive().is_some());
    let waited = begin.elapsed();
    // Theirs take six seconds.
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert!(busy[0].receive().is_some());
}

#[test]
fn the_end_waits_a_second_for_searches_and_begins_none() {
    let (mut server, searches) = start(Limits::default());
    let mut endless = crowd(&server.path, 10_001, 20, &["Search"; 20]);
    let mut short = crowd(&server.path, 10_001, 20, &["ShortSearch"; 20]);
    until("all search", || searches.load(Ordering::SeqCst) == 40);
    let begin = Instant::now();
    server.wish_to_stop();
    server.stopped();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    for client in &mut endless {
        assert!(client.closed());
    }
    for client in &mut short {
        assert_eq!(client.receive(), Some(json!({"parameters": {}})));
        assert!(client.closed());
    }
}

/// Searches for what nobody is called, with the needles that are dearest.
fn searchers(path: &Path, uid: u32, count: usize) -> Vec<Client> {
    let path = PathBuf::from(path);
    as_uid(uid, move || {
        let needles: Vec<String> = (0..64).map(|number| format!("zq-{number:06}")).collect();
        let question = json!({"method": "io.systemd.UserDatabase.GetUserRecord", "more": true,
            "parameters": with_service(json!({"fuzzyNames": needles}))});
        let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(&path)).collect();
        for client in &mut clients {
            (0..10).for_each(|_| client.send(&question));
        }
        clients
    })
}

#[test]
fn users_are_found_while_strangers_search_and_the_end_does_not_wait_for_them() {
    let limits = Limits {
        total: 64,
        per_uid: 16,
        ..Limits::default()
    };
    let mut host = Host::limited(limits);
    for number in 0..2000 {
        host.publish(&AccountSpec {
            login: format!("user{number:05}"),
            uid: 1_900_001_000 + number,
            gid: 1_900_001_000 + number,
            ..bob()
        });
    }
    let path = host.server.path.clone();
    let strangers: Vec<_> = (10_001..10_005)
        .map(|uid| searchers(&path, uid, 16))
        .collect();
    for uid in [0, 10_009].repeat(10) {
        let path = path.clone();
        let found = as_uid(uid, move || {
            let question = with_service(json!({"userName": "user01234"}));
            Client::connect(&path).ask("io.systemd.UserDatabase.GetUserRecord", question)
        });
        assert_eq!(error(&found), "none");
    }
    let begin = Instant::now();
    host.server.wish_to_stop();
    host.server.stopped();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(strangers);
}

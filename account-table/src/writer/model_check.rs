//! Writer and reader in every order that the memory model allows, by loom: `make check-model`. The code that runs is the one that
//! is shipped; only its atomics are loom's and the table is as small as it can be.
//! What one thread after another can show is in `tests`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use loom::model::Builder;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::spec::{AccountSpec, GroupSpec};
use super::state::State;
use crate::account::Account;
use crate::atomic::Ordering;
use crate::layout::{Geometry, Head, Index, entry, hash_name, header};
use crate::memory::as_room;
use crate::memory::modelled::Modelled;
use crate::record::{GroupOrigin, user};
use crate::{Lookup, Table};

const SEED: u64 = 7;

/// A user whose every field says the same version; a torn copy would say two.
fn spec(login: &str, uid: u32, version: u32) -> AccountSpec {
    AccountSpec {
        login: login.into(),
        uid,
        gid: uid,
        since_usec: version.into(),
        stop_delay_usec: version.into(),
        sessions: version,
        home: format!("/{version}"),
        ..AccountSpec::default()
    }
}

/// The version of a whole copy.
fn version(account: &Account) -> u32 {
    let version = account.sessions();
    assert_eq!(
        (
            account.since_usec(),
            account.stop_delay_usec(),
            account.home()
        ),
        (
            version.into(),
            version.into(),
            format!("/{version}").as_str()
        ),
        "a torn record"
    );
    version
}

/// A table with what `before` publishes in it, and the memory it lies in.
fn table_of(before: &[AccountSpec]) -> (Arc<Modelled>, State, Table) {
    let memory = Arc::new(Modelled::new(Geometry::new(3).expect("the smallest table")));
    let mut state = State::format(memory.writable(), 1, SEED, 0);
    for account in before {
        publish(&mut state, account);
    }
    let table = Table::over(memory.mapping());
    (memory, state, table)
}

/// Lets `writer` change what is in the table while `reader` reads, in every order with at most so many switches from a thread that
/// could go on. The reader is told when the writer has returned, in the way one process hears of another: by what orders memory.
fn in_every_order(
    preemptions: usize,
    before: Vec<AccountSpec>,
    writer: impl Fn(&mut State) + Clone + Send + Sync + 'static,
    reader: impl Fn(&Table, &dyn Fn() -> bool) + Clone + Send + Sync + 'static,
) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let orders = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let (memory, mut state, table) = table_of(&before);
        let returned = Arc::new(AtomicBool::new(false));
        let (writer, reader, has_returned) =
            (writer.clone(), reader.clone(), Arc::clone(&returned));
        // Both are children: loom leaves orders out between a parent's first loads and a child's stores.
        let reading =
            thread::spawn(move || reader(&table, &|| has_returned.load(Ordering::Acquire)));
        let writing = thread::spawn(move || {
            writer(&mut state);
            returned.store(true, Ordering::Release);
        });
        let ended = (reading.join(), writing.join());
        drop(memory);
        assert!(ended.0.is_ok() && ended.1.is_ok());
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("{orders} orders");
    assert!(orders > 50, "only {orders} orders were tried");
}

fn by_name(table: &Table, name: &str) -> Lookup<Account> {
    table.user_by_name(name.as_bytes())
}

fn publish(state: &mut State, account: &AccountSpec) {
    state.publish(account).expect("room");
}

/// Two names whose walks begin at the same place.
fn neighbours() -> (&'static str, &'static str) {
    let size = Geometry::of_k(3).index_size();
    let home = |name: &str| entry::home(hash_name(SEED, name.as_bytes()), size);
    let names = || ('a'..='z').map(|letter| letter.to_string());
    for first in names() {
        for second in names().filter(|second| *second > first) {
            if home(&first) == home(&second) {
                return (first.leak(), second.leak());
            }
        }
    }
    panic!("26 names in 32 places, and no two at one")
}

#[test]
fn a_user_who_is_replaced_twice_is_found_whole_in_every_order() {
    in_every_order(
        2,
        vec![spec("a", 1000, 1)],
        |state| {
            // The second replacement is written over the block the reader may be copying.
            publish(state, &spec("a", 1000, 2));
            publish(state, &spec("a", 1000, 3));
        },
        |table, _| match by_name(table, "a") {
            Lookup::Found(account) => assert!((1..=3).contains(&version(&account))),
            Lookup::Absent => panic!("a was there throughout"),
            Lookup::Busy => (),
        },
    );
}

/// What is written into the caller's buffer: by the head's second look it is one record's, or not believed.
#[test]
fn what_is_written_straight_into_a_buffer_is_of_one_record_in_every_order() {
    let spec = |version: u32| AccountSpec {
        gid: version,
        gecos: format!("{version}"),
        ..spec("a", 1000, version)
    };
    in_every_order(
        2,
        vec![spec(1)],
        move |state| {
            publish(state, &spec(2));
            publish(state, &spec(3));
        },
        |table, _| {
            let mut room = [0; 64];
            match table.passwd_by_uid(1000, as_room(&mut room)) {
                Lookup::Found(found) => {
                    let found = found.expect("it fits");
                    let [gecos, home, shell] = found.starts;
                    assert!((1..=3).contains(&found.gid));
                    assert_eq!(
                        (&room[gecos..home], &room[home..shell]),
                        (
                            format!("{}\0", found.gid).as_bytes(),
                            format!("/{}\0", found.gid).as_bytes()
                        ),
                        "a torn record"
                    );
                }
                Lookup::Absent => panic!("a was there throughout"),
                Lookup::Busy => (),
            }
        },
    );
}

#[test]
fn a_user_whose_hint_is_moved_is_never_missed_by_a_direct_lookup() {
    let (first, second) = neighbours();
    in_every_order(
        3,
        vec![spec(first, 1000, 1), spec(second, 1001, 1)],
        move |state| assert!(state.withdraw(first)),
        move |table, _| {
            let mut room = [0; 64];
            match table.private_group_by_name(second.as_bytes(), as_room(&mut room)) {
                Lookup::Found(found) => assert_eq!(found.expect("it fits").gid, 1001),
                Lookup::Absent => panic!("{second} was there throughout"),
                Lookup::Busy => (),
            }
        },
    );
}

#[test]
fn a_user_whose_hint_is_moved_is_never_missed() {
    let (first, second) = neighbours();
    in_every_order(
        3,
        vec![spec(first, 1000, 1), spec(second, 1001, 1)],
        move |state| assert!(state.withdraw(first)),
        move |table, _| match by_name(table, second) {
            Lookup::Found(account) => assert_eq!((version(&account), account.uid()), (1, 1001)),
            Lookup::Absent => panic!("{second} was there throughout"),
            Lookup::Busy => (),
        },
    );
}

#[test]
fn a_group_of_ours_whose_hint_is_moved_is_never_taken_for_one_of_others_with_its_name() {
    let (first, second) = neighbours();
    let member = |login: &str, uid, name: &str, origin| AccountSpec {
        groups: vec![GroupSpec {
            name: name.into(),
            gid: uid,
            origin,
        }],
        ..spec(login, uid, 1)
    };
    in_every_order(
        2,
        vec![
            member("a", 1000, first, GroupOrigin::Synthesized),
            member("b", 1001, second, GroupOrigin::Foreign),
            member("c", 1002, second, GroupOrigin::Synthesized),
        ],
        |state| assert!(state.withdraw("a")),
        move |table, _| match table.shared_group_by_name(second.as_bytes()) {
            Lookup::Found(group) => assert_eq!(group.gid(), 1002),
            Lookup::Absent => panic!("{second} was there throughout"),
            Lookup::Busy => (),
        },
    );
}

#[test]
fn a_slot_that_changes_hands_answers_for_nobody_else() {
    in_every_order(
        2,
        vec![spec("a", 1000, 1)],
        |state| {
            assert!(state.withdraw("a"));
            publish(state, &spec("b", 1001, 2));
        },
        |table, _| {
            if let Lookup::Found(account) = by_name(table, "a") {
                assert_eq!((version(&account), account.uid()), (1, 1000));
            }
        },
    );
}

#[test]
fn who_is_seen_under_one_key_is_seen_under_the_other_and_whom_it_replaced_is_not() {
    in_every_order(
        1,
        vec![spec("a", 1000, 1)],
        |state| {
            assert!(state.withdraw("a"));
            publish(state, &spec("b", 1001, 2));
        },
        |table, _| {
            if let Lookup::Found(account) = table.user_by_uid(1001) {
                assert_eq!((version(&account), account.login()), (2, "b"));
                assert!(!matches!(by_name(table, "b"), Lookup::Absent));
                assert!(!matches!(by_name(table, "a"), Lookup::Found(_)));
            }
        },
    );
}

#[test]
fn a_lookup_that_begins_after_a_change_has_returned_sees_it() {
    in_every_order(
        1,
        vec![spec("a", 1000, 1)],
        |state| {
            assert!(state.withdraw("a"));
            publish(state, &spec("b", 1001, 2));
        },
        |table, has_returned| {
            let earlier = by_name(table, "a");
            if has_returned() {
                assert!(matches!(by_name(table, "a"), Lookup::Absent));
                assert!(matches!(by_name(table, "b"), Lookup::Found(_)));
            }
            drop(earlier);
        },
    );
}

#[test]
fn members_are_listed_once_while_one_of_them_leaves_and_comes_back() {
    let member = |login: &str, uid| AccountSpec {
        groups: vec![GroupSpec {
            name: "t".into(),
            gid: 50,
            origin: GroupOrigin::Synthesized,
        }],
        ..spec(login, uid, 1)
    };
    in_every_order(
        1,
        vec![member("a", 1000), member("b", 1001)],
        move |state| {
            assert!(state.withdraw("b"));
            publish(state, &member("b", 1001));
        },
        |table, _| {
            let Lookup::Found(group) = table.shared_group_by_name(b"t") else {
                panic!("the group has a member throughout");
            };
            let (mut a, mut b) = (0, 0);
            let outcome = table.member_logins(&group, |login| {
                match login {
                    b"a" => a += 1,
                    _ => b += 1,
                }
                std::ops::ControlFlow::Continue(())
            });
            if outcome == Lookup::Found(()) {
                assert!(a == 1 && b <= 1, "a {a} times, b {b} times");
            }
        },
    );
}

/// The model finds what the protocol is for: without the second look at the head, a torn copy is there to be seen.
#[test]
#[should_panic(expected = "torn")]
fn a_reader_that_did_not_look_twice_would_see_a_torn_record() {
    in_every_order(
        2,
        vec![spec("a", 1000, 1)],
        |state| {
            publish(state, &spec("a", 1000, 2));
            publish(state, &spec("a", 1000, 3));
        },
        |table, _| {
            let place = Head(table.word_acquire(header::WORDS)).place();
            let (first, _) = table.geometry().words_of(place).expect("a live head");
            // Behind the strings, which take one word.
            let field = |at: usize| table.word(first + user::GROUPS + 1 + at);
            assert_eq!(field(user::SINCE), field(user::STOP_DELAY), "torn");
        },
    );
}

/// Likewise: who takes the end of a walk for an answer without looking at the counter of moves misses somebody.
#[test]
#[should_panic(expected = "missed")]
fn a_walk_that_did_not_look_for_moves_would_miss_somebody() {
    let (first, second) = neighbours();
    in_every_order(
        3,
        vec![spec(first, 1000, 1), spec(second, 1001, 1)],
        move |state| assert!(state.withdraw(first)),
        move |table, _| {
            let size = table.geometry().index_size();
            let hash = hash_name(SEED, second.as_bytes());
            let home = entry::home(hash, size);
            let hints = (0..size).map(|step| {
                table.word(table.geometry().index_base(Index::Names) + ((home + step) & (size - 1)))
            });
            let found = hints
                .take_while(|&hint| hint != 0)
                .any(|hint| entry::has_tag_of(hint, hash));
            assert!(found, "missed");
        },
    );
}

//! Many processes, one writer: nobody is missed while there, nobody is found who has gone, whatever becomes of the writer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use account_table::{AccountSpec, GroupOrigin};

use crate::rig::process::{descriptors, fork, kill, mappings_of_the_table, succeeded};
use crate::rig::{Module, NOT_FOUND, SUCCESS, TRY_AGAIN, alone, group, spec, writer};

const USUAL: &str = "passwd: files teleport\ngroup: files teleport\n";

/// How long the writer is killed and started again, in seconds; `make check-stress` sets it.
const SECONDS: &str = "STRESS_SECONDS";

/// Says the same version in each field, so that a torn record shows.
fn version(login: &str, uid: u32, version: u32) -> AccountSpec {
    AccountSpec {
        gecos: format!("v{version}"),
        home: format!("/v{version}"),
        groups: vec![group("dev", 3000, GroupOrigin::Synthesized)],
        ..spec(login, uid)
    }
}

#[test]
fn ten_thousand_sessions_are_seen_at_once_when_opened_and_not_when_closed() {
    const PROCESSES: u32 = 64;
    const TRIALS: u32 = 10_000_u32.div_ceil(PROCESSES);
    alone(USUAL, &[], || {
        let mut writer = writer();
        let module = Module::load();
        let mut sessions = Vec::new();
        for number in 0..PROCESSES {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let child = fork(|| {
                let (name, uid) = (format!("user{number}"), 100_000 + number);
                let (mut buffer, mut answer) = ([0; 4096], [0]);
                for _ in 0..TRIALS {
                    for expected in [SUCCESS, NOT_FOUND] {
                        ours.write_all(&[u8::from(expected == SUCCESS)]).unwrap();
                        ours.read_exact(&mut answer).unwrap();
                        let by_name = module.user(&name, &mut buffer).status;
                        let by_uid = module.user_by_id(uid, &mut buffer).status;
                        let group = module.group(&name, &mut buffer).status;
                        if [by_name, by_uid, group] != [expected; 3] {
                            eprintln!("{name}: {by_name} {by_uid} {group} for {expected}");
                            return false;
                        }
                    }
                }
                true
            });
            drop(ours);
            theirs.set_nonblocking(true).unwrap();
            sessions.push((number, child, theirs));
        }
        // One writer for all of them, as sessiond is: it answers when the change has been made.
        let (mut open, mut changes) = (sessions.len(), 0);
        while open > 0 {
            open = 0;
            for (number, _, stream) in &mut sessions {
                let mut wish = [0];
                match stream.read(&mut wish) {
                    Ok(0) => continue,
                    Ok(_) => {
                        let user = version(&format!("user{number}"), 100_000 + *number, changes);
                        match wish[0] {
                            1 => writer.publish(&user).unwrap(),
                            _ => assert!(writer.withdraw(&user.login).unwrap()),
                        }
                        changes += 1;
                        stream.write_all(&[1]).unwrap();
                    }
                    Err(_) => thread::yield_now(),
                }
                open += 1;
            }
        }
        let right = sessions
            .into_iter()
            .filter(|(_, child, _)| succeeded(*child));
        assert_eq!(right.count(), PROCESSES as usize);
        assert_eq!(changes, 2 * TRIALS * PROCESSES);
    });
}

#[test]
fn a_writer_that_is_killed_again_and_again_costs_no_reader_an_answer() {
    alone(USUAL, &[], || {
        let seconds = std::env::var(SECONDS).map_or(3, |seconds| seconds.parse().unwrap());
        writer().publish(&version("permanent", 1000, 0)).unwrap();
        let began = Instant::now();
        // A process that keeps writers, so that this one may have threads.
        let keeper = fork(|| {
            let mut round = 0;
            while began.elapsed() < Duration::from_secs(seconds) {
                round += 1;
                let child = fork(|| {
                    let mut writer = writer();
                    for change in 0.. {
                        let number = change % 200;
                        let user = version(&format!("user{number}"), 10_000 + number, change);
                        writer.publish(&user).unwrap();
                        if change % 3 == 0 {
                            let gone = (change + 100) % 200;
                            let _ = writer.withdraw(&format!("user{gone}")).unwrap();
                        }
                        writer.publish(&version("permanent", 1000, change)).unwrap();
                    }
                    true
                });
                thread::sleep(Duration::from_millis(if seconds < 10 { 100 } else { 1000 }));
                kill(child);
            }
            round > 2
        });
        let (stop, busy, lookups) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let module = Module::load();
        assert!(module.user("permanent", &mut [0; 1024]).entry.is_some());
        let before = descriptors();
        thread::scope(|scope| {
            for thread in 0..8 {
                let (stop, busy, lookups) = (&stop, &busy, &lookups);
                scope.spawn(move || {
                    let (mut buffer, mut round) = (vec![0; 1 << 16], thread);
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        let number = round % 200;
                        let present = match round % 2 {
                            0 => module.user("permanent", &mut buffer),
                            _ => module.user_by_id(1000, &mut buffer),
                        };
                        let passing = module.user(&format!("user{number}"), &mut buffer);
                        let members = module.group("dev", &mut buffer);
                        assert_ne!(present.status, NOT_FOUND, "permanent is missed");
                        assert_ne!(members.status, NOT_FOUND, "dev is missed");
                        for reply in [present, passing] {
                            match reply.entry {
                                Some(user) => assert_eq!(user.home, format!("/{}", user.gecos)),
                                None if reply.status == TRY_AGAIN => {
                                    busy.fetch_add(1, Ordering::Relaxed);
                                }
                                None => (),
                            }
                        }
                        if let Some(dev) = members.entry {
                            let count =
                                |login: &str| dev.members.iter().filter(|m| *m == login).count();
                            assert_eq!(count("permanent"), 1);
                            assert!(count(&format!("user{number}")) <= 1);
                        }
                        lookups.fetch_add(3, Ordering::Relaxed);
                    }
                });
            }
            assert!(succeeded(keeper));
            stop.store(true, Ordering::Relaxed);
        });
        let (busy, lookups) = (busy.into_inner(), lookups.into_inner());
        println!("{lookups} lookups, {busy} of them busy");
        assert!(
            busy * 1000 <= lookups,
            "{busy} of {lookups} lookups were busy"
        );
        assert_eq!(mappings_of_the_table(), 1);
        assert_eq!(descriptors(), before);
    });
}

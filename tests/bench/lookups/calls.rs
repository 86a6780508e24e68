//! The five calls of glibc that are measured, hit and miss, each checked for the right answer.
//! Thin wrappers over libc, and the clock around many of them.

use std::ffi::{CString, c_char, c_int};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::{Duration, Instant};

use crate::population::{absent, absent_id, login, team, uid};

/// What is asked. `Team` is getgrnam of a group of ten; `Grnam` and `Grgid` ask for private groups, which list nobody. `Hot` is
/// getpwnam of the same ten users again and again, wherever among how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Pwnam,
    Pwuid,
    Grnam,
    Grgid,
    Grouplist,
    Team,
    Hot,
}

impl Call {
    pub(crate) const ALL: [Call; 7] = [
        Call::Pwnam,
        Call::Pwuid,
        Call::Grnam,
        Call::Grgid,
        Call::Grouplist,
        Call::Team,
        Call::Hot,
    ];

    /// The five of the goals.
    pub(crate) const FIVE: [Call; 5] = [
        Call::Pwnam,
        Call::Pwuid,
        Call::Grnam,
        Call::Grgid,
        Call::Grouplist,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Call::Pwnam => "getpwnam",
            Call::Pwuid => "getpwuid",
            Call::Grnam => "getgrnam",
            Call::Grgid => "getgrgid",
            Call::Grouplist => "getgrouplist",
            Call::Team => "getgrnam-of-ten",
            Call::Hot => "getpwnam-hot",
        }
    }
}

/// A sample is the quickest of so many batches: what else runs on the machine only ever adds. A batch takes at least so long,
/// and a sample of slow calls ends early.
const BATCHES: u32 = 8;
const BATCH: Duration = Duration::from_micros(500);
const SAMPLE: Duration = Duration::from_millis(6);
/// At most so many different users are asked for, and so many absent ones.
const WORKING_SET: u32 = 4096;
const ABSENT: u32 = 256;

/// Who is asked for, in an order that is no order of the table.
pub(crate) struct Caller {
    logins: Vec<CString>,
    ids: Vec<u32>,
    teams: Vec<CString>,
    absent: Vec<CString>,
    absent_ids: Vec<u32>,
    turn: usize,
}

fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

impl Caller {
    pub(crate) fn new(users: u32) -> Caller {
        let people: Vec<u32> = (0..users.min(WORKING_SET))
            .map(|n| n.wrapping_mul(2_654_435_761) % users)
            .collect();
        Caller {
            logins: people.iter().map(|&n| c_string(login(n))).collect(),
            ids: people.iter().map(|&n| uid(n)).collect(),
            teams: people.iter().map(|&n| c_string(team(n))).collect(),
            absent: (0..ABSENT).map(|n| c_string(absent(n))).collect(),
            absent_ids: (0..ABSENT).map(absent_id).collect(),
            turn: 0,
        }
    }

    /// Asks for everybody once by every call: fills caches.
    pub(crate) fn warm_up(&mut self) -> Result<(), String> {
        for call in Call::ALL {
            for hit in [true, false] {
                for turn in 0..self.period(call, hit) {
                    self.ask(call, hit, turn)?;
                }
            }
        }
        Ok(())
    }

    fn period(&self, call: Call, hit: bool) -> usize {
        match (hit, call) {
            (true, Call::Hot) => self.logins.len().min(10),
            (true, _) => self.logins.len(),
            (false, _) => self.absent.len(),
        }
    }

    /// Nanoseconds per call.
    pub(crate) fn sample(&mut self, call: Call, hit: bool) -> Result<f64, String> {
        let began = Instant::now();
        let mut best = f64::INFINITY;
        for _ in 0..BATCHES {
            best = best.min(self.batch(call, hit)?);
            if began.elapsed() >= SAMPLE {
                break;
            }
        }
        Ok(best)
    }

    fn batch(&mut self, call: Call, hit: bool) -> Result<f64, String> {
        let period = self.period(call, hit);
        let (began, mut calls) = (Instant::now(), 0u32);
        // The clock is looked at after calls enough that looking costs nothing, unless one call takes longer than that.
        let mut together = 1;
        loop {
            for _ in 0..together {
                self.turn = (self.turn + 1) % period;
                self.ask(call, hit, self.turn)?;
            }
            calls += together;
            let elapsed = began.elapsed();
            if elapsed >= BATCH {
                return Ok(elapsed.as_nanos() as f64 / f64::from(calls));
            }
            if elapsed < BATCH / 8 {
                together = (together * 2).min(1024);
            }
        }
    }

    /// Millions of getpwnam hits in a second, by so many threads together: the most of some short spans.
    pub(crate) fn throughput(&self, threads: usize) -> Result<f64, String> {
        let mut most: f64 = 0.0;
        for _ in 0..BATCHES {
            most = most.max(self.calls_together(threads)?);
        }
        Ok(most)
    }

    fn calls_together(&self, threads: usize) -> Result<f64, String> {
        let (began, span) = (Instant::now(), Duration::from_millis(15));
        let done: Result<Vec<u64>, String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        let (mut turn, mut calls) = (thread * 61, 0);
                        while began.elapsed() < span {
                            for _ in 0..64 {
                                turn = (turn + 1) % self.logins.len();
                                self.ask(Call::Pwnam, true, turn)?;
                            }
                            calls += 64;
                        }
                        Ok(calls)
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a thread panicked".into()))
            };
            threads.into_iter().map(join).collect()
        });
        let calls: u64 = done?.into_iter().sum();
        Ok(calls as f64 / began.elapsed().as_secs_f64() / 1e6)
    }

    #[inline]
    fn ask(&self, call: Call, hit: bool, turn: usize) -> Result<(), String> {
        let turn = turn % self.period(call, hit);
        let (names, ids) = match (hit, call) {
            (true, Call::Team) => (&self.teams, &self.ids),
            (true, _) => (&self.logins, &self.ids),
            (false, _) => (&self.absent, &self.absent_ids),
        };
        let (name, id) = (&names[turn], ids[turn]);
        let answered = match call {
            // SAFETY: all pointers are valid for the call, here and in the next three.
            Call::Pwnam | Call::Hot => with_buffer(|result, buffer, length, found| unsafe {
                libc::getpwnam_r(name.as_ptr(), result, buffer, length, found)
            }),
            // SAFETY: as above.
            Call::Pwuid => with_buffer(|result, buffer, length, found| unsafe {
                libc::getpwuid_r(id, result, buffer, length, found)
            }),
            // SAFETY: as above.
            Call::Grnam | Call::Team => with_buffer(|result, buffer, length, found| unsafe {
                libc::getgrnam_r(name.as_ptr(), result, buffer, length, found)
            }),
            // SAFETY: as above.
            Call::Grgid => with_buffer(|result, buffer, length, found| unsafe {
                libc::getgrgid_r(id, result, buffer, length, found)
            }),
            Call::Grouplist => group_list(name, id),
        };
        match answered {
            Ok(found) if found == hit => Ok(()),
            wrong => Err(format!("{} of {name:?} or {id}: {wrong:?}", call.name())),
        }
    }
}

/// Calls a lookup of glibc with room for an answer; whether somebody was found, or the error.
#[inline]
fn with_buffer<T>(
    call: impl Fn(*mut T, *mut c_char, usize, *mut *mut T) -> c_int,
) -> Result<bool, c_int> {
    let mut buffer = MaybeUninit::<[c_char; 4096]>::uninit();
    let (mut result, mut found) = (MaybeUninit::uninit(), ptr::null_mut());
    match black_box(call(
        result.as_mut_ptr(),
        buffer.as_mut_ptr().cast(),
        4096,
        &mut found,
    )) {
        0 => Ok(!found.is_null()),
        error => Err(error),
    }
}

/// getgrouplist answers for anybody; a user of ours is in a team beside the private group.
#[inline]
fn group_list(name: &CString, gid: u32) -> Result<bool, c_int> {
    let (mut groups, mut count) = ([0; 64], 64);
    // SAFETY: the array has room for `count` gids.
    let found = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
    if black_box(found) < 1 {
        return Err(found);
    }
    Ok(count == 2)
}

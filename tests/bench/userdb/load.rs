//! Questions as fast as they are answered, from one connection or many, kept or fresh.
//! Tells figures on one line; what they mean is judged outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::Pid;

use crate::Result;
use crate::asker::{What, ask, connect, ran};
use crate::prepare::Changes;

/// How long one sample takes, and each of the spans it is made of.
const SAMPLE: Duration = Duration::from_millis(400);
const SPAN: Duration = Duration::from_millis(50);

/// Times of single requests, in nanoseconds, span by span.
///
/// Where the kernel happens to put the two processes, on one processor or on two, and whoever else wants to run, make
/// the same request take 9 µs or 40 for as long as it lasts. So one who asks alone is sent to the next processor after
/// each span, to meet the provider on its own; what a provider costs is what its best span shows, what it makes people
/// wait at worst is of all spans.
struct Sample {
    /// Where to go in turn; nowhere if it stays where it is put.
    processors: Vec<CpuSet>,
    began: Instant,
    ran_before: Duration,
    span: Instant,
    times: Vec<u64>,
    /// Where the spans end in `times`, and how long they took.
    spans: Vec<(usize, Duration)>,
}

impl Sample {
    fn begin(processors: Vec<CpuSet>) -> Result<Sample> {
        let now = Instant::now();
        Ok(Sample {
            processors,
            began: now,
            ran_before: ran()?,
            span: now,
            times: Vec::with_capacity(1 << 18),
            spans: Vec::new(),
        })
    }

    /// Adds the time of a request. False: enough for a sample.
    fn add(&mut self, asked: Instant) -> Result<bool> {
        let now = Instant::now();
        self.times.push(nanoseconds(now - asked));
        if now - self.span >= SPAN {
            self.spans.push((self.times.len(), now - self.span));
            if !self.processors.is_empty() {
                self.processors.rotate_left(1);
            }
            if let Some(next) = self.processors.first() {
                sched_setaffinity(Pid::this(), next)?;
            }
            self.span = Instant::now();
        }
        Ok(now - self.began < SAMPLE)
    }

    /// What the best spans show.
    fn best(&mut self) -> Best {
        let mut from = 0;
        let mut best = Best {
            rate: 0.0,
            middle: u64::MAX,
        };
        for (end, took) in &self.spans {
            let span = &mut self.times[from..*end];
            span.sort_unstable();
            best.rate = best.rate.max(span.len() as f64 / took.as_secs_f64());
            best.middle = best.middle.min(span[(span.len() - 1) / 2]);
            from = *end;
        }
        best
    }

    /// `requests/s p50 p99 max own`, times in microseconds; the first two of the best span, the last one how long the asker
    /// itself was running for each, on the average.
    fn tell(mut self) -> Result {
        let own = (ran()? - self.ran_before).as_secs_f64() * 1e6 / self.times.len() as f64;
        let Best { rate, middle } = self.best();
        self.times.sort_unstable();
        let at = |part: f64| self.times[((self.times.len() - 1) as f64 * part) as usize];
        let microseconds = |time: u64| time as f64 / 1e3;
        println!(
            "{rate:.0} {:.2} {:.2} {:.2} {own:.2}",
            microseconds(middle),
            microseconds(at(0.99)),
            microseconds(at(1.0))
        );
        Ok(())
    }
}

/// Requests a second and the median of their times in nanoseconds, each of the span where it is best.
struct Best {
    rate: f64,
    middle: u64,
}

/// Each of the processors that this process may run on, by itself.
fn processors() -> Result<Vec<CpuSet>> {
    let all = sched_getaffinity(Pid::this())?;
    let mut each = Vec::new();
    for number in 0..CpuSet::count() {
        if all.is_set(number)? {
            let mut one = CpuSet::new();
            one.set(number)?;
            each.push(one);
        }
    }
    Ok(each)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Asks for one thing, of `users` users in turn. `pace` is `kept` or `fresh`: a connection for each request.
pub(crate) fn run(
    service: &str,
    socket: &str,
    what: &str,
    connections: &str,
    pace: &str,
    users: &str,
) -> Result {
    let what = What::named(what)?;
    let users: u32 = users.parse()?;
    // Steps through all of them, not one after the other.
    let questions: Vec<Vec<u8>> = (0..users)
        .map(|n| what.about(n * 7919 % users, service))
        .collect();
    let sample = match (connections.parse()?, pace) {
        (1, "kept") => one(socket, &questions, what)?,
        (1, "fresh") => fresh(socket, &questions, what)?,
        (many, "kept") => crowd(socket, &questions, what, many)?,
        _ => return Err("many fresh connections are not measured".into()),
    };
    sample.tell()
}

fn check(what: What, heard: &[u8]) -> Result {
    if heard.starts_with(what.begins()) {
        return Ok(());
    }
    Err(format!("a wrong answer: {}", String::from_utf8_lossy(heard)).into())
}

fn one(path: &str, questions: &[Vec<u8>], what: What) -> Result<Sample> {
    let mut socket = connect(path)?;
    measure(questions, what, |question, heard| {
        ask(&mut socket, question, heard)
    })
}

fn fresh(path: &str, questions: &[Vec<u8>], what: What) -> Result<Sample> {
    measure(questions, what, |question, heard| {
        ask(&mut connect(path)?, question, heard)
    })
}

fn measure(
    questions: &[Vec<u8>],
    what: What,
    mut ask: impl FnMut(&[u8], &mut Vec<u8>) -> Result,
) -> Result<Sample> {
    let mut heard = Vec::new();
    let mut sample = Sample::begin(processors()?)?;
    for question in questions.iter().cycle() {
        let asked = Instant::now();
        ask(question, &mut heard)?;
        let more = sample.add(asked)?;
        check(what, &heard)?;
        if !more {
            break;
        }
    }
    Ok(sample)
}

/// Each connection has one question under way at any time.
fn crowd(path: &str, questions: &[Vec<u8>], what: What, connections: usize) -> Result<Sample> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut all: Vec<(UnixStream, Instant)> = Vec::new();
    let mut questions = questions.iter().cycle();
    let mut next = || questions.next().map_or(&[][..], Vec::as_slice);
    for at in 0..connections {
        let socket = connect(path)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
        all.push((socket, Instant::now()));
    }
    let mut sample = Sample::begin(Vec::new())?;
    let mut more = true;
    for (socket, asked) in &mut all {
        *asked = Instant::now();
        socket.write_all(next())?;
    }
    let mut events = [EpollEvent::empty(); 64];
    let mut heard = vec![0; 8192];
    while more {
        let ready = epoll.wait(
            &mut events,
            EpollTimeout::try_from(Duration::from_secs(20))?,
        )?;
        if ready == 0 {
            return Err("no answer for 20 s".into());
        }
        for event in &events[..ready] {
            let (socket, asked) = &mut all[event.data() as usize];
            let mut length = 0;
            while length == 0 || heard[length - 1] != 0 {
                match socket.read(&mut heard[length..])? {
                    0 => return Err("the provider has closed a connection".into()),
                    count => length += count,
                }
            }
            more = sample.add(*asked)?;
            check(what, &heard[..length])?;
            *asked = Instant::now();
            socket.write_all(next())?;
        }
    }
    // A connection that was never answered waits still: that is the longest of all.
    let waiting = all.iter().map(|(_, asked)| nanoseconds(asked.elapsed()));
    sample.times.extend(waiting);
    Ok(sample)
}

/// How long it takes to hear all replies to a question that has many, in milliseconds: as of single requests, the median of the
/// best span. `pace` is `known`, or `changed`: somebody has logged in since it was asked last.
pub(crate) fn list(service: &str, socket: &str, what: &str, users: &str, pace: &str) -> Result {
    let mut changes = (pace == "changed").then(Changes::begin).transpose()?;
    let what = What::named(what)?;
    let users: usize = users.parse()?;
    let question = what.about(0, service);
    let mut piece = vec![0; 1 << 16];
    let mut sample = Sample::begin(processors()?)?;
    let mut more = true;
    while more {
        let mut socket = connect(socket)?;
        if let Some(changes) = &mut changes {
            changes.change()?;
        }
        let asked = Instant::now();
        socket.write_all(&question)?;
        let mut replies = 0;
        while replies < users {
            let count = socket.read(&mut piece)?;
            if count == 0 {
                return Err(format!("{replies} of {users} replies and then the end").into());
            }
            replies += count_of_nul(&piece[..count]);
        }
        more = sample.add(asked)?;
    }
    let best = sample.best();
    println!("{:.4}", best.middle as f64 / 1e6);
    Ok(())
}

fn count_of_nul(bytes: &[u8]) -> usize {
    // A sum over bytes is what the compiler makes fast.
    bytes.iter().map(|byte| usize::from(*byte == 0)).sum()
}

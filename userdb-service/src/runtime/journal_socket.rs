//! Lines in the journal's own form, over its socket. Nobody who tells one waits: what the journal has no room for is kept here, and
//! sent when it has. What a line says, and when it is told, is not of this place.
//!
//! The form is that of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Trap: a socket nobody has limited waits for ever, with its very
//! first line, for a journal that others have filled; so it is ours from the beginning, and no library's.

use std::collections::VecDeque;
use std::env::{args_os, var_os};
use std::fmt::Debug;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::stat::{FileStat, fstat, makedev};
use rustix::io::Errno;
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::datagrams::{Datagrams, NAP, Progress};
use super::memory;

/// Where the journal listens.
const PATH: &str = "/run/systemd/journal/socket";

/// Bytes of lines that are kept at most: three thousand lines or more, those of a thousand logins. Those after them are lost, until
/// half of it is free again.
const ROOM: usize = 2 << 20;
/// So much is given back once it is free again. Less is not worth the looking.
const MUCH: usize = 128 << 10;
/// So many kept lines are sent at a time. Each takes some microseconds, and others of the event loop wait meanwhile.
const AT_A_TIME: usize = 128;
/// It is waited for room, and tried without any after so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long a process that ends tries to get rid of what is kept.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// Tells the journal. Clones tell it over the same socket.
#[derive(Clone, Debug)]
pub(super) struct ToJournal(Arc<Teller>);

#[derive(Debug)]
struct Teller {
    socket: Datagrams,
    /// `SYSLOG_IDENTIFIER=`
    program: String,
    kept: Mutex<Kept>,
    /// Lines are kept, and were not a moment ago.
    begun: Notify,
}

/// What the journal has had no room for yet.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<One>,
    /// Those of the lines, now and at most since there were none.
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
enum One {
    Line(Box<[u8]>),
    /// In its place so many were lost.
    Lost(usize),
}

/// What has become of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Taken,
    Full,
    Away,
}

impl ToJournal {
    /// Fails where there is no journal. One that hangs is one. So is one that is away, for a service of systemd's whose stderr nobody
    /// hears: it was to go there, and the sockets are being restarted.
    pub(super) fn new() -> io::Result<Self> {
        let will_come = var_os("INVOCATION_ID").is_some() && is_null(io::stderr());
        Self::at(PATH, will_come)
    }

    fn at(path: impl AsRef<Path>, will_come: bool) -> io::Result<Self> {
        let program = args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default();
        let teller = Teller {
            socket: Datagrams::to(path)?,
            program: program.to_string_lossy().into_owned(),
            kept: Mutex::default(),
            begun: Notify::new(),
        };
        // The journal takes no notice of this.
        match teller.socket.send(&[]) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) if will_come => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self(Arc::new(teller)))
    }

    /// Sends what is kept as soon as there is room for it. Never returns, and needs an event loop of tokio's.
    pub(super) async fn keep_sending(&self) {
        loop {
            self.0.begun.notified().await;
            let attempt = || self.0.send_kept();
            self.0.socket.send_in_time(LONGEST_WAIT, attempt).await;
            if std::mem::take(&mut self.0.kept().most) >= MUCH {
                memory::give_back();
            }
        }
    }

    /// What is kept goes with the process: waits a little for the journal to take it.
    pub(super) fn send_last(&self) {
        let until = Instant::now() + LAST_PATIENCE;
        loop {
            match self.0.send_kept() {
                Progress::Done => return,
                _ if Instant::now() >= until => return,
                Progress::Some => {}
                Progress::None | Progress::Away => thread::sleep(NAP),
            }
        }
    }
}

impl Teller {
    fn line(&self, level: Level) -> Fields {
        let mut line = Fields(Vec::with_capacity(512));
        line.put("PRIORITY", priority(level));
        line.put("SYSLOG_IDENTIFIER", &self.program);
        line
    }

    fn tell(&self, Fields(line): Fields) {
        let mut kept = self.kept();
        let is_first = kept.lines.is_empty();
        if is_first && self.sent(&line) == Sent::Taken {
            return;
        }
        kept.put(line);
        if is_first {
            self.begun.notify_one();
        }
    }

    /// Sends some of what is kept, while there is room for it.
    fn send_kept(&self) -> Progress {
        let mut kept = self.kept();
        let mut progress = Progress::None;
        for _ in 0..AT_A_TIME {
            let sent = match kept.lines.front() {
                None => return Progress::Done,
                Some(One::Line(line)) => self.sent(line),
                Some(One::Lost(lines)) => self.sent(&self.told_of(*lines).0),
            };
            match sent {
                Sent::Taken => {}
                Sent::Full => return progress,
                Sent::Away => return Progress::Away,
            }
            kept.drop_first();
            progress = Progress::Some;
        }
        progress
    }

    fn told_of(&self, lost: usize) -> Fields {
        let lines = match lost {
            1 => "one line is",
            _ => &format!("{lost} lines are"),
        };
        self.warning(&format!(
            "the journal took no lines for a while: {lines} lost"
        ))
    }

    fn too_long(&self, bytes: usize) -> Fields {
        self.warning(&format!(
            "a line of {bytes} bytes is lost: sockets take shorter ones only (net.core.wmem_default)"
        ))
    }

    fn warning(&self, words: &str) -> Fields {
        let mut line = self.line(Level::WARN);
        line.put("MESSAGE", words);
        line
    }

    fn sent(&self, line: &[u8]) -> Sent {
        let sent = match self.socket.send(line) {
            // It never will be. Of none of ours that is so, unless the node is set up for it.
            Err(Errno::MSGSIZE) => self.socket.send(&self.too_long(line.len()).0),
            sent => sent,
        };
        match sent {
            Ok(()) => Sent::Taken,
            Err(Errno::AGAIN) => Sent::Full,
            Err(_) => Sent::Away,
        }
    }

    /// It is whole after each statement, so a panic elsewhere spoils nothing.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, line: Vec<u8>) {
        let room = match self.lines.back() {
            // One at a time would be told of one at a time.
            Some(One::Lost(_)) => ROOM / 2,
            _ => ROOM,
        };
        if self.bytes + line.len() <= room {
            self.bytes += line.len();
            self.most = self.most.max(self.bytes);
            self.lines.push_back(One::Line(line.into_boxed_slice()));
            return;
        }
        match self.lines.back_mut() {
            Some(One::Lost(lines)) => *lines += 1,
            _ => self.lines.push_back(One::Lost(1)),
        }
    }

    fn drop_first(&mut self) {
        if let Some(One::Line(line)) = self.lines.pop_front() {
            self.bytes -= line.len();
        }
        if self.lines.is_empty() {
            self.lines = VecDeque::new();
        }
    }
}

impl<S: Subscriber> Layer<S> for ToJournal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let mut line = self.0.line(*about.level());
        line.put("TARGET", about.target());
        if let Some(file) = about.file() {
            line.put("CODE_FILE", file);
        }
        if let Some(number) = about.line() {
            line.put("CODE_LINE", &number.to_string());
        }
        event.record(&mut line);
        self.0.tell(line);
    }
}

/// As syslog(3) has it, but that "info" is what is worth to be noticed.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

/// The fields of a line as they are sent.
#[derive(Debug)]
struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.0
            .extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    /// A name of capital letters that does not begin with `_`: such are the journal's own.
    fn begin(&mut self, name: &str) {
        let name = name.trim_start_matches(['_', '.']).bytes();
        self.0.extend(name.map(|byte| match byte {
            b'.' => b'_',
            other => other.to_ascii_uppercase(),
        }));
        self.0.push(b'\n');
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.begin(field.name());
        let length = self.0.len();
        self.0.extend_from_slice(&[0; 8]);
        let value_at = self.0.len();
        // A value that fails to show itself is shown as far as it has.
        let _ = write!(self.0, "{value:?}");
        let value_is = (self.0.len() - value_at) as u64;
        self.0[length..value_at].copy_from_slice(&value_is.to_le_bytes());
        self.0.push(b'\n');
    }
}

fn is_null(stream: impl AsFd) -> bool {
    let of = |stat: &FileStat| (stat.st_mode & libc::S_IFMT, stat.st_rdev);
    let null = (libc::S_IFCHR, makedev(1, 3));
    fstat(stream).is_ok_and(|stat| of(&stat) == null)
}

#[cfg(test)]
#[path = "journal_socket_tests.rs"]
mod tests;

//! Lines in the journal's own form, over its socket: one waits for a journal that takes no more, of those after it one now and
//! then, and how many are lost is told. What a line says, and when it is told, is not of this place.
//!
//! The form is that of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Trap: a socket nobody has limited waits for ever, with its very
//! first line, for a journal that others have filled; so it is ours from the beginning, and no library's.

use std::env::args_os;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, SocketAddrUnix, sendto};
use rustix::thread::{current_timer_slack, set_current_timer_slack};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
const PATH: &str = "/run/systemd/journal/socket";

/// How long a line waits for room. Then it is lost: rights are taken away meanwhile, on the thread that tells.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same after one that has waited in vain. A journal that is only busy takes a line sooner.
const IN_A_JAM: Duration = Duration::from_millis(10);
/// How long a line that waits sleeps before it is tried again. Trap: the kernel wakes a sender whose own buffer is full only once three
/// quarters of it are free, which is a hundred lines later.
const NAP: Duration = Duration::from_micros(500);
/// Who has waited for [`IN_A_JAM`] or longer, in vain or not, keeps the next from waiting for so many times as long: a crowd has
/// hundreds of lines, and each would wait on the thread that lets it in.
const REST: u32 = 9;

/// Tells the journal.
#[derive(Debug)]
pub(super) struct ToJournal {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// `SYSLOG_IDENTIFIER=`
    program: String,
    /// Lines that were lost, and that this has not been told of.
    lost: AtomicUsize,
    /// The last one was.
    in_a_jam: AtomicBool,
    began: Instant,
    /// Until when no line waits: microseconds since the beginning.
    rests: AtomicU64,
}

impl ToJournal {
    /// Fails where there is no journal; one that hangs is one.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(PATH)
    }

    fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        let program = args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default();
        let to = Self {
            socket: UnixDatagram::unbound()?,
            address: SocketAddrUnix::new(path.as_ref())?,
            program: program.to_string_lossy().into_owned(),
            lost: AtomicUsize::new(0),
            in_a_jam: AtomicBool::new(false),
            began: Instant::now(),
            rests: AtomicU64::new(0),
        };
        // The journal takes no notice of this.
        match to.send(&[]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(to),
        }
    }

    fn line(&self, level: Level) -> Fields {
        let mut line = Fields(Vec::with_capacity(512));
        line.put("PRIORITY", priority(level));
        line.put("SYSLOG_IDENTIFIER", &self.program);
        line
    }

    /// Tells one line, and before it how many were lost.
    fn tell(&self, line: &Fields) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut told = self.line(Level::WARN);
            let lines = match lost {
                1 => "one line is",
                _ => &format!("{lost} lines are"),
            };
            let words = format!("the journal took no lines for a while: {lines} lost");
            told.put("MESSAGE", &words);
            if !self.has_taken(&told) {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        // The jam is over only with a line beside the one that tells of it.
        if !self.has_taken(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.in_a_jam.store(true, Ordering::Relaxed);
        } else if lost > 0 {
            self.in_a_jam.store(false, Ordering::Relaxed);
        }
    }

    fn has_taken(&self, line: &Fields) -> bool {
        let before = self.began.elapsed();
        let patience = if micros(before) < self.rests.load(Ordering::Relaxed) {
            Duration::ZERO
        } else if self.in_a_jam.load(Ordering::Relaxed) {
            IN_A_JAM
        } else {
            PATIENCE
        };
        let mut on_time = None;
        let taken = loop {
            match self.send(&line.0) {
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && self.began.elapsed() - before < patience =>
                {
                    on_time.get_or_insert_with(OnTime::begin);
                    sleep(NAP);
                }
                sent => break sent.is_ok(),
            }
        };
        let now = self.began.elapsed();
        let waited = now - before;
        if waited >= IN_A_JAM {
            let rests = micros(now + waited * REST);
            self.rests.store(rests, Ordering::Relaxed);
        }
        taken
    }

    fn send(&self, line: &[u8]) -> io::Result<usize> {
        loop {
            match sendto(&self.socket, line, SendFlags::DONTWAIT, &self.address) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return sent.map_err(io::Error::from),
            }
        }
    }
}

/// Has this thread wake when it means to, until this is dropped: our services let it sleep longer, by some milliseconds.
#[derive(Debug)]
struct OnTime(Option<NonZeroU64>);

impl OnTime {
    fn begin() -> Self {
        let before = current_timer_slack().ok().and_then(NonZeroU64::new);
        // What cannot be set stays as it is.
        let _ = set_current_timer_slack(NonZeroU64::new(50_000));
        Self(before)
    }
}

impl Drop for OnTime {
    fn drop(&mut self) {
        let _ = set_current_timer_slack(self.0);
    }
}

impl<S: Subscriber> Layer<S> for ToJournal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        let mut line = self.line(*about.level());
        line.put("TARGET", about.target());
        if let Some(file) = about.file() {
            line.put("CODE_FILE", file);
        }
        if let Some(number) = about.line() {
            line.put("CODE_LINE", &number.to_string());
        }
        event.record(&mut line);
        self.tell(&line);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::SndBuf;
    use std::path::PathBuf;
    use tracing_subscriber::layer::SubscriberExt;

    fn journal(name: &str) -> (UnixDatagram, PathBuf) {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        (journal, path)
    }

    fn read(journal: &UnixDatagram) -> Option<String> {
        let mut line = vec![0; 100_000];
        let length = journal.recv(&mut line).ok()?;
        Some(String::from_utf8_lossy(&line[..length]).into_owned())
    }

    /// Others have filled it: who, and with how many lines.
    fn fill(path: &Path) -> Vec<(UnixDatagram, usize)> {
        let mut others = Vec::new();
        loop {
            let other = UnixDatagram::unbound().unwrap();
            other.set_nonblocking(true).unwrap();
            let sent = (0..).take_while(|_| other.send_to(b"x", path).is_ok());
            match sent.count() {
                0 => return others,
                sent => others.push((other, sent)),
            }
        }
    }

    #[test]
    fn a_line_goes_over_with_its_fields_and_a_value_of_several_lines_stays_one_value() {
        let (journal, path) = journal("line");
        let to = ToJournal::at(&path).unwrap();
        assert_eq!(read(&journal).as_deref(), Some(""));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(to), || {
            tracing::warn!(_login = "a\nUID=0", uid.of = 7, "said");
        });
        let line = read(&journal).unwrap();
        for field in [
            "PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}4\n",
            "LOGIN\n\u{7}\0\0\0\0\0\0\0a\nUID=0\n",
            "UID_OF\n\u{1}\0\0\0\0\0\0\u{0}7\n",
            "MESSAGE\n\u{4}\0\0\0\0\0\0\0said\n",
        ] {
            assert!(line.contains(field), "{line:?}");
        }
        let _ = std::fs::remove_file(&path);
        let none = ToJournal::at(&path).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn one_line_waits_for_a_journal_that_hangs_and_after_it_one_now_and_then() {
        let (journal, path) = journal("jam");
        let others = fill(&path);
        let began = Instant::now();
        let to = ToJournal::at(&path).unwrap();
        let tell = || to.tell(&to.line(Level::INFO));
        (0..400).for_each(|_| tell());
        let took = began.elapsed();
        assert!(took > PATIENCE, "{took:?}");
        // 4 s if each waits.
        assert!(took < PATIENCE * 20, "{took:?}");
        std::thread::sleep(PATIENCE * (REST + 1));
        let began = Instant::now();
        tell();
        let took = began.elapsed();
        assert!(took >= IN_A_JAM, "none waits any more: {took:?}");
        // It goes on.
        let of_others = others.iter().map(|(_, sent)| sent).sum();
        for _ in 0..of_others {
            assert_eq!(read(&journal).as_deref(), Some("x"));
        }
        tell();
        let told = read(&journal).unwrap();
        assert!(told.contains(": 401 lines are lost\n"), "{told:?}");
        let line = read(&journal).unwrap();
        assert!(line.contains("PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}5\n"));
        tell();
        assert!(!read(&journal).unwrap().contains("MESSAGE"));
        assert_eq!(read(&journal), None);
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_line_waits_no_longer_than_until_there_is_room_for_one() {
        let (journal, path) = journal("busy");
        let to = ToJournal::at(&path).unwrap();
        assert_eq!(read(&journal).as_deref(), Some(""));
        // Of ours there is room for five or so, where a journal takes hundreds.
        setsockopt(&to.socket, SndBuf, &0).unwrap();
        let mut line = to.line(Level::INFO);
        line.put("MESSAGE", "one of many");
        while to.send(&line.0).is_ok() {}
        let reader = std::thread::spawn(move || {
            std::thread::sleep(PATIENCE / 20);
            assert!(read(&journal).unwrap().contains("one of many"));
            journal
        });
        let began = Instant::now();
        to.tell(&line);
        let took = began.elapsed();
        // The kernel would not have woken it.
        assert!(took < PATIENCE * 3 / 4, "{took:?}");
        assert_eq!(to.lost.load(Ordering::Relaxed), 0);
        drop(reader.join().unwrap());
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_journal_that_is_slow_is_waited_for_a_tenth_of_the_time() {
        const LINE: Duration = Duration::from_millis(50);
        let (journal, path) = journal("slow");
        let others = fill(&path);
        let to = ToJournal::at(&path).unwrap();
        let reader = std::thread::spawn(move || {
            for _ in 0..20 {
                std::thread::sleep(LINE);
                read(&journal).unwrap();
            }
        });
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        while began.elapsed() < LINE * 18 {
            let before = Instant::now();
            to.tell(&to.line(Level::INFO));
            waited += before.elapsed();
            std::thread::sleep(LINE / 50);
        }
        assert!(
            waited > Duration::ZERO && waited < LINE * 18 / 3,
            "{waited:?}"
        );
        assert!(to.lost.load(Ordering::Relaxed) > 0);
        reader.join().unwrap();
        drop(others);
        let _ = std::fs::remove_file(path);
    }
}

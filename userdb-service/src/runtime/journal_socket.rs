//! Lines in the journal's own form, over its socket. Nobody who tells one waits: what the journal has no room for is kept here, and
//! sent when it has. What a line says, and when it is told, is not of this place.
//!
//! The form is that of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Trap: a socket nobody has limited waits for ever, with its very
//! first line, for a journal that others have filled; so it is ours from the beginning, and no library's.

use std::collections::VecDeque;
use std::env::args_os;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketAddrUnix, sendto};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the journal listens.
const PATH: &str = "/run/systemd/journal/socket";

/// Bytes of lines that are kept at most: three thousand lines or more, those of a thousand logins. Those after them are lost.
const ROOM: usize = 2 << 20;
/// So many kept lines are sent at a time. Each takes some microseconds, and others of the event loop wait meanwhile.
const AT_A_TIME: usize = 128;
/// Then the journal has so long to read them. Trap: the kernel wakes a sender whose own buffer is full only once three quarters of it
/// are free, so the socket is tried again instead.
const NAP: Duration = Duration::from_millis(2);
/// It is twice as long each time that not one was taken, and no longer than this.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// How long a process that ends tries to get rid of what is kept.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// Tells the journal. Clones tell it over the same socket.
#[derive(Clone, Debug)]
pub(super) struct ToJournal(Arc<Teller>);

#[derive(Debug)]
struct Teller {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// `SYSLOG_IDENTIFIER=`
    program: String,
    kept: Mutex<Kept>,
    /// Lines are kept, and were not a moment ago.
    begun: Notify,
}

/// What the journal has had no room for yet.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lines after these that there was no room for here, either.
    lost: usize,
}

impl ToJournal {
    /// Fails where there is no journal; one that hangs is one.
    pub(super) fn new() -> io::Result<Self> {
        Self::at(PATH)
    }

    fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        let program = args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default();
        let teller = Teller {
            socket: UnixDatagram::unbound()?,
            address: SocketAddrUnix::new(path.as_ref())?,
            program: program.to_string_lossy().into_owned(),
            kept: Mutex::default(),
            begun: Notify::new(),
        };
        // The journal takes no notice of this.
        match teller.send(&[]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(Self(Arc::new(teller))),
        }
    }

    /// Sends what is kept as soon as there is room for it. Never returns, and needs a clock of tokio's.
    pub(super) async fn keep_sending(&self) {
        loop {
            self.0.begun.notified().await;
            let mut nap = NAP;
            loop {
                sleep(nap).await;
                let before = self.0.kept().lines.len();
                if self.0.send_kept() {
                    break;
                }
                let has_taken = self.0.kept().lines.len() < before;
                nap = if has_taken {
                    NAP
                } else {
                    (nap * 2).min(LONGEST_NAP)
                };
            }
        }
    }

    /// What is kept goes with the process: waits a little for the journal to take it.
    pub(super) fn send_last(&self) {
        let until = Instant::now() + LAST_PATIENCE;
        while !self.0.send_kept() && Instant::now() < until {
            thread::sleep(NAP);
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
        let is_first = kept.is_empty();
        if is_first && self.has_taken(&line) {
            return;
        }
        kept.put(line);
        if is_first {
            self.begun.notify_one();
        }
    }

    /// Sends some of what is kept, while there is room for it, and then how many were lost. Whether nothing is left.
    fn send_kept(&self) -> bool {
        let mut kept = self.kept();
        for _ in 0..AT_A_TIME {
            let Some(first) = kept.lines.front() else {
                break;
            };
            if !self.has_taken(first) {
                return false;
            }
            kept.drop_first();
        }
        if kept.lines.is_empty() && kept.lost > 0 {
            let Fields(told) = self.told_of(kept.lost);
            if self.has_taken(&told) {
                kept.lost = 0;
            }
        }
        kept.is_empty()
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

    /// Not so: there is no room for it now, or no journal.
    fn has_taken(&self, line: &[u8]) -> bool {
        match self.send(line) {
            // It never will be. Of none of ours that is so, unless the node is set up for it.
            Err(Errno::MSGSIZE) => self.send(&self.too_long(line.len()).0).is_ok(),
            sent => sent.is_ok(),
        }
    }

    fn send(&self, line: &[u8]) -> Result<usize, Errno> {
        loop {
            match sendto(&self.socket, line, SendFlags::DONTWAIT, &self.address) {
                Err(Errno::INTR) => {}
                sent => return sent,
            }
        }
    }

    /// It is whole after each statement, so a panic elsewhere spoils nothing.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0
    }

    /// After the first that is lost none is kept until that has been told: lines are told in their order.
    fn put(&mut self, line: Vec<u8>) {
        if self.lost == 0 && self.bytes + line.len() <= ROOM {
            self.bytes += line.len();
            self.lines.push_back(line.into_boxed_slice());
        } else {
            self.lost += 1;
        }
    }

    fn drop_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
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

    fn numbered(to: &ToJournal, number: usize) -> Fields {
        let mut line = to.0.line(Level::INFO);
        line.put("NUMBER", &number.to_string());
        line
    }

    fn number_of(line: &str) -> Option<usize> {
        let (_, value) = line.split_once("NUMBER\n")?;
        value.get(8..)?.trim_end().parse().ok()
    }

    /// What the journal has after the lines of `others`, while what is kept is sent again and again.
    fn read_on(
        journal: &UnixDatagram,
        to: &ToJournal,
        others: &[(UnixDatagram, usize)],
    ) -> Vec<String> {
        for _ in 0..others.iter().map(|(_, sent)| sent).sum() {
            assert_eq!(read(journal).as_deref(), Some("x"));
        }
        let mut lines = Vec::new();
        loop {
            let nothing_is_left = to.0.send_kept();
            let before = lines.len();
            lines.extend(std::iter::from_fn(|| read(journal)));
            if nothing_is_left && lines.len() == before {
                return lines;
            }
        }
    }

    #[test]
    fn lines_for_a_journal_that_hangs_are_kept_in_their_order_and_nobody_waits() {
        let (journal, path) = journal("jam");
        let others = fill(&path);
        let to = ToJournal::at(&path).unwrap();
        let began = Instant::now();
        (0..900).for_each(|number| to.0.tell(numbered(&to, number)));
        let took = began.elapsed();
        assert!(took < LAST_PATIENCE, "{took:?}");
        let lines = read_on(&journal, &to, &others);
        let numbers: Vec<_> = lines.iter().map(|line| number_of(line).unwrap()).collect();
        assert_eq!(numbers, Vec::from_iter(0..900));
        to.0.tell(numbered(&to, 900));
        assert_eq!(number_of(&read(&journal).unwrap()), Some(900));
        assert_eq!(to.0.kept().bytes, 0);
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn how_many_lines_there_was_no_room_for_is_told_after_those_before_them() {
        let (journal, path) = journal("lost");
        let others = fill(&path);
        let to = ToJournal::at(&path).unwrap();
        let one = numbered(&to, 10_000).0.len();
        let all = ROOM / one + 500;
        (10_000..10_000 + all).for_each(|number| to.0.tell(numbered(&to, number)));
        let mut lines = read_on(&journal, &to, &others);
        let told = lines.pop().unwrap();
        assert!(told.contains(": 500 lines are lost\n"), "{told:?}");
        assert!(told.contains("PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}4\n"));
        let numbers: Vec<_> = lines.iter().map(|line| number_of(line).unwrap()).collect();
        assert_eq!(numbers, Vec::from_iter(10_000..10_000 + ROOM / one));
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_line_that_the_socket_will_never_take_keeps_no_other_from_being_told() {
        let (journal, path) = journal("long");
        let to = ToJournal::at(&path).unwrap();
        setsockopt(&to.0.socket, SndBuf, &0).unwrap();
        let mut long = numbered(&to, 1);
        long.put("MESSAGE", &"x".repeat(10_000));
        to.0.tell(long);
        to.0.tell(numbered(&to, 2));
        let lines = read_on(&journal, &to, &[]);
        assert!(lines[1].contains(" bytes is lost: "), "{lines:?}");
        assert_eq!(number_of(&lines[2]), Some(2));
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_journal_that_comes_back_under_its_name_gets_what_was_said_meanwhile() {
        let (gone, path) = journal("gone");
        let to = ToJournal::at(&path).unwrap();
        drop(gone);
        to.0.tell(numbered(&to, 1));
        std::fs::remove_file(&path).unwrap();
        to.0.tell(numbered(&to, 2));
        let (journal, path) = journal("gone");
        let lines = read_on(&journal, &to, &[]);
        let numbers: Vec<_> = lines.iter().map(|line| number_of(line)).collect();
        assert_eq!(numbers, [Some(1), Some(2)]);
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn what_is_kept_is_sent_by_itself_and_at_the_end_for_a_tenth_of_a_second() {
        let (journal, path) = journal("by-itself");
        let others = fill(&path);
        let to = ToJournal::at(&path).unwrap();
        to.0.tell(numbered(&to, 0));
        let began = Instant::now();
        to.send_last();
        assert!(began.elapsed() >= LAST_PATIENCE, "{:?}", began.elapsed());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let reading = async {
                sleep(LONGEST_NAP / 10).await;
                while read(&journal).as_deref() == Some("x") {}
                while !to.0.kept().is_empty() {
                    sleep(NAP).await;
                }
                assert_eq!(number_of(&read(&journal).unwrap()), Some(0));
            };
            tokio::select! {
                () = to.keep_sending() => {}
                () = reading => {}
            }
        });
        drop(others);
        let _ = std::fs::remove_file(path);
    }
}

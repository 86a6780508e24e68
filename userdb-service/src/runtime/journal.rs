//! Where log lines go: to the journal with structured fields, to stderr where there is no journal.
//! What a line may say is decided here for all: no control characters, nothing of any length.
//!
//! A line wakes the journal, which takes as long as some answers of ours do, and takes it from who was answered where there is one
//! processor for all. So on the event loop those that only tell what was done wait for a moment, see [`let_lines_wait`].
//! Warnings and errors never wait, nor does what came before them.
//!
//! Field names reach the journal in upper case: `tracing::info!(teleport_login = %login, "…")` is
//! found by `journalctl TELEPORT_LOGIN=…`. No value should name a secret: nothing is left out.

use std::cell::{Cell, RefCell};
use std::env;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::panic;
use std::sync::OnceLock;

use nix::sys::stat::fstat;
use tracing::dispatcher;
use tracing::field::{DisplayValue, Field, Value, Visit, display};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt as plain, registry};

use super::journal_socket::ToJournal;
use super::moment;
use crate::invisible::is_invisible;

/// Longest message, and longest other field, in bytes before escaping. Roles and traits come from
/// outside and may be 64 KiB.
const MESSAGE: usize = 1024;
const FIELD: usize = 256;
/// Fields per line; more are not logged.
const FIELDS: usize = 32;

/// Where lines go, if not to stderr.
static JOURNAL: OnceLock<ToJournal> = OnceLock::new();

/// Sends this process's log to the journal, from `TELEPORT_USERDB_LOG` upwards (`info` if that is unset, or no level).
/// Called once, first thing; a second call does nothing.
pub fn start() {
    let filter = filter(&env::var("TELEPORT_USERDB_LOG").unwrap_or_default());
    let journal = ToJournal::new().ok();
    let to_journal = journal.clone().map(Clean);
    let stderr = journal
        .is_none()
        .then(|| Clean(plain::layer().with_writer(std::io::stderr).without_time()));
    // Spans would bring fields past the cleaning; none of ours are needed for a line to be understood.
    let started = registry()
        .with(filter)
        .with(to_journal.with_filter(filter_fn(|line| line.is_event())))
        .with(stderr.with_filter(filter_fn(|line| line.is_event())))
        .try_init();
    if started.is_err() {
        return;
    }
    if let Some(journal) = journal {
        let _ = JOURNAL.set(journal);
    }
    // What Rust says of a panic is a line of no special priority, and `journalctl -p err` would not show it.
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        error_on_stderr(&panicked.to_string().replace('\n', " "));
        tell(panicked);
    }));
}

/// What is told where the environment asks for `wanted`. Trap: any word that is no level is the name of a module, of which alone
/// would be told then; and no word at all is a level.
fn filter(wanted: &str) -> Targets {
    let is_level = !wanted.is_empty() && wanted.parse::<LevelFilter>().is_ok();
    let is_said = is_level || wanted.contains(['=', ',']);
    let said = is_said.then(|| wanted.parse().ok()).flatten();
    said.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

/// Tells why this process is about to end, as an error. It goes to stderr, which systemd has connected to the journal in the name of
/// our unit. Trap: of what comes over its own socket the journal finds out the unit when it reads it. Who has ended by then
/// has none, and `journalctl -u` would not show why.
pub fn last_words(why: &dyn fmt::Display) {
    tell_all();
    let why = why.to_string();
    if error_on_stderr(&why) {
        return;
    }
    // A journal that was stopped and started has hung up, and not everybody has its stderr in the journal. Trap: eprintln
    // would panic where nobody reads any more.
    tracing::error!("{why}");
    if let Some(journal) = JOURNAL.get() {
        journal.send_last();
        let _ = writeln!(std::io::stderr(), "{}", clean(&why, MESSAGE));
    }
}

/// Writes an error to stderr, if that is the journal.
fn error_on_stderr(words: &str) -> bool {
    let mut stderr = std::io::stderr();
    let named = std::env::var("JOURNAL_STREAM").ok();
    // `<3>`: how a line for the journal says that it is an error (sd-daemon(3)).
    is_journal(&stderr, named) && writeln!(stderr, "<3>{}", clean(words, MESSAGE)).is_ok()
}

/// Whether `stream` is what systemd says the journal is connected to: `device:inode`.
fn is_journal(stream: impl AsFd, named: Option<String>) -> bool {
    let named = named.as_deref().and_then(|named| named.split_once(':'));
    match (named, fstat(stream)) {
        (Some((device, inode)), Ok(stat)) => {
            device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
        }
        _ => false,
    }
}

/// So many lines wait at most.
const WAITING: usize = 64;

thread_local! {
    /// Lines of this thread that wait, if there is somebody who will tell them.
    static WAIT: RefCell<Option<Vec<Line>>> = const { RefCell::new(None) };
    /// Those that have waited are being told.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// A line with its values made harmless.
#[derive(Debug)]
struct Line {
    metadata: &'static Metadata<'static>,
    values: Vec<(Field, String)>,
}

/// From here on lines of this thread may wait until a [`moment`] has passed, until the guard is dropped.
pub(super) fn let_lines_wait() -> LinesWait {
    WAIT.set(Some(Vec::new()));
    LinesWait
}

/// Ends the waiting, and tells what has waited.
#[derive(Debug)]
pub(super) struct LinesWait;

impl Drop for LinesWait {
    fn drop(&mut self) {
        tell_all();
        WAIT.set(None);
    }
}

/// Tells the lines of this thread that wait.
pub fn tell_what_waits() {
    let lines = take_what_waits();
    if lines.is_empty() {
        return;
    }
    TELLING.set(true);
    for line in lines {
        line.with(|event| dispatcher::get_default(|to| to.event(event)));
    }
    TELLING.set(false);
}

/// The same before the process ends, and waits a tenth of a second for a journal that has no room.
pub fn tell_all() {
    tell_what_waits();
    if let Some(journal) = JOURNAL.get() {
        journal.send_last();
    }
}

/// Sends the journal what it has had no room for, when it has. Never returns, if there is a journal.
pub(super) async fn keep_sending() {
    if let Some(journal) = JOURNAL.get() {
        journal.keep_sending().await;
    }
}

fn take_what_waits() -> Vec<Line> {
    // Whoever panics while a line is being put there has none.
    let taken = WAIT.try_with(|wait| match wait.try_borrow_mut() {
        Ok(mut wait) => wait.as_mut().map(std::mem::take),
        Err(_) => None,
    });
    taken.ok().flatten().unwrap_or_default()
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let mut values = Values(Vec::new());
        event.record(&mut values);
        Self {
            metadata: event.metadata(),
            values: values.0,
        }
    }

    /// Lets it wait, where it may. `None`: it does.
    fn unless_it_waits(self) -> Option<Self> {
        let is_urgent = *self.metadata.level() < Level::INFO;
        WAIT.with_borrow_mut(|wait| match wait {
            Some(lines) if !is_urgent && lines.len() < WAITING => {
                if lines.is_empty() {
                    moment::begin();
                }
                lines.push(self);
                None
            }
            _ => Some(self),
        })
    }

    fn with(&self, told: impl FnOnce(&Event<'_>)) {
        let values: Vec<(&Field, DisplayValue<&String>)> = self
            .values
            .iter()
            .map(|(field, text)| (field, display(text)))
            .collect();
        let Some((first, _)) = values.first() else {
            return;
        };
        let pairs: [(&Field, Option<&dyn Value>); FIELDS] =
            std::array::from_fn(|index| match values.get(index) {
                Some((field, text)) => (*field, Some(text as &dyn Value)),
                None => (*first, None),
            });
        let fields = self.metadata.fields().value_set(&pairs);
        told(&Event::new(self.metadata, &fields));
    }
}

/// Hands every line on to `L` with its values made harmless.
struct Clean<L>(L);

impl<S, L> Layer<S> for Clean<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if TELLING.get() {
            // It has been here before.
            return self.0.on_event(event, context);
        }
        if let Some(line) = Line::of(event).unless_it_waits() {
            for line in take_what_waits().iter().chain([&line]) {
                line.with(|event| self.0.on_event(event, context.clone()));
            }
        }
    }
}

struct Values(Vec<(Field, String)>);

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        let limit = if field.name() == "message" {
            MESSAGE
        } else {
            FIELD
        };
        self.0.push((field.clone(), clean(value, limit)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// `value` with what cannot be seen spelled out, and cut at `limit` bytes.
#[must_use]
pub fn clean(value: &str, limit: usize) -> String {
    let mut clean = String::with_capacity(value.len().min(limit));
    for (position, character) in value.char_indices() {
        if position >= limit {
            clean.push('…');
            break;
        }
        if is_invisible(character) {
            let _ = write!(clean, "{}", character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Take<'s>(&'s Seen);
            impl Visit for Take<'_> {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    let pair = (field.name().into(), format!("{value:?}"));
                    self.0.0.lock().unwrap().push(pair);
                }
            }
            event.record(&mut Take(self));
        }
    }

    #[test]
    fn every_value_of_a_line_is_cleaned_and_kept_under_its_name() {
        let seen = Seen::default();
        let hostile = "root\n\u{1b}[31mfake line\r";
        let subscriber = registry().with(Clean(seen.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(teleport_login = %hostile, plain = hostile, uid = 7, "login of {hostile}");
        });
        let seen = seen.0.lock().unwrap().clone();
        let names: Vec<&str> = seen.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["message", "teleport_login", "plain", "uid"]);
        assert_eq!(seen[1].1, "root\\u{a}\\u{1b}[31mfake line\\u{d}");
        assert_eq!(seen[2].1, seen[1].1);
        assert_eq!(seen[3].1, "7");
        assert!(seen[0].1.starts_with("login of root\\u{a}"));
    }

    #[test]
    fn lines_of_the_event_loop_wait_until_they_are_told_or_one_comes_that_does_not() {
        let seen = Seen::default();
        let told = || {
            let seen = seen.0.lock().unwrap();
            seen.iter()
                .map(|(_, text)| text.clone())
                .collect::<Vec<_>>()
        };
        let subscriber = registry().with(Clean(seen.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("at once");
            assert_eq!(told(), ["at once"]);
            let waits = let_lines_wait();
            tracing::info!("first\n");
            tracing::debug!("second");
            assert_eq!(told().len(), 1);
            tracing::warn!("third");
            assert_eq!(told()[1..], ["first\\u{a}", "second", "third"]);
            tracing::info!("fourth\n");
            tell_what_waits();
            tell_what_waits();
            assert_eq!(told()[4..], ["fourth\\u{a}"]);
            for number in 0..=WAITING {
                tracing::info!("{number}");
            }
            assert_eq!(told().len(), 5 + WAITING + 1);
            tracing::info!("last");
            drop(waits);
            tracing::info!("after");
            assert_eq!(told()[told().len() - 2..], ["last", "after"]);
        });
    }

    #[test]
    fn a_word_that_is_no_level_silences_nobody() {
        for (wanted, told) in [
            ("", "info"),
            ("warning", "info"),
            ("notice", "info"),
            ("warn", "warn"),
            ("ERROR", "error"),
            ("off", "off"),
            ("warn,zbus=debug", "zbus=debug,warn"),
            ("zbus=loud", "info"),
        ] {
            assert_eq!(filter(wanted).to_string(), told, "{wanted:?}");
        }
    }

    #[test]
    fn the_journal_is_known_by_what_systemd_says_of_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let stat = fstat(&file).unwrap();
        let told = |named: &str| is_journal(&file, Some(named.to_owned()));
        assert!(told(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in [
            format!("{}:{}", stat.st_dev, stat.st_ino + 1),
            format!("{}:{}", stat.st_dev + 1, stat.st_ino),
            stat.st_ino.to_string(),
            String::new(),
        ] {
            assert!(!told(&other), "{other}");
        }
        assert!(!is_journal(&file, None));
    }

    #[test]
    fn a_panic_is_an_error_in_the_journal() {
        const NAME: &str = "runtime::journal::tests::a_panic_is_an_error_in_the_journal";
        const INSIDE: &str = "TELEPORT_USERDB_TEST_PANICS";
        if std::env::var_os(INSIDE).is_some() {
            start();
            panic!("first\nsecond");
        }
        let (mut reader, writer) = std::io::pipe().unwrap();
        let stat = fstat(&writer).unwrap();
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(INSIDE, "")
            .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
            .stderr(writer)
            .output()
            .unwrap();
        assert!(!ended.status.success());
        let mut told = String::new();
        std::io::Read::read_to_string(&mut reader, &mut told).unwrap();
        let error = told.lines().find(|line| line.starts_with("<3>")).unwrap();
        assert!(
            error.starts_with("<3>panicked at userdb-service/"),
            "{error}"
        );
        assert!(error.ends_with(": first second"), "{error}");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(clean("äää", 3), "ää…");
        assert_eq!(clean("short", 256), "short");
        assert_eq!(clean("\u{202e}x", 256), "\\u{202e}x");
    }
}

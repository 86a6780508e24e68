//! Where log lines go: to the journal with structured fields, to stderr where there is no journal.
//! What a line may say is decided here for all: no control characters, nothing of any length.
//!
//! Field names reach the journal in upper case: `tracing::info!(teleport_login = %login, "…")` is
//! found by `journalctl TELEPORT_LOGIN=…`. No value should name a secret: nothing is left out.

use std::fmt::{self, Write};

use tracing::field::{DisplayValue, Field, Value, Visit, display};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, filter, fmt as plain, registry};

/// Longest message, and longest other field, in bytes before escaping. Roles and traits come from
/// outside and may be 64 KiB.
const MESSAGE: usize = 1024;
const FIELD: usize = 256;
/// Fields per line; more are not logged.
const FIELDS: usize = 32;

/// Sends this process's log to the journal, from `TELEPORT_USERDB_LOG` upwards (`info` if unset).
/// Called once, first thing; a second call does nothing.
pub fn start() {
    let filter =
        EnvFilter::try_from_env("TELEPORT_USERDB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = tracing_journald::layer()
        .ok()
        .map(|layer| Clean(layer.with_field_prefix(None)));
    let stderr = journal
        .is_none()
        .then(|| Clean(plain::layer().with_writer(std::io::stderr).without_time()));
    // Spans would bring fields past the cleaning; none of ours are needed for a line to be understood.
    let _ = registry()
        .with(filter)
        .with(journal.with_filter(filter::filter_fn(|line| line.is_event())))
        .with(stderr.with_filter(filter::filter_fn(|line| line.is_event())))
        .try_init();
}

/// Hands every line on to `L` with its values made harmless.
struct Clean<L>(L);

impl<S, L> Layer<S> for Clean<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut values = Values(Vec::new());
        event.record(&mut values);
        let values: Vec<(Field, DisplayValue<String>)> = values
            .0
            .into_iter()
            .map(|(field, text)| (field, display(text)))
            .collect();
        let Some((first, _)) = values.first() else {
            return;
        };
        let pairs: [(&Field, Option<&dyn Value>); FIELDS] =
            std::array::from_fn(|index| match values.get(index) {
                Some((field, text)) => (field, Some(text as &dyn Value)),
                None => (first, None),
            });
        let fields = event.metadata().fields().value_set(&pairs);
        self.0
            .on_event(&Event::new(event.metadata(), &fields), context);
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

/// `value` without control characters (they are spelled out) and cut at `limit` bytes.
#[must_use]
pub fn clean(value: &str, limit: usize) -> String {
    let mut clean = String::with_capacity(value.len().min(limit));
    for (position, character) in value.char_indices() {
        if position >= limit {
            clean.push('…');
            break;
        }
        if character.is_control() || is_bidi(character) {
            let _ = write!(clean, "{}", character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Characters that make a terminal show text in another order than it is written.
fn is_bidi(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(clean("äää", 3), "ää…");
        assert_eq!(clean("short", 256), "short");
        assert_eq!(clean("\u{202e}x", 256), "\\u{202e}x");
    }
}

//! From data to text: JSON, moments, and characters that a terminal would act upon.
//! Pure functions; what is shown is the subcommands' business.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::invisible::is_invisible;

/// `--json=`, with systemd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Json {
    /// One line
    Short,
    /// Indented
    Pretty,
    /// Text for people
    Off,
}

/// How a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// For programs, or not.
    pub json: Json,
    /// With header and footer.
    pub legend: bool,
}

impl Output {
    /// The data as JSON, or the text, as asked for.
    pub fn show<T: Serialize>(self, data: &T, text: impl FnOnce() -> String) -> String {
        json(self.json, data).unwrap_or_else(text)
    }
}

/// `data` as JSON with a line end; `None` where people read. Invisible characters are escaped.
pub fn json<T: Serialize>(mode: Json, data: &T) -> Option<String> {
    let encoded = match mode {
        Json::Off => return None,
        Json::Short => serde_json::to_string(data),
        Json::Pretty => serde_json::to_string_pretty(data),
    };
    // What is shown has strings as keys and no code of its own: it cannot fail.
    let mut text = String::new();
    for c in encoded.unwrap_or_default().chars() {
        // Outside strings JSON has none of them but the line ends of the pretty form.
        if is_invisible(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    Some(text)
}

/// `text` in which only line ends act upon a terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) && c != '\n' {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// `text` as part of a line: nothing in it acts upon a terminal, a line end neither.
pub fn in_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

/// A moment as systemd shows it, in UTC: `Sat 2026-11-21 04:05:06 UTC`.
pub fn moment(usec: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let seconds = usec / 1_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that may be missing is the last one.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let weekday = DAYS.get((days % 7) as usize).copied().unwrap_or_default();
    format!(
        "{weekday} {year:04}-{month:02}-{day_of_month:02} {:02}:{:02}:{:02} UTC",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "Thu 1970-01-01 00:00:00 UTC"),
            (951_782_399, "Mon 2000-02-28 23:59:59 UTC"),
            (951_827_696, "Tue 2000-02-29 12:34:56 UTC"),
            (951_868_800, "Wed 2000-03-01 00:00:00 UTC"),
            (1_795_233_906, "Sat 2026-11-21 04:05:06 UTC"),
            (4_107_542_400, "Mon 2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(moment(seconds * 1_000_000 + 999_999), shown);
        }
    }

    #[test]
    fn nothing_that_a_terminal_acts_upon_comes_through() {
        let hostile = "a\u{1b}[2J\rb\u{9b}c\u{202e}d\u{7f}\n";
        assert_eq!(plain(hostile), "a\\u{1b}[2J\\rb\\u{9b}c\\u{202e}d\\u{7f}\n");
        assert!(in_line(hostile).ends_with("\\n"));
        for mode in [Json::Short, Json::Pretty] {
            let text = json(mode, &[hostile, "\u{e0001}"]).unwrap();
            assert!(!text.trim_end().contains(|c| is_invisible(c) && c != '\n'));
            let back: Vec<String> = serde_json::from_str(&text).unwrap();
            assert_eq!(back, [hostile, "\u{e0001}"]);
        }
    }

    #[test]
    fn json_is_one_line_or_indented_or_not_wanted() {
        let data = serde_json::json!({"a": 1});
        assert_eq!(json(Json::Short, &data).unwrap(), "{\"a\":1}\n");
        assert_eq!(json(Json::Pretty, &data).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(json(Json::Off, &data), None);
    }
}

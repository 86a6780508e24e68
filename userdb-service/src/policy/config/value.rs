//! One value of config.toml with its place: read as the type that is wanted, or an error that says
//! what would be right. No key is named here.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::invisible::is_invisible;
use crate::policy::ids::OF_SERVICES;
use crate::policy::quoting::quoted;

/// One file of the configuration.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    /// Where its lines end, in order: each role says in which it stands, of thousands.
    pub(super) line_ends: &'a [usize],
}

impl File<'_> {
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < at)
    }

    pub(super) fn error(&self, span: Range<usize>, key: &str, message: String) -> ConfigError {
        ConfigError {
            file: self.path.to_owned(),
            line: self.line(span.start),
            key: key.to_owned(),
            message,
        }
    }
}

/// A value, the file it stands in and the dotted key it stands under.
pub(super) struct Value<'a> {
    pub(super) file: File<'a>,
    pub(super) key: String,
    inner: &'a Spanned<DeValue<'a>>,
}

/// One entry of a table.
pub(super) struct Entry<'a> {
    /// Where its key stands.
    pub(super) at: Range<usize>,
    /// Its key.
    pub(super) name: &'a str,
    /// Its value.
    pub(super) value: Value<'a>,
}

/// The longest duration that makes sense anywhere, in days: a year.
const MAX_DAYS: u64 = 366;

/// The largest mask there is.
const MAX_UMASK: u32 = 0o777;

impl<'a> Value<'a> {
    /// An error about this value.
    pub(super) fn wrong(&self, right: &str) -> ConfigError {
        let found = match self.inner.get_ref() {
            DeValue::String(text) => quoted(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.file.error(
            self.inner.span(),
            &self.key,
            format!("{found} is not right here: {right}"),
        )
    }

    /// An error about what is missing here, or about a name in here: `message` says it all.
    pub(super) fn faulty(&self, message: String) -> ConfigError {
        self.file.error(self.inner.span(), &self.key, message)
    }

    /// An error about this key.
    pub(super) fn unknown(&self, at: Range<usize>, known: &[&str]) -> ConfigError {
        let name = self.key.rsplit('.').next().unwrap_or_default();
        let near = known
            .iter()
            .min_by_key(|key| distance(key, name))
            .filter(|key| distance(key, name) <= 2);
        let hint = match near {
            Some(key) => format!("did you mean \"{key}\"?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        self.file
            .error(at, &self.key, format!("there is no such key; {hint}"))
    }

    /// Where the value stands.
    pub(super) fn line(&self) -> usize {
        self.file.line(self.inner.span().start)
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.inner.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong("write true or false")),
        }
    }

    /// A string; `right` says what it should hold.
    pub(super) fn string(&self, right: &str) -> Result<&'a str, ConfigError> {
        match self.inner.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong(right)),
        }
    }

    /// A string that `read` makes something of.
    pub(super) fn text<T>(
        &self,
        right: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.told(right, |text| read(text).ok_or_else(|| right.to_owned()))
    }

    /// The same where `read` itself says what would be right of a text, for instance in which case or how long.
    pub(super) fn told<T>(
        &self,
        right: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        read(self.string(right)?).map_err(|right| self.wrong(&right))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let names: Vec<String> = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let right = format!("write {}", names.join(" or "));
        self.text(&right, |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
        })
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let right = format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        );
        match self.inner.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| self.wrong(&right)),
            _ => Err(self.wrong(&right)),
        }
    }

    /// The elements of an array, each with its own place.
    pub(super) fn elements(&self, right: &str) -> Result<Vec<Value<'a>>, ConfigError> {
        let DeValue::Array(array) = self.inner.get_ref() else {
            return Err(self.wrong(right));
        };
        Ok(array
            .iter()
            .map(|inner| Value {
                file: self.file,
                key: self.key.clone(),
                inner,
            })
            .collect())
    }

    /// An array of strings that `read` makes something of, or says what would be right.
    pub(super) fn list<T>(
        &self,
        right: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        self.elements(right)?
            .iter()
            .map(|element| element.told(right, &read))
            .collect()
    }

    /// The entries of a table in the order of the file.
    pub(super) fn entries(&self, right: &str) -> Result<Vec<Entry<'a>>, ConfigError> {
        let DeValue::Table(table) = self.inner.get_ref() else {
            return Err(self.wrong(right));
        };
        Ok(entries(self.file, &self.key, table))
    }

    /// Is this an array?
    pub(super) fn is_array(&self) -> bool {
        matches!(self.inner.get_ref(), DeValue::Array(_))
    }

    /// A span of time such as `"3s"`.
    pub(super) fn duration(&self) -> Result<Duration, ConfigError> {
        const DAY: u64 = 86_400_000;
        let right = "write a time with its unit, such as \"500ms\", \"3s\", \"10m\" or \"2h\"";
        self.told(right, |text| {
            let (number, unit) = split_unit(text).ok_or(right)?;
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => DAY,
                _ => return Err(right.to_owned()),
            };
            number
                .checked_mul(millis)
                .filter(|millis| *millis <= MAX_DAYS * DAY)
                .map(Duration::from_millis)
                .ok_or_else(|| format!("a time is at most a year, \"{MAX_DAYS}d\""))
        })
    }

    /// A number of bytes: a whole number, or a string such as `"512M"` (units of 1024).
    pub(super) fn size(&self) -> Result<u64, ConfigError> {
        if let DeValue::Integer(_) = self.inner.get_ref() {
            return self.integer(1..=i64::MAX as u64);
        }
        self.text(
            "write a number of bytes, or one with its unit such as \"512M\" or \"2G\"",
            |text| {
                let (number, unit) = split_unit(text)?;
                let shift = match unit {
                    "" => 0,
                    "K" => 10,
                    "M" => 20,
                    "G" => 30,
                    "T" => 40,
                    _ => return None,
                };
                number
                    .checked_mul(1 << shift)
                    .filter(|bytes| (1..=i64::MAX as u64).contains(bytes))
            },
        )
    }

    /// A file mode creation mask: `"0027"` or `0o027`. A plain `27` would leave open what is meant.
    pub(super) fn umask(&self) -> Result<u32, ConfigError> {
        let right = "write octal digits in quotation marks, such as \"0027\", at most \"0777\"";
        let digits = match self.inner.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 8 => number.as_str(),
            _ => return Err(self.wrong(right)),
        };
        let plain =
            !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mask = if plain {
            u32::from_str_radix(digits, 8).ok()
        } else {
            None
        };
        mask.filter(|mask| *mask <= MAX_UMASK)
            .ok_or_else(|| self.wrong(right))
    }

    /// A range of numbers that users may have, such as `"20000-59999"`.
    pub(super) fn id_range(&self) -> Result<RangeInclusive<u32>, ConfigError> {
        let range = self.text(
            "write FIRST-LAST, such as \"20000-59999\" or \"0x70000000-0x7FFDFFFF\"",
            |text| {
                let (first, last) = text.split_once('-')?;
                let (first, last) = (number(first.trim())?, number(last.trim())?);
                (first <= last).then_some(first..=last)
            },
        )?;
        if *range.start() < 1000 || *range.end() > 0x7FFF_FFFF {
            return Err(self.wrong("a range lies between 1000 and 2147483647: below are the system's users, above are numbers that programs take for negative ones"));
        }
        if range.start() <= OF_SERVICES.end() && range.end() >= OF_SERVICES.start() {
            return Err(self.wrong(
                "a range keeps clear of 61184 to 65535, which systemd gives to services by itself",
            ));
        }
        Ok(range)
    }
}

/// The entries of `table` in the order of the file.
pub(super) fn entries<'a>(file: File<'a>, prefix: &str, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table
        .iter()
        .map(|(name, inner)| {
            let plain: String = name.get_ref().chars().flat_map(shown).collect();
            let key = if prefix.is_empty() {
                plain
            } else {
                format!("{prefix}.{plain}")
            };
            Entry {
                at: name.span(),
                name: name.get_ref(),
                value: Value { file, key, inner },
            }
        })
        .collect();
    entries.sort_by_key(|entry| entry.at.start);
    entries
}

/// A character of a key as it may be printed.
fn shown(c: char) -> Vec<char> {
    if is_invisible(c) {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// `"10m"` is 10 and `m`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit))
}

/// Digits, decimal or hexadecimal after `0x`; no sign.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// How many letters must change to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! User records as JSON, each made once and again only when its account has changed: what makes a list as quick as sending it.
//! How a record looks does not enter; whether an account is as it was is the table's word.

use account_table::Version;

/// Bytes of records that are kept: of some 16,000 accounts. Those of more are made each time they are asked for.
const ROOM: usize = 8 << 20;
/// Slots whose records are kept, for the same reason.
const SLOTS: usize = 1 << 15;

/// The records that have been made.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// The table file that versions are of.
    file: u64,
    /// By slot.
    kept: Vec<Option<(Version, Box<[u8]>)>>,
    bytes: usize,
    /// Where a record is made.
    fresh: Vec<u8>,
    asked: bool,
}

impl Rendered {
    /// The record of the account at `version` of the table file `file`, if it is kept.
    pub(super) fn known(&mut self, file: u64, version: Version) -> Option<&[u8]> {
        if self.file != file {
            self.forget();
            self.file = file;
        }
        self.asked = true;
        match self.kept.get(version.slot as usize) {
            Some(Some((kept, record))) if *kept == version => Some(record),
            _ => None,
        }
    }

    /// The same record, made anew: `make` appends it, or says `None` if that cannot be done now.
    pub(super) fn made(
        &mut self,
        version: Version,
        make: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Option<&[u8]> {
        self.fresh.clear();
        make(&mut self.fresh)?;
        self.keep(version);
        Some(&self.fresh)
    }

    /// Keeps what has just been made, in place of what was made of the same slot before.
    fn keep(&mut self, version: Version) {
        let slot = version.slot as usize;
        if slot >= SLOTS {
            return;
        }
        if slot >= self.kept.len() {
            self.kept.resize(slot + 1, None);
        }
        let before = self.kept[slot].take().map_or(0, |(_, record)| record.len());
        self.bytes -= before;
        if self.bytes + self.fresh.len() <= ROOM {
            self.bytes += self.fresh.len();
            self.kept[slot] = Some((version, self.fresh.as_slice().into()));
        }
    }

    /// Forgets all of them if nobody has asked since the last time. So many bytes are free then.
    pub(super) fn rest(&mut self) -> usize {
        if std::mem::take(&mut self.asked) {
            return 0;
        }
        let bytes = self.bytes;
        self.forget();
        bytes
    }

    pub(super) fn forget(&mut self) {
        *self = Rendered::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 7;

    fn version(slot: u32, head: u64) -> Version {
        Version { slot, head }
    }

    /// The record of an account, and whether it had to be made.
    fn ask(rendered: &mut Rendered, file: u64, version: Version) -> (String, bool) {
        let text = |record: &[u8]| String::from_utf8(record.into()).unwrap();
        if let Some(record) = rendered.known(file, version) {
            return (text(record), false);
        }
        let record = rendered.made(version, |out| {
            out.extend_from_slice(format!("{file} {version:?}").as_bytes());
            Some(())
        });
        (text(record.unwrap()), true)
    }

    #[test]
    fn a_record_is_made_once_for_each_version_of_an_account() {
        let mut rendered = Rendered::default();
        for (file, version, is_made) in [
            (FILE, version(3, 1), true),
            (FILE, version(3, 1), false),
            (FILE, version(0, 2), true),
            (FILE, version(3, 1), false),
            (FILE, version(3, 3), true),
            (FILE, version(3, 3), false),
            (FILE, version(0, 2), false),
            (FILE + 1, version(0, 2), true),
            (FILE, version(0, 2), true),
        ] {
            let right = (format!("{file} {version:?}"), is_made);
            assert_eq!(ask(&mut rendered, file, version), right);
        }
    }

    #[test]
    fn what_could_not_be_made_is_made_when_it_is_asked_for_again() {
        let mut rendered = Rendered::default();
        let busy = |out: &mut Vec<u8>| {
            out.push(b'x');
            None
        };
        assert_eq!(rendered.known(FILE, version(3, 1)), None);
        assert_eq!(rendered.made(version(3, 1), busy), None);
        assert!(ask(&mut rendered, FILE, version(3, 1)).1);
    }

    #[test]
    fn what_is_kept_has_its_bounds_and_everybody_is_answered_beyond_them() {
        let mut rendered = Rendered::default();
        for slot in 0..4000 {
            let make = |out: &mut Vec<u8>| {
                out.resize(4096, b'x');
                Some(())
            };
            assert_eq!(rendered.known(FILE, version(slot, 1)), None);
            let record = rendered.made(version(slot, 1), make);
            assert_eq!(record.map(<[u8]>::len), Some(4096));
            assert!(rendered.bytes <= ROOM);
        }
        assert!(!ask(&mut rendered, FILE, version(0, 1)).1);
        assert!(ask(&mut rendered, FILE, version(3999, 1)).1);
        let far = version(1 << 20, 1);
        assert!(ask(&mut rendered, FILE, far).1 && ask(&mut rendered, FILE, far).1);
        assert!(rendered.kept.len() <= SLOTS);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut rendered = Rendered::default();
        assert!(ask(&mut rendered, FILE, version(3, 1)).1);
        rendered.rest();
        assert!(!ask(&mut rendered, FILE, version(3, 1)).1);
        rendered.rest();
        rendered.rest();
        assert!(ask(&mut rendered, FILE, version(3, 1)).1);
    }
}

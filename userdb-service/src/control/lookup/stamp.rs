//! Which version of a file or folder one has seen, so that it is read again when it has changed.
//! What is read from it is not of this place.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file that has changed so lately could change again within the same tick of its file system's clock.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// The same where the file system may count in seconds.
const LONG_TICK: Duration = Duration::from_secs(2);

/// Identity of one version: an edit in place, a replacement, a removal, and in a folder a new entry, all change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<Version>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, i64),
    changed: (i64, i64),
    device: u64,
    inode: u64,
    size: u64,
}

impl Version {
    fn of(found: &Metadata) -> Version {
        Version {
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
        }
    }
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Stamp {
        Stamp(std::fs::metadata(path).ok().as_ref().map(Version::of))
    }

    /// Of a file that has been looked at.
    pub(super) fn seen(metadata: &Metadata) -> Stamp {
        Stamp(Some(Version::of(metadata)))
    }

    /// What to remember of a version that is read only now: nothing, if what changes meanwhile could have the same stamp.
    pub(super) fn settled(self) -> Option<Stamp> {
        self.has_settled().then_some(self)
    }

    /// Whether every change from now on makes another stamp. What is not there makes another one when it comes.
    fn has_settled(&self) -> bool {
        let Some(version) = self.0 else {
            return true;
        };
        let (Ok(seconds), Ok(nanoseconds)) = (
            u64::try_from(version.changed.0),
            u64::try_from(version.changed.1),
        ) else {
            return false;
        };
        let changed = Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
        let tick = if nanoseconds == 0 { LONG_TICK } else { TICK };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.is_ok_and(|now| now > changed + tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_in_place_and_a_removal_change_the_stamp() {
        let path = std::env::temp_dir().join(format!("stamp-{}", std::process::id()));
        std::fs::write(&path, "passwd: files\n").unwrap();
        let first = Stamp::of(&path);
        assert_eq!(first, Stamp::of(&path));
        std::fs::write(&path, "passwd: files sss\n").unwrap();
        let second = Stamp::of(&path);
        assert_ne!(first, second);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(second, Stamp::of(&path));
    }

    #[test]
    fn what_has_just_changed_has_not_settled_and_what_is_not_there_has() {
        let path = std::env::temp_dir().join(format!("settled-{}", std::process::id()));
        assert!(Stamp::of(&path).has_settled());
        std::fs::write(&path, "").unwrap();
        assert!(!Stamp::of(&path).has_settled());
        std::thread::sleep(TICK * 2);
        assert!(Stamp::of(&path).has_settled());
        std::fs::remove_file(&path).unwrap();
    }
}

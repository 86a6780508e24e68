//! What the host has beside users and groups: subordinate IDs, owners of homes.
//! Read afresh where it is cheap, remembered by the version of the file where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stamp::Stamp;
use crate::control::homes::begun_for;

/// How long a listing of `home.base` is believed while the folder itself has not changed: a chown of
/// an entry leaves no trace on the folder.
const HOMES_FRESH: Duration = Duration::from_secs(5);

/// Subordinate IDs of others, re-read when a file changes.
#[derive(Debug, Default)]
pub(super) struct SubordinateIds {
    seen: [Option<Stamp>; 2],
    ranges: Vec<RangeInclusive<u32>>,
}

impl SubordinateIds {
    pub(super) fn read(&mut self) -> io::Result<&[RangeInclusive<u32>]> {
        let paths = [Path::new("/etc/subuid"), Path::new("/etc/subgid")];
        let now = paths.map(Stamp::of);
        if self.seen != now.map(Some) {
            let seen = now.map(Stamp::settled);
            let mut ranges = Vec::new();
            for path in paths {
                match std::fs::read(path) {
                    Ok(text) => ranges.extend(subid_ranges(&String::from_utf8_lossy(&text))),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => {
                        return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display())));
                    }
                }
            }
            self.ranges = merged(ranges);
            self.seen = seen;
        }
        Ok(&self.ranges)
    }
}

/// `name:first:count` lines. Lines that are none are skipped, as shadow does.
fn subid_ranges(text: &str) -> Vec<RangeInclusive<u32>> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':').map(str::trim);
            let (_, first, count) = (fields.next()?, fields.next()?, fields.next()?);
            let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
            Some(first..=first.saturating_add(count.checked_sub(1)?))
        })
        .collect()
}

fn merged(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Owners of the entries of `home.base`.
#[derive(Debug, Default)]
pub(super) struct Homes {
    listed: Option<Listing>,
}

#[derive(Debug)]
struct Listing {
    base: PathBuf,
    stamp: Option<Stamp>,
    at: Instant,
    owners: BTreeMap<String, u32>,
}

impl Homes {
    /// Entries named like one of `names` (looked at now) or owned by one of `uids`. Where others than root can make entries, those
    /// of `names` are not told: no home is made or found there, and who owns one has chosen so himself.
    pub(super) fn of(
        &mut self,
        base: &Path,
        names: &BTreeSet<&str>,
        uids: &BTreeSet<u32>,
    ) -> io::Result<BTreeMap<String, u32>> {
        let is_believed = is_roots_alone(base)?;
        let mut found = BTreeMap::new();
        if !uids.is_empty() {
            let owned = self
                .owners(base)?
                .iter()
                .filter(|(_, uid)| uids.contains(uid));
            found.extend(owned.map(|(name, uid)| (name.clone(), *uid)));
        }
        for name in names.iter().filter(|name| is_entry_name(name)) {
            if !is_believed {
                found.remove(*name);
                continue;
            }
            match base.join(name).symlink_metadata() {
                Ok(metadata) => {
                    found.insert((*name).to_owned(), metadata.uid());
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    found.remove(*name);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    fn owners(&mut self, base: &Path) -> io::Result<&BTreeMap<String, u32>> {
        let stamp = Stamp::of(base);
        let fresh = self.listed.as_ref().is_some_and(|listing| {
            listing.base == base
                && listing.stamp == Some(stamp)
                && listing.at.elapsed() < HOMES_FRESH
        });
        if !fresh {
            self.listed = Some(Listing {
                base: base.to_owned(),
                stamp: stamp.settled(),
                at: Instant::now(),
                owners: list(base)?,
            });
        }
        const EMPTY: &BTreeMap<String, u32> = &BTreeMap::new();
        Ok(self
            .listed
            .as_ref()
            .map_or(EMPTY, |listing| &listing.owners))
    }
}

/// Whether nobody but root can make an entry of this folder; of one that is not there nobody can.
fn is_roots_alone(base: &Path) -> io::Result<bool> {
    match base.metadata() {
        Ok(folder) => Ok(folder.uid() == 0 && folder.mode() & 0o022 == 0),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", base.display()))),
    }
}

fn list(base: &Path) -> io::Result<BTreeMap<String, u32>> {
    let entries = match std::fs::read_dir(base) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", base.display()))),
    };
    let mut owners = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) => {
                let name = entry.file_name().to_string_lossy().into_owned();
                match begun_for(&name) {
                    // Begun, and interrupted: no other's entry than that of whom it was begun for.
                    Some(whose) => {
                        owners.entry(whose.to_owned()).or_insert(metadata.uid());
                    }
                    None => {
                        owners.insert(name, metadata.uid());
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(owners)
}

fn is_entry_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_read_and_merged() {
        let text = "alice:100000:65536\nbob:165536:65536\n# no\ncarol:700000:1\nbad:x:1\nnone:5:0\nmax:4294967290:100\n";
        assert_eq!(
            merged(subid_ranges(text)),
            [
                100_000..=231_071,
                700_000..=700_000,
                4_294_967_290..=u32::MAX
            ]
        );
        assert!(merged(subid_ranges("")).is_empty());
    }

    #[test]
    fn only_homes_that_were_asked_about_are_told() {
        let base = std::env::temp_dir().join(format!("homes-{}", std::process::id()));
        for name in ["ada", "bea", "cyd"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        let chown = |name: &str, uid| {
            std::os::unix::fs::chown(base.join(name), Some(uid), None)
                .expect("this test needs root to give a folder away")
        };
        chown("ada", 70_001);
        chown("bea", 70_002);
        let mut homes = Homes::default();
        let asked = |homes: &mut Homes, names: &[&str], uids: &[u32]| {
            homes
                .of(
                    &base,
                    &names.iter().copied().collect(),
                    &uids.iter().copied().collect(),
                )
                .unwrap()
        };
        assert_eq!(
            asked(&mut homes, &["ada", "dan", "../ada"], &[70_002]),
            BTreeMap::from([("ada".to_owned(), 70_001), ("bea".to_owned(), 70_002)])
        );
        // An entry asked for by name is looked at afresh, whatever was listed before.
        chown("ada", 70_003);
        assert_eq!(
            asked(&mut homes, &["ada"], &[70_001]),
            BTreeMap::from([("ada".to_owned(), 70_003)])
        );
        // A new entry changes the folder, so the listing is made anew.
        std::fs::create_dir(base.join("dan")).unwrap();
        chown("dan", 70_004);
        assert_eq!(
            asked(&mut homes, &[], &[70_004]),
            BTreeMap::from([("dan".to_owned(), 70_004)])
        );
        // A home that was begun and never named is of whom it was begun for, and so takes his UID from nobody but others.
        std::fs::create_dir(base.join(".new-eve")).unwrap();
        chown(".new-eve", 70_005);
        assert!(asked(&mut homes, &["eve"], &[70_005]).is_empty());
        assert_eq!(
            asked(&mut homes, &["fay"], &[70_005]),
            BTreeMap::from([("eve".to_owned(), 70_005)])
        );
        std::fs::rename(base.join(".new-eve"), base.join(".new-eve~7.1")).unwrap();
        assert!(asked(&mut homes, &["eve"], &[70_005]).is_empty());
        std::fs::remove_dir_all(&base).unwrap();
        assert!(asked(&mut homes, &["ada"], &[70_001]).is_empty());
    }

    #[test]
    fn where_anybody_can_make_an_entry_nobody_has_chosen_the_uid_of_another() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let base = std::env::temp_dir().join(format!("homes-open-{}", std::process::id()));
        std::fs::create_dir_all(base.join("ada")).unwrap();
        chown(base.join("ada"), Some(70_001), None).expect("this test needs root");
        let asked = |names: &[&str]| {
            let names = names.iter().copied().collect();
            Homes::default()
                .of(&base, &names, &BTreeSet::from([70_001]))
                .unwrap()
        };
        let of_ada = BTreeMap::from([("ada".to_owned(), 70_001)]);
        for (owner, mode, told) in [
            (0, 0o755, true),
            (0, 0o1777, false),
            (0, 0o775, false),
            (70_002, 0o755, false),
        ] {
            chown(&base, Some(owner), None).unwrap();
            std::fs::set_permissions(&base, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(!asked(&["ada"]).is_empty(), told, "{owner} {mode:o}");
            // Whoever owns something there has the number, all the same.
            assert_eq!(asked(&["bea"]), of_ada, "{owner} {mode:o}");
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}

//! The filters that a query may carry beside its keys, by systemd's rules.
//! What a record is filtered out of (an answer, an enumeration) is decided elsewhere.

use account_table::Disposition;
use uuid::Uuid;

use super::provider::STRIDE;
use crate::runtime::transport::InvalidParameter;

/// Needles of a fuzzy search; more are refused, and the client then filters by itself. So are those that have more bytes together than
/// so many of the longest that may be found nearly right: they are kept, and looked for in each record.
const NEEDLES: usize = 64;
/// Longest needle that may also be found nearly right: comparing costs the square of it, and all the needles are compared with a
/// record before others have their turn. How often one has his own nothing here limits.
const LONGEST: usize = 64;

/// Filters as they came: of users or of groups, which differ in nothing but names.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) fuzzy_names: Option<Vec<String>>,
    pub(super) disposition_mask: Option<Vec<String>>,
    pub(super) id_min: Option<i64>,
    pub(super) id_max: Option<i64>,
    /// What the bounds are called: an invalid one is named.
    pub(super) bounds: [&'static str; 2],
    pub(super) uuid: Option<String>,
}

/// What a record must be like.
#[derive(Debug)]
pub(super) struct Filters {
    /// In lower case; any of them must be found.
    needles: Option<Vec<String>>,
    dispositions: Option<Mask>,
    id_min: u32,
    id_max: u32,
    uuid: Option<Uuid>,
}

/// The properties of a record that filters look at.
pub(super) struct Candidate<N, U> {
    /// Everything it is called.
    pub(super) names: N,
    pub(super) disposition: Disposition,
    pub(super) id: u32,
    /// Finds its UUID, if it has one; only asked if a filter is about it.
    pub(super) uuid: U,
}

/// The names systemd has for dispositions; a mask may name any of them.
const DISPOSITIONS: [&str; 7] = [
    "intrinsic",
    "system",
    "dynamic",
    "regular",
    "container",
    "foreign",
    "reserved",
];

/// The name systemd has for a disposition.
pub(super) fn name_of(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Dynamic => "dynamic",
        Disposition::Regular => "regular",
    }
}

/// A set of [`DISPOSITIONS`]. A mask may name thousands, and is looked at for each record.
#[derive(Debug, Clone, Copy)]
struct Mask(u8);

impl Mask {
    /// `None` if one of the names is no disposition's.
    fn read(names: &[String]) -> Option<Mask> {
        names
            .iter()
            .try_fold(Mask(0), |mask, name| Some(Mask(mask.0 | Mask::of(name)?.0)))
    }

    fn of(name: &str) -> Option<Mask> {
        let place = DISPOSITIONS.iter().position(|known| *known == name)?;
        Some(Mask(1 << place))
    }

    fn has(self, disposition: Disposition) -> bool {
        Mask::of(name_of(disposition)).is_some_and(|one| self.0 & one.0 != 0)
    }
}

impl Filters {
    /// Reads filters; a refusal names the parameter, for clients to leave it out and filter themselves.
    pub(super) fn read(asked: Asked) -> Result<Filters, InvalidParameter> {
        let invalid = |name: &str| InvalidParameter(name.into());
        let dispositions = match asked.disposition_mask {
            Some(names) => Some(Mask::read(&names).ok_or_else(|| invalid("dispositionMask"))?),
            None => None,
        };
        let needles = asked.fuzzy_names.filter(|needles| !needles.is_empty());
        if needles.as_ref().is_some_and(|all| are_too_many(all)) {
            return Err(invalid("fuzzyNames"));
        }
        let bound = |id: Option<i64>, default, name| match id {
            Some(id) => u32::try_from(id).map_err(|_| invalid(name)),
            None => Ok(default),
        };
        let [min, max] = asked.bounds;
        let id_min = bound(asked.id_min, 0, min)?;
        let id_max = bound(asked.id_max, u32::MAX, max)?;
        let uuid = match asked.uuid {
            Some(text) => Some(Uuid::try_parse(&text).map_err(|_| invalid("uuid"))?),
            None => None,
        };
        Ok(Filters {
            needles: needles.map(|all| all.iter().map(|n| n.to_ascii_lowercase()).collect()),
            dispositions,
            id_min,
            id_max,
            uuid,
        })
    }

    /// Whether everything passes.
    pub(super) fn is_empty(&self) -> bool {
        self.needles.is_none()
            && self.dispositions.is_none()
            && self.uuid.is_none()
            && (self.id_min, self.id_max) == (0, u32::MAX)
    }

    /// How many records may be looked at before others have their turn.
    pub(super) fn stride(&self) -> usize {
        STRIDE / self.needles.as_ref().map_or(1, Vec::len)
    }

    /// Whether a record passes them all.
    pub(super) fn pass<'n>(
        &self,
        record: Candidate<impl Iterator<Item = &'n str>, impl FnOnce() -> Option<Uuid>>,
    ) -> bool {
        (self.id_min..=self.id_max).contains(&record.id)
            && self
                .dispositions
                .is_none_or(|mask| mask.has(record.disposition))
            && self
                .uuid
                .is_none_or(|wanted| (record.uuid)() == Some(wanted))
            && self.is_called(record.names)
    }

    fn is_called<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> bool {
        let Some(needles) = &self.needles else {
            return true;
        };
        names.any(|name| {
            let name = name.to_ascii_lowercase();
            needles.iter().any(|needle| resembles(&name, needle))
        })
    }
}

fn are_too_many(needles: &[String]) -> bool {
    let bytes: usize = needles.iter().map(String::len).sum();
    needles.len() > NEEDLES || bytes > NEEDLES * LONGEST
}

/// systemd's idea of a name that was meant: it contains the needle, or is hardly different from it.
fn resembles(name: &str, needle: &str) -> bool {
    name.contains(needle)
        || ((5..=LONGEST).contains(&needle.len())
            && distance_below_3(name.as_bytes(), needle.as_bytes()))
}

/// Whether fewer than 3 insertions, removals, changes and swaps of neighbours make `a` into `b`.
fn distance_below_3(a: &[u8], b: &[u8]) -> bool {
    // Each byte of difference in length costs one; so long needles cost nothing.
    if a.len().abs_diff(b.len()) >= 3 {
        return false;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = above[j] + usize::from(a[i] != b[j]);
            let mut least = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        if row.iter().all(|so_far| *so_far >= 3) {
            return false;
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()] < 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(asked: Asked) -> bool {
        Filters::read(asked).unwrap().pass(Candidate {
            names: ["alice", "Alice Example", "Alias"].into_iter(),
            disposition: Disposition::Dynamic,
            id: 70_000,
            uuid: || Some(Uuid::from_u128(7)),
        })
    }

    fn fuzzy(names: &[&str]) -> bool {
        passes(Asked {
            fuzzy_names: Some(names.iter().map(|n| (*n).into()).collect()),
            ..Asked::default()
        })
    }

    #[test]
    fn no_filter_passes_everything() {
        assert!(passes(Asked::default()));
        assert!(fuzzy(&[]));
    }

    #[test]
    fn any_one_filter_is_a_filter() {
        let is_empty = |asked| Filters::read(asked).unwrap().is_empty();
        assert!(is_empty(Asked::default()));
        let fuzzy_names = Some(vec![String::new()]);
        let dispositions = DISPOSITIONS.iter().map(|name| (*name).into());
        for asked in [
            Asked {
                fuzzy_names,
                ..Asked::default()
            },
            Asked {
                disposition_mask: Some(dispositions.collect()),
                ..Asked::default()
            },
            Asked {
                id_min: Some(1),
                ..Asked::default()
            },
            Asked {
                id_max: Some(1),
                ..Asked::default()
            },
            Asked {
                uuid: Some(Uuid::nil().to_string()),
                ..Asked::default()
            },
        ] {
            assert!(!is_empty(asked));
        }
    }

    #[test]
    fn fuzzy_names_are_found_inside_in_any_case_and_when_nearly_right() {
        assert!(fuzzy(&["LIC"]));
        assert!(fuzzy(&["example"]));
        assert!(fuzzy(&["ALIAS"]));
        assert!(fuzzy(&["alcie"]), "one swap");
        assert!(fuzzy(&["malicei"]), "two insertions");
        assert!(fuzzy(&["nobody", "lice"]), "any of several");
        assert!(!fuzzy(&["maliceix"]), "three insertions");
        assert!(!fuzzy(&["alx"]), "short needles must be inside");
        assert!(!fuzzy(&["bob"]));
    }

    #[test]
    fn the_mask_takes_systemds_names_and_no_others() {
        let mask = |names: &[&str]| Asked {
            disposition_mask: Some(names.iter().map(|n| (*n).into()).collect()),
            ..Asked::default()
        };
        assert!(passes(mask(&DISPOSITIONS)));
        assert!(passes(mask(&["dynamic"])));
        assert!(!passes(mask(&["regular", "system"])));
        assert!(!passes(mask(&[])));
        let refused = Filters::read(mask(&["dynamic", "future"])).unwrap_err();
        assert_eq!(refused.0, "dispositionMask");
    }

    #[test]
    fn ids_pass_between_their_bounds() {
        let asked = |id_min, id_max| Asked {
            id_min,
            id_max,
            bounds: ["uidMin", "uidMax"],
            ..Asked::default()
        };
        let between = |id_min, id_max| passes(asked(id_min, id_max));
        assert!(between(Some(70_000), Some(70_000)));
        assert!(between(Some(0), Some(4_294_967_295)));
        assert!(!between(Some(70_001), None));
        assert!(!between(None, Some(69_999)));
        assert!(!between(Some(70_001), Some(69_999)));
        // What is no ID is refused by name: the client then filters by itself.
        let refused = |id_min, id_max| Filters::read(asked(id_min, id_max)).unwrap_err().0;
        assert_eq!(refused(Some(-1), None), "uidMin");
        assert_eq!(refused(None, Some(4_294_967_296)), "uidMax");
    }

    #[test]
    fn a_uuid_is_compared_in_any_spelling_and_nonsense_is_named() {
        let of = |text: &str| Asked {
            uuid: Some(text.into()),
            ..Asked::default()
        };
        assert!(passes(of("00000000-0000-0000-0000-000000000007")));
        assert!(passes(of("00000000000000000000000000000007")));
        assert!(!passes(of("00000000000000000000000000000008")));
        assert_eq!(Filters::read(of("seven")).unwrap_err().0, "uuid");
    }

    #[test]
    fn too_many_needles_are_left_to_the_client() {
        let asked = |needles| Asked {
            fuzzy_names: Some(needles),
            ..Asked::default()
        };
        for needles in [
            vec!["x".into(); NEEDLES + 1],
            vec!["x".repeat(NEEDLES * LONGEST + 1)],
        ] {
            assert_eq!(Filters::read(asked(needles)).unwrap_err().0, "fuzzyNames");
        }
        assert!(Filters::read(asked(vec!["x".repeat(LONGEST); NEEDLES])).is_ok());
    }

    #[test]
    fn a_mask_of_thousands_is_kept_as_one_of_its_kinds() {
        let mut names = vec!["system".to_owned(); 6500];
        names.push("dynamic".into());
        let asked = Asked {
            disposition_mask: Some(names),
            ..Asked::default()
        };
        let filters = Filters::read(asked).unwrap();
        assert_eq!(std::mem::size_of_val(&filters.dispositions), 2);
        for (disposition, passes) in [(Disposition::Dynamic, true), (Disposition::Regular, false)] {
            let record = Candidate {
                names: std::iter::empty(),
                disposition,
                id: 70_000,
                uuid: || None,
            };
            assert_eq!(filters.pass(record), passes, "{disposition:?}");
        }
    }
}

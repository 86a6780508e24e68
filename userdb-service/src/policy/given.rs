//! The numbers that names have been given since boot: by number, and whether a name has been given any.
//! Which one a name gets is chosen in `allocate`.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;

use super::text::Text;

/// Numbers with the names they were given to. To whoever reads it is the map of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<I> {
    names: BTreeMap<I, Text>,
    /// What each name hashes to. Half of a hash is enough, and all of them are one piece of memory.
    hashes: HashSet<u32>,
}

impl<I: Ord> Given<I> {
    /// From now on `number` is that of `name`.
    pub fn insert(&mut self, number: I, name: Text) {
        self.hashes.insert(hash(&name));
        self.names.insert(number, name);
    }

    /// Holds no more memory than it needs, and that in as few pieces as it can.
    pub(crate) fn shrink(&mut self) {
        self.names = std::mem::take(&mut self.names).into_iter().collect();
        self.hashes.shrink_to_fit();
    }

    /// Whether `name` may have been given one; where it may not, it has not.
    pub(crate) fn may_know(&self, name: &str) -> bool {
        self.hashes.contains(&hash(name))
    }
}

fn hash(name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

impl<I> Default for Given<I> {
    fn default() -> Self {
        Given {
            names: BTreeMap::new(),
            hashes: HashSet::new(),
        }
    }
}

impl<I> Deref for Given<I> {
    type Target = BTreeMap<I, Text>;
    fn deref(&self) -> &BTreeMap<I, Text> {
        &self.names
    }
}

impl<I: Ord> Extend<(I, Text)> for Given<I> {
    fn extend<T: IntoIterator<Item = (I, Text)>>(&mut self, given: T) {
        given
            .into_iter()
            .for_each(|(number, name)| self.insert(number, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_given_a_number_is_known_and_one_that_was_not_is_not() {
        let mut given = Given::default();
        assert!(!given.may_know("alice"));
        given.insert(7, "alice".into());
        given.extend([(8, "bob".into()), (9, "alice".into())]);
        assert!(given.may_know("alice") && given.may_know("bob"));
        assert!(!given.may_know("carol"));
        assert_eq!(given.get(&8).map(Text::as_str), Some("bob"));
        assert_eq!(given.keys().copied().collect::<Vec<_>>(), [7, 8, 9]);
    }
}

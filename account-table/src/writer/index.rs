//! The writer's side of the four indexes: hints go in before a slot is live and come out after it is dead.
//! Readers walk the same entries meanwhile; every store here leaves them a table in which nothing live is lost.

use crate::layout::{Index, MAX_PROBE, entry, hash_id, hash_name};
use crate::memory::WritableMapping;

/// Why something does not fit into this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Slots, index or heap are used up: a larger file is needed.
    Room,
    /// Too many entries want the same place: another seed is needed.
    Crowded,
}

/// The indexes of one file and how full they are.
#[derive(Debug)]
pub(crate) struct Indexes {
    seed: u64,
    used: [usize; 4],
}

impl Indexes {
    pub(crate) fn new(seed: u64) -> Indexes {
        Indexes { seed, used: [0; 4] }
    }

    pub(crate) fn hash_name(&self, name: &str) -> u64 {
        hash_name(self.seed, name.as_bytes())
    }

    pub(crate) fn hash_id(&self, id: u32) -> u64 {
        hash_id(self.seed, id)
    }

    /// Fills the first empty place on the way of `hash`. An entry only ever replaces an empty one, so no reader's walk is cut.
    pub(crate) fn insert(
        &mut self,
        map: &WritableMapping,
        index: Index,
        hash: u64,
        slot: u32,
    ) -> Result<(), Shortage> {
        let (base, size) = (
            map.geometry().index_base(index),
            map.geometry().index_size(),
        );
        if self.used[index as usize] >= size / 2 {
            return Err(Shortage::Room);
        }
        let home = entry::home(hash, size);
        let free = (0..MAX_PROBE.min(size))
            .map(|step| base + ((home + step) & (size - 1)))
            .find(|&at| map.load(at) == 0);
        map.store(free.ok_or(Shortage::Crowded)?, entry::new(hash, slot));
        self.used[index as usize] += 1;
        Ok(())
    }

    pub(crate) fn remove(&mut self, map: &WritableMapping, index: Index, hash: u64, slot: u32) {
        if let Some(at) = self.find(map, index, entry::new(hash, slot)) {
            self.remove_at(map, index, at);
            self.used[index as usize] -= 1;
        }
    }

    fn find(&self, map: &WritableMapping, index: Index, wanted: u64) -> Option<usize> {
        let (base, size) = (
            map.geometry().index_base(index),
            map.geometry().index_size(),
        );
        let home = entry::home(wanted, size);
        (0..size)
            .map(|step| (home + step) & (size - 1))
            .take_while(|&at| map.load(base + at) != 0)
            .find(|&at| map.load(base + at) == wanted)
    }

    /// Empties a place and closes the gap, so that walks stay short and unbroken. An entry is copied towards its home first, then
    /// the move counter is raised, and only then its old place is used anew: a reader that missed both copies sees the counter
    /// changed. Dying in between leaves an entry twice, which harms nobody.
    fn remove_at(&self, map: &WritableMapping, index: Index, place: usize) {
        let (base, size) = (
            map.geometry().index_base(index),
            map.geometry().index_size(),
        );
        let mut hole = place;
        for step in 1..size {
            let at = (place + step) & (size - 1);
            let word = map.load(base + at);
            if word == 0 {
                break;
            }
            let from_home = at.wrapping_sub(entry::home(word, size)) & (size - 1);
            let from_hole = at.wrapping_sub(hole) & (size - 1);
            if from_home >= from_hole {
                map.store(base + hole, word);
                map.store(index.moves(), map.load(index.moves()).wrapping_add(1));
                hole = at;
            }
        }
        map.store(base + hole, 0);
    }

    /// Makes an index hold exactly `expected` (sorted), whatever a writer that died left in it. Live entries stay findable
    /// throughout: what is in excess goes first, by ordinary removals, then what is missing comes in.
    pub(crate) fn repair(
        &mut self,
        map: &WritableMapping,
        index: Index,
        expected: &[u64],
    ) -> Result<(), Shortage> {
        let (base, size) = (
            map.geometry().index_base(index),
            map.geometry().index_size(),
        );
        let wanted = |word: u64| {
            expected.partition_point(|&e| e <= word) - expected.partition_point(|&e| e < word)
        };
        let mut at = 0;
        while at < size {
            let word = map.load(base + at);
            if word != 0 && (wanted(word) == 0 || self.count(map, index, word) > wanted(word)) {
                self.remove_at(map, index, at); // may have moved another entry here: look again
            } else {
                at += 1;
            }
        }
        self.used[index as usize] = expected.len();
        for words in expected.chunk_by(|a, b| a == b) {
            let word = words[0];
            for _ in self.count(map, index, word)..words.len() {
                let slot = entry::slot(word);
                self.used[index as usize] -= 1;
                self.insert(map, index, word, slot)?;
            }
        }
        Ok(())
    }

    /// How often a word can be found on its own way.
    fn count(&self, map: &WritableMapping, index: Index, word: u64) -> usize {
        let (base, size) = (
            map.geometry().index_base(index),
            map.geometry().index_size(),
        );
        let home = entry::home(word, size);
        let way = (0..size)
            .map(|step| map.load(base + ((home + step) & (size - 1))))
            .take_while(|&found| found != 0);
        way.filter(|&found| found == word).count()
    }
}

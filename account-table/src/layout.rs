//! The shape of the table file: where each region lies, how heads, places and index entries are packed into words.
//! Pure arithmetic over the one number `k`; no memory is touched here.

/// First word of every table file.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"tlprtacc");
/// Raised with every change of this layout; readers of another version find no table.
pub(crate) const VERSION: u64 = 2;

/// Bounds of the one number the geometry follows from: log2 of how many users the file can hold.
pub(crate) const K_MIN: u32 = if cfg!(loom) { 3 } else { 4 };
pub(crate) const K_MAX: u32 = 20;

pub(crate) const PAGE: usize = 4096;
pub(crate) const WORD: usize = 8;
/// Unit of allocation in the heap: one cache line.
pub(crate) const LINE_WORDS: usize = 8;
/// The largest record or member chunk: 64 lines, 4 KiB.
pub(crate) const MAX_LINES: u32 = 64;
pub(crate) const MAX_RECORD_WORDS: usize = MAX_LINES as usize * LINE_WORDS;

/// No entry lies further than this from the place its hash names; the writer rebuilds under another seed before it would.
pub(crate) const MAX_PROBE: usize = 128;

/// Words of the header page. What readers load with every lookup, what changes with index moves, and what changes with every
/// publication lie on cache lines of their own.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    /// `VERSION << 32 | k`.
    pub(crate) const SHAPE: usize = 1;
    /// Size of the file in bytes.
    pub(crate) const SIZE: usize = 2;
    /// Random identity of this file.
    pub(crate) const EPOCH: usize = 3;
    /// Random seed of the hashes.
    pub(crate) const SEED: usize = 4;
    /// Not 0: a newer file may lie under the path.
    pub(crate) const RETIRED: usize = 5;
    /// One counter per index, raised each time an entry has been copied to another place.
    pub(crate) const MOVES: usize = 8;
    /// Publications and withdrawals, counted after each.
    pub(crate) const CHANGES: usize = 16;
    /// The last generation handed out, stored before its first use.
    pub(crate) const GENERATION: usize = 17;
    /// Slots from these on have never been used.
    pub(crate) const USERS_HIGH: usize = 18;
    pub(crate) const GROUPS_HIGH: usize = 19;
    /// A page; where every word costs time, no more than there are.
    pub(crate) const WORDS: usize = if cfg!(loom) { 24 } else { 512 };
}

/// The four indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// Users by login and by each alias.
    Names,
    /// Users by uid and, where it differs, by gid.
    Ids,
    /// Shared groups by name.
    GroupNames,
    /// Shared groups by gid.
    Gids,
}

impl Index {
    #[cfg(feature = "writer")]
    pub(crate) const ALL: [Index; 4] = [Index::Names, Index::Ids, Index::GroupNames, Index::Gids];

    pub(crate) fn moves(self) -> usize {
        header::MOVES + self as usize
    }
}

/// Where everything lies in a file for 2^k users. All positions are counted in words from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    k: u32,
}

impl Geometry {
    pub(crate) const fn new(k: u32) -> Option<Geometry> {
        if k < K_MIN || k > K_MAX {
            None
        } else {
            Some(Geometry { k })
        }
    }

    /// The geometry of a k that [`Geometry::new`] has accepted before.
    pub(crate) const fn of_k(k: u32) -> Geometry {
        Geometry { k }
    }

    pub(crate) const fn k(self) -> u32 {
        self.k
    }

    /// Slots for users; there are as many for shared groups.
    pub(crate) const fn slots(self) -> usize {
        1 << self.k
    }

    pub(crate) const fn user_head(self, slot: u32) -> Option<usize> {
        if (slot as usize) < self.slots() {
            Some(header::WORDS + slot as usize)
        } else {
            None
        }
    }

    pub(crate) const fn group_head(self, slot: u32) -> Option<usize> {
        if (slot as usize) < self.slots() {
            Some(header::WORDS + self.slots() + slot as usize)
        } else {
            None
        }
    }

    /// Entries each index has room for; at most half of them are ever used.
    pub(crate) const fn index_size(self) -> usize {
        2 << self.k
    }

    pub(crate) const fn index_base(self, index: Index) -> usize {
        header::WORDS + 2 * self.slots() + index as usize * self.index_size()
    }

    const fn heap_base(self) -> usize {
        header::WORDS + 10 * self.slots()
    }

    /// Lines in the heap: 512 bytes for each user.
    pub(crate) const fn heap_lines(self) -> usize {
        8 << self.k
    }

    /// First word and number of words of a place; `None` if no such place exists in this file.
    pub(crate) const fn words_of(self, place: Place) -> Option<(usize, usize)> {
        let (line, lines) = (place.line() as usize, place.lines() as usize);
        if lines == 0 || lines > MAX_LINES as usize || line + lines > self.heap_lines() {
            return None;
        }
        Some((self.heap_base() + line * LINE_WORDS, lines * LINE_WORDS))
    }

    pub(crate) const fn total_words(self) -> usize {
        let words = self.heap_base() + self.heap_lines() * LINE_WORDS;
        if cfg!(loom) {
            return words;
        }
        (words + PAGE / WORD - 1) & !(PAGE / WORD - 1)
    }

    pub(crate) const fn file_size(self) -> usize {
        self.total_words() * WORD
    }
}

const LINES_BITS: u32 = 7;
const LINE_BITS: u32 = 23;
const PLACE_BITS: u32 = LINES_BITS + LINE_BITS;

/// A run of heap lines: `line << 7 | lines`. Never 0, so 0 can say "none" in a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    #[cfg(feature = "writer")]
    pub(crate) const fn new(line: u32, lines: u32) -> Place {
        Place((line as u64) << LINES_BITS | lines as u64)
    }

    pub(crate) const fn from_bits(bits: u64) -> Place {
        Place(bits & ((1 << PLACE_BITS) - 1))
    }

    #[cfg(feature = "writer")]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn line(self) -> u32 {
        (self.0 >> LINES_BITS) as u32
    }

    pub(crate) const fn lines(self) -> u32 {
        (self.0 & ((1 << LINES_BITS) - 1)) as u32
    }
}

/// The word that makes a slot live: the generation in the upper 34 bits, the place of the record below. 0 is an empty slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) u64);

impl Head {
    #[cfg(feature = "writer")]
    pub(crate) const fn new(generation: u64, place: Place) -> Head {
        Head(generation << PLACE_BITS | place.bits())
    }

    pub(crate) const fn place(self) -> Place {
        Place::from_bits(self.0)
    }
}

/// A hint in an index: the upper half of the hash, and the slot plus one.
pub(crate) mod entry {
    #[cfg(feature = "writer")]
    pub(crate) const fn new(hash: u64, slot: u32) -> u64 {
        (hash & 0xffff_ffff_0000_0000) | (slot as u64 + 1)
    }

    pub(crate) const fn has_tag_of(entry: u64, hash: u64) -> bool {
        entry >> 32 == hash >> 32
    }

    /// No slot there is if the entry is damaged.
    pub(crate) const fn slot(entry: u64) -> u32 {
        (entry as u32).wrapping_sub(1)
    }

    /// Where the walk for a hash, or for the hash of an entry, starts: the tag alone says, so an entry can be moved without
    /// knowing its key.
    pub(crate) const fn home(hash_or_entry: u64, size: usize) -> usize {
        (hash_or_entry >> 32) as usize & (size - 1)
    }
}

/// A hint in a member chunk: the generation in which the user joined, and its slot plus one in the lower 21 bits.
pub(crate) mod hint {
    const SLOT_BITS: u32 = 21;

    #[cfg(feature = "writer")]
    pub(crate) const fn new(generation: u64, slot: u32) -> u64 {
        generation << SLOT_BITS | (slot as u64 + 1)
    }

    pub(crate) const fn joined(hint: u64) -> u64 {
        hint >> SLOT_BITS
    }

    pub(crate) const fn slot(hint: u64) -> Option<u32> {
        ((hint & ((1 << SLOT_BITS) - 1)) as u32).checked_sub(1)
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(value: u64) -> u64 {
    let product = value as u128 * MULTIPLIER as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Hash of a name: a word at a time, one multiplication each. Who knows the seed can build collisions; they cost the writer a
/// rebuild under another seed and readers at most [`MAX_PROBE`] steps.
pub(crate) fn hash_name(seed: u64, name: &[u8]) -> u64 {
    // Above what is left of any name, so that the length of a short one is not mistaken for its letters.
    let mut state = seed ^ (name.len() as u64) << 56;
    let mut rest = name;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        state = mix(state ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    // The bytes that are left, the first of them highest. Where there is a whole word before the end, it is loaded at once.
    let last = match name.last_chunk::<8>() {
        Some(word) => u64::from_be_bytes(*word) & ((1 << (8 * rest.len())) - 1),
        None => rest
            .iter()
            .fold(0, |last, &byte| last << 8 | u64::from(byte)),
    };
    mix(state ^ last)
}

/// Hash of a uid or gid. In the upper half it reaches all bits of the product's two halves, whatever the step between IDs is.
pub(crate) fn hash_id(seed: u64, id: u32) -> u64 {
    mix(seed ^ u64::from(id) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills half an index and returns the mean and the largest number of entries a walk meets.
    fn walks(hashes: impl Iterator<Item = u64>, size: usize) -> (f64, usize) {
        let mut taken = vec![false; size];
        let (mut total, mut longest) = (0, 0);
        for hash in hashes.take(size / 2) {
            let home = entry::home(hash, size);
            let steps = (0..size)
                .find(|step| !taken[(home + step) & (size - 1)])
                .expect("half is free");
            taken[(home + steps) & (size - 1)] = true;
            total += steps + 1;
            longest = longest.max(steps + 1);
        }
        (total as f64 / (size / 2) as f64, longest)
    }

    #[test]
    fn the_last_bytes_of_a_name_count_the_same_however_they_are_loaded() {
        let name = b"a-name-of-some-length-or-other";
        for length in 0..=name.len() {
            let name = &name[..length];
            let (mut state, mut rest) = (7 ^ (length as u64) << 56, name);
            while let Some((word, tail)) = rest.split_first_chunk::<8>() {
                state = mix(state ^ u64::from_le_bytes(*word));
                rest = tail;
            }
            let last = rest
                .iter()
                .fold(0, |last, &byte| last << 8 | u64::from(byte));
            assert_eq!(hash_name(7, name), mix(state ^ last));
        }
    }

    #[test]
    fn names_and_ids_people_use_spread_like_random_ones() {
        let size = 1 << 16;
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let spreads = [
                walks(
                    (0..).map(|n| hash_name(seed, format!("user{n}").as_bytes())),
                    size,
                ),
                walks(
                    (0..).map(|n| hash_name(seed, format!("teleport-user-{n}").as_bytes())),
                    size,
                ),
                walks(
                    (0..).map(|n| {
                        hash_name(seed, format!("{n}@a.rather.long.example.com").as_bytes())
                    }),
                    size,
                ),
                walks((0..).map(|n| hash_id(seed, 0x7000_0000 + n)), size),
                walks((0..).map(|n| hash_id(seed, n * 4096)), size),
            ];
            for (mean, longest) in spreads {
                assert!(
                    mean < 2.0 && longest < MAX_PROBE / 2,
                    "{seed:x}: {mean}, {longest}"
                );
            }
        }
    }
}

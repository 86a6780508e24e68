//! Variants of a good file, changed in place under a reader: whatever it says, a reader comes back, and soon.
//! `make fuzz` tries a hundred million; the few of every run are there to keep this working.

use std::fs::OpenOptions;
use std::thread;
use std::time::{Duration, Instant};

use super::hostile::{ask_everything, small_good_file};
use super::*;
use crate::memory::WritableMapping;

/// How many variants; `make fuzz` sets it.
const VARIANTS: &str = "FUZZ_VARIANTS";

/// A generator that can be started again: what a failure prints is all it takes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// What a word may be changed into: a bit, a byte, an extreme, a neighbour of what it was, what stands elsewhere, anything.
fn changed(random: &mut Random, word: u64, elsewhere: u64) -> u64 {
    let at = random.below(64);
    match random.below(8) {
        0 => word ^ 1 << at,
        1 => word ^ (random.next() & 0xff) << (at & !7),
        2 => 0,
        3 => u64::MAX,
        4 => word.wrapping_add(1 << at),
        5 => word.wrapping_sub(1 << at),
        6 => elsewhere,
        _ => random.next(),
    }
}

/// Tries `variants`; the longest that asking everything took.
fn try_variants(seed: u64, variants: u64) -> Duration {
    let (scratch, good) = small_good_file();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(scratch.path())
        .unwrap();
    let map = WritableMapping::of_existing_file(&file, scratch.trust.uid()).unwrap();
    let table = scratch.table();
    let words: Vec<u64> = good
        .chunks(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    // Most of the file is empty: mostly what says something is changed.
    let telling: Vec<usize> = (0..words.len()).filter(|&at| words[at] != 0).collect();
    let mut longest = Duration::ZERO;
    for variant in 0..variants {
        let mut random = Random(seed ^ variant << 20);
        let places: Vec<usize> = (0..1 + random.below(4))
            .map(|_| match random.below(8) {
                0 => random.below(words.len()),
                _ => telling[random.below(telling.len())],
            })
            .collect();
        for &at in &places {
            let elsewhere = words[telling[random.below(telling.len())]];
            map.store(at, changed(&mut random, words[at], elsewhere));
        }
        let began = Instant::now();
        let asked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask_everything(&table)));
        longest = longest.max(began.elapsed());
        assert!(
            asked.is_ok(),
            "seed {seed:#x}, variant {variant}, words {places:?}"
        );
        for &at in &places {
            map.store(at, words[at]);
        }
    }
    assert!(
        matches!(table.user_by_name(b"alice"), Lookup::Found(_)),
        "restored"
    );
    longest
}

#[test]
fn no_variant_of_a_good_file_harms_a_reader() {
    let variants: u64 = std::env::var(VARIANTS).map_or(20_000, |count| count.parse().unwrap());
    let seed = crate::memory::random().unwrap();
    let longest = thread::scope(|scope| {
        let halves =
            [seed, !seed].map(|seed| scope.spawn(move || try_variants(seed, variants / 2)));
        halves.map(|half| half.join().unwrap())
    });
    println!("{variants} variants from seed {seed:#x}; asking everything took {longest:?} at most");
}

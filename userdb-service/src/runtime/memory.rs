//! Giving memory back to the kernel that a burst has needed.
//! When there is any to give is the caller's to know.
//! One unsafe block: the call of glibc's that does it.

use std::hint::black_box;

use nix::libc;

/// What glibc keeps at hand for each thread, without looking at it again: pieces of these sizes, one for each 16 bytes more, and so many
/// of each: 7, and 16 in newer ones.
const AT_HAND: std::ops::Range<usize> = 24..1040;
const OF_EACH: usize = 16;

/// Gives free pages of the heap back, also those between what is in use. Takes milliseconds where there is much.
pub fn give_back() {
    // Pieces at hand are in use to malloc_trim, and after a burst lie all over the heap: some 200 of them keep a page each that has
    // nothing else in it. Others, which lie together, take their place, and what does not fit in beside them is freed.
    let (at_hand, others) = (pieces(), pieces());
    drop(others);
    drop(at_hand);
    // SAFETY: malloc_trim takes a number, and only touches memory that malloc holds as free.
    unsafe { libc::malloc_trim(0) };
}

fn pieces() -> Vec<Vec<u8>> {
    // One of each size by turns: where 7 are kept, those of the first turns are, and they lie together.
    let sizes = (0..OF_EACH).flat_map(|_| AT_HAND.step_by(16));
    black_box(sizes.map(Vec::with_capacity).collect())
}

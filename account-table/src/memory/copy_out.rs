//! Copying from the table straight into the caller's buffer, and counting letters on the way.
//! What the bytes mean, and whether they stood still, is the caller's to find out.

use core::mem::MaybeUninit;

use crate::atomic::AtomicU64;
use crate::layout::WORD;

/// Bytes are copied so many at a time; the room has to be a multiple.
pub(crate) const STEP: usize = 16;
/// So many at most: a byte counts the letters of a column. A record's strings are shorter than a record.
const MOST: usize = 255 * STEP;

/// What [`copy_out`] has written.
pub(crate) struct CopiedOut<'a> {
    pub(crate) bytes: &'a [u8],
    /// How many of them are ASCII and not 0.
    pub(crate) letters: usize,
}

/// Copies the first `length` bytes of `source`, each loaded once, and writes zeros up to the next multiple of [`STEP`]. None if
/// there are not so many bytes, no such room, or more than strings of a record can be. The writer may be changing them; the caller finds
/// out afterwards.
///
/// What has just been written in words must not be read again in larger pieces: the processor would wait until all of them have
/// left for memory, which takes as long as the rest of a lookup. So everything is decided on the way.
#[inline(always)]
pub(crate) fn copy_out<'a>(
    source: &[AtomicU64],
    length: usize,
    room: &'a mut [MaybeUninit<u8>],
) -> Option<CopiedOut<'a>> {
    if length == 0 || length > MOST {
        return None;
    }
    let steps = length.div_ceil(STEP);
    let room = room.get_mut(..steps * STEP)?;
    let source = source.get(..steps * (STEP / WORD))?;
    let letters = copy(source, length, room);
    // SAFETY: every byte of room has been written, and length is no more than they are.
    let bytes = unsafe { core::slice::from_raw_parts(room.as_ptr().cast::<u8>(), length) };
    Some(CopiedOut { bytes, letters })
}

/// Other processors' way. `source` and `room` are as long as the steps that `length` takes.
#[cfg(not(all(target_arch = "x86_64", not(loom))))]
fn copy(source: &[AtomicU64], length: usize, room: &mut [MaybeUninit<u8>]) -> usize {
    let (mut letters, mut left) = (0, length);
    let (words, _) = room.as_chunks_mut::<WORD>();
    for (to, from) in words.iter_mut().zip(source) {
        let word = from.load(crate::atomic::Ordering::Relaxed).to_ne_bytes();
        for (to, from) in to.iter_mut().zip(word) {
            let from = if left > 0 { from } else { 0 };
            to.write(from);
            letters += usize::from(from != 0 && from.is_ascii());
            left = left.saturating_sub(1);
        }
    }
    letters
}

#[cfg(all(target_arch = "x86_64", not(loom)))]
use wide::copy;

/// Sixteen bytes at a time, by what every x86-64 processor has.
#[cfg(all(target_arch = "x86_64", not(loom)))]
mod wide {
    use core::arch::asm;
    use core::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpgt_epi8, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_set1_epi8,
        _mm_setr_epi8, _mm_setzero_si128, _mm_storeu_si128, _mm_sub_epi8, _mm_unpackhi_epi64,
    };
    use core::mem::MaybeUninit;

    use super::STEP;
    use crate::atomic::AtomicU64;

    /// Loads the sixteen bytes at `from + at + MORE` that another process may be storing. In assembly, because to the compiler
    /// a plain load would be one that races. To the processor it is one or two of aligned words, in the order of the program,
    /// as every load is.
    ///
    /// # Safety
    /// The sixteen bytes must be mapped.
    #[inline(always)]
    unsafe fn load<const MORE: usize>(from: *const u8, at: usize) -> __m128i {
        let value;
        // SAFETY: reads what the caller vouches for and nothing else. Not `pure`, not `nomem`: it stays where it stands among
        // loads of heads and fences.
        unsafe {
            asm!("movdqu {}, [{} + {} + {}]", out(xmm_reg) value, in(reg) from, in(reg) at, const MORE,
                options(nostack, preserves_flags, readonly));
        }
        value
    }

    /// `length` is at least 1; `source` and `room` are as long as the steps that it takes, 255 at most.
    #[inline(always)]
    pub(super) fn copy(source: &[AtomicU64], length: usize, room: &mut [MaybeUninit<u8>]) -> usize {
        let last = (length - 1) / STEP * STEP;
        debug_assert!(source.len() * 8 == last + STEP && room.len() == last + STEP);
        let (from, to) = (source.as_ptr().cast::<u8>(), room.as_mut_ptr().cast::<u8>());
        // SAFETY: SSE2 is part of x86-64. Steps begin at multiples of 16 up to `last`, and source and room are 16 longer than
        // that: all loads are within source, all stores within room.
        unsafe {
            // To a signed comparison what is not ASCII is less than 0, as what is 0 is not more.
            let letters_of = |bytes| _mm_cmpgt_epi8(bytes, _mm_setzero_si128());
            let mut letters = _mm_setzero_si128();
            let mut at = 0;
            while at + STEP < last {
                let (one, two) = (load::<0>(from, at), load::<STEP>(from, at));
                _mm_storeu_si128(to.add(at).cast(), one);
                _mm_storeu_si128(to.add(at + STEP).cast(), two);
                letters = _mm_sub_epi8(letters, letters_of(one));
                letters = _mm_sub_epi8(letters, letters_of(two));
                at += 2 * STEP;
            }
            if at < last {
                let bytes = load::<0>(from, at);
                _mm_storeu_si128(to.add(at).cast(), bytes);
                letters = _mm_sub_epi8(letters, letters_of(bytes));
            }
            // Of the last step, what lies behind the end is written as 0.
            let place = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let ours = _mm_cmpgt_epi8(_mm_set1_epi8((length - last) as i8), place);
            let bytes = _mm_and_si128(load::<0>(from, last), ours);
            _mm_storeu_si128(to.add(last).cast(), bytes);
            letters = _mm_sub_epi8(letters, letters_of(bytes));
            let sums = _mm_sad_epu8(letters, _mm_setzero_si128());
            let both = _mm_cvtsi128_si64(sums) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums));
            both as usize
        }
    }
}

/// Bytes as the room a caller would have, so that a test can look at them afterwards.
#[cfg(test)]
pub(crate) fn as_room(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: u8 and MaybeUninit<u8> have one layout, and lookups write nothing but bytes that have a value.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

//! How much of a long answer is made before it is sent: enough to be quick, and little in the hands of those who do not read.
//! What an answer says does not enter, nor how it is sent.

use std::cell::Cell;
use std::rc::Rc;

/// Pieces have 16 KiB, less room for the last record of one: thousands who ask for everything and do not read cost no memory
/// to speak of.
const SMALL: usize = 14 << 10;
const ROOM: usize = 16 << 10;
/// Each piece may have to wake its reader, which takes longer than making it. So a few who read at once have larger ones.
const LARGE: usize = 60 << 10;
const LARGE_ROOM: usize = 64 << 10;
/// How few, at a time.
const FEW: u32 = 32;

/// How a reader has taken a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    Waited,
}

/// How many answers may yet have large pieces.
#[derive(Debug, Clone)]
pub(super) struct LargePieces(Rc<Cell<u32>>);

impl Default for LargePieces {
    fn default() -> Self {
        LargePieces(Rc::new(Cell::new(FEW)))
    }
}

impl LargePieces {
    fn take(&self) -> Option<Leave> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(Leave(self.clone()))
    }
}

/// Leave to make large pieces, until it is dropped.
#[derive(Debug)]
struct Leave(LargePieces);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}

/// The piece of an answer that is being made.
#[derive(Debug)]
pub(super) struct Piece {
    large: Option<Leave>,
}

impl Piece {
    /// The first one of an answer, to be made in `output`.
    pub(super) fn first(output: &mut Vec<u8>) -> Piece {
        output.clear();
        output.shrink_to(ROOM);
        Piece { large: None }
    }

    /// Whether it is to be sent.
    pub(super) fn is_full(&self, output: &[u8]) -> bool {
        let size = if self.large.is_some() { LARGE } else { SMALL };
        output.len() >= size
    }

    /// The next one, after one that was taken at this pace.
    pub(super) fn next(&mut self, output: &mut Vec<u8>, pace: Pace, leaves: &LargePieces) {
        output.clear();
        self.large = match pace {
            Pace::AtOnce => self.large.take().or_else(|| leaves.take()),
            Pace::Waited => None,
        };
        match self.large {
            Some(_) => output.reserve(LARGE_ROOM),
            None => output.shrink_to(ROOM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_large(piece: &Piece) -> bool {
        !piece.is_full(&[0; SMALL])
    }

    #[test]
    fn who_reads_at_once_has_large_pieces_from_the_second_on_until_it_has_to_be_waited_for() {
        let leaves = LargePieces::default();
        let mut output = Vec::new();
        let mut piece = Piece::first(&mut output);
        assert!(!is_large(&piece));
        for (pace, large) in [
            (Pace::AtOnce, true),
            (Pace::AtOnce, true),
            (Pace::Waited, false),
            (Pace::Waited, false),
            (Pace::AtOnce, true),
        ] {
            piece.next(&mut output, pace, &leaves);
            assert_eq!(is_large(&piece), large);
            assert_eq!(output.capacity() > ROOM, large);
            assert!(output.is_empty());
        }
        assert!(piece.is_full(&[0; LARGE]));
        Piece::first(&mut output);
        assert!(output.capacity() <= ROOM);
    }

    #[test]
    fn few_have_large_pieces_at_a_time_and_others_small_ones() {
        let leaves = LargePieces::default();
        let begin = || {
            let mut output = Vec::new();
            let mut piece = Piece::first(&mut output);
            piece.next(&mut output, Pace::AtOnce, &leaves);
            piece
        };
        let mut pieces: Vec<Piece> = (0..2 * FEW).map(|_| begin()).collect();
        let large = pieces.iter().filter(|piece| is_large(piece)).count();
        assert_eq!(large, FEW as usize);
        pieces.remove(0);
        assert!(is_large(&begin()));
        pieces.clear();
        assert_eq!(leaves.0.get(), FEW);
    }
}

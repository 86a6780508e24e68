//! Whole answers that still hold: questions asked again, byte for byte, while the table has not changed.
//! What an answer is does not enter; when it holds is the table's word.
//!
//! Every process of the host asks the same few questions. Lists are made anew from records that are kept, see `rendered`.

use std::collections::HashMap;
use std::rc::Rc;

/// Bytes of questions and answers that are kept; beyond that all are forgotten.
const ROOM: usize = 8 << 20;
/// Longer answers are lists. Each connection may hold one that is forgotten, until its reader has taken it.
const LONGEST_ANSWER: usize = 16 << 10;
/// Longer questions are nobody's habit.
const LONGEST_QUESTION: usize = 512;

/// The state of a table that answers are good for: which file it is, and how often it has changed.
pub(super) type State = (u64, u64);

/// The answers that hold.
#[derive(Debug, Default)]
pub(super) struct Memo {
    state: Option<State>,
    answers: HashMap<Box<[u8]>, Kept>,
    bytes: usize,
    /// The most that there have been since memory was given back.
    most: usize,
}

#[derive(Debug)]
struct Kept {
    answer: Rc<[u8]>,
    /// Since it was made, or since the last rest.
    asked: bool,
}

impl Memo {
    /// The answer to `question`, if there has been one since the table came to be as it is.
    pub(super) fn recall(&mut self, state: State, question: &[u8]) -> Option<Rc<[u8]>> {
        if self.state != Some(state) {
            self.forget();
            return None;
        }
        let kept = self.answers.get_mut(question)?;
        kept.asked = true;
        Some(Rc::clone(&kept.answer))
    }

    /// Keeps the answer to `question`, found while the table was in `state`.
    pub(super) fn keep(&mut self, state: State, question: &[u8], answer: &[u8]) {
        let size = question.len() + answer.len();
        if question.len() > LONGEST_QUESTION || answer.len() > LONGEST_ANSWER {
            return;
        }
        if self.state != Some(state) || self.bytes + size > ROOM {
            self.forget();
            self.state = Some(state);
        }
        let kept = Kept {
            answer: answer.into(),
            asked: true,
        };
        if self.answers.insert(question.into(), kept).is_none() {
            self.bytes += size;
            self.most = self.most.max(self.bytes);
        }
    }

    /// Forgets each answer that nobody has asked for since the last time: our own question for the watchdog comes all the time. So many
    /// bytes are free then that have been needed since memory was given back.
    pub(super) fn rest(&mut self) -> usize {
        let bytes = &mut self.bytes;
        self.answers.retain(|question, kept| {
            let asked = std::mem::take(&mut kept.asked);
            if !asked {
                *bytes -= question.len() + kept.answer.len();
            }
            asked
        });
        self.answers.shrink_to_fit();
        self.most - self.bytes
    }

    /// Memory has been given back.
    pub(super) fn is_back(&mut self) {
        self.most = self.bytes;
    }

    pub(super) fn forget(&mut self) {
        *self = Memo {
            most: self.most,
            ..Memo::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: State = (7, 1);

    fn memo(answers: &[(&str, usize)]) -> Memo {
        let mut memo = Memo::default();
        for (question, size) in answers {
            memo.keep(NOW, question.as_bytes(), &vec![b'x'; *size]);
        }
        memo
    }

    #[test]
    fn an_answer_is_recalled_until_the_table_changes_or_is_another() {
        for other in [(7, 2), (8, 1)] {
            let mut memo = memo(&[("q", 3)]);
            assert_eq!(memo.recall(NOW, b"q").as_deref(), Some(&b"xxx"[..]));
            assert_eq!(memo.recall(NOW, b"r"), None);
            assert_eq!(memo.recall(other, b"q"), None);
            assert_eq!(memo.recall(NOW, b"q"), None, "it is gone for good");
        }
    }

    #[test]
    fn room_is_bounded_however_many_different_questions_there_are() {
        let mut memo = Memo::default();
        for number in 0..10_000 {
            memo.keep(NOW, format!("{number}").as_bytes(), &[0; 4000]);
            assert!(memo.bytes <= ROOM);
        }
        memo.keep(NOW, b"long", &[0; LONGEST_ANSWER + 1]);
        assert_eq!(memo.recall(NOW, b"long"), None);
        let question = [b'q'; LONGEST_QUESTION + 1];
        memo.keep(NOW, &question, &[0; 10]);
        assert_eq!(memo.recall(NOW, &question), None);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_whatever_else_is_asked_all_the_time() {
        let mut memo = memo(&[("q", 3), ("watchdog", 3)]);
        for is_known in [true, true, false] {
            assert!(memo.recall(NOW, b"watchdog").is_some());
            if is_known {
                assert!(memo.recall(NOW, b"q").is_some());
            }
            memo.rest();
        }
        assert!(memo.recall(NOW, b"watchdog").is_some());
        assert_eq!(memo.recall(NOW, b"q"), None);
        assert_eq!(memo.bytes, "watchdog".len() + 3);
        memo.rest();
        assert_eq!(memo.rest(), "qwatchdog".len() + 6);
        assert_eq!(memo.bytes, 0);
    }

    #[test]
    fn what_a_change_of_the_table_makes_worthless_is_free_until_it_has_been_given_back() {
        let mut memo = memo(&[("q", 3)]);
        memo.recall((7, 2), b"q");
        assert_eq!((memo.rest(), memo.rest()), (4, 4));
        memo.is_back();
        assert_eq!(memo.rest(), 0);
    }
}

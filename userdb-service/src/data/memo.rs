//! Whole answers that still hold: questions asked again, byte for byte, while the table has not changed.
//! What an answer is does not enter; when it holds is the table's word.
//!
//! Every process of the host asks the same few questions, and a list of all users is the same for all
//! who ask for it: it is made once, and shared by those who read it slowly.

use std::collections::HashMap;
use std::rc::Rc;

/// Bytes of questions and answers that are kept; beyond that all are forgotten.
const ROOM: usize = 8 << 20;
/// Most bytes of one answer, and of all that are being made: a list of some ten thousand users.
pub(super) const LONGEST_ANSWER: usize = 6 << 20;
/// Longer questions are nobody's habit.
const LONGEST_QUESTION: usize = 512;
/// Readers of an answer that does not hold any more keep it in memory: then another long one is not kept.
/// Short ones are not counted: thousands of connections may each hold one that is forgotten.
const LONG: usize = 8 << 10;

/// The state of a table that answers are good for: which file it is, and how often it has changed.
pub(super) type State = (u64, u64);

/// The answers that hold.
#[derive(Debug, Default)]
pub(super) struct Memo {
    state: Option<State>,
    answers: HashMap<Box<[u8]>, Rc<[u8]>>,
    bytes: usize,
    /// Long answers that somebody may still be reading.
    pinned: Vec<Rc<[u8]>>,
    asked: bool,
}

impl Memo {
    /// The answer to `question`, if there has been one since the table came to be as it is.
    pub(super) fn recall(&mut self, state: State, question: &[u8]) -> Option<Rc<[u8]>> {
        if self.state != Some(state) {
            self.forget();
            return None;
        }
        self.asked = true;
        self.answers.get(question).map(Rc::clone)
    }

    /// Keeps the answer to `question`, found while the table was in `state`.
    pub(super) fn keep(&mut self, state: State, question: &[u8], answer: Vec<u8>) {
        let size = question.len() + answer.len();
        if question.len() > LONGEST_QUESTION || answer.len() > LONGEST_ANSWER {
            return;
        }
        self.pinned.retain(|answer| Rc::strong_count(answer) > 1);
        if answer.len() > LONG && !self.pinned.is_empty() {
            return;
        }
        if self.state != Some(state) || self.bytes + size > ROOM {
            self.forget();
            self.state = Some(state);
        }
        if self
            .answers
            .insert(question.into(), answer.into())
            .is_none()
        {
            self.bytes += size;
        }
    }

    /// Forgets what nobody has asked for since the last time.
    pub(super) fn rest(&mut self) {
        if !std::mem::take(&mut self.asked) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.state = None;
        self.bytes = 0;
        let long = self.answers.drain().map(|(_, answer)| answer);
        self.pinned
            .extend(long.filter(|answer| answer.len() > LONG));
        self.pinned.retain(|answer| Rc::strong_count(answer) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: State = (7, 1);

    fn memo(answers: &[(&str, usize)]) -> Memo {
        let mut memo = Memo::default();
        for (question, size) in answers {
            memo.keep(NOW, question.as_bytes(), vec![b'x'; *size]);
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
            memo.keep(NOW, format!("{number}").as_bytes(), vec![0; 4000]);
            assert!(memo.bytes <= ROOM);
        }
        memo.keep(NOW, b"long", vec![0; LONGEST_ANSWER + 1]);
        assert_eq!(memo.recall(NOW, b"long"), None);
        let question = [b'q'; LONGEST_QUESTION + 1];
        memo.keep(NOW, &question, vec![0; 10]);
        assert_eq!(memo.recall(NOW, &question), None);
    }

    #[test]
    fn while_an_old_list_is_being_read_no_other_is_kept() {
        let mut memo = memo(&[("all", LONG + 1)]);
        let reading = memo.recall(NOW, b"all").unwrap();
        let later = (7, 2);
        assert_eq!(memo.recall(later, b"all"), None);
        memo.keep(later, b"all", vec![0; LONG + 1]);
        assert_eq!(memo.recall(later, b"all"), None);
        drop(reading);
        memo.keep(later, b"all", vec![0; LONG + 1]);
        assert!(memo.recall(later, b"all").is_some());
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut memo = memo(&[("q", 3)]);
        assert!(memo.recall(NOW, b"q").is_some());
        memo.rest();
        assert!(memo.recall(NOW, b"q").is_some());
        memo.rest();
        memo.rest();
        assert_eq!(memo.recall(NOW, b"q"), None);
    }
}

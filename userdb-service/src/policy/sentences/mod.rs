//! Everything the policy says to people, in one place: what was wrong and what would be right.
//! Text from outside enters a sentence through [`quoting`](super::quoting) only; validated types may stand as they are.

mod around;
mod names;
mod numbers;
mod request;

use super::decide::{Reason, Refusal};

pub(crate) use around::*;
pub(crate) use names::*;
pub(crate) use numbers::*;
pub(crate) use request::*;

fn refuse(reason: Reason, message: String) -> Refusal {
    Refusal { reason, message }
}

//! Of UIDs and GIDs, and of the homes that have them.
//! Which number it is to be is decided in `allocate`.

use std::ops::RangeInclusive;

use super::refuse;
use crate::policy::decide::{Reason, Refusal};
use crate::policy::names::Login;
use crate::policy::quoting::quoted;

pub(crate) fn exhausted(range: &RangeInclusive<u32>) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "No UID is free in uids.range ({}-{}); the administrator has to widen it.",
            range.start(),
            range.end()
        ),
    )
}

pub(crate) fn too_many_rounds(range: &RangeInclusive<u32>, rounds: usize) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "No free UID was found in uids.range ({}-{}) in {rounds} rounds of questions, because so much of it is taken; the administrator has to widen it.",
            range.start(),
            range.end()
        ),
    )
}

pub(crate) fn live_id_in_sudoers(login: &Login, id: u32) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "The login \"{login}\" is in use with the number {id}, which sudoers gives rights to by now; wait until its sessions have ended, then it gets another one."
        ),
    )
}

pub(crate) fn requested_taken(variable: &str, id: u32) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "{variable} asks for {id}, which is taken on this node; it needs a number that nobody else has here."
        ),
    )
}

pub(crate) fn other_id_live(
    variable: &str,
    wanted: u32,
    login: impl AsRef<str>,
    has: u32,
) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "{variable} asks for {wanted}, but the login {} is in use with {has} now; wait until its sessions have ended, or ask for {has}.",
            quoted(login.as_ref())
        ),
    )
}

pub(crate) fn home_of_another(home: &str, given: &str) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "The home {} was made for another login than {}; choose a login in lower case without special characters.",
            quoted(home),
            quoted(given)
        ),
    )
}

pub(crate) fn home_owner_taken(home: &str, owner: u32) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "The home {} belongs to UID {owner}, which somebody else has on this node now; the administrator has to move one of the two.",
            quoted(home)
        ),
    )
}

//! Of the name a login would have, and of whoever has it.
//! What a name may be is decided in `names`, `repair` and `protected`.

use super::refuse;
use crate::policy::decide::{Reason, Refusal};
use crate::policy::names::{Login, NameError};
use crate::policy::protected::Protection;
use crate::policy::quoting::quoted;

pub(crate) fn invalid_login(given: &str, why: NameError) -> Refusal {
    refuse(
        Reason::InvalidName,
        format!(
            "The login {} cannot be used: {}; a login consists of a-z, 0-9, \"_\", \"-\" and \".\".",
            quoted(given),
            match why {
                NameError::TooLong(most) =>
                    format!("it has {} bytes of at most {most}", given.len()),
                why => why.to_string(),
            }
        ),
    )
}

pub(crate) fn invalid_login_refused(given: &str) -> Refusal {
    refuse(
        Reason::InvalidName,
        format!(
            "The login {} is not a valid name on this node: {}.",
            quoted(given),
            NameError::Malformed
        ),
    )
}

pub(crate) fn beyond_repair(given: &str, why: NameError) -> Refusal {
    let left = match why {
        NameError::Empty => "nothing is left of it once invalid characters are removed",
        NameError::TooLong(_) => {
            "more than 31 characters are left of it once invalid ones are removed"
        }
        NameError::Forbidden(_) | NameError::Malformed => {
            "it does not become a valid name once invalid characters are removed"
        }
    };
    refuse(
        Reason::InvalidName,
        format!(
            "The login {} cannot be used: {left}; {}.",
            quoted(given),
            NameError::Malformed
        ),
    )
}

pub(crate) fn repaired_is_a_user(given: &str, login: &Login) -> Refusal {
    refuse(
        Reason::ProtectedName,
        format!(
            "The login {} would become \"{login}\", which is a user of this node already; log in as \"{login}\" if that is you, else choose another login.",
            quoted(given)
        ),
    )
}

pub(crate) fn is_a_group(given: &str, login: &Login) -> Refusal {
    let becomes = if login.as_str() == given {
        String::new()
    } else {
        format!(" (as \"{login}\")")
    };
    refuse(
        Reason::ProtectedName,
        format!(
            "The login {}{becomes} is the name of a group of this node, whose rights its user would seem to have; choose another login.",
            quoted(given)
        ),
    )
}

pub(crate) fn is_a_member(name: &str, gid: u32, group: Option<&str>) -> Refusal {
    let group = group.map_or_else(|| gid.to_string(), quoted);
    refuse(
        Reason::ProtectedName,
        format!(
            "The login {} is listed as a member of the group {group} of this node, whose rights its user would have; choose another login, or have the administrator take the name out of that group.",
            quoted(name)
        ),
    )
}

pub(crate) fn differs_in_case(given: &str, twin: &str) -> Refusal {
    refuse(
        Reason::ProtectedName,
        format!(
            "The login {} differs only in case from the user {} of this node, and sudo takes one for the other; log in as {} if that is you, else choose another login.",
            quoted(given),
            quoted(twin),
            quoted(twin)
        ),
    )
}

pub(crate) fn is_our_group(login: &Login) -> Refusal {
    refuse(
        Reason::ProtectedName,
        format!(
            "The login \"{login}\" is the name of a group that users of this node are in at the moment; choose another login."
        ),
    )
}

pub(crate) fn is_a_role_group(login: &Login) -> Refusal {
    refuse(
        Reason::ProtectedName,
        format!(
            "The login \"{login}\" is the name of a group that roles give on this node; choose another login."
        ),
    )
}

pub(crate) fn protected_name(name: &str, protection: Protection<'_>) -> Refusal {
    let why = match protection {
        Protection::Configured(pattern) => format!("names.protected has {}", quoted(pattern)),
        Protection::BuiltIn => "the name carries rights on many systems".to_owned(),
        Protection::Teleport => "names that begin with teleport- are reserved".to_owned(),
        Protection::Sudoers => "sudoers or doas.conf names it".to_owned(),
        Protection::Netgroup => "a netgroup that sudoers names has it as a member".to_owned(),
        Protection::SudoersWord => "the word means something else in sudoers".to_owned(),
    };
    let right = match protection {
        Protection::SudoersWord => "choose another login",
        _ => "choose another login, or have the administrator add it to names.allow",
    };
    refuse(
        Reason::ProtectedName,
        format!("The login {} is protected: {why}; {right}.", quoted(name)),
    )
}

pub(crate) fn reads_as_user_and_group(login: &Login, owner: &str) -> Refusal {
    refuse(
        Reason::ProtectedName,
        format!(
            "The login \"{login}\" begins with the user {} and a dot, which chown reads as a user and a group; choose another login, or have the administrator add it to names.allow.",
            quoted(owner)
        ),
    )
}

pub(crate) fn other_spelling(given: &str, login: &Login, live: &str) -> Refusal {
    refuse(
        Reason::Taken,
        format!(
            "The login {} needs the name \"{login}\", which the login {} has now; wait until that has ended, or choose another login.",
            quoted(given),
            quoted(live)
        ),
    )
}

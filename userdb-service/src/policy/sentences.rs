//! Everything the policy says to people, in one place: what was wrong and what would be right.
//! Text from outside enters a sentence through [`quoting`](super::quoting) only; validated types may stand as they are.

use std::ops::RangeInclusive;

use super::decide::{Reason, Refusal};
use super::names::{Login, MAX_GIVEN, NameError};
use super::plan::Plan;
use super::protected::Protection;
use super::quoting::{escaped, list, quoted};

fn refuse(reason: Reason, message: String) -> Refusal {
    Refusal { reason, message }
}

// The request.

pub(crate) fn undecodable(variable: &str) -> Refusal {
    let reason = if variable == "TELEPORT_LOGIN" {
        Reason::InvalidName
    } else {
        Reason::Policy
    };
    refuse(
        reason,
        format!(
            "{variable} in the PAM environment is not valid UTF-8; logins, Teleport users and roles have to be."
        ),
    )
}

pub(crate) fn other_login(teleport: &str, pam: &str) -> Refusal {
    refuse(
        Reason::Policy,
        format!(
            "Teleport asked for the login {}, but PAM is about to open {}; no PAM module may change the user in between.",
            quoted(teleport),
            quoted(pam)
        ),
    )
}

pub(crate) fn no_teleport_user() -> Refusal {
    refuse(Reason::Policy, "TELEPORT_USERNAME is missing from the PAM environment; Teleport sets it, and pam.environment in teleport.yaml must not empty it.".to_owned())
}

pub(crate) fn long_teleport_user(bytes: usize) -> Refusal {
    refuse(
        Reason::Policy,
        format!(
            "The name of the Teleport user has {bytes} bytes; at most {} are accepted.",
            super::request::MAX_USER
        ),
    )
}

pub(crate) fn invisible_teleport_user() -> Refusal {
    refuse(Reason::Policy, "The name of the Teleport user (TELEPORT_USERNAME) holds control characters or invisible ones; a name that looks like another's is not accepted.".to_owned())
}

pub(crate) fn other_reservation(plan: &Plan, login: &str, user: &str) -> Refusal {
    refuse(
        Reason::Policy,
        format!(
            "The login {} was admitted for the Teleport user {}, but the session is about to open as {} for {}; no PAM module may change either in between.",
            quoted(&plan.given),
            quoted(&plan.teleport_user),
            quoted(login),
            quoted(user)
        ),
    )
}

pub(crate) fn long_roles(bytes: usize) -> Refusal {
    refuse(
        Reason::Policy,
        format!(
            "TELEPORT_ROLES has {bytes} bytes; at most {} are accepted.",
            super::request::MAX_ROLES
        ),
    )
}

pub(crate) fn invisible_roles() -> Refusal {
    refuse(Reason::Policy, "TELEPORT_ROLES holds control characters; names of roles consist of visible characters, with one space between two roles.".to_owned())
}

// Others.

pub(crate) fn lookup_failed(source: &str, why: &str) -> Refusal {
    refuse(
        Reason::LookupFailed,
        format!(
            "Whether the login belongs to somebody else could not be found out, because {} failed ({}); try again, or tell the administrator of this node.",
            quoted(source),
            quoted(why)
        ),
    )
}

// Roles.

pub(crate) fn switched_off() -> Refusal {
    refuse(
        Reason::Policy,
        "This node makes no users (auto-create-users = false); log in as a user that exists on it."
            .to_owned(),
    )
}

pub(crate) fn role_forbids(role: &str, pattern: &str) -> Refusal {
    refuse(
        Reason::Policy,
        format!(
            "Your role {} may not have users made on this node (create-user = false for {}); log in as a user that exists on it, or ask for other roles.",
            quoted(role),
            quoted(pattern)
        ),
    )
}

pub(crate) fn no_role_creates(roles: &[&str]) -> Refusal {
    let yours = if roles.is_empty() {
        "You have no roles".to_owned()
    } else {
        format!(
            "None of your roles ({}) may have users made on this node",
            list(roles)
        )
    };
    refuse(
        Reason::Policy,
        format!(
            "{yours}; one with create-user = true in the configuration of the node is needed, or a login that exists on it."
        ),
    )
}

// Names.

pub(crate) fn invalid_login(given: &str, why: NameError) -> Refusal {
    refuse(
        Reason::InvalidName,
        format!(
            "The login {} cannot be used: {}; a login consists of a-z, 0-9, \"_\", \"-\" and \".\".",
            quoted(given),
            match why {
                NameError::TooLong =>
                    format!("it has {} bytes of at most {MAX_GIVEN}", given.len()),
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
        NameError::TooLong => {
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

// Numbers.

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

// Other sessions of the login.

pub(crate) fn login_in_use(login: &Login) -> Refusal {
    refuse(
        Reason::Shared,
        format!(
            "The login \"{login}\" is in use by another Teleport user, and logins.shared = \"never\" on this node; wait until that has ended, or choose another login."
        ),
    )
}

pub(crate) fn rights_differ(login: &Login) -> Refusal {
    refuse(
        Reason::Shared,
        format!(
            "The login \"{login}\" is in use by another Teleport user whose groups or sudo rights differ from yours; wait until that has ended, or choose another login (logins.shared on this node decides what happens then)."
        ),
    )
}

pub(crate) fn too_many_sessions(login: &Login, most: u32) -> Refusal {
    refuse(
        Reason::Limit,
        format!(
            "The login \"{login}\" has as many sessions on this node as your roles allow (max-sessions = {most}); end one of them first."
        ),
    )
}

// Around the decision.

pub(crate) fn configuration_wrong(why: &str) -> Refusal {
    refuse(
        Reason::Configuration,
        format!(
            "No user can be made, because the configuration of teleport-userdb is wrong ({}); the administrator of this node has to correct it and to reload teleport-sessiond.",
            escaped(why)
        ),
    )
}

pub(crate) fn remains(login: &Login) -> Refusal {
    refuse(
        Reason::Busy,
        format!(
            "What an earlier user of \"{login}\" left is still being ended; log in again when that is over (retire-delay and stop-timeout on this node say how long it may take), or choose another login."
        ),
    )
}

pub(crate) fn waiting(login: &str) -> Refusal {
    refuse(
        Reason::Waiting,
        format!(
            "More people log in than teleport-sessiond can decide on at once, and the turn of {} has not come in time; log in again.",
            quoted(login)
        ),
    )
}

pub(crate) fn old_rights(login: &Login) -> Refusal {
    refuse(
        Reason::Busy,
        format!(
            "The sudo rights of an earlier session of \"{login}\" cannot be taken away now; log in again, or have the administrator find the reason in the journal of teleport-sessiond."
        ),
    )
}

pub(crate) fn withdrawn_meanwhile(login: &str) -> Refusal {
    refuse(
        Reason::Busy,
        format!(
            "The login {} was withdrawn while its session opened; log in again.",
            quoted(login)
        ),
    )
}

pub(crate) fn ended_meanwhile(login: &str) -> Refusal {
    refuse(
        Reason::Busy,
        format!(
            "The session of {} ended while it opened; log in again.",
            quoted(login)
        ),
    )
}

pub(crate) fn cannot_be_made(login: &str, why: &str) -> Refusal {
    refuse(
        Reason::Internal,
        format!(
            "The user {} cannot be made ({}); log in again, or tell the administrator of this node.",
            quoted(login),
            escaped(why)
        ),
    )
}

pub(crate) fn internal(why: &str) -> Refusal {
    refuse(
        Reason::Internal,
        format!(
            "This is a defect of teleport-userdb, please report it: {}.",
            quoted(why)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_around_a_decision_says_what_would_be_right() {
        let login = Login::try_from("ann").unwrap();
        for (refusal, reason, sentence) in [
            (
                configuration_wrong("config.toml:2: x\u{1b}"),
                Reason::Configuration,
                "No user can be made, because the configuration of teleport-userdb is wrong (config.toml:2: x\\u{1b}); the administrator of this node has to correct it and to reload teleport-sessiond.",
            ),
            (
                remains(&login),
                Reason::Busy,
                "What an earlier user of \"ann\" left is still being ended; log in again when that is over (retire-delay and stop-timeout on this node say how long it may take), or choose another login.",
            ),
            (
                waiting("ann"),
                Reason::Waiting,
                "More people log in than teleport-sessiond can decide on at once, and the turn of \"ann\" has not come in time; log in again.",
            ),
            (
                old_rights(&login),
                Reason::Busy,
                "The sudo rights of an earlier session of \"ann\" cannot be taken away now; log in again, or have the administrator find the reason in the journal of teleport-sessiond.",
            ),
            (
                withdrawn_meanwhile("a\nb"),
                Reason::Busy,
                "The login \"a\\nb\" was withdrawn while its session opened; log in again.",
            ),
            (
                ended_meanwhile("ann"),
                Reason::Busy,
                "The session of \"ann\" ended while it opened; log in again.",
            ),
            (
                cannot_be_made("ann", "the table is full"),
                Reason::Internal,
                "The user \"ann\" cannot be made (the table is full); log in again, or tell the administrator of this node.",
            ),
            (
                lookup_failed("the lookup worker", "no answer while the login waited"),
                Reason::LookupFailed,
                "Whether the login belongs to somebody else could not be found out, because \"the lookup worker\" failed (\"no answer while the login waited\"); try again, or tell the administrator of this node.",
            ),
        ] {
            assert_eq!(
                (refusal.reason, refusal.message.as_str()),
                (reason, sentence)
            );
        }
    }
}

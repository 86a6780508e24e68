//! Of the request, and of what the roles make of it.
//! How words of Teleport's are quoted is not decided here.

use super::refuse;
use crate::policy::decide::{Reason, Refusal};
use crate::policy::plan::Plan;
use crate::policy::quoting::{list, quoted};
use crate::policy::request;

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
            request::MAX_USER
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
            request::MAX_ROLES
        ),
    )
}

pub(crate) fn invisible_roles() -> Refusal {
    refuse(Reason::Policy, "TELEPORT_ROLES holds control characters; names of roles consist of visible characters, with one space between two roles.".to_owned())
}

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

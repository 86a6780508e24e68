//! Of others on the login, and of what comes before and after a decision: nobody could be asked, not now, not any more.
//! Those who carry the decision out say most of these.

use super::refuse;
use crate::policy::decide::{Reason, Refusal};
use crate::policy::names::Login;
use crate::policy::quoting::{escaped, quoted, quoted_cause};

pub(crate) fn lookup_failed(source: &str, why: &str) -> Refusal {
    refuse(
        Reason::LookupFailed,
        format!(
            "Whether the login belongs to somebody else could not be found out, because {} failed ({}); try again, or tell the administrator of this node.",
            quoted(source),
            quoted_cause(why)
        ),
    )
}

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

pub(crate) fn stranded(login: &Login) -> Refusal {
    refuse(
        Reason::Busy,
        format!(
            "The sessions of an earlier user of \"{login}\" could not be read after a restart of teleport-sessiond: it has no rights any more, and ends with the last of its processes, however long that takes. Choose another login, or have the administrator of this node end these processes."
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
                stranded(&login),
                Reason::Busy,
                "The sessions of an earlier user of \"ann\" could not be read after a restart of teleport-sessiond: it has no rights any more, and ends with the last of its processes, however long that takes. Choose another login, or have the administrator of this node end these processes.",
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
            (
                lookup_failed(
                    "lookup",
                    "cannot connect to /run/teleport-userdb/lookup: No such file or directory (os error 2)",
                ),
                Reason::LookupFailed,
                "Whether the login belongs to somebody else could not be found out, because \"lookup\" failed (\"cannot connect to /run/teleport-userdb/lookup: No such file or directory (os error 2)\"); try again, or tell the administrator of this node.",
            ),
        ] {
            assert_eq!(
                (refusal.reason, refusal.message.as_str()),
                (reason, sentence)
            );
        }
    }
}

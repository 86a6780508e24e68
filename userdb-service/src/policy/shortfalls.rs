//! What a login goes without, and why, in a sentence each: told to the person, never a refused login.
//! Refusals are in `sentences`; text from outside enters through [`quoted`] only, here as there.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::names::{GroupName, Login, NameError};
use super::plan::{Plan, SharedLogins};
use super::quoting::{quoted, quoted_cause};
use super::sudoers::SudoersSpec;

pub(crate) fn request_ignored(
    variable: &str,
    text: &str,
    range: Option<&RangeInclusive<u32>>,
) -> String {
    match range {
        Some(range) => format!(
            "{variable} = {} is not honoured: it is not a number from {} to {} (uids.requested).",
            quoted(text),
            range.start(),
            range.end()
        ),
        None => format!(
            "{variable} = {} is not honoured: uids.requested is not set on this node.",
            quoted(text)
        ),
    }
}

pub(crate) fn repaired_without_sudo(given: &str, login: &Login) -> String {
    format!(
        "No sudo and no doas: the login {} had to be changed to \"{login}\", and names.repaired-may-sudo is false on this node.",
        quoted(given)
    )
}

pub(crate) fn repaired_without_group(given: &str, login: &Login, name: &GroupName) -> String {
    format!(
        "No membership in {name}: sudoers names it, the login {} had to be changed to \"{login}\", and names.repaired-may-sudo is false on this node.",
        quoted(given)
    )
}

pub(crate) fn sudo_withheld(pattern: &str) -> String {
    format!(
        "No sudo by the role {}: the journal of teleport-sessiond on this node says why.",
        quoted(pattern)
    )
}

/// The same for who is told the reason itself.
pub(crate) fn sudo_withheld_because(pattern: &str, why: &str) -> String {
    format!(
        "No sudo by the role {}: {}.",
        quoted(pattern),
        why.trim_end_matches('.')
    )
}

pub(crate) fn own_group_denied(name: &GroupName, pattern: &str) -> String {
    format!(
        "No membership in {name}: deny-groups has {}.",
        quoted(pattern)
    )
}

pub(crate) fn too_many_groups(name: &GroupName, most: usize) -> String {
    format!("No membership in {name}: a login has at most {most} groups.")
}

pub(crate) fn too_many_words(variable: &str, most: usize) -> String {
    format!("Only the first {most} groups in {variable} are looked at.")
}

pub(crate) fn more_about_groups(count: usize) -> String {
    format!("{count} more notes about groups are left out; teleport-userdbctl explain tells them.")
}

pub(crate) fn undecodable_template(variable: &str) -> String {
    format!("No groups from {variable}: its value is not valid UTF-8.")
}

pub(crate) fn invalid_group(variable: &str, spelled: &str, why: NameError) -> String {
    format!(
        "No membership in {} (from {variable}): {why}.",
        quoted(spelled)
    )
}

pub(crate) fn group_not_templated(variable: &str, name: &GroupName) -> String {
    format!("No membership in {name} (from {variable}): templated-groups does not list it.")
}

pub(crate) fn protected_group(variable: &str, name: &GroupName) -> String {
    format!(
        "No membership in {name} (from {variable}): the group does not exist, and the name is protected, so it is not made from a variable; a role may name it in groups."
    )
}

pub(crate) fn reserved_group(variable: &str, name: &GroupName) -> String {
    format!(
        "No membership in {name} (from {variable}): the name is reserved, so no variable gives it; sudo and doas are given by roles."
    )
}

pub(crate) fn group_of_the_node(name: &GroupName) -> String {
    format!(
        "No membership in {name}: names that begin with teleport- are reserved, so no variable gives it; a role may name it in groups, or the administrator add it to names.allow."
    )
}

pub(crate) fn group_is_a_login(name: &GroupName) -> String {
    format!("No membership in {name}: a user of that name is logged in, whose private group it is.")
}

pub(crate) fn group_of_root(name: &GroupName) -> String {
    format!("No membership in {name}: its GID is 0, the group of root.")
}

pub(crate) fn after_remains(login: &Login) -> String {
    format!(
        "What an earlier user of {login} left is ended first; until then (retire-delay, stop-timeout) the login waits, or is refused."
    )
}

/// `together` is what the login has while `others` are on it, too.
pub(crate) fn shared(
    others: &BTreeSet<String>,
    shared: SharedLogins,
    together: &Plan,
) -> Option<String> {
    let (rule, has) = match shared {
        SharedLogins::Intersect => ("intersect", "what all of them were given"),
        SharedLogins::Union => ("union", "what any of them was given"),
        SharedLogins::Refuse | SharedLogins::Never => return None,
    };
    let others: Vec<String> = others.iter().map(|user| quoted(user)).collect();
    let names = |names: Vec<&str>, between| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(between),
    };
    let groups = together.groups.iter().map(|group| group.name.as_str());
    let sudoers = together.sudoers.iter().map(SudoersSpec::as_str);
    Some(format!(
        "On {} now: {}. By logins.shared = \"{rule}\" the login has {has}, for each of them: groups {}; sudoers {}; doas {}.",
        together.login,
        others.join(", "),
        names(groups.collect(), " "),
        names(sudoers.collect(), ", "),
        if together.doas { "yes" } else { "no" },
    ))
}

pub(crate) fn group_lookup_failed(name: &GroupName, source: &str, why: &str) -> String {
    format!(
        "No membership in {name}: whether the group exists could not be found out, because {} failed ({}).",
        quoted(source),
        quoted_cause(why)
    )
}

pub(crate) fn no_gid(name: &GroupName) -> String {
    format!("No membership in {name}: no GID could be found for it in uids.range.")
}

pub(crate) fn home_is_not_ours(path: &str, owner: u32, uid: u32) -> String {
    format!(
        "The home is /: {} belongs to UID {owner}, not to UID {uid}.",
        quoted(path)
    )
}

pub(crate) fn environment_full(name: &str, bytes: usize, variables: usize) -> String {
    format!(
        "The variable {} is not set: a login carries at most {bytes} bytes of environment, in at most {variables} variables.",
        quoted(name)
    )
}

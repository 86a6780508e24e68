//! What the PAM environment says, read strictly: the Teleport user, its roles, requested numbers.

use super::decide::{LoginRequest, Refusal};
use super::sentences;
use crate::invisible::is_invisible;

/// Most bytes of `TELEPORT_ROLES`.
pub(crate) const MAX_ROLES: usize = 64 * 1024;

/// Most bytes of `TELEPORT_USERNAME`.
pub(crate) const MAX_USER: usize = 1024;

/// A variable of the PAM environment; an undecodable one is not absent, it is wrong.
fn variable<'a>(request: &'a LoginRequest, name: &str) -> Result<Option<&'a str>, Refusal> {
    if request
        .undecodable
        .iter()
        .any(|undecodable| undecodable == name)
    {
        return Err(sentences::undecodable(name));
    }
    Ok(request.environment.get(name).map(String::as_str))
}

/// Does this come from Teleport at all?
pub(crate) fn is_by_teleport(request: &LoginRequest) -> bool {
    let name = "TELEPORT_LOGIN";
    request.environment.contains_key(name)
        || request
            .undecodable
            .iter()
            .any(|undecodable| undecodable == name)
}

/// Teleport and PAM must mean the same login: a module before ours may have changed the PAM user.
pub(crate) fn same_login(request: &LoginRequest) -> Result<(), Refusal> {
    match variable(request, "TELEPORT_LOGIN")? {
        Some(login) if login == request.login => Ok(()),
        login => Err(sentences::other_login(
            login.unwrap_or_default(),
            &request.login,
        )),
    }
}

/// Who it is in Teleport.
pub(crate) fn teleport_user(request: &LoginRequest) -> Result<&str, Refusal> {
    match variable(request, "TELEPORT_USERNAME")? {
        None | Some("") => Err(sentences::no_teleport_user()),
        Some(user) if user.len() > MAX_USER => Err(sentences::long_teleport_user(user.len())),
        Some(user) if user.contains(is_invisible) => Err(sentences::invisible_teleport_user()),
        Some(user) => Ok(user),
    }
}

/// The Teleport roles, in order, each once. They are separated by ASCII spaces and nothing else: a
/// role whose name holds another kind of space stays one role, and matches nothing by accident.
pub(crate) fn roles(request: &LoginRequest) -> Result<Vec<&str>, Refusal> {
    let text = variable(request, "TELEPORT_ROLES")?.unwrap_or_default();
    if text.len() > MAX_ROLES {
        return Err(sentences::long_roles(text.len()));
    }
    if text.contains(is_invisible) {
        return Err(sentences::invisible_roles());
    }
    let mut seen = std::collections::HashSet::new();
    Ok(text
        .split(' ')
        .filter(|word| !word.is_empty() && seen.insert(*word))
        .collect())
}

/// The value of `TELEPORT_UID` or `TELEPORT_GID`: a plain decimal number, or the text it is instead.
pub(crate) fn number(request: &LoginRequest, name: &str) -> Option<Result<u32, String>> {
    if request
        .undecodable
        .iter()
        .any(|undecodable| undecodable == name)
    {
        return Some(Err("not UTF-8".to_owned()));
    }
    let text = request.environment.get(name)?;
    let plain = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    Some(
        text.parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| text.clone()),
    )
}

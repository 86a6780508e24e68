//! One `[[role]]` of config.toml.

use super::file::{HOME_MODES, in_capitals, is_group, name_glob, path};
use super::value::{Entry, Value};
use super::{ConfigError, GroupTemplate, Role};
use crate::invisible::is_invisible;
use crate::policy::glob::Glob;
use crate::policy::names::{GroupName, is_inner};
use crate::policy::protected::is_reserved_group;
use crate::policy::quoting::quoted;
use crate::policy::sudoers::SudoersSpec;

const KEYS: &[&str] = &[
    "match",
    "create-user",
    "groups",
    "deny-groups",
    "sudo",
    "sudoers",
    "doas",
    "shell",
    "home",
    "linger",
    "max-sessions",
    "tasks-max",
    "memory-max",
    "cpu-weight",
    "umask",
    "environment",
];

const DENIED: &str =
    "write an array of names of groups, in which * and ? may stand for others, such as [\"adm\"]";
const SHELL: &str = "write the absolute path of a shell, such as \"/bin/bash\"";

/// Longest value of one environment variable with its name, in bytes.
const MAX_VARIABLE: usize = 512;

pub(super) fn read(table: &Value<'_>) -> Result<Role, ConfigError> {
    let mut role = Role::new(
        Glob::new(""),
        format!("{}:{}", table.file.path.display(), table.line()),
    );
    let mut has_match = false;
    for Entry { at, name, value } in
        table.entries("write each role as a table of its own under [[role]]")?
    {
        match name {
            "match" => {
                let right = "write the name of a Teleport role, in which * and ? may stand for others, such as \"dev-*\"; names of roles hold no space";
                role.pattern = value.text(right, |text| {
                    (!text.is_empty() && !text.contains(' ') && !text.chars().any(is_invisible))
                        .then(|| Glob::new(text))
                })?;
                has_match = true;
            }
            "create-user" => role.create_user = Some(value.boolean()?),
            "groups" => role.groups = groups(&value)?,
            "deny-groups" => role.deny_groups = value.list(DENIED, name_glob(DENIED))?,
            "sudo" => role.sudo = value.boolean()?,
            "sudoers" => role.sudoers = sudoers(&value)?,
            "doas" => role.doas = value.boolean()?,
            "shell" => role.shell = Some(value.told(SHELL, path(SHELL))?),
            "home" => role.home = Some(value.word(HOME_MODES)?),
            "linger" => role.linger = value.boolean()?,
            "max-sessions" => {
                role.max_sessions = Some(value.integer(1..=u64::from(u32::MAX))? as u32)
            }
            "tasks-max" => role.tasks_max = Some(value.integer(1..=i64::MAX as u64)?),
            "memory-max" => role.memory_max = Some(value.size()?),
            "cpu-weight" => role.cpu_weight = Some(value.integer(1..=10_000)?),
            "umask" => role.umask = Some(value.umask()?),
            "environment" => role.environment = environment(&value)?,
            _ => return Err(value.unknown(at, KEYS)),
        }
    }
    if !has_match {
        return Err(table.faulty(
            "match is missing: a role names the Teleport roles it is for, such as match = \"dev-*\""
                .to_owned(),
        ));
    }
    Ok(role)
}

fn groups(value: &Value<'_>) -> Result<Vec<GroupTemplate>, ConfigError> {
    let right = "write an array of groups, such as [\"docker\", \"{{env.TELEPORT_GROUPS}}\"]";
    value
        .elements(right)?
        .iter()
        .map(|element| group(element, element.string(right)?))
        .collect()
}

fn group(element: &Value<'_>, text: &str) -> Result<GroupTemplate, ConfigError> {
    let Some((prefix, rest)) = text.split_once("{{") else {
        let name = GroupName::try_from(text).map_err(|why| {
            let right = in_capitals(text, is_group).unwrap_or_else(|| why.to_string());
            element.wrong(&format!("a group cannot be called that: {right}"))
        })?;
        if is_reserved_group(name.as_str()) {
            return Err(element.wrong("this group is not given by hand: every user is in teleport-tmp, sudo = true and doas = true give the others, and teleport-system, teleport-keep and teleport-static are Teleport's own"));
        }
        return Ok(GroupTemplate::Literal(name));
    };
    let template = rest.split_once("}}").and_then(|(inside, suffix)| {
        let variable = inside.trim().strip_prefix("env.")?;
        let around = prefix.chars().chain(suffix.chars());
        (is_variable(variable) && around.into_iter().all(is_inner)).then(|| {
            GroupTemplate::Variable {
                prefix: prefix.to_owned(),
                variable: variable.to_owned(),
                suffix: suffix.to_owned(),
            }
        })
    });
    template.ok_or_else(|| element.wrong("a template reads {{env.NAME}}; Teleport puts traits into such a variable by pam.environment, for example TELEPORT_GROUPS: \"{{external.groups}}\""))
}

fn sudoers(value: &Value<'_>) -> Result<Vec<SudoersSpec>, ConfigError> {
    let right = "write an array of specifications without the user, such as [\"ALL=(root) NOPASSWD: /usr/bin/id\"]";
    let read = |element: &Value<'_>| {
        SudoersSpec::try_from(element.string(right)?).map_err(|why| element.wrong(&why.to_string()))
    };
    value.elements(right)?.iter().map(read).collect()
}

/// An array of `K=V`, as in the user record, or a table.
fn environment(value: &Value<'_>) -> Result<Vec<String>, ConfigError> {
    let right = "write an array such as [\"LANG=C.UTF-8\"] or a table such as { LANG = \"C.UTF-8\" }, strings of one line each";
    if value.is_array() {
        return value.list(right, |text| {
            let (name, _) = text.split_once('=').ok_or(right)?;
            variable(name, text.to_owned())
        });
    }
    let entries = value.entries(right)?;
    entries
        .iter()
        .map(|Entry { name, value, .. }| {
            if !is_variable(name) {
                return Err(value.faulty(not_a_variable(name)));
            }
            value.told("write a string in quotation marks", |text| {
                variable(name, format!("{name}={text}"))
            })
        })
        .collect()
}

/// `assigned` (`NAME=VALUE`), if that is one of the environment.
fn variable(name: &str, assigned: String) -> Result<String, String> {
    if !is_variable(name) {
        return Err(not_a_variable(name));
    }
    if assigned.len() > MAX_VARIABLE {
        return Err(format!(
            "a variable has at most {MAX_VARIABLE} bytes with its name and the \"=\""
        ));
    }
    if assigned.chars().any(is_invisible) {
        return Err("a variable is one line without invisible characters".to_owned());
    }
    Ok(assigned)
}

fn not_a_variable(name: &str) -> String {
    format!(
        "{} cannot be the name of a variable: one consists of letters, digits and \"_\", and does not begin with a digit",
        quoted(name)
    )
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

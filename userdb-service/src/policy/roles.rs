//! From the Teleport roles of a login to what the configuration gives them: grants add up, denials
//! win, single values come from the first matching role in file order.

use super::config::{Config, GroupTemplate, HomeMode, Role};
use super::decide::Refusal;
use super::plan::Resources;
use super::quoting::quoted;
use super::sentences;
use super::shortfalls;
use super::sudoers::SudoersSpec;
use super::trace::Trace;

/// The configured roles that match, in file order, and the word that made each match.
pub(crate) struct Matching<'a>(Vec<(&'a Role, &'a str)>);

/// Finds the matching roles.
pub(crate) fn matching<'a>(
    config: &'a Config,
    words: &[&'a str],
    trace: &mut Trace,
) -> Matching<'a> {
    let mut matching = Vec::new();
    for role in &config.roles {
        let word = words.iter().find(|word| role.pattern.matches(word));
        trace.say("role", || match word {
            Some(word) => format!(
                "match = {} ({}) matches {}: {}",
                quoted(role.pattern.as_str()),
                role.place,
                quoted(word),
                gives(role)
            ),
            None => format!(
                "match = {} ({}) matches none of the roles",
                quoted(role.pattern.as_str()),
                role.place
            ),
        });
        matching.extend(word.map(|word| (role, *word)));
    }
    Matching(matching)
}

/// What a role gives, for the trace.
fn gives(role: &Role) -> String {
    let mut gives = Vec::new();
    if let Some(create) = role.create_user {
        gives.push(format!("create-user = {create}"));
    }
    if !role.groups.is_empty() {
        let names: Vec<String> = role
            .groups
            .iter()
            .map(|group| quoted(&group.to_string()))
            .collect();
        gives.push(format!("groups = [{}]", names.join(", ")));
    }
    if !role.deny_groups.is_empty() {
        let names: Vec<String> = role
            .deny_groups
            .iter()
            .map(|group| quoted(group.as_str()))
            .collect();
        gives.push(format!("deny-groups = [{}]", names.join(", ")));
    }
    let specs: Vec<String> = role.specs().map(|spec| quoted(spec.as_str())).collect();
    if !specs.is_empty() {
        gives.push(format!("sudoers = [{}]", specs.join(", ")));
    }
    gives.extend(
        role.sudo_withheld
            .as_ref()
            .map(|why| format!("no sudo, because {why}")),
    );
    gives.extend(role.doas.then(|| "doas = true".to_owned()));
    gives.extend(role.linger.then(|| "linger = true".to_owned()));
    gives.extend(
        role.shell
            .as_ref()
            .map(|shell| format!("shell = {}", quoted(shell))),
    );
    gives.extend(role.home.map(|home| format!("home = \"{home}\"")));
    gives.extend(
        role.max_sessions
            .map(|most| format!("max-sessions = {most}")),
    );
    gives.extend(limits(role));
    if gives.is_empty() {
        "gives nothing".to_owned()
    } else {
        gives.join(", ")
    }
}

/// Limits and environment that a role gives, as the configuration has them.
fn limits(role: &Role) -> impl Iterator<Item = String> {
    let number = |key: &str, value: Option<u64>| value.map(|value| format!("{key} = {value}"));
    let environment: Vec<String> = role.environment.iter().map(|entry| quoted(entry)).collect();
    [
        number("tasks-max", role.tasks_max),
        number("memory-max", role.memory_max),
        number("cpu-weight", role.cpu_weight),
        role.umask.map(|umask| format!("umask = \"{umask:04o}\"")),
        (!environment.is_empty()).then(|| format!("environment = [{}]", environment.join(", "))),
    ]
    .into_iter()
    .flatten()
}

impl<'a> Matching<'a> {
    fn roles(&self) -> impl Iterator<Item = &'a Role> + '_ {
        self.0.iter().map(|(role, _)| *role)
    }

    /// A user is made iff some role says so and none forbids it.
    pub(crate) fn may_create(&self, words: &[&str]) -> Result<(), Refusal> {
        if let Some((role, word)) = self
            .0
            .iter()
            .find(|(role, _)| role.create_user == Some(false))
        {
            return Err(sentences::role_forbids(word, role.pattern.as_str()));
        }
        if !self.roles().any(|role| role.create_user == Some(true)) {
            return Err(sentences::no_role_creates(words));
        }
        Ok(())
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &'a GroupTemplate> + '_ {
        self.roles().flat_map(|role| &role.groups)
    }

    /// The pattern of `deny-groups` that denies `name`.
    pub(crate) fn denies(&self, name: &str) -> Option<&'a str> {
        let mut denials = self.roles().flat_map(|role| &role.deny_groups);
        denials
            .find(|pattern| pattern.matches(name))
            .map(|pattern| pattern.as_str())
    }

    /// Lines for sudoers, each once.
    pub(crate) fn specs(&self) -> Vec<SudoersSpec> {
        let mut specs: Vec<SudoersSpec> = Vec::new();
        for spec in self.roles().flat_map(Role::specs) {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        specs
    }

    /// Roles whose sudo is withheld.
    pub(crate) fn without_sudo(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.roles()
            .filter(|role| role.sudo_withheld.is_some())
            .map(|role| role.pattern.as_str())
    }

    pub(crate) fn doas(&self) -> bool {
        self.roles().any(|role| role.doas)
    }

    pub(crate) fn linger(&self) -> bool {
        self.roles().any(|role| role.linger)
    }

    pub(crate) fn max_sessions(&self) -> Option<u32> {
        self.roles().filter_map(|role| role.max_sessions).max()
    }

    pub(crate) fn shell(&self) -> Option<&'a str> {
        self.roles().find_map(|role| role.shell.as_deref())
    }

    pub(crate) fn home(&self) -> Option<HomeMode> {
        self.roles().find_map(|role| role.home)
    }

    /// Limits and environment: each field, and each variable, from the first role that sets it.
    pub(crate) fn resources(&self, notes: &mut Vec<String>) -> Resources {
        let mut environment: Vec<String> = Vec::new();
        let mut room = MAX_ENVIRONMENT;
        for entry in self.roles().flat_map(|role| &role.environment) {
            let name = entry.split('=').next();
            if environment
                .iter()
                .any(|have| have.split('=').next() == name)
            {
                continue;
            }
            match room.checked_sub(entry.len()) {
                Some(left) if environment.len() < MAX_VARIABLES => {
                    room = left;
                    environment.push(entry.clone());
                }
                _ => notes.push(shortfalls::environment_full(
                    name.unwrap_or_default(),
                    MAX_ENVIRONMENT,
                    MAX_VARIABLES,
                )),
            }
        }
        Resources {
            tasks_max: self.roles().find_map(|role| role.tasks_max),
            memory_max: self.roles().find_map(|role| role.memory_max),
            cpu_weight: self.roles().find_map(|role| role.cpu_weight),
            umask: self.roles().find_map(|role| role.umask),
            environment,
        }
    }
}

/// Most bytes of environment that one account carries: it is published in a record of fixed size.
const MAX_ENVIRONMENT: usize = 1024;

/// Most variables, for the same reason.
const MAX_VARIABLES: usize = 255;

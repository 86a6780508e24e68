//! What a configuration needs beside itself, or leaves undone, without being wrong. Pure.

use serde::Serialize;

use crate::policy::plan::SudoMode;
use crate::policy::sudoers::SUDOERS_D;
use crate::policy::{Config, DOAS_GROUP, GroupName, Plan, SUDO_GROUP, SudoersSpec};

/// A right by membership in a group of ours, of which sudo or doas knows by a line of the administrator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ByGroup {
    /// `sudo.mode = "group"`.
    Sudo,
    /// `doas = true`.
    Doas,
}

/// Why no user is made for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoUsers {
    /// `auto-create-users = false`.
    SwitchedOff,
    /// No role has `create-user = true`.
    NoRole,
}

impl ByGroup {
    /// Those that some role gives.
    pub fn of_roles(config: &Config) -> Vec<ByGroup> {
        let roles = &config.roles;
        let full = || {
            roles
                .iter()
                .flat_map(|role| role.specs())
                .any(|spec| SudoersSpec::is_full(&spec))
        };
        let sudo = config.sudo.mode == SudoMode::Group && full();
        let doas = roles.iter().any(|role| role.doas);
        given(sudo, doas)
    }

    /// Those that a login is to have.
    pub fn of_plan(plan: &Plan) -> Vec<ByGroup> {
        let is_of = |name: &str| {
            let mut groups = plan.groups.iter().map(|group| &group.name);
            groups.any(|group: &GroupName| group.as_str() == name)
        };
        given(plan.is_in_sudo_group(), plan.doas && is_of(DOAS_GROUP))
    }

    /// What is needed, in the words of docs/rights.md.
    pub fn sentence(self) -> String {
        match self {
            ByGroup::Sudo => format!(
                "Sudo by the group {SUDO_GROUP} (sudo.mode = \"group\") takes a line of yours in sudoers, for example in {SUDOERS_D}/by-group: \"%{SUDO_GROUP} ALL=(ALL) NOPASSWD: ALL\". Nothing of ours writes it, and without it nobody has sudo by that group."
            ),
            ByGroup::Doas => format!(
                "Doas by the group {DOAS_GROUP} (doas = true) takes a line of yours in /etc/doas.conf: \"permit nopass :{DOAS_GROUP} as root\". Nothing of ours writes it, and without it nobody has doas by that group."
            ),
        }
    }
}

fn given(sudo: bool, doas: bool) -> Vec<ByGroup> {
    let sudo = sudo.then_some(ByGroup::Sudo);
    sudo.into_iter()
        .chain(doas.then_some(ByGroup::Doas))
        .collect()
}

impl NoUsers {
    /// Why nobody is made by this configuration, if nobody is.
    pub fn of(config: &Config) -> Option<NoUsers> {
        if !config.auto_create_users {
            return Some(NoUsers::SwitchedOff);
        }
        let makes = config
            .roles
            .iter()
            .any(|role| role.create_user == Some(true));
        (!makes).then_some(NoUsers::NoRole)
    }

    /// That nobody is, and what would change it.
    pub fn sentence(self) -> &'static str {
        match self {
            NoUsers::SwitchedOff => "No user is made for anybody: auto-create-users is false.",
            NoUsers::NoRole => {
                "No user is made for anybody: no role has create-user = true; a [[role]] with match = \"*\" and create-user = true makes one for everybody."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(&[("config.toml", text)]).expect("good")
    }

    #[test]
    fn a_line_of_the_administrators_is_needed_where_some_role_gives_a_right_by_group() {
        let role = "[[role]]\nmatch = \"ops\"\n";
        let by_group = "[sudo]\nmode = \"group\"\n";
        for (text, needed) in [
            (format!("{role}sudo = true\n"), &[][..]),
            (format!("{by_group}{role}"), &[]),
            (
                format!("{by_group}{role}sudoers = [\"ALL=(root) NOPASSWD: /bin/true\"]\n"),
                &[],
            ),
            (format!("{by_group}{role}sudo = true\n"), &[ByGroup::Sudo]),
            (format!("{role}doas = true\n"), &[ByGroup::Doas]),
            (
                format!("{by_group}{role}sudo = true\ndoas = true\n"),
                &[ByGroup::Sudo, ByGroup::Doas],
            ),
        ] {
            assert_eq!(ByGroup::of_roles(&config(&text)), needed, "{text}");
        }
    }

    #[test]
    fn the_lines_are_those_of_the_page_about_rights() {
        let page = include_str!("../../../docs/rights.md");
        for (by, line) in [
            (ByGroup::Sudo, "%teleport-sudo ALL=(ALL) NOPASSWD: ALL"),
            (ByGroup::Doas, "permit nopass :teleport-doas as root"),
        ] {
            assert!(page.contains(&format!("    {line}\n")), "{line}");
            assert!(by.sentence().contains(&format!("\"{line}\"")), "{by:?}");
        }
    }

    #[test]
    fn nobody_is_made_without_a_role_that_says_so() {
        let role = |create| format!("[[role]]\nmatch = \"*\"\ncreate-user = {create}\n");
        for (text, why) in [
            (role(true), None),
            (format!("{}{}", role(false), role(true)), None),
            (role(false), Some(NoUsers::NoRole)),
            (
                "[[role]]\nmatch = \"*\"\nsudo = true\n".to_owned(),
                Some(NoUsers::NoRole),
            ),
            ("forget-roles = true\n".to_owned(), Some(NoUsers::NoRole)),
            (
                format!("auto-create-users = false\n{}", role(true)),
                Some(NoUsers::SwitchedOff),
            ),
        ] {
            assert_eq!(NoUsers::of(&config(&text)), why, "{text}");
        }
    }
}

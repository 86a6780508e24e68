//! The text of a sudoers file: one user, the configured specifications, a header that marks it ours.
//! Names and specifications enter as validated types only; nobody's input is quoted or escaped here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::Login;
use crate::invisible::is_invisible;

/// The folder where each of them stands.
pub const SUDOERS_D: &str = "/etc/sudoers.d";

/// First line of each file of ours. Whatever lacks it is somebody else's and is never touched.
pub const HEADER: &str =
    "# teleport-userdb v1: written for a live session, removed with it; do not edit";

/// What `sudo = true` stands for: any command as anybody. NOPASSWD, because the user has no password.
pub const FULL: &str = "ALL=(ALL) NOPASSWD: ALL";

/// Longest specification, in bytes.
pub const MAX_SPEC: usize = 1024;

/// Why a text is not a sudoers specification. The text says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecError(&'static str);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SpecError {}

/// What follows the user name on a line of sudoers, such as `ALL=(root) NOPASSWD: /usr/bin/id`.
///
/// One line that cannot add a second user or run on into the next line. Whether sudo understands it
/// is for `visudo` to say, when the configuration is loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SudoersSpec(String);

impl SudoersSpec {
    /// The specification as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is this exactly what `sudo = true` stands for?
    pub fn is_full(&self) -> bool {
        self.0 == FULL
    }

    /// Does sudo ask for a password for all of it? The users have none. A command that is called like the tag is taken for it:
    /// this is for a hint, nothing is decided by it.
    pub fn asks_for_password(&self) -> bool {
        !self.0.contains("NOPASSWD")
    }

    /// What `sudo = true` stands for.
    pub fn full() -> SudoersSpec {
        SudoersSpec(FULL.to_owned())
    }
}

impl TryFrom<&str> for SudoersSpec {
    type Error = SpecError;

    fn try_from(text: &str) -> Result<Self, SpecError> {
        let text = text.trim_matches(' ');
        if text.len() > MAX_SPEC {
            return Err(SpecError("a specification has at most 1024 bytes"));
        }
        if text.chars().any(is_invisible) {
            return Err(SpecError(
                "a specification is one line without control characters",
            ));
        }
        let Some((hosts, commands)) = text.split_once('=') else {
            return Err(SpecError(
                "a specification reads HOSTS=(RUNAS) TAG: COMMANDS, for example \"ALL=(root) NOPASSWD: /usr/bin/id\"",
            ));
        };
        // A comma in front would make the hosts a second user: "alice , bob ALL=(ALL) ALL".
        let host = |c: char| c.is_ascii_alphanumeric() || " ,!_.:*?-+%/[]".contains(c);
        if !hosts.starts_with(|c: char| host(c) && !" ,".contains(c)) || !hosts.chars().all(host) {
            return Err(SpecError(
                "what stands before \"=\" is a list of hosts, usually ALL; the user is added for each login",
            ));
        }
        if commands.trim().is_empty() {
            return Err(SpecError(
                "a specification names commands after the \"=\", for example \"ALL=(root) NOPASSWD: /usr/bin/id\"",
            ));
        }
        if text.ends_with('\\') {
            return Err(SpecError(
                "a specification does not end in a backslash, which would join the next line to it",
            ));
        }
        Ok(SudoersSpec(text.to_owned()))
    }
}

impl TryFrom<String> for SudoersSpec {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        SudoersSpec::try_from(text.as_str())
    }
}

impl From<SudoersSpec> for String {
    fn from(spec: SudoersSpec) -> String {
        spec.0
    }
}

impl AsRef<str> for SudoersSpec {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Name of the file of `login` in sudoers.d: `teleport-` and the login with each dot as `=2e`.
///
/// sudo skips files whose names hold a dot or end in `~`, silently. No login holds `=`, so two logins
/// never share a file (Teleport's own files map `a.b` and `a_b` to one); and a login of at most 31
/// bytes never spells the UUID of Teleport's `teleport-UUID-LOGIN`.
pub fn file_name(login: &Login) -> String {
    format!("teleport-{}", login.as_str().replace('.', "=2e"))
}

/// The whole text of the file of `login`: the header and one line for each specification.
pub fn render(login: &Login, specs: &[SudoersSpec]) -> String {
    let mut text = format!("{HEADER}\n");
    for spec in specs {
        text.push_str(login.as_str());
        text.push(' ');
        text.push_str(spec.as_str());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_one_line_for_one_user() {
        for good in [
            FULL,
            "ALL=(root) NOPASSWD: /usr/bin/systemctl restart app",
            "web-*=(app:app) NOPASSWD: /bin/a, !/bin/b",
            "ALL = NOPASSWD: sudoedit /etc/motd",
        ] {
            assert!(SudoersSpec::try_from(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ALL",
            "ALL=",
            "=ALL",
            ", bob ALL=(ALL) ALL",
            "ALL=(ALL) ALL\nbob ALL=(ALL) ALL",
            "ALL=/bin/a \\",
            "#1 ALL=ALL",
            "\"x\" ALL=ALL",
            "ALL=\u{1b}[2J",
        ] {
            assert!(SudoersSpec::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_names_are_ones_that_sudo_reads_and_no_two_logins_share_one() {
        let name = |login| file_name(&Login::try_from(login).unwrap());
        assert_eq!(name("alice"), "teleport-alice");
        assert_eq!(name("a.b"), "teleport-a=2eb");
        assert_ne!(name("a.b"), name("a_b"));
    }

    #[test]
    fn a_file_begins_with_the_header_and_names_its_user_on_every_line() {
        let login = Login::try_from("alice").unwrap();
        let specs = [
            SudoersSpec::full(),
            SudoersSpec::try_from("ALL=(root) /bin/id").unwrap(),
        ];
        assert_eq!(
            render(&login, &specs),
            format!("{HEADER}\nalice ALL=(ALL) NOPASSWD: ALL\nalice ALL=(root) /bin/id\n")
        );
    }
}

//! The kinds of log lines that administrators look for, as `MESSAGE_ID` names them to the journal.
//! Each has an explanation in `units/catalog/`; a test holds the two together.

/// The first session of a login was reserved: its user exists now.
pub(super) const PUBLISHED: &str = "fe0d261cbad04638b10c63c843251dba";
/// The last session of a login has ended: its user does not exist any more.
pub(super) const WITHDRAWN: &str = "a7dd2d5ddca445b0af890799f4ae3255";
/// A login was refused.
pub(super) const REFUSED: &str = "3c985861bdcf46fe9443c137571edf00";
/// A process that is not root of this host has asked for something.
pub(super) const NOT_ADMITTED: &str = "875efa5517ab4e7b896056287ff6fac3";
/// A sudo rule was granted and could not be installed.
pub(super) const NO_SUDO: &str = "d0a6a06df83747e5ad84c9a54037505f";
/// A sudo rule that does not hold any more cannot be removed.
pub(super) const SUDO_LEFT: &str = "5b1c5f7e0a3e4d51a4b3f2f6f0c8d9e4";
/// The sessions of before a restart cannot be read.
pub(super) const STATE_UNUSABLE: &str = "d32fe2e2c1774864a0acad646383ba24";
/// The configuration was not accepted.
pub(super) const CONFIGURATION_WRONG: &str = "b32a4dcf47c244bfaf9431a1da2227ed";

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = include_str!("../../../units/catalog/teleport-userdb.catalog");

    #[test]
    fn no_line_of_the_catalog_that_may_be_pasted_holds_a_value() {
        let commands: Vec<&str> = CATALOG
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter(|line| line.contains("ctl ") || line.contains(" --"))
            .collect();
        assert!(
            commands.iter().any(|line| line.contains("explain")),
            "{commands:?}"
        );
        for command in commands {
            assert!(!command.contains('@'), "{command}");
        }
    }

    #[test]
    fn every_kind_of_line_is_explained_in_the_catalog() {
        let explained: Vec<&str> = CATALOG
            .lines()
            .filter_map(|line| line.strip_prefix("-- "))
            .collect();
        let kinds = [
            PUBLISHED,
            WITHDRAWN,
            REFUSED,
            NOT_ADMITTED,
            NO_SUDO,
            SUDO_LEFT,
            STATE_UNUSABLE,
            CONFIGURATION_WRONG,
        ];
        assert_eq!(explained, kinds);
    }
}

//! The kinds of log lines that administrators look for, as `MESSAGE_ID` names them to the journal.
//! Each has an explanation in `units/catalog/`; a test holds the two together.

/// A session of a login was reserved: its user exists, from the first one on.
pub(in crate::control) const PUBLISHED: &str = "fe0d261cbad04638b10c63c843251dba";
/// The user of a login is withdrawn: with its last session, or until what is left of its rights can be published.
pub(in crate::control) const WITHDRAWN: &str = "a7dd2d5ddca445b0af890799f4ae3255";
/// A login was refused.
pub(in crate::control) const REFUSED: &str = "3c985861bdcf46fe9443c137571edf00";
/// A process that is not root of this host has asked for something.
pub(in crate::control) const NOT_ADMITTED: &str = "875efa5517ab4e7b896056287ff6fac3";
/// Sudo was granted, and the file could not be written.
pub(in crate::control) const NO_SUDO: &str = "d0a6a06df83747e5ad84c9a54037505f";
/// A sudo rule that does not hold any more cannot be removed.
pub(in crate::control) const SUDO_LEFT: &str = "5b1c5f7e0a3e4d51a4b3f2f6f0c8d9e4";
/// Something of the sessions of before a restart cannot be read.
pub(in crate::control) const STATE_UNUSABLE: &str = "d32fe2e2c1774864a0acad646383ba24";
/// The configuration was not accepted.
pub(in crate::control) const CONFIGURATION_WRONG: &str = "b32a4dcf47c244bfaf9431a1da2227ed";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    const CATALOG: &str = include_str!("../../../../units/catalog/teleport-userdb.catalog");

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

    const KINDS: [(&str, &str); 8] = [
        ("PUBLISHED", PUBLISHED),
        ("WITHDRAWN", WITHDRAWN),
        ("REFUSED", REFUSED),
        ("NOT_ADMITTED", NOT_ADMITTED),
        ("NO_SUDO", NO_SUDO),
        ("SUDO_LEFT", SUDO_LEFT),
        ("STATE_UNUSABLE", STATE_UNUSABLE),
        ("CONFIGURATION_WRONG", CONFIGURATION_WRONG),
    ];

    /// Of each entry the id and the text.
    fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
        let entries = CATALOG.split("\n-- ").skip(1);
        entries.filter_map(|entry| entry.split_once('\n'))
    }

    #[test]
    fn every_kind_of_line_is_explained_in_the_catalog() {
        let explained: Vec<&str> = entries().map(|(id, _)| id).collect();
        assert_eq!(explained, KINDS.map(|(_, id)| id));
    }

    /// The fields of each line that says `MESSAGE_ID = messages::NAME`, read off the sources: what stands between that and the
    /// sentence, the first literal behind it, is `FIELD = value` each, with commas between. (`%error` alone names no field that
    /// an entry could use; a comma inside of a value makes pieces without an equals sign.)
    fn sent_with(name: &str, folder: &Path) -> Vec<BTreeSet<String>> {
        let mut sent = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sent.extend(sent_with(name, &path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                for line in source
                    .split(&format!("MESSAGE_ID = messages::{name},"))
                    .skip(1)
                {
                    let fields = line.split('"').next().unwrap_or_default();
                    let fields = fields
                        .split(',')
                        .filter_map(|field| field.split_once(" = "));
                    sent.push(fields.map(|(field, _)| field.trim().to_owned()).collect());
                }
            }
        }
        sent
    }

    #[test]
    fn each_field_that_an_entry_names_is_sent_with_every_line_of_its_kind() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control");
        for ((name, _), (_, text)) in KINDS.iter().zip(entries()) {
            let sent = sent_with(name, &sources);
            assert!(!sent.is_empty(), "no line is of the kind {name}");
            for field in text.split('@').skip(1).step_by(2) {
                assert!(
                    sent.iter().all(|fields| fields.contains(field)),
                    "the catalog names @{field}@, which not every line with messages::{name} sends: {sent:?}"
                );
            }
        }
    }
}

//! Users of others whose names differ in case only from a login: sudo compares users regardless of case,
//! and gives the one what is meant for the other. Only finds them.
//!
//! What is in `/etc/passwd` is seen whole. Of another service, which has no list of its users for us, the
//! two usual spellings are asked for: `Alice` and `ALICE`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::nsswitch::Stamp;

/// The local users who have a capital in their name, re-read when the file changes.
#[derive(Debug)]
pub(super) struct Capitalised {
    passwd: PathBuf,
    seen: Option<Stamp>,
    by_lower_case: BTreeMap<String, String>,
}

impl Capitalised {
    pub(super) fn new(passwd: impl Into<PathBuf>) -> Capitalised {
        Capitalised {
            passwd: passwd.into(),
            seen: None,
            by_lower_case: BTreeMap::new(),
        }
    }

    /// Those that differ in case only from one of `names`, by that name.
    pub(super) fn twins(&mut self, names: &BTreeSet<&str>) -> io::Result<BTreeMap<String, String>> {
        let stamp = Stamp::of(&self.passwd);
        if self.seen != Some(stamp) {
            self.by_lower_case = capitalised(&self.passwd)?;
            self.seen = Some(stamp);
        }
        let twin = |name: &&str| {
            let twin = self.by_lower_case.get(&name.to_ascii_lowercase())?;
            (twin != name).then(|| ((*name).to_owned(), twin.clone()))
        };
        Ok(names.iter().filter_map(twin).collect())
    }
}

fn capitalised(passwd: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match std::fs::read(passwd) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.split(':').next())
        .filter(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
        .map(|name| (name.to_ascii_lowercase(), name.to_owned()))
        .collect())
}

/// The other spellings of `name` that are worth asking for.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let upper = name.to_ascii_uppercase();
    let mut capital = name.to_ascii_lowercase();
    if let Some(first) = capital.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut spellings = vec![capital, upper];
    spellings.dedup();
    spellings.retain(|spelling| spelling != name);
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_users_with_capitals_are_twins_of_every_other_spelling_and_not_of_themselves() {
        let passwd = std::env::temp_dir().join(format!("twins-{}", std::process::id()));
        std::fs::write(&passwd, "root:x:0:0::/:\nBob:x:1:1::/:\n").unwrap();
        let mut capitalised = Capitalised::new(&passwd);
        let mut twins = |names: &[&str]| {
            capitalised
                .twins(&names.iter().copied().collect())
                .unwrap()
                .into_iter()
                .collect::<Vec<_>>()
        };
        let pair = |name: &str| (name.to_owned(), "Bob".to_owned());
        assert_eq!(
            twins(&["bob", "BOB", "Bob", "root", "Root"]),
            [pair("BOB"), pair("bob")]
        );
        std::fs::write(&passwd, "root:x:0:0::/:\n").unwrap();
        assert!(twins(&["bob"]).is_empty());
        std::fs::remove_file(&passwd).unwrap();
        assert!(twins(&["bob"]).is_empty());
    }

    #[test]
    fn a_name_is_asked_for_in_its_usual_other_spellings() {
        assert_eq!(spellings("alice"), ["Alice", "ALICE"]);
        assert_eq!(spellings("Alice"), ["ALICE"]);
        assert_eq!(spellings("a"), ["A"]);
        assert!(
            spellings("_1").is_empty() && spellings("é").is_empty() && spellings("").is_empty()
        );
    }
}

//! What `/etc/passwd` says, read as the text it is: whole, which no question to a name service is.
//! Reads that file only; users of other services are asked for, not read.
//!
//! Lenient: a line that cannot be understood is skipped, since the others still say whom they say. `local_files`, whose answers stand
//! for glibc's, may skip nothing: it reads strictly, or leaves the file to glibc.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use crate::policy::decide::FoundUser;

/// Where it is.
pub(super) const PASSWD: &str = "/etc/passwd";

/// What a login has to know of all local users, re-read when the file changes.
#[derive(Debug)]
pub(super) struct LocalUsers {
    passwd: PathBuf,
    seen: Option<Stamp>,
    /// Those who have a capital in their name.
    by_lower_case: BTreeMap<String, String>,
    primary_gids: BTreeSet<u32>,
}

impl LocalUsers {
    pub(super) fn new(passwd: impl Into<PathBuf>) -> LocalUsers {
        LocalUsers {
            passwd: passwd.into(),
            seen: None,
            by_lower_case: BTreeMap::new(),
            primary_gids: BTreeSet::new(),
        }
    }

    /// The file as it is now.
    pub(super) fn read(&mut self) -> io::Result<&LocalUsers> {
        let stamp = Stamp::of(&self.passwd);
        if self.seen != Some(stamp) {
            let seen = stamp.settled();
            let text = text(&self.passwd)?;
            self.by_lower_case = text
                .lines()
                .filter_map(|line| line.split(':').next())
                .filter(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
                .map(|name| (name.to_ascii_lowercase(), name.to_owned()))
                .collect();
            self.primary_gids = text
                .lines()
                .filter_map(entry)
                .map(|user| user.gid)
                .collect();
            self.seen = seen;
        }
        Ok(self)
    }

    /// Users who differ in case only from one of `names`, by that name.
    pub(super) fn twins(&self, names: &BTreeSet<&str>) -> BTreeMap<String, String> {
        let twin = |name: &&str| {
            let twin = self.by_lower_case.get(&name.to_ascii_lowercase())?;
            (twin != name).then(|| ((*name).to_owned(), twin.clone()))
        };
        names.iter().filter_map(twin).collect()
    }

    /// Those of `ids` that are the primary group of a user. Such a group need not be in `/etc/group`.
    pub(super) fn primary_gids(&self, ids: &BTreeSet<u32>) -> BTreeSet<u32> {
        self.primary_gids.intersection(ids).copied().collect()
    }
}

/// The user `name` of the file, if it can be shown to have it: what is left to say of somebody while
/// nobody can be asked.
pub(super) fn find(passwd: &Path, name: &str) -> Option<FoundUser> {
    let text = text(passwd).ok()?;
    text.lines()
        .filter_map(entry)
        .find(|user| user.name == name)
}

fn text(passwd: &Path) -> io::Result<String> {
    match std::fs::read(passwd) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    }
}

/// A line that glibc takes for a user, and not for a comment or for a hint to ask elsewhere.
fn entry(line: &str) -> Option<FoundUser> {
    let mut fields = line.trim_start().split(':');
    let (name, _, uid, gid) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let is_whole = fields.count() == 3;
    (is_whole && !name.is_empty() && !name.starts_with(['#', '+', '-'])).then_some(())?;
    Some(FoundUser {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        source: "files".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn local_users_with_capitals_are_twins_of_every_other_spelling_and_not_of_themselves() {
        let passwd = file("twins", "root:x:0:0::/:\nBob:x:1:1::/:\n");
        let mut users = LocalUsers::new(&passwd);
        let mut twins = |names: &[&str]| {
            let names = names.iter().copied().collect();
            let twins = users.read().unwrap().twins(&names);
            twins.into_iter().collect::<Vec<_>>()
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
    fn primary_groups_are_told_of_the_ids_asked_about() {
        let passwd = file("gids", "root:x:0:0::/:\nprim:x:20012:20013::/:\n");
        let mut users = LocalUsers::new(&passwd);
        let gids = users.read().unwrap().primary_gids(&[20_012, 20_013].into());
        assert_eq!(gids, [20_013].into());
        std::fs::remove_file(&passwd).unwrap();
    }

    #[test]
    fn a_user_is_found_where_the_file_can_be_shown_to_have_it() {
        let passwd = file(
            "find",
            b"root:x:0:0:root:/root:/bin/bash\n# caf\xe9\n#ann:x:1:1::/:\n+bea:x:1:1::/:\ncyd:x:a:1::/:\n\
              dan:x:1:1\nJos\xe9:x:1:1::/:\neve:x:1001:1001:\xe9:/:\n",
        );
        let found = |name: &str| find(&passwd, name).map(|user| (user.uid, user.gid));
        assert_eq!(
            (found("root"), found("eve")),
            (Some((0, 0)), Some((1001, 1001)))
        );
        for absent in [
            "", "ann", "#ann", "+bea", "bea", "cyd", "dan", "x", "roo", "Root",
        ] {
            assert_eq!(found(absent), None, "{absent}");
        }
        std::fs::remove_file(&passwd).unwrap();
        assert_eq!(found("root"), None);
    }
}

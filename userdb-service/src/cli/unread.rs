//! Files of sudo and doas that a lookup worker cannot read, so that nobody new is let in, and the commands that open them to it.
//! A worker is root without any capability: modes and owners hold for it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::node::Seen;
use crate::control::lookup::named;

/// A file or folder that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadFile {
    /// Its path.
    pub path: String,
    /// As the kernel says.
    pub why: String,
    /// What opens it, for a shell; nothing where modes and owners are not the reason.
    pub mend: Option<String>,
}

/// All of them.
pub(super) fn look(root: bool) -> Seen<Vec<UnreadFile>> {
    if !root {
        return Seen::RootOnly;
    }
    match named::unread_by_workers() {
        Ok(unread) => Seen::Known(unread.iter().map(UnreadFile::of).collect()),
        Err(error) => Seen::Failed(error.to_string()),
    }
}

impl UnreadFile {
    fn of(unread: &named::Unread) -> UnreadFile {
        UnreadFile {
            path: unread.path.display().to_string(),
            why: unread.why.clone(),
            mend: opening(&unread.path),
        }
    }

    /// Which it is, why it is not read, and what would be right.
    pub(super) fn sentence(&self) -> String {
        let UnreadFile { path, why, mend } = self;
        match mend {
            Some(mend) => format!("{path} ({why}): `{mend}`"),
            None => format!("{path} ({why}): make it readable, or include it no more"),
        }
    }
}

/// The commands that let root without capabilities read what is at `path`, if modes and owners keep it out.
fn opening(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    let commands: Vec<String> = way
        .into_iter()
        .filter_map(|one| {
            let seen = fs::metadata(one).ok()?;
            let lacking = lacking(&seen, one == path)?;
            let word = shell_word(&one.display().to_string());
            let chmod = format!("chmod u+{lacking} {word}");
            Some(match seen.uid() {
                0 => chmod,
                // As sudo wants it: what is another's is not read by it.
                _ => format!("chown root {word} && {chmod}"),
            })
        })
        .collect();
    (!commands.is_empty()).then(|| commands.join(" && "))
}

/// Which of its owner's rights root has to be given to read this at the end of a path, or to come by it on the way.
fn lacking(seen: &Metadata, is_end: bool) -> Option<&'static str> {
    let (needed, word) = match (seen.is_dir(), is_end) {
        (true, true) => (0o5, "rx"),
        (true, false) => (0o1, "x"),
        (false, _) => (0o4, "r"),
    };
    (rights_of_root(seen.uid(), seen.gid(), seen.mode()) & needed != needed).then_some(word)
}

/// What root without capabilities may do, as three bits.
fn rights_of_root(uid: u32, gid: u32, mode: u32) -> u32 {
    match (uid, gid) {
        (0, _) => mode >> 6 & 0o7,
        (_, 0) => mode >> 3 & 0o7,
        _ => mode & 0o7,
    }
}

/// `text` as one word of a shell.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn what_opens_a_file_is_told_with_each_step_of_the_way() {
        let folder = std::env::temp_dir().join(format!("opening-{}", std::process::id()));
        let way = folder.join("a b");
        fs::create_dir_all(&way).expect("made");
        let file = way.join("rules");
        fs::write(&file, "").expect("written");
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
        };
        set(&file, 0o440);
        assert_eq!(opening(&file), None);
        set(&file, 0o000);
        let path = file.display().to_string();
        assert_eq!(opening(&file), Some(format!("chmod u+r '{path}'")));
        chown(&file, Some(12345), Some(12345)).expect("this test needs root");
        set(&file, 0o600);
        set(&way, 0o600);
        let way_word = way.display();
        assert_eq!(
            opening(&file),
            Some(format!(
                "chmod u+x '{way_word}' && chown root '{path}' && chmod u+r '{path}'"
            ))
        );
        set(&way, 0o100);
        assert_eq!(opening(&way), Some(format!("chmod u+rx '{way_word}'")));
        set(&way, 0o700);
        // By its group, or as anybody.
        for (gid, mode) in [(0, 0o640), (12345, 0o604)] {
            chown(&file, Some(12345), Some(gid)).expect("given away");
            set(&file, mode);
            assert_eq!(opening(&file), None, "{gid} {mode:o}");
        }
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_word_is_one_for_a_shell_whatever_is_in_it() {
        for (text, word) in [
            ("/etc/sudoers.d/a=2eb", "/etc/sudoers.d/a=2eb"),
            ("/srv/a b", "'/srv/a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}

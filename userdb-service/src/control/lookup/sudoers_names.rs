//! Every name that sudo gives a meaning to outside our own files: who logs in under one of them would
//! get what the administrator meant for somebody else. Finds names, does not judge sudoers.
//!
//! Over-approximates on purpose: whatever stands where a user, a group, a run-as user or an alias can
//! stand counts, in the spelling found and in lower case (sudo compares users regardless of case).
//! Hosts on the left of a rule count too; telling them apart would need sudo's whole grammar.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::nsswitch::Stamp;

/// sudo's own limit for nested includes.
const DEEPEST_INCLUDE: usize = 128;
/// A sudoers file larger than this is not read but an error.
const LARGEST_FILE: u64 = 4 << 20;

/// Names and includes of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parsed {
    names: BTreeSet<String>,
    includes: Vec<Include>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Include {
    File(String),
    Folder(String),
}

/// Remembers each file by its version; only what changed is read again.
#[derive(Debug)]
pub(super) struct Scanner {
    roots: Vec<PathBuf>,
    passwd: PathBuf,
    header: &'static str,
    files: BTreeMap<PathBuf, (Stamp, Parsed)>,
    names: BTreeSet<String>,
    version: Option<u64>,
}

impl Scanner {
    /// `header`: the first line of our own files, which do not count.
    pub(super) fn new(header: &'static str) -> Scanner {
        // sudo-rs reads /etc/sudoers-rs instead, where there is one.
        let roots = ["/etc/sudoers", "/etc/sudoers-rs"];
        Scanner::at(
            roots.map(PathBuf::from).to_vec(),
            PathBuf::from("/etc/passwd"),
            header,
        )
    }

    fn at(roots: Vec<PathBuf>, passwd: PathBuf, header: &'static str) -> Scanner {
        let (files, names) = (BTreeMap::new(), BTreeSet::new());
        Scanner {
            roots,
            passwd,
            header,
            files,
            names,
            version: None,
        }
    }

    /// The names, and a number that is the same as long as no file has changed.
    pub(super) fn read(&mut self) -> io::Result<(u64, &BTreeSet<String>)> {
        let mut walk = Walk {
            header: self.header,
            before: &self.files,
            after: BTreeMap::new(),
        };
        for root in &self.roots {
            walk.file(root, 0)?;
        }
        let passwd_stamp = Stamp::of(&self.passwd);
        let mut hasher = DefaultHasher::new(); // fixed keys: equal in every worker of one daemon
        passwd_stamp.hash(&mut hasher);
        for (path, (stamp, parsed)) in &walk.after {
            // Our own files come and go with each login and say nothing.
            if *parsed != Parsed::default() {
                (path, stamp).hash(&mut hasher);
            }
        }
        let version = hasher.finish();
        self.files = walk.after;
        if self.version != Some(version) {
            self.names = self
                .files
                .values()
                .flat_map(|(_, parsed)| parsed.names.clone())
                .collect();
            let folded: Vec<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
            self.names.extend(folded);
            self.names.extend(capitalised_users(&self.passwd)?);
            self.version = Some(version);
        }
        Ok((version, &self.names))
    }
}

/// Local users spelled with capitals, in lower case: a rule for `alice` serves `Alice` as well.
fn capitalised_users(passwd: &Path) -> io::Result<Vec<String>> {
    let text = match std::fs::read(passwd) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.split(':').next())
        .filter(|name| name.chars().any(char::is_uppercase))
        .map(str::to_lowercase)
        .collect())
}

struct Walk<'a> {
    header: &'static str,
    before: &'a BTreeMap<PathBuf, (Stamp, Parsed)>,
    after: BTreeMap<PathBuf, (Stamp, Parsed)>,
}

impl Walk<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST_INCLUDE || self.after.contains_key(path) {
            return Ok(());
        }
        // Follows links, as sudo does. A FIFO would block, so only regular files are opened.
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(named(path, e)),
        };
        if metadata.len() > LARGEST_FILE {
            return Err(named(path, io::Error::other("is larger than 4 MiB")));
        }
        let stamp = Stamp::of(path);
        let parsed = match self.before.get(path) {
            Some((seen, parsed)) if *seen == stamp => parsed.clone(),
            _ => match std::fs::read(path) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    if text.lines().next() == Some(self.header) {
                        Parsed::default()
                    } else {
                        parse(&text)
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(named(path, e)),
            },
        };
        let includes = parsed.includes.clone();
        self.after.insert(path.to_owned(), (stamp, parsed));
        let folder = path.parent().unwrap_or(Path::new("/"));
        for include in includes {
            match include {
                Include::File(name) => self.file(&folder.join(with_host(&name)), depth + 1)?,
                Include::Folder(name) => self.folder(&folder.join(with_host(&name)), depth + 1)?,
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(e) => return Err(named(path, e)),
        };
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            // sudo skips these, and so no rule in them has a meaning.
            if !name.contains('.') && !name.ends_with('~') {
                self.file(&path.join(&*name), depth)?;
            }
        }
        Ok(())
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// `%h` in an include stands for the short host name.
fn with_host(name: &str) -> String {
    if !name.contains("%h") {
        return name.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.replace("%h", host.trim().split('.').next().unwrap_or_default())
}

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.replace("\\\n", " ").lines() {
        let line = line.trim_start();
        if let Some(include) = include_of(line) {
            parsed.includes.push(include);
            continue;
        }
        let (words, punctuation) = tokens(line);
        let first = words.first().map(String::as_str).unwrap_or_default();
        if let Some(scope) = first.strip_prefix("Defaults") {
            // Defaults:USERS or Defaults>RUNAS; the parameters behind the list count too.
            if let Some(user) = scope.strip_prefix([':', '>']) {
                let list = words[1..].iter().map(String::as_str);
                parsed
                    .names
                    .extend(std::iter::once(user).chain(list).flat_map(plain));
            }
        } else if first.ends_with("_Alias") {
            if matches!(first, "User_Alias" | "Runas_Alias") {
                parsed
                    .names
                    .extend(words[1..].iter().flat_map(|word| plain(word)));
            }
        } else {
            // USERS HOSTS = (RUNAS : GROUPS) TAGS: COMMANDS
            let equals = punctuation
                .iter()
                .find(|(_, c)| *c == '=')
                .map_or(words.len(), |(at, _)| *at);
            parsed
                .names
                .extend(words[..equals].iter().flat_map(|word| plain(word)));
            parsed
                .names
                .extend(in_brackets(&words, &punctuation).flat_map(plain));
        }
    }
    parsed
}

fn in_brackets<'a>(
    words: &'a [String],
    punctuation: &'a [(usize, char)],
) -> impl Iterator<Item = &'a str> {
    let opened = punctuation
        .iter()
        .filter(|(_, c)| *c == '(')
        .map(|(at, _)| *at);
    opened.flat_map(move |from| {
        let closed = punctuation.iter().find(|(at, c)| *c == ')' && *at >= from);
        let to = closed.map_or(words.len(), |(at, _)| *at);
        words[from..to].iter().map(String::as_str)
    })
}

fn include_of(line: &str) -> Option<Include> {
    let directive = line.strip_prefix(['#', '@'])?;
    let (folder, path) = match directive.strip_prefix("includedir") {
        Some(path) => (true, path),
        None => (false, directive.strip_prefix("include")?),
    };
    if !path.starts_with([' ', '\t']) {
        return None;
    }
    let path = path.trim();
    // A path is quoted, or its blanks are escaped; a comment may follow the old form without either.
    let path = match path.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
        None => tokens(path).0.first().cloned().unwrap_or_default(),
    };
    if path.is_empty() {
        return None;
    }
    Some(if folder {
        Include::Folder(path)
    } else {
        Include::File(path)
    })
}

/// Splits a line into words at blanks, commas, `=`, `(`, `)` and, outside a word's prefix, `:`.
/// Returned with the words: each `=`, `(` and `)` and the number of words before it.
fn tokens(line: &str) -> (Vec<String>, Vec<(usize, char)>) {
    let (mut words, mut punctuation) = (Vec::new(), Vec::new());
    let mut word = String::new();
    let mut chars = line.chars().peekable();
    let flush = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            '"' => word.extend(chars.by_ref().take_while(|c| *c != '"')),
            // #1001 is a UID; any other # begins a comment.
            '#' if !chars.peek().is_some_and(char::is_ascii_digit) => break,
            '=' | '(' | ')' => {
                flush(&mut word, &mut words);
                punctuation.push((words.len(), c));
            }
            ':' if !matches!(word.as_str(), "%" | "Defaults") => flush(&mut word, &mut words),
            ',' => flush(&mut word, &mut words),
            c if c.is_whitespace() => flush(&mut word, &mut words),
            c => word.push(c),
        }
    }
    flush(&mut word, &mut words);
    (words, punctuation)
}

/// The name in a word: without negation and without the marks of groups and netgroups. Numeric IDs
/// and `ALL` are not names.
fn plain(word: &str) -> Option<String> {
    let name = word
        .trim_start_matches('!')
        .trim_start_matches(['%', '+', ':', '#']);
    let numeric = name.bytes().all(|b| b.is_ascii_digit());
    (!numeric && name != "ALL").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# ours";

    fn names(text: &str) -> Vec<String> {
        parse(text).names.into_iter().collect()
    }

    #[test]
    fn users_groups_and_runas_of_a_rule_are_names_and_commands_are_not() {
        assert_eq!(
            names(
                "alice,%wheel, !bob ALL=(deploy : ops) NOPASSWD: /usr/bin/apt, (www) /bin/ls x\n"
            ),
            ["alice", "bob", "deploy", "ops", "wheel", "www"]
        );
        assert_eq!(
            names("root ALL=(ALL:ALL) ALL # carol\n#1001 ALL=ALL\n# dave ALL=ALL\n"),
            ["root"]
        );
    }

    #[test]
    fn quoted_and_escaped_names_are_read_as_sudo_reads_them() {
        assert_eq!(names(r#""%domain admins" ALL=ALL"#), ["domain admins"]);
        assert_eq!(
            names(r"CORP\\alice,%:unix\ group ALL=ALL"),
            [r"CORP\alice", "unix group"]
        );
    }

    #[test]
    fn members_of_user_and_runas_aliases_are_names_and_those_of_commands_are_not() {
        let text = "User_Alias ADMINS = alice, %ops : DEVS = \\\n  carol\nCmnd_Alias X = /bin/ls\nHost_Alias H = web1\nRunas_Alias R = svc\n";
        assert_eq!(
            names(text),
            ["ADMINS", "DEVS", "R", "alice", "carol", "ops", "svc"]
        );
    }

    #[test]
    fn defaults_count_only_where_they_are_for_a_user() {
        assert_eq!(
            names("Defaults env_reset\nDefaults:alice !lecture\n"),
            ["alice", "lecture"]
        );
        assert!(names("Defaults secure_path=\"/bin:/sbin\"\nDefaults@web1 log\n").is_empty());
    }

    #[test]
    fn includes_are_recognised_in_both_spellings() {
        let parsed = parse(
            "#includedir /etc/sudoers.d\n@include \"/a b\"\n@include x\\ y\n#included is a comment\n",
        );
        assert_eq!(
            parsed.includes,
            [
                Include::Folder("/etc/sudoers.d".to_owned()),
                Include::File("/a b".to_owned()),
                Include::File("x y".to_owned())
            ]
        );
    }

    #[test]
    fn the_whole_tree_counts_but_not_our_files_and_not_what_sudo_skips() {
        let dir = std::env::temp_dir().join(format!("sudoers-names-{}", std::process::id()));
        let (root, d) = (dir.join("sudoers"), dir.join("sudoers.d"));
        std::fs::create_dir_all(&d).unwrap();
        std::fs::write(
            &root,
            "root ALL=ALL\n@includedir sudoers.d\n@include sudoers\n",
        )
        .unwrap();
        std::fs::write(d.join("admins"), "Alice ALL=ALL\n").unwrap();
        std::fs::write(d.join("teleport-zed"), format!("{HEADER}\nzed ALL=ALL\n")).unwrap();
        std::fs::write(d.join("teleport-admins"), "eve ALL=ALL\n").unwrap();
        std::fs::write(d.join("old.bak"), "nobody1 ALL=ALL\n").unwrap();
        std::fs::write(dir.join("passwd"), "root:x:0:0::/:\nBob:x:1:1::/:\n").unwrap();
        let mut scanner = Scanner::at(vec![root, dir.join("absent")], dir.join("passwd"), HEADER);
        let read = |scanner: &mut Scanner| {
            let (version, names) = scanner.read().unwrap();
            (version, names.iter().cloned().collect::<Vec<_>>())
        };
        let (first, found) = read(&mut scanner);
        assert_eq!(found, ["Alice", "alice", "bob", "eve", "root"]);
        // One of ours more or less is no change; one of the administrator's is.
        std::fs::write(d.join("teleport-yan"), format!("{HEADER}\nyan ALL=ALL\n")).unwrap();
        assert_eq!(read(&mut scanner).0, first);
        std::fs::write(d.join("admins"), "carol ALL=ALL\n").unwrap();
        let (second, found) = read(&mut scanner);
        assert_ne!(second, first);
        assert_eq!(found, ["bob", "carol", "eve", "root"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_fifo_among_the_files_does_not_hang_the_scan() {
        let dir = std::env::temp_dir().join(format!("sudoers-fifo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        nix::unistd::mkfifo(&dir.join("trap"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut scanner = Scanner::at(vec![dir.join("trap")], dir.join("passwd"), HEADER);
        assert!(scanner.read().unwrap().1.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! Every name and number that sudo gives a meaning to outside our own files: who logs in under one would
//! get what the administrator meant for somebody else. Finds them, does not judge sudoers.
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
    /// `#UID` and `%#GID`.
    ids: BTreeSet<u32>,
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
    header: &'static str,
    files: BTreeMap<PathBuf, (Stamp, Parsed)>,
    named: Named,
}

/// What sudoers names at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// The same as long as no file has changed.
    pub(super) version: u64,
    /// Users, groups and members of aliases, as spelled and in lower case.
    pub(super) names: BTreeSet<String>,
    /// UIDs and GIDs.
    pub(super) ids: BTreeSet<u32>,
}

impl Scanner {
    /// `header`: the first line of our own files, which do not count.
    pub(super) fn new(header: &'static str) -> Scanner {
        // sudo-rs reads /etc/sudoers-rs instead, where there is one.
        let roots = ["/etc/sudoers", "/etc/sudoers-rs"];
        Scanner::at(roots.map(PathBuf::from).to_vec(), header)
    }

    fn at(roots: Vec<PathBuf>, header: &'static str) -> Scanner {
        Scanner {
            roots,
            header,
            files: BTreeMap::new(),
            named: Named::default(),
        }
    }

    /// Reads what has changed.
    pub(super) fn read(&mut self) -> io::Result<&Named> {
        let mut walk = Walk {
            header: self.header,
            before: &self.files,
            after: BTreeMap::new(),
        };
        for root in &self.roots {
            walk.file(root, 0)?;
        }
        let mut hasher = DefaultHasher::new(); // fixed keys: equal in every worker of one daemon
        for (path, (stamp, parsed)) in &walk.after {
            // Our own files come and go with each login and say nothing.
            if *parsed != Parsed::default() {
                (path, stamp).hash(&mut hasher);
            }
        }
        let version = hasher.finish();
        self.files = walk.after;
        if self.named.version != version {
            let files = self.files.values().map(|(_, parsed)| parsed);
            let mut named = Named {
                version,
                ..Named::default()
            };
            for parsed in files {
                named.ids.extend(&parsed.ids);
                for name in &parsed.names {
                    named.names.extend([name.clone(), name.to_lowercase()]);
                }
            }
            self.named = named;
        }
        Ok(&self.named)
    }
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
                parsed.extend(std::iter::once(user).chain(list));
            }
        } else if first.ends_with("_Alias") {
            if matches!(first, "User_Alias" | "Runas_Alias") {
                parsed.extend(words[1..].iter().map(String::as_str));
            }
        } else {
            // USERS HOSTS = (RUNAS : GROUPS) TAGS: COMMANDS
            let equals = punctuation
                .iter()
                .find(|(_, c)| *c == '=')
                .map_or(words.len(), |(at, _)| *at);
            parsed.extend(words[..equals].iter().map(String::as_str));
            parsed.extend(in_brackets(&words, &punctuation));
        }
    }
    parsed
}

impl Parsed {
    fn extend<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            match meant(word) {
                Some(Meant::Name(name)) => drop(self.names.insert(name)),
                Some(Meant::Id(id)) => drop(self.ids.insert(id)),
                None => {}
            }
        }
    }
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

/// Whom a word means.
#[derive(Debug, PartialEq)]
enum Meant {
    Name(String),
    Id(u32),
}

/// Whom a word means, without negation and without the marks of groups and netgroups. `ALL` means nobody
/// in particular, a number without its mark is not understood by sudo.
fn meant(word: &str) -> Option<Meant> {
    let marked = word
        .trim_start_matches('!')
        .trim_start_matches(['%', '+', ':']);
    let name = marked.trim_start_matches('#');
    if name.bytes().all(|b| b.is_ascii_digit()) {
        let id = name.parse().ok().filter(|_| marked.starts_with('#'));
        return id.map(Meant::Id);
    }
    (name != "ALL").then(|| Meant::Name(name.to_owned()))
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
    fn numbers_of_users_and_groups_are_told_and_commands_have_none() {
        let text = "#1001,%#2002, !#3003 ALL=(#4004 : #5005) /bin/kill #6, /bin/id 7007\nUser_Alias A = #8008\n\
                    Defaults:#9009 !lecture\n1010 ALL=ALL\n\"#11011\" ALL=ALL\n#99999999999 ALL=ALL\n";
        let ids: Vec<u32> = parse(text).ids.into_iter().collect();
        assert_eq!(ids, [1001, 2002, 3003, 4004, 5005, 8008, 9009, 11011]);
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
        let mut scanner = Scanner::at(vec![root, dir.join("absent")], HEADER);
        let read = |scanner: &mut Scanner| {
            let named = scanner.read().unwrap();
            (
                named.version,
                named.names.iter().cloned().collect::<Vec<_>>(),
            )
        };
        let (first, found) = read(&mut scanner);
        assert_eq!(found, ["Alice", "alice", "eve", "root"]);
        // One of ours more or less is no change; one of the administrator's is.
        std::fs::write(d.join("teleport-yan"), format!("{HEADER}\nyan ALL=ALL\n")).unwrap();
        assert_eq!(read(&mut scanner).0, first);
        std::fs::write(d.join("admins"), "carol ALL=ALL\n").unwrap();
        let (second, found) = read(&mut scanner);
        assert_ne!(second, first);
        assert_eq!(found, ["carol", "eve", "root"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_fifo_among_the_files_does_not_hang_the_scan() {
        let dir = std::env::temp_dir().join(format!("sudoers-fifo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        nix::unistd::mkfifo(&dir.join("trap"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut scanner = Scanner::at(vec![dir.join("trap")], HEADER);
        assert!(scanner.read().unwrap().names.is_empty());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

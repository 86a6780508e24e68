//! What the service `files` says, from `/etc/passwd` and `/etc/group` kept in order: glibc reads them from the beginning for
//! each question, and a login asks five. Other services are asked for, not read.
//!
//! Strict: a file with a line that glibc may understand otherwise than here is left to glibc. The lenient reader is `local_users`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::glibc::Reply;
use super::local_users::PASSWD;
use super::stamp::Stamp;
use crate::policy::decide::Question;

const GROUP: &str = "/etc/group";

/// The GID that no group has.
const NO_GROUP: u32 = u32::MAX;

/// Both files.
#[derive(Debug)]
pub(super) struct LocalFiles {
    passwd: Kept<Users>,
    group: Kept<Groups>,
}

/// Of entries with the same name or ID the first counts, as for glibc.
#[derive(Debug, Default, PartialEq)]
struct Users {
    ids: BTreeMap<String, (u32, u32)>,
    names: BTreeMap<u32, String>,
}

#[derive(Debug, Default, PartialEq)]
struct Groups {
    ids: BTreeMap<String, u32>,
    names: BTreeMap<u32, String>,
    /// GIDs of the groups that list somebody.
    of_member: BTreeMap<String, Vec<u32>>,
}

/// A file, and what it says if every line of it is plain.
#[derive(Debug)]
struct Kept<T> {
    path: PathBuf,
    parse: fn(&str) -> Option<T>,
    seen: Option<Stamp>,
    content: Option<T>,
}

impl LocalFiles {
    pub(super) fn new() -> LocalFiles {
        LocalFiles::at(PASSWD, GROUP)
    }

    pub(super) fn at(passwd: impl Into<PathBuf>, group: impl Into<PathBuf>) -> LocalFiles {
        LocalFiles {
            passwd: Kept::new(passwd, users),
            group: Kept::new(group, groups),
        }
    }

    /// What `files` answers to each. `None`: glibc has to be asked.
    pub(super) fn ask_all(&mut self, questions: &[&Question]) -> Vec<Option<Reply>> {
        let is_of_users = |one: &&Question| matches!(one, Question::User(_) | Question::UserId(_));
        // A file that no question is about need not be looked at.
        if questions.iter().any(is_of_users) {
            self.passwd.read();
        }
        if !questions.iter().all(is_of_users) {
            self.group.read();
        }
        questions.iter().map(|one| self.remembered(one)).collect()
    }

    /// The same by what was read last, which may have changed.
    pub(super) fn remembered(&self, question: &Question) -> Option<Reply> {
        let found = match question {
            Question::User(name) => {
                let users = self.passwd.content.as_ref()?;
                users.ids.get(name).map(|ids| user(name, *ids))
            }
            Question::UserId(uid) => {
                let users = self.passwd.content.as_ref()?;
                let name = users.names.get(uid);
                name.and_then(|name| Some(user(name, *users.ids.get(name)?)))
            }
            Question::Group(name) => {
                let gid = self.group.content.as_ref()?.ids.get(name);
                gid.map(|gid| group(name, *gid))
            }
            Question::GroupId(gid) => {
                let name = self.group.content.as_ref()?.names.get(gid);
                name.map(|name| group(name, *gid))
            }
            Question::GroupsOf(name) => {
                let gids = self.group.content.as_ref()?.of_member.get(name);
                gids.map(|gids| Reply::Groups(gids.clone()))
            }
        };
        Some(found.unwrap_or(Reply::NotFound))
    }
}

fn user(name: &str, (uid, gid): (u32, u32)) -> Reply {
    let name = name.to_owned();
    Reply::User { name, uid, gid }
}

fn group(name: &str, gid: u32) -> Reply {
    let name = name.to_owned();
    Reply::Group { name, gid }
}

impl<T> Kept<T> {
    fn new(path: impl Into<PathBuf>, parse: fn(&str) -> Option<T>) -> Kept<T> {
        Kept {
            path: path.into(),
            parse,
            seen: None,
            content: None,
        }
    }

    /// Reads what the file says now, if it has changed; nothing, if that is glibc's to say.
    fn read(&mut self) {
        let stamp = Stamp::of(&self.path);
        if self.seen != Some(stamp) {
            let seen = stamp.settled();
            let text = std::fs::read(&self.path).and_then(|text| {
                String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
            });
            self.content = text.ok().and_then(|text| (self.parse)(&text));
            self.seen = seen;
        }
    }
}

/// `name:password:uid:gid:gecos:home:shell`, or nothing if a line is anything else.
fn users(text: &str) -> Option<Users> {
    let mut users = Users::default();
    for line in entries(text) {
        let [name, _, uid, gid, _, _, _] = fields(line)?;
        let (uid, gid) = (id(uid)?, id(gid)?);
        users.ids.entry(name.to_owned()).or_insert((uid, gid));
        users.names.entry(uid).or_insert_with(|| name.to_owned());
    }
    // A name that stands twice: by its second UID glibc finds an entry that its name does not lead to.
    let leads_back =
        |(uid, name): (&u32, &String)| users.ids.get(name).map(|ids| ids.0) == Some(*uid);
    users.names.iter().all(leads_back).then_some(users)
}

/// `name:password:gid:member,member`, or nothing if a line is anything else.
fn groups(text: &str) -> Option<Groups> {
    // Looking for the groups of a member, glibc takes a group behind a `#` for one.
    let hidden = |line: &str| line.trim_start().starts_with('#') && line.contains(':');
    if text.split('\n').any(hidden) {
        return None;
    }
    let mut groups = Groups::default();
    for line in entries(text) {
        let [name, _, gid, members] = fields(line)?;
        if line.contains(|c: char| c.is_ascii_whitespace() || c == '\x0b') {
            return None;
        }
        let gid = id(gid)?;
        groups.ids.entry(name.to_owned()).or_insert(gid);
        groups.names.entry(gid).or_insert_with(|| name.to_owned());
        for member in members.split(',').filter(|member| !member.is_empty()) {
            let of = groups.of_member.entry(member.to_owned()).or_default();
            of.push(gid);
        }
    }
    for gids in groups.of_member.values_mut() {
        gids.sort_unstable();
        gids.dedup();
    }
    Some(groups)
}

/// Lines that are neither empty nor comments.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').filter(|line| {
        let begins = line.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        !begins.is_empty() && !begins.starts_with('#')
    })
}

/// Exactly so many fields of an entry that has a name, and is none of the old hints to ask NIS.
fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let fields: Vec<&str> = line.split(':').collect();
    let fields: [&str; N] = fields.try_into().ok()?;
    let begins = fields[0].chars().next()?;
    let is_plain = !begins.is_ascii_whitespace() && !['+', '-', '\x0b'].contains(&begins);
    (is_plain && !line.contains('\0')).then_some(fields)
}

/// A number as everybody reads it.
fn id(field: &str) -> Option<u32> {
    let is_plain = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit());
    let id = is_plain.then(|| field.parse().ok())??;
    (id != NO_GROUP).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::super::stamp::TICK;
    use super::*;

    const PLAIN_PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# a comment\n\n \t\n  # another\n\
        ann:x:1001:1002:Ann Other,,,:/home/ann:/bin/sh\nbob:!:1003:1003::/:\nbea:*:1003:1001:é:/:/bin/sh\n\
        zoë:x:007:7::/:";
    const PLAIN_GROUP: &str = "root:x:0:\nstaff:x:50:ann,bob\n# no group\n\n  #\nteam:x:52:,ann,,bea,\ntwin:x:50:cyd\nteam:x:53:ann\n";
    /// Each by itself makes a file glibc's.
    const ODD_PASSWD: &[&str] = &[
        "dan:x:1\n",
        "dan:x:1:1\n",
        "dan:x:1:1::/:/bin/sh:more\n",
        " dan:x:1:1::/:\n",
        "+dan:x:1:1::/:\n",
        "-dan:x:1:1::/:\n",
        "+\n",
        "dan:x:-1:1::/:\n",
        "dan:x: 1:1::/:\n",
        "dan:x:+1:1::/:\n",
        "dan:x::1::/:\n",
        "dan:x:0x10:1::/:\n",
        "dan:x:4294967296:1::/:\n",
        "dan:x:4294967295:1::/:\n",
        ":x:1:1::/:\n",
        "dan\n",
        "dan:x:1:1::/:\ndan:x:2:2::/:\n",
    ];
    const ODD_GROUP: &[&str] = &[
        "#dans:x:7:ann\n",
        "  # dans:x:7:ann\n",
        "dans:x:7\n",
        "dans:x:7:ann:bob\n",
        "dans:x:7:ann, bob\n",
        " dans:x:7:ann\n",
        "dans:x:7:ann \n",
        "dans:x:seven:ann\n",
        "+dans:x:7:ann\n",
        "dans:x::ann\n",
        "dans:x:4294967295:ann\n",
    ];

    fn ask(files: &mut LocalFiles, question: &Question) -> Option<Reply> {
        files.ask_all(&[question]).remove(0)
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("local-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    fn questions() -> Vec<Question> {
        let names = [
            "root", "ann", "bob", "bea", "cyd", "dan", "dans", "staff", "team", "twin", "no",
            "zoë", "", "x",
        ];
        let ids = [0, 1, 2, 7, 16, 50, 51, 52, 53, 1001, 1002, 1003];
        let by_name = [Question::User, Question::Group, Question::GroupsOf];
        let by_id = [Question::UserId, Question::GroupId];
        let named = names
            .iter()
            .flat_map(|name| by_name.map(|ask| ask((*name).to_owned())));
        let numbered = ids.iter().flat_map(|id| by_id.map(|ask| ask(*id)));
        named.chain(numbered).collect()
    }

    /// What glibc reads in the two files, in a mount namespace where they are those of the host.
    fn getent(folder: &Path, question: &Question) -> Reply {
        let (database, key) = match question {
            Question::User(name) => ("passwd", name.clone()),
            Question::UserId(uid) => ("passwd", uid.to_string()),
            Question::Group(name) => ("group", name.clone()),
            Question::GroupId(gid) => ("group", gid.to_string()),
            Question::GroupsOf(name) => ("initgroups", name.clone()),
        };
        let ran = Command::new("unshare")
            .args(["-m", "sh", "-c"])
            .arg("mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/group\" /etc/group && exec getent -s files \"$2\" \"$3\"")
            .arg("sh")
            .arg(folder)
            .args([database, &key])
            .output()
            .expect("this test needs root for a mount namespace, and unshare");
        assert!(
            matches!(ran.status.code(), Some(0 | 2)),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let said = String::from_utf8(ran.stdout).expect("text");
        let number = |text: &str| text.parse().expect("a number");
        if database == "initgroups" {
            let mut gids: Vec<u32> = said.split_ascii_whitespace().skip(1).map(number).collect();
            gids.sort_unstable();
            gids.dedup();
            return if gids.is_empty() {
                Reply::NotFound
            } else {
                Reply::Groups(gids)
            };
        }
        let fields: Vec<&str> = said.trim_end_matches('\n').split(':').collect();
        match (database, fields.as_slice()) {
            (_, [""]) => Reply::NotFound,
            ("passwd", [name, _, uid, gid, ..]) => user(name, (number(uid), number(gid))),
            ("group", [name, _, gid, ..]) => group(name, number(gid)),
            _ => panic!("{question:?}: {said:?}"),
        }
    }

    #[test]
    fn plain_files_say_here_what_glibc_reads_in_them() {
        let folder = folder("plain");
        std::fs::write(folder.join("passwd"), PLAIN_PASSWD).expect("written");
        std::fs::write(folder.join("group"), PLAIN_GROUP).expect("written");
        let mut files = LocalFiles::at(folder.join("passwd"), folder.join("group"));
        let mut found = 0;
        for question in questions() {
            // To getent a name of nothing is no question.
            if question == Question::GroupsOf(String::new()) {
                continue;
            }
            let here = ask(&mut files, &question).expect("plain");
            assert_eq!(here, getent(&folder, &question), "{question:?}");
            found += usize::from(here != Reply::NotFound);
        }
        assert_eq!(found, 21);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_file_with_one_odd_line_is_left_to_glibc() {
        for odd in ODD_PASSWD {
            assert_eq!(users(&format!("{PLAIN_PASSWD}\n{odd}")), None, "{odd:?}");
        }
        for odd in ODD_GROUP {
            assert_eq!(groups(&format!("{PLAIN_GROUP}{odd}")), None, "{odd:?}");
        }
        assert!(users("nul\0:x:1:1::/:\n").is_none() && groups("a:x:1:b\0\n").is_none());
        assert!(users("").is_some() && groups("\n").is_some());
        let folder = folder("odd");
        std::fs::write(folder.join("passwd"), b"Jos\xe9:x:1:1::/:\n").expect("written");
        let mut files = LocalFiles::at(folder.join("passwd"), folder.join("group"));
        assert_eq!(ask(&mut files, &Question::UserId(1)), None, "not text");
        assert_eq!(ask(&mut files, &Question::GroupId(1)), None, "not there");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_change_is_seen_at_once_however_soon_it_follows_another() {
        let folder = folder("change");
        let passwd = folder.join("passwd");
        let mut files = LocalFiles::at(&passwd, folder.join("group"));
        for round in 0..200 {
            // In place and of the same length: within a tick nothing of the file but its content tells.
            let name = ["ann", "bob"][round % 2];
            std::fs::write(&passwd, format!("{name}:x:1:1::/:\n")).expect("written");
            assert_eq!(
                ask(&mut files, &Question::UserId(1)),
                Some(user(name, (1, 1))),
                "{round}"
            );
        }
        std::thread::sleep(TICK * 2);
        ask(&mut files, &Question::UserId(1));
        assert!(
            files.passwd.seen.is_some(),
            "and is remembered once it stays"
        );
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

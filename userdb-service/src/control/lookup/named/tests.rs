//! What sudoers and doas.conf name, text by text and in whole trees. That every name is found which sudo
//! finds is shown by `tests/named_properties.rs`, with sudo's own parser.

use std::os::unix::fs::symlink;

use super::*;
use crate::policy::sudoers::HEADER;

fn names(text: &str) -> Vec<String> {
    sudoers::parse(text.as_bytes()).names.into_iter().collect()
}

fn ids(text: &str) -> Vec<u32> {
    sudoers::parse(text.as_bytes()).ids.into_iter().collect()
}

#[test]
fn users_groups_and_runas_of_a_rule_are_names_and_hosts_and_commands_are_not() {
    assert_eq!(
        names(
            "alice,%wheel, !bob web1, web2=(deploy : ops) NOPASSWD: /usr/bin/apt x, (www) /bin/ls y : db=(pg) ALL\n"
        ),
        ["alice", "bob", "deploy", "ops", "pg", "wheel", "www"]
    );
    assert_eq!(
        names("root ALL=(ALL:ALL) ALL # carol\n#1001 ALL=ALL\n# dave ALL=ALL\n"),
        ["root"]
    );
}

#[test]
fn numbers_of_users_and_groups_are_told_and_commands_have_none() {
    let text = "#1001,%#2002, !#3003 ALL=(#4004 : #5005) /bin/kill 6, /bin/id 7007\nUser_Alias A = #8008\n\
                Defaults:#9009 !lecture\n\"#11011\" ALL=ALL\n#99999999999 ALL=ALL\n%:#12 ALL=ALL\n\\#13 ALL=ALL\n";
    assert_eq!(
        ids(text),
        [12, 13, 1001, 2002, 3003, 4004, 5005, 8008, 9009, 11011]
    );
}

#[test]
fn quoted_and_escaped_names_are_read_as_sudo_reads_them() {
    assert_eq!(names(r#""%domain admins" ALL=ALL"#), ["domain admins"]);
    assert_eq!(
        names(r"CORP\\alice,%:unix\ group ALL=ALL"),
        [r"corp\alice", "unix group"]
    );
    // A quoted ALL is a user of that name.
    assert_eq!(names("\"ALL\" ALL=ALL\nALL ALL=ALL\n"), ["all"]);
}

#[test]
fn members_of_user_and_runas_aliases_are_names_and_those_of_others_are_not() {
    let text = "User_Alias ADMINS = alice, %ops : DEVS = \\\n  carol\nCmnd_Alias X = /bin/ls a, \\\n  /bin/restart dora, \\\n  /bin/x\n\
                Host_Alias H = web1, \\\n web2\nRunas_Alias R = svc\n";
    assert_eq!(
        names(text),
        ["admins", "alice", "carol", "devs", "ops", "r", "svc"]
    );
}

#[test]
fn defaults_count_only_where_they_are_for_a_user() {
    assert_eq!(
        names("Defaults env_reset\nDefaults:alice,bob !lecture, insults\n"),
        ["alice", "bob"]
    );
    assert_eq!(names("Defaults>svc a=\"b c\"\n"), ["svc"]);
    assert!(names("Defaults secure_path=\"/bin:/sbin\"\nDefaults@web1 log\n").is_empty());
    assert_eq!(names("Defaults lecture, exempt_group = ops\n"), ["ops"]);
}

#[test]
fn a_comment_ends_with_its_line_whatever_it_ends_in() {
    assert_eq!(
        names("# see wiki \\\nbobx ALL=(ALL) NOPASSWD: ALL\n"),
        ["bobx"]
    );
    assert_eq!(
        names("root ALL=ALL # x \\\nbobx ALL=ALL\n"),
        ["bobx", "root"]
    );
    assert_eq!(ids("# see wiki \\\n#20007 ALL=ALL\n"), [20007]);
}

#[test]
fn an_escaped_backslash_does_not_continue_a_line() {
    let text = "Cmnd_Alias X = /bin/echo a\\\\\nbobd ALL=(ALL) NOPASSWD: ALL\n";
    assert_eq!(names(text), ["bobd"]);
}

#[test]
fn blanks_and_carriage_returns_behind_the_backslash_continue_a_line_all_the_same() {
    for end in ["\\ \n", "\\\t \n", "\\\r\n", "\\ \r\n"] {
        let text =
            format!("User_Alias ADM = alicia, {end} carolx : BDM = davex\nBDM ALL=(ALL) ALL\n");
        let found = names(&text);
        for name in ["alicia", "carolx", "davex"] {
            assert!(found.contains(&name.to_owned()), "{end:?}: {found:?}");
        }
    }
}

#[test]
fn a_byte_written_in_hexadecimal_is_that_byte() {
    assert_eq!(names("b\\x6fbh ALL=ALL\n"), ["bobh"]);
    assert_eq!(names("%b\\x6Fbg ALL=ALL\n"), ["bobg"]);
}

#[test]
fn an_escaped_quote_does_not_end_a_quoted_name_and_an_unescaped_one_does() {
    assert_eq!(
        names("\"a\\\"b\", carolq ALL=(ALL) NOPASSWD: ALL\n"),
        ["a\"b", "carolq"]
    );
    assert_eq!(names("\"gluedx\"ALL=(ALL) NOPASSWD: ALL\n"), ["gluedx"]);
    assert_eq!(names("\"al\\\n  ice\" ALL=ALL\n"), ["alice"]);
}

#[test]
fn of_what_sudo_would_not_read_every_word_counts() {
    for text in [
        "dora bob eve = ALL\n",
        "dora, eve\n",
        "\"dora\neve ALL=ALL\n",
        "dora ALL=ALL, \\\nUser_Alias X = eve\n",
        "dora, \0 eve ALL=ALL\n",
        "x ALL=ALL\neve, dora, \\",
        "User_Alias X > dora, eve\n",
    ] {
        let found = names(text);
        for name in ["dora", "eve"] {
            assert!(found.contains(&name.to_owned()), "{text:?}: {found:?}");
        }
    }
    assert_eq!(ids("dora eve #7 bob\n"), [7]);
}

#[test]
fn a_rule_that_only_some_sudo_takes_for_a_line_of_its_own_counts() {
    // To sudo the second line is arguments, to sudo-rs the first one is an error.
    let text = "root ALL=/bin/echo a\\\nhanna ALL=(ivan) ALL\n";
    assert_eq!(names(text), ["hanna", "ivan", "root"]);
}

#[test]
fn netgroups_are_told_apart_from_names() {
    let parsed = sudoers::parse(b"+admins,bob ALL=ALL\n\"+two words\" ALL=ALL\n");
    let netgroups: Vec<String> = parsed.netgroups.into_iter().collect();
    assert_eq!(netgroups, ["admins", "two words"]);
    assert_eq!(parsed.names, ["bob".to_owned()].into());
}

#[test]
fn includes_are_recognised_in_both_spellings_and_their_paths_are_no_rules() {
    let parsed = sudoers::parse(
        b"#includedir /etc/sudoers.d\n@include \"/a b\"\n@include x\\ y\n#included is a comment\n\
          @include /etc/sx/a,b\n@include /a=b(c)\n@include\"/q\"\n@include /z\xe9 # why\n  #include /i\n",
    );
    use std::os::unix::ffi::OsStrExt;
    let file = |path: &[u8]| Include::File(std::ffi::OsStr::from_bytes(path).to_owned());
    assert_eq!(
        parsed.includes,
        [
            Include::Folder("/etc/sudoers.d".into()),
            file(b"/a b"),
            file(b"x y"),
            file(b"/etc/sx/a,b"),
            file(b"/a=b(c)"),
            file(b"/q"),
            file(b"/z\xe9"),
            file(b"/i"),
        ]
    );
    assert!(parsed.names.is_empty(), "{:?}", parsed.names);
}

#[test]
fn identities_in_doas_conf_are_names_and_commands_are_not() {
    let parsed = doas::parse(
        b"# permit ghost \\\npermit nopass dora as root\npermit setenv { PATH=/bin HOME } persist :wheelx as \\\n  svc cmd /bin/ls args -l vera\n\
          deny \"quo ted\" # eve\npermit 20007\npermit :20008\npermit \"nopass\"\n",
    );
    let found: Vec<&str> = parsed.names.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "20007", "20008", "dora", "nopass", "quo ted", "root", "svc", "wheelx"
        ]
    );
    assert_eq!(parsed.ids, [20007, 20008].into());
}

/// A folder with a sudoers file and a sudoers.d, removed in the end.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let dir = std::env::temp_dir().join(format!("named-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sudoers.d")).unwrap();
        let text = "root ALL=ALL\n@includedir sudoers.d\n@include sudoers\n";
        std::fs::write(dir.join("sudoers"), text).unwrap();
        Tree(dir)
    }

    fn d(&self) -> PathBuf {
        self.0.join("sudoers.d")
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        std::fs::write(self.d().join(name), text).unwrap();
    }

    fn scanner(&self) -> Scanner {
        let roots = [
            (Syntax::Sudoers, self.0.join("sudoers")),
            (Syntax::Sudoers, self.0.join("absent")),
            (Syntax::Doas, self.0.join("doas.conf")),
        ];
        Scanner::at(roots.to_vec(), self.d())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(scanner: &mut Scanner) -> (u64, Vec<String>) {
    let named = scanner.read().unwrap();
    (named.version, named.names.iter().cloned().collect())
}

#[test]
fn the_whole_tree_counts_but_not_our_files_and_not_what_sudo_skips() {
    let tree = Tree::new("tree");
    tree.write("admins", "Alice ALL=ALL\n");
    tree.write("teleport-zed", format!("{HEADER}\nzed ALL=ALL\n"));
    tree.write("teleport-admins", "eve ALL=ALL\n");
    tree.write("old.bak", "nobody1 ALL=ALL\n");
    tree.write("old~", "nobody2 ALL=ALL\n");
    std::fs::write(tree.0.join("doas.conf"), "permit nopass dora as root\n").unwrap();
    let mut scanner = tree.scanner();
    let (first, found) = read(&mut scanner);
    assert_eq!(found, ["alice", "dora", "eve", "root"]);
    // One of ours more or less is no change; one of the administrator's is.
    tree.write("teleport-yan", format!("{HEADER}\nyan ALL=ALL\n"));
    assert_eq!(read(&mut scanner).0, first);
    tree.write("admins", "carol ALL=ALL\n");
    let (second, found) = read(&mut scanner);
    assert_ne!(second, first);
    assert_eq!(found, ["carol", "dora", "eve", "root"]);
}

#[test]
fn our_header_hides_nothing_in_a_file_that_we_would_not_remove() {
    let tree = Tree::new("header");
    let ours = |name: &str| format!("{HEADER}\n{name} ALL=(ALL) NOPASSWD: ALL\n");
    tree.write("hedda", ours("hedda"));
    tree.write("teleport-real", ours("real"));
    tree.write("teleport-two", ours("linka"));
    std::fs::hard_link(tree.d().join("teleport-two"), tree.0.join("second")).unwrap();
    std::fs::write(tree.0.join("elsewhere"), ours("linkb")).unwrap();
    symlink(tree.0.join("elsewhere"), tree.d().join("teleport-link")).unwrap();
    tree.write("teleport-given", ours("given"));
    std::os::unix::fs::chown(tree.d().join("teleport-given"), Some(1), None)
        .expect("this test needs root to give a file away");
    tree.write("outside", "@include ../teleport-outside\n");
    std::fs::write(tree.0.join("teleport-outside"), ours("outer")).unwrap();
    let (_, found) = read(&mut tree.scanner());
    assert_eq!(found, ["given", "hedda", "linka", "linkb", "outer", "root"]);
}

#[test]
fn a_file_of_ours_is_not_looked_at_again_until_something_becomes_of_it() {
    let tree = Tree::new("becomes");
    let ours = |name: &str| format!("{HEADER}\n{name} ALL=ALL\n");
    let fill = || {
        for name in ["edited", "given", "gone", "kept", "replaced"] {
            tree.write(format!("teleport-{name}"), ours(name));
        }
    };
    fill();
    let mut scanner = tree.scanner();
    let mut found = || {
        let names = read(&mut scanner).1;
        let others = scanner.own.others(&tree.d()).expect("it was listed");
        let is_known = !others.contains(&"teleport-kept".into());
        (names.join(" "), is_known)
    };
    assert_eq!(found(), ("root".to_owned(), true));
    tree.write("teleport-edited", "edith ALL=ALL\n");
    assert_eq!(found(), ("edith root".to_owned(), true));
    std::fs::write(tree.0.join("new"), "repa ALL=ALL\n").unwrap();
    std::fs::rename(tree.0.join("new"), tree.d().join("teleport-replaced")).unwrap();
    assert_eq!(found().0, "edith repa root");
    std::os::unix::fs::chown(tree.d().join("teleport-given"), Some(1), None)
        .expect("this test needs root to give a file away");
    std::fs::remove_file(tree.d().join("teleport-gone")).unwrap();
    assert_eq!(found().0, "edith given repa root");
    tree.write("teleport-gone", "gona ALL=ALL\n");
    assert_eq!(found().0, "edith given gona repa root");
    // Another folder, with the same names.
    std::fs::rename(tree.d(), tree.0.join("away")).unwrap();
    std::fs::create_dir(tree.d()).unwrap();
    fill();
    tree.write("teleport-kept", "keeva ALL=ALL\n");
    assert_eq!(found(), ("keeva root".to_owned(), false));
}

#[test]
fn a_change_of_the_same_length_is_seen_however_soon_it_follows_a_look() {
    let tree = Tree::new("soon");
    let mut scanner = tree.scanner();
    let mut versions = BTreeSet::new();
    for round in 0..100 {
        // In place: within a tick of the file system's clock nothing tells but what stands in them.
        let names = [["ann", "eva"], ["bob", "ida"]][round % 2];
        tree.write("admins", format!("{} ALL=ALL\n", names[0]));
        let first = [HEADER.to_owned(), "#".repeat(HEADER.len())];
        let text = format!("{}\n{} ALL=ALL\n", first[round % 2], names[1]);
        tree.write("teleport-x", text);
        let (version, found) = read(&mut scanner);
        let expected = [vec!["ann", "root"], vec!["bob", "ida", "root"]];
        assert_eq!(found, expected[round % 2], "{round}");
        versions.insert(version);
    }
    assert!(versions.len() >= 2, "who knows one does not know the other");
}

#[test]
fn files_are_found_whatever_bytes_their_names_and_texts_are_of() {
    use std::os::unix::ffi::OsStrExt;
    let tree = Tree::new("bytes");
    let name = std::ffi::OsStr::from_bytes(b"z\xe9");
    tree.write(name, b"# caf\xe9\nzoeb ALL=ALL\n");
    std::fs::create_dir_all(tree.0.join("sx")).unwrap();
    std::fs::write(tree.0.join("sx/a,b"), "zoec ALL=ALL\n").unwrap();
    tree.write("more", "@include ../sx/a,b\n@includedir ../sx/none\n");
    let (_, found) = read(&mut tree.scanner());
    assert_eq!(found, ["root", "zoeb", "zoec"]);
}

#[test]
fn what_sudo_cannot_open_either_harms_nobody() {
    let tree = Tree::new("odd");
    symlink("loop", tree.d().join("loop")).unwrap();
    symlink("/no/such", tree.d().join("dangling")).unwrap();
    std::fs::create_dir(tree.d().join("folder")).unwrap();
    nix::unistd::mkfifo(&tree.d().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    tree.write(
        "loops",
        "@include loop\n@includedir loop\n@includedir more\n",
    );
    tree.write("last", "zoel ALL=ALL\n");
    let (_, found) = read(&mut tree.scanner());
    assert_eq!(found, ["root", "zoel"]);
}

#[test]
fn a_large_file_is_read_and_one_that_is_too_large_is_named() {
    let tree = Tree::new("large");
    let mut text = vec![b'#'; 5 << 20];
    text.extend_from_slice(b"\nzoem ALL=ALL\n");
    tree.write("large", &text);
    let mut scanner = tree.scanner();
    assert_eq!(read(&mut scanner).1, ["root", "zoem"]);
    tree.write("large", vec![b'#'; 9 << 20]);
    let error = scanner.read().unwrap_err().to_string();
    assert!(
        error.contains("sudoers.d/large") && error.contains("8 MiB"),
        "{error}"
    );
}

//! Every user, group, netgroup and number that sudo's own parser (`cvtsudoers`) finds in generated sudoers
//! files is one that no login of ours may have. PROPTEST_CASES sets how many files.

#![allow(missing_docs, unreachable_pub, reason = "test code")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use userdb_service::control::lookup::named::Named;

/// Files in an ordinary run, which takes seconds: each is read by a process of its own.
const CASES: u32 = 2_000;

fn text(parts: &'static [&'static str]) -> BoxedStrategy<String> {
    select(parts).prop_map(str::to_owned).boxed()
}

fn blanks() -> BoxedStrategy<String> {
    text(&[
        " ",
        " ",
        " ",
        "\t",
        "  ",
        " \\\n ",
        "\\\n",
        " \\ \n",
        " \\\r\n\t",
        " \\\t \n",
    ])
}

fn maybe_blanks() -> BoxedStrategy<String> {
    prop_oneof![3 => text(&[""]), 2 => blanks()].boxed()
}

/// A name, each byte of it plain, escaped or in hexadecimal; or the whole in quotes.
fn name() -> BoxedStrategy<String> {
    let byte = prop_oneof![
        20 => "[a-zA-Z0-9_.-]".prop_map(|c| c),
        1 => "[a-z@,:=!\\\\# ()\"]".prop_map(|c| format!("\\{c}")),
        2 => "[a-z]".prop_map(|c| format!("\\x{:02x}", c.as_bytes()[0])),
        1 => text(&["\\xe9", "\\x5c", "\\x20", ";", "@", "+", "%", "$", "*", "~", "/", "^"]),
    ];
    let bare = ("[a-z]", vec(byte, 0..6)).prop_map(|(first, rest)| first + &rest.concat());
    let inside = prop_oneof![
        12 => "[a-z0-9 ]".prop_map(|c| c),
        1 => text(&["\\\"", "\\", ",", "#", "=", ":", "(", "\\\n  ", "\\ \r\n", "\\x61", "!"]),
    ];
    let quoted = ("[%+]?:?[a-z]", vec(inside, 0..6), "[a-z]")
        .prop_map(|(first, rest, last)| format!("\"{first}{}{last}\"", rest.concat()));
    prop_oneof![4 => bare, 1 => quoted].boxed()
}

fn user() -> BoxedStrategy<String> {
    let number = "[0-9]{1,9}";
    let item = prop_oneof![
        6 => name(),
        1 => ("%|%:|[+]", "[a-z][a-z.-]{0,5}").prop_map(|(mark, name)| mark + &name),
        1 => ("%|%:|", number).prop_map(|(mark, number)| format!("{mark}#{number}")),
        1 => ("\\\\", number).prop_map(|(escape, number)| format!("{escape}#{number}")),
        1 => number.prop_map(|number| format!("\"#{number}\"")),
        1 => text(&["ALL", "ADM", "\"ALL\"", "list", "Defaultsx", "User_Aliases", "@included"]),
    ];
    (text(&["", "", "", "!", "! ", "!!"]), item)
        .prop_map(|(not, item)| not + &item)
        .boxed()
}

fn users() -> BoxedStrategy<String> {
    (user(), vec((maybe_blanks(), maybe_blanks(), user()), 0..3))
        .prop_map(|(first, more)| {
            let more = more.into_iter();
            first
                + &more
                    .map(|(a, b, c)| format!("{a},{b}{c}"))
                    .collect::<String>()
        })
        .boxed()
}

fn command() -> BoxedStrategy<String> {
    let run_as = prop_oneof![
        4 => text(&["", "(ALL) ", "(ALL:ALL)", "(root)"]),
        1 => users().prop_map(|users| format!("({users})")),
        1 => (users(), users()).prop_map(|(users, groups)| format!("({users} : {groups}) ")),
    ];
    let tag = text(&["", "", "NOPASSWD: ", "NOEXEC:SETENV :", "LOG_INPUT:"]);
    let what = text(&[
        "ALL",
        "/bin/ls",
        "!/bin/ls -l",
        "/bin/echo a\\\\",
        "/bin/echo \"b c\"",
        "/bin/echo x=y z\\=w \\#1",
        "/bin/x \\\n alice ALL=x",
        "/bin/x a\\, b\\:c",
        "/dir/",
        "sudoedit /etc/motd",
        "/bin/ls ^a=[0-9]+, \\$ \\# $",
        "^/bin/[a-z]*$",
        "/bin/ls (a) !b \"",
        "sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /bin/ls",
        "/bin/a\\ b\\,c",
    ]);
    (run_as, tag, what)
        .prop_map(|(run_as, tag, what)| run_as + &tag + &what)
        .boxed()
}

fn commands() -> BoxedStrategy<String> {
    let separator = text(&[", ", ",", " ,\\\n ", " : h2 = ", ":h3=", " \\\n : ALL ="]);
    (command(), vec((separator, command()), 0..2))
        .prop_map(|(first, more)| {
            let more = more.into_iter();
            first + &more.map(|(a, b)| a + &b).collect::<String>()
        })
        .boxed()
}

/// A line; `@` in it stands for the number of the line, so that no alias is there twice.
fn line() -> BoxedStrategy<String> {
    let hosts = text(&[
        "ALL",
        "h1",
        "h1, h2",
        "!h1,\\\n h2",
        "\"h 1\"",
        "10.0.0.0/8",
    ]);
    let rule = (
        text(&["", "", "  ", "\t"]),
        users(),
        blanks(),
        hosts,
        maybe_blanks(),
        maybe_blanks(),
        commands(),
    )
        .prop_map(|(a, b, c, d, e, f, g)| format!("{a}{b}{c}{d}{e}={f}{g}"));
    let alias = (
        text(&["", " "]),
        text(&["User", "Runas"]),
        blanks(),
        maybe_blanks(),
        users(),
        users(),
        0..3,
    )
        .prop_map(
            |(a, kind, b, c, first, second, second_too)| match second_too {
                0 => format!("{a}{kind}_Alias{b}A<>{c}={c}{first}{c}:{b}B<>={second}"),
                _ => format!("{a}{kind}_Alias{b}A<>{c}={c}{first}"),
            },
        );
    let defaults =
        (text(&["Defaults:", "Defaults>", "Defaults: "]), users()).prop_map(|(a, users)| {
            // A blank ends the list.
            a + &users
                .replace(['\t', '\n', '\r'], "")
                .replace("\\ ", "")
                .replace(' ', "")
                + " !lecture"
        });
    let others = text(&[
        "# comment",
        "# comment \\",
        "  # \"quote",
        "#comment\\\\",
        "#",
        "",
        "Defaults env_reset, !lecture # why \\",
        "Defaults secure_path=\"/a:/b # c\"",
        "Defaults badpass_message=\"x \\\" # y\"",
        "Defaults env_keep += \"A B\"",
        "Defaults@h1 log_year",
        "Defaults!/bin/ls !lecture",
        "Cmnd_Alias C<> = /bin/ls a, \\\n  /bin/foo b\\\\",
        "Cmnd_Alias C<> = /bin/ls a \\\r\n, /bin/foo b=c",
        "Host_Alias H<> = h1, \\\n  h2 : HH<> = 10.0.0.1",
    ]);
    prop_oneof![5 => rule, 3 => alias, 1 => defaults, 3 => others].boxed()
}

/// Parts in any order, which makes sense now and then.
fn soup() -> BoxedStrategy<String> {
    let part = prop_oneof![
        3 => user(),
        3 => blanks(),
        4 => text(&["ALL=ALL", " ALL = ALL", ",", "=", "(", ")", ":", "\"", "\\", "\\\\", "\n", "\n", "\r\n", "#", "# c \\\n",
                    "User_Alias A = ", "Defaults", "Defaults:", "/bin/ls", "^", "$", "NOPASSWD:", "!", "+", "%", ">"]),
    ];
    vec(part, 2..10).prop_map(|parts| parts.concat()).boxed()
}

fn file() -> BoxedStrategy<String> {
    let lines = vec((line(), text(&["\n", "\n", "\n", "\r\n"])), 1..5).prop_map(|lines| {
        let lines = lines.into_iter().enumerate();
        lines
            .map(|(number, (line, end))| line.replace("<>", &number.to_string()) + &end)
            .collect::<String>()
    });
    let whole = prop_oneof![6 => lines, 1 => soup()];
    // Without the last line end now and then.
    (whole, 0..4)
        .prop_map(|(text, cut)| match cut {
            0 => text.trim_end_matches(['\r', '\n']).to_owned(),
            _ => text,
        })
        .boxed()
}

/// How a file is included, its name and the same as written.
const INCLUDES: &[(&str, &[u8], &[u8])] = &[
    ("@include", b"a,b", b"a,b"),
    ("@include", b"a=b(c)", b"a=b(c)"),
    ("#include", b"x y", b"\"x y\""),
    ("@include", b"x y", b"x\\ y"),
    ("@include", b"z\xe9", b"z\xe9"),
    ("@include", b"q#1", b"q#1 # q"),
    ("@includedir", b"a:b/f", b"a:b"),
    ("#includedir", b"d d/z\xe9", b"\"d d\""),
];

#[derive(Clone, Debug)]
struct Case {
    before: String,
    included: String,
    how: usize,
    after: String,
}

fn case() -> impl Strategy<Value = Case> {
    (file(), file(), 0..INCLUDES.len() * 3, file()).prop_map(|(before, included, how, after)| {
        Case {
            before,
            included,
            how,
            after,
        }
    })
}

impl Case {
    /// Writes the files and returns the first.
    fn lay(&self, dir: &Path) -> PathBuf {
        let root = dir.join("sudoers");
        let mut text = self.before.clone().into_bytes();
        if let Some((directive, name, written)) = INCLUDES.get(self.how) {
            let included = dir.join(std::ffi::OsStr::from_bytes(name));
            std::fs::create_dir_all(included.parent().unwrap()).unwrap();
            // Aliases of one name twice are an error.
            let aliases = self
                .included
                .replace("_Alias A", "_Alias X")
                .replace(" B", " Y");
            std::fs::write(included, aliases).unwrap();
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(directive.as_bytes());
            text.push(b' ');
            text.extend_from_slice(written);
            text.push(b'\n');
        } else {
            text.extend_from_slice(self.after.replace("_Alias A", "_Alias V").as_bytes());
        }
        std::fs::write(&root, text).unwrap();
        root
    }
}

/// What sudo finds.
#[derive(Debug, Default)]
struct Found {
    names: BTreeSet<String>,
    ids: BTreeSet<u32>,
    netgroups: BTreeSet<String>,
}

impl Found {
    /// Nothing where sudo would not take the files.
    fn by_sudo(root: &Path) -> Option<Found> {
        let output = Command::new("cvtsudoers")
            .args(["-f", "json"])
            .arg(root)
            .output()
            .expect("cvtsudoers, of the package sudo, is needed for this test");
        // Names need not be UTF-8.
        let json = serde_json::from_str(&String::from_utf8_lossy(&output.stdout)).ok()?;
        let mut found = Found::default();
        found.walk(&json);
        Some(found)
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.walk(value)),
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("username" | "usergroup" | "nonunixgroup", Value::String(name)) => {
                            let name = name.trim_start_matches('%').trim_start_matches(':');
                            match name.strip_prefix('#').map(str::parse) {
                                // Of groups to run as, cvtsudoers writes numbers like names.
                                Some(Ok(id)) => drop(self.ids.insert(id)),
                                // And the ALL that is everybody like a user of that name.
                                _ if name == "ALL" => {}
                                _ => drop(self.names.insert(name.to_lowercase())),
                            }
                        }
                        ("userid" | "usergid" | "nonunixgid", Value::Number(id)) => {
                            self.ids
                                .extend(id.as_u64().and_then(|id| u32::try_from(id).ok()));
                        }
                        ("netgroup", Value::String(name)) => {
                            // Its mark is not written; a second one is of the name.
                            self.netgroups.insert(name.clone());
                        }
                        // A netgroup of hosts names nobody.
                        ("Host_List" | "Host_Aliases", _) => {}
                        (_, value) => self.walk(value),
                    }
                }
            }
            _ => {}
        }
    }
}

#[test]
fn whom_sudo_finds_in_a_file_is_found() {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let dir = std::env::temp_dir().join(format!("named-properties-{}", std::process::id()));
    let (taken, whom) = (Cell::new(0_u32), Cell::new(0_usize));
    let result = runner.run(&case(), |case| {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let root = case.lay(&dir);
        let Some(found) = Found::by_sudo(&root) else {
            return Ok(());
        };
        let named = Named::in_sudoers_file(&root).unwrap();
        let read = String::from_utf8_lossy(&std::fs::read(&root).unwrap()).into_owned();
        // A user whose name begins with an escaped mark is nobody that can be a login of ours.
        let can_log_in = |name: &&String| !name.starts_with(['+', '%', '#']);
        let missed = found.names.difference(&named.names).filter(can_log_in);
        let missed: Vec<&String> = missed.collect();
        prop_assert!(missed.is_empty(), "missed {:?} in {:?}", missed, read);
        let missed: Vec<&u32> = found.ids.difference(&named.ids).collect();
        prop_assert!(missed.is_empty(), "missed {:?} in {:?}", missed, read);
        let missed: Vec<&String> = found.netgroups.difference(&named.netgroups).collect();
        prop_assert!(missed.is_empty(), "missed {:?} in {:?}", missed, read);
        taken.set(taken.get() + 1);
        whom.set(whom.get() + found.names.len() + found.ids.len() + found.netgroups.len());
        Ok(())
    });
    let _ = std::fs::remove_dir_all(&dir);
    result.unwrap_or_else(|error| panic!("{error}"));
    println!(
        "{} of {cases} taken by sudo, {} named",
        taken.get(),
        whom.get()
    );
    // Else the generator has drifted to what sudo refuses, and shows nothing.
    assert!(
        taken.get() > cases / 4,
        "only {} of {cases} taken",
        taken.get()
    );
}

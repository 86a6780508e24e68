//! Where people read about the keys of config.toml: the packaged file tells each with its default, the manual page each.

use userdb_service::policy::config::{Config, DEFAULT_SHELL, HomeMode, Role};

const PACKAGED: &str = include_str!("../../../units/config.toml");
const PAGE: &str = include_str!("../../../docs/man/teleport-userdb.toml.5");
const TABLES: [&str; 6] = [
    "[names]", "[uids]", "[logins]", "[home]", "[sudo]", "[[role]]",
];

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(&[("config.toml", text)]).map_err(|error| error.to_string())
}

/// The packaged file with everything in it that is commented out.
fn without_comment_signs() -> String {
    // A setting that is commented out begins with `#` and no space.
    let is_setting = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let said = |line: &'static str| {
        line.strip_prefix('#')
            .filter(|line| is_setting(line))
            .unwrap_or(line)
    };
    let lines = PACKAGED.lines();
    lines.map(|line| format!("{}\n", said(line))).collect()
}

/// The keys of a table, as the error for one that does not exist tells them.
fn keys(table: &str) -> Vec<String> {
    let error = parse(&format!("{table}\nno-key-comes-near-this-one = 1\n")).unwrap_err();
    let (_, keys) = error.split_once("the keys here are ").expect("the keys");
    keys.split(", ").map(str::to_owned).collect()
}

fn is_table(key: &str) -> bool {
    TABLES
        .iter()
        .any(|table| table.trim_matches(['[', ']']) == key)
}

/// What stands in `text` between the heading of a table, behind `mark`, and the next one.
fn part<'a>(text: &'a str, mark: &str, table: &str) -> &'a str {
    let heading = format!("\n{mark}{table}\n");
    let (_, rest) = text.split_once(&heading).expect(table);
    before_tables(rest, mark)
}

fn before_tables<'a>(text: &'a str, mark: &str) -> &'a str {
    let next = text.find(&format!("\n{mark}["));
    next.map_or(text, |next| &text[..next])
}

#[test]
fn every_key_stands_in_the_packaged_file_and_in_the_manual_page() {
    let packaged = without_comment_signs();
    let of_tables =
        TABLES.map(|table| (table, part(&packaged, "", table), part(PAGE, ".SH ", table)));
    let of_none = (
        "",
        before_tables(&packaged, ""),
        before_tables(PAGE, ".SH "),
    );
    for (table, packaged, page) in of_tables.into_iter().chain([of_none]) {
        for key in keys(table).iter().filter(|key| !is_table(key)) {
            let is_set = packaged
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")));
            assert!(is_set, "config.toml lacks {table} {key}");
            // Several share a paragraph: `.BR one " = 1, " other " = 2"`.
            let is_told = page.lines().any(|line| {
                let words = line.strip_prefix(".B");
                words.is_some_and(|words| words.split(['"', ' ']).any(|word| word == key))
            });
            assert!(is_told, "the manual page lacks {table} {key}");
        }
    }
}

#[test]
fn the_default_file_makes_users_without_rights_and_its_comments_tell_the_defaults() {
    let config = parse(PACKAGED).unwrap();
    let role = &config.roles[0];
    assert_eq!(
        (config.roles.len(), role.pattern.as_str(), role.create_user),
        (1, "*", Some(true))
    );
    assert_eq!(
        (role.groups.len(), role.specs().count(), role.doas),
        (0, 0, false)
    );

    let mut config = parse(&without_comment_signs()).unwrap();
    assert!(
        config.uids.requested.take().is_some(),
        "the example of uids.requested"
    );
    let role = config.roles.remove(0);
    let expected = Role {
        create_user: Some(true),
        shell: Some(DEFAULT_SHELL.to_owned()),
        home: Some(HomeMode::default()),
        // Examples: these have no default.
        max_sessions: role.max_sessions,
        tasks_max: role.tasks_max,
        memory_max: role.memory_max,
        cpu_weight: role.cpu_weight,
        umask: role.umask,
        ..Role::new(role.pattern.clone(), role.place.clone())
    };
    assert_eq!(role, expected);
    assert_eq!(config, Config::default());
}

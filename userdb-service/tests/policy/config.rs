//! config.toml: every key is read, everything else is refused with its place and what would be right.

use std::time::Duration;

use userdb_service::policy::config::{Config, ConfigError, GroupTemplate, HomeMode, InvalidNames};
use userdb_service::policy::plan::{Disposition, SharedLogins, SudoMode};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&[("config.toml", text)])
}

/// The error of a text, as people see it.
fn wrong(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

const EVERYTHING: &str = r#"
auto-create-users = false
pam-services = ["teleport"]
templated-groups = ["team-*"]
gecos = "Teleport user {user}"
retire-delay = "500ms"
stop-timeout = "2m"
disposition = "regular"

[names]
invalid = "refuse"
repaired-may-sudo = true
protected = ["svc-*"]
allow = ["git"]

[uids]
key = "000102030405060708090a0b0c0d0e0f"
range = "0x71000000-0x71FFFFFF"
requested = "20000-59999"

[logins]
shared = "intersect"

[home]
mode = "persistent"
keep = "1h"
base = "/srv/home"

[sudo]
mode = "group"
max-files = 10

[[role]]
match = "dev-*"
create-user = true
groups = ["docker", "{{env.TELEPORT_GROUPS}}", "x-{{ env.A }}-y"]
deny-groups = ["adm", "z*"]
sudo = true
sudoers = ["ALL=(root) NOPASSWD: /usr/bin/systemctl restart app"]
doas = true
shell = "/bin/zsh"
home = "none"
linger = true
max-sessions = 10
tasks-max = 512
memory-max = "512M"
cpu-weight = 200
umask = "0027"
environment = ["LANG=C.UTF-8"]
"#;

#[test]
fn every_key_is_read() {
    let config = parse(EVERYTHING).unwrap();
    assert!(!config.auto_create_users);
    assert_eq!(config.pam_services, ["teleport"]);
    assert_eq!(config.templated_groups[0].as_str(), "team-*");
    assert_eq!(config.gecos, "Teleport user {user}");
    assert_eq!(
        (config.retire_delay, config.stop_timeout),
        (Duration::from_millis(500), Duration::from_secs(120))
    );
    assert_eq!(config.disposition, Disposition::Regular);
    assert_eq!(
        (config.names.invalid, config.names.repaired_may_sudo),
        (InvalidNames::Refuse, true)
    );
    assert_eq!(
        (
            config.names.protected[0].as_str(),
            config.names.allow[0].as_str()
        ),
        ("svc-*", "git")
    );
    assert_eq!(
        config.uids.key,
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    );
    assert_eq!(
        (config.uids.range, config.uids.requested),
        (0x7100_0000..=0x71FF_FFFF, Some(20_000..=59_999))
    );
    assert_eq!(config.logins.shared, SharedLogins::Intersect);
    assert_eq!(
        (
            config.home.mode,
            config.home.keep,
            config.home.base.as_str()
        ),
        (HomeMode::Persistent, Duration::from_secs(3600), "/srv/home")
    );
    assert_eq!(
        (config.sudo.mode, config.sudo.max_files),
        (SudoMode::Group, 10)
    );
    let role = &config.roles[0];
    assert_eq!(
        (role.pattern.as_str(), role.create_user, role.place.as_str()),
        ("dev-*", Some(true), "config.toml:33")
    );
    let groups: Vec<String> = role.groups.iter().map(GroupTemplate::to_string).collect();
    assert_eq!(
        groups,
        ["docker", "{{env.TELEPORT_GROUPS}}", "x-{{env.A}}-y"]
    );
    assert_eq!(role.deny_groups.len(), 2);
    assert_eq!(role.specs().count(), 2);
    assert!(role.doas && role.linger);
    assert_eq!(
        (role.shell.as_deref(), role.home, role.max_sessions),
        (Some("/bin/zsh"), Some(HomeMode::None), Some(10))
    );
    assert_eq!(
        (role.tasks_max, role.memory_max, role.cpu_weight, role.umask),
        (Some(512), Some(512 << 20), Some(200), Some(0o027))
    );
    assert_eq!(role.environment, ["LANG=C.UTF-8"]);
}

#[test]
fn what_is_not_said_has_its_default() {
    assert_eq!(parse("").unwrap(), Config::default());
    let config = Config::default();
    assert!(
        config.auto_create_users && config.roles.is_empty() && config.templated_groups.is_empty()
    );
    assert_eq!(config.pam_services, ["teleport", "sshd"]);
    assert_eq!(
        (config.retire_delay, config.stop_timeout, config.home.keep),
        (
            Duration::from_secs(3),
            Duration::from_secs(5),
            Duration::from_secs(600)
        )
    );
    assert_eq!(
        (config.uids.range, config.uids.requested),
        (0x7000_0000..=0x7FFD_FFFF, None)
    );
    assert_eq!(config.sudo.max_files, 1000);
}

#[test]
fn tables_merge_by_key_roles_add_up_and_other_arrays_are_replaced() {
    let files = [
        (
            "/usr/lib/config.toml",
            "pam-services = [\"a\", \"b\"]\n[home]\nmode = \"none\"\nkeep = \"1s\"\n[[role]]\nmatch = \"one\"\n",
        ),
        (
            "/etc/config.toml",
            "[home]\nmode = \"persistent\"\n[[role]]\nmatch = \"two\"\n[[role]]\nmatch = \"three\"\n",
        ),
        (
            "/etc/config.d/50.toml",
            "pam-services = [\"c\"]\nhome.base = \"/h\"\n",
        ),
    ];
    let config = Config::parse(&files).unwrap();
    assert_eq!(config.pam_services, ["c"]);
    assert_eq!(
        (
            config.home.mode,
            config.home.keep,
            config.home.base.as_str()
        ),
        (HomeMode::Persistent, Duration::from_secs(1), "/h")
    );
    let roles: Vec<&str> = config
        .roles
        .iter()
        .map(|role| role.pattern.as_str())
        .collect();
    assert_eq!(roles, ["one", "two", "three"]);
    assert_eq!(config.roles[2].place, "/etc/config.toml:5");
}

#[test]
fn a_file_can_forget_the_roles_of_those_before_it_and_keeps_its_own() {
    let everybody = "[[role]]\nmatch = \"*\"\ncreate-user = true\n";
    let config = Config::parse(&[
        ("default.toml", everybody.to_owned()),
        (
            "ours.toml",
            everybody.replace('*', "dev") + "forget-roles = true\n",
        ),
    ]);
    // A key below [[role]] belongs to the role: it has to stand above.
    let error = config.expect_err("refused").to_string();
    assert!(error.contains("forget-roles"), "{error}");
    let config = Config::parse(&[
        ("default.toml", everybody.to_owned()),
        (
            "ours.toml",
            format!("forget-roles = true\n{}", everybody.replace('*', "dev")),
        ),
        ("more.toml", everybody.replace('*', "ops")),
    ])
    .expect("good");
    let patterns: Vec<&str> = config
        .roles
        .iter()
        .map(|role| role.pattern.as_str())
        .collect();
    assert_eq!(patterns, ["dev", "ops"]);
}

#[test]
fn an_error_names_file_line_key_and_what_would_be_right() {
    assert_eq!(
        wrong("\n\nretire-dealy = \"3s\""),
        "config.toml:3: retire-dealy: there is no such key; did you mean \"retire-delay\"?"
    );
    assert_eq!(
        wrong("[names]\ninvalid = \"remove\"\nfoo = 1"),
        "config.toml:3: names.foo: there is no such key; the keys here are invalid, repaired-may-sudo, protected, allow"
    );
    assert_eq!(
        wrong("[[role]]\nmatch = \"a\"\n[[role]]\nmatch = \"b\"\nsudoer = []"),
        "config.toml:5: role.sudoer: there is no such key; did you mean \"sudoers\"?"
    );
    assert_eq!(
        wrong("[home]\nkeep = \"10 minutes\""),
        "config.toml:2: home.keep: \"10 minutes\" is not right here: write a time with its unit, such as \"500ms\", \"3s\", \"10m\" or \"2h\""
    );
    assert_eq!(
        wrong("\nauto-create-users = \"yes\""),
        "config.toml:2: auto-create-users: \"yes\" is not right here: write true or false"
    );
    assert_eq!(
        wrong("[[role]]\nsudo = true"),
        "config.toml:1: role: match is missing: a role names the Teleport roles it is for, such as match = \"dev-*\""
    );
    let syntax = parse("a = 1\nb = = 2").unwrap_err();
    assert_eq!((syntax.line, syntax.key.as_str()), (2, ""));
    assert!(syntax.message.starts_with("this is not TOML: "), "{syntax}");
    let files = [
        ("/usr/lib/config.toml", ""),
        ("/etc/config.toml", "gecos = 1"),
    ];
    assert!(
        Config::parse(&files)
            .unwrap_err()
            .to_string()
            .starts_with("/etc/config.toml:1: gecos: 1 is not right here")
    );
}

#[test]
fn the_first_error_of_a_file_is_the_one_that_is_named() {
    assert!(wrong("zeta = 1\nalpha = 2").contains(":1: zeta"));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let wrong_lines = [
        "pam-services = \"teleport\"",
        "pam-services = [\"\"]",
        "pam-services = [\"a/b\"]",
        "pam-services = [1]",
        "templated-groups = [\"Team-*\"]",
        "templated-groups = [\"\"]",
        "templated-groups = \"*\"",
        "gecos = \"a:b\"",
        "gecos = \"{role}\"",
        "gecos = \"{user\"",
        "gecos = \"user}\"",
        "gecos = \"{rol{user}es}\"",
        "gecos = \"a\\nb\"",
        "retire-delay = 3",
        "retire-delay = \"3\"",
        "retire-delay = \"-3s\"",
        "retire-delay = \"3S\"",
        "retire-delay = \"99999d\"",
        "retire-delay = \"\"",
        "stop-timeout = \"1.5s\"",
        "disposition = \"system\"",
        "disposition = true",
        "names = 1",
        "names.invalid = \"keep\"",
        "names.repaired-may-sudo = 1",
        "names.protected = [\"A\"]",
        "names.allow = [\"a*\"]",
        "names.allow = [\"A\"]",
        "uids.key = \"00\"",
        "uids.key = \"000102030405060708090a0b0c0d0e0g\"",
        "uids.key = \"+00102030405060708090a0b0c0d0e0f\"",
        "uids.range = \"5-3\"",
        "uids.range = \"500-2000\"",
        "uids.range = \"70000\"",
        "uids.range = \"70000-0xFFFFFFFF\"",
        "uids.range = \"60000-70000\"",
        "uids.range = \"65534-65536\"",
        "uids.range = \"-1-5000\"",
        "uids.range = \"+70000-70001\"",
        "uids.range = 70000",
        "uids.requested = \"0-100\"",
        "uids.requested = \"0x7000FFFF-0x70010000\"",
        "logins.shared = \"yes\"",
        "logins = []",
        "home.mode = \"tmpfs\"",
        "home.base = \"home\"",
        "home.base = \"/\"",
        "home.base = \"/etc\"",
        "home.base = \"/usr/home\"",
        "home.base = \"/var\"",
        "home.base = \"/var/tmp\"",
        "home.base = \"/var/run/homes\"",
        "home.base = \"/home/\"",
        "home.base = \"/home/../etc\"",
        "home.base = \"/a:b\"",
        "home.keep = 10",
        "sudo.mode = \"none\"",
        "sudo.max-files = -1",
        "sudo.max-files = 1.5",
        "sudo.max-files = \"10\"",
        "role = 1",
        "role.match = \"a\"",
        "role = [1]",
    ];
    for line in wrong_lines {
        let error = parse(line).expect_err(line);
        assert_eq!(error.line, 1, "{line}");
        assert!(!error.message.is_empty() && !error.key.is_empty(), "{line}");
    }
    let wrong_in_a_role = [
        "match = \"\"",
        "match = \"a b\"",
        "match = 1",
        "create-user = \"yes\"",
        "groups = \"docker\"",
        "groups = [\"Docker\"]",
        "groups = [\"a b\"]",
        "groups = [1]",
        "groups = [\"teleport-sudo\"]",
        "groups = [\"teleport-system\"]",
        "groups = [\"{{external.groups}}\"]",
        "groups = [\"{{internal.groups}}\"]",
        "groups = [\"{{env.A-B}}\"]",
        "groups = [\"{{env.}}\"]",
        "groups = [\"{{env.A}\"]",
        "groups = [\"X{{env.A}}\"]",
        "groups = [\"{{env.A}}{{env.B}}\"]",
        "deny-groups = [\"A\"]",
        "deny-groups = \"adm\"",
        "sudo = \"true\"",
        "sudoers = \"ALL=(ALL) ALL\"",
        "sudoers = [\"ALL\"]",
        "sudoers = [\", bob ALL=(ALL) ALL\"]",
        "sudoers = [\"ALL=(ALL) ALL\\nbob ALL=(ALL) ALL\"]",
        "sudoers = [\"ALL=/bin/id \\\\\"]",
        "sudoers = [\"\"]",
        "doas = 1",
        "shell = \"bash\"",
        "shell = \"/bin/ba\\nsh\"",
        "shell = \"/bin/a:b\"",
        "home = \"tmp\"",
        "linger = \"no\"",
        "max-sessions = 0",
        "max-sessions = 4294967296",
        "max-sessions = \"10\"",
        "tasks-max = 0",
        "memory-max = \"512Q\"",
        "memory-max = 0",
        "memory-max = \"M\"",
        "memory-max = \"99999999T\"",
        "cpu-weight = 0",
        "cpu-weight = 10001",
        "umask = 27",
        "umask = \"8\"",
        "umask = \"1777\"",
        "umask = \"\"",
        "umask = \"0o27\"",
        "umask = -1",
        "environment = [\"A\"]",
        "environment = [\"1=2\"]",
        "environment = [\"A=\\n\"]",
        "environment = { \"A B\" = \"x\" }",
        "environment = { A = 1 }",
        "environment = \"A=b\"",
    ];
    for line in wrong_in_a_role {
        let matches = if line.starts_with("match") {
            ""
        } else {
            "match = \"x\"\n"
        };
        let error = parse(&format!("[[role]]\n{matches}{line}")).expect_err(line);
        assert!(error.key.starts_with("role"), "{line}: {error}");
    }
    for line in [
        "umask = \"27\"",
        "umask = 0o27",
        "memory-max = 1",
        "memory-max = \"1T\"",
        "sudoers = []",
        "environment = { A = \"x=y\" }",
    ] {
        parse(&format!("[[role]]\nmatch = \"x\"\n{line}"))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn homes_may_be_anywhere_else() {
    for base in ["/home", "/srv/home", "/var/home", "/var/tmpfs", "/data/run"] {
        let config = parse(&format!("home.base = \"{base}\"")).expect(base);
        assert_eq!(config.home.base, base);
    }
}

#[test]
fn errors_carry_no_control_characters_from_the_file() {
    for text in [
        "gecos = \"\\u001b[2J:\"",
        "\"\\u001b[2J\" = 1",
        "names.allow = [\"\\u202e\"]",
        "[[role]]\nmatch = \"\\u001b\"",
        "a = \u{1b}",
    ] {
        let message = wrong(text);
        assert!(
            !message.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{message:?}"
        );
    }
}

#[test]
fn requested_numbers_may_not_reach_into_the_range_of_the_hash_wherever_the_two_stand() {
    let files = [
        ("a.toml", "uids.requested = \"100000-200000\""),
        ("b.toml", "\n[uids]\nrange = \"150000-160000\""),
    ];
    let error = Config::parse(&files).unwrap_err();
    assert_eq!(
        (error.file.to_str(), error.line, error.key.as_str()),
        (Some("b.toml"), 3, "uids.range")
    );
}

#[test]
fn ephemeral_homes_are_those_of_the_configuration_or_of_a_role() {
    let parsed = |text: &str| parse(text).expect("good");
    let none = "home.mode = \"none\"\n";
    let role = "[[role]]\nmatch = \"dev\"\nhome = \"ephemeral\"\n";
    assert!(parsed("").has_homes(HomeMode::Ephemeral));
    assert!(!parsed(none).has_homes(HomeMode::Ephemeral));
    assert!(parsed(&format!("{none}{role}")).has_homes(HomeMode::Ephemeral));
}

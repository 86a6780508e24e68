//! What is generated: a node and a few logins on it, mostly near the edges of the rules.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::string::string_regex;
use userdb_service::policy::LoginRequest;
use userdb_service::policy::decide::{FoundGroup, FoundUser};

use crate::world::{World, login, with};

/// Names that mean something to somebody.
pub const NAMES: &[&str] = &[
    "alice",
    "bob",
    "carol",
    "john",
    "john.doe",
    "root",
    "sudo",
    "docker",
    "ops",
    "team-a",
    "team-b",
    "a",
    "a.b",
    "teleport-x",
];

/// Patterns and words of roles.
const PATTERNS: &[&str] = &["*", "*", "dev-*", "ops", "d?v", "*-admin", "*a*b*"];
const WORDS: &[&str] = &[
    "dev-web",
    "ops",
    "dev",
    "x-admin",
    "aXbX",
    "other",
    "ops\u{a0}x",
    "OPS",
];

/// Specifications of several shapes; each is one that sudo understands.
pub const SPECS: &[&str] = &[
    "ALL=(ALL) NOPASSWD: ALL",
    "ALL=(root) NOPASSWD: /usr/bin/systemctl restart app",
    "ALL=(app:app) NOPASSWD: /bin/a, !/bin/b",
    "web-*,!web-1=(ALL) NOPASSWD: NOEXEC: /usr/bin/less /var/log/*",
    "ALL = NOPASSWD: sudoedit /etc/motd",
    "ALL=(#1001, %ops) NOPASSWD: /usr/bin/id, PASSWD: /usr/bin/env A\\=b",
    "ALL=(ALL:ALL) NOPASSWD: sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /bin/ls",
];

/// Literal groups and templates.
const GROUPS: &[&str] = &[
    "ops",
    "docker",
    "builders",
    "{{env.T}}",
    "team-{{env.U}}",
    "alice",
];
const DENIES: &[&str] = &[
    "docker",
    "team-*",
    "*",
    "builders",
    "teleport-doas",
    "teleport-sudo",
];

/// Pieces of hostile logins.
const PIECES: &[&str] = &[
    "alice",
    "bob",
    "ALL",
    "root",
    ",",
    "%",
    "#",
    "!",
    "+",
    "@",
    "@includedir /tmp",
    " ",
    "\n",
    "\r",
    "\t",
    "\0",
    ":",
    "/",
    "..",
    ".",
    "~",
    "-",
    "_",
    "\"",
    "'",
    "\\",
    "`",
    "=",
    "(ALL)",
    "NOPASSWD:",
    "1001",
    "sudoedit",
    "sha512",
    "é",
    "ß",
    "\u{202e}",
    "\u{a0}",
    "\u{1b}[2J",
    "{user}",
    "teleport-",
    "=2e",
    "A",
    "Z9",
];

#[derive(Clone, Debug)]
pub struct RoleCase {
    pub pattern: &'static str,
    pub create: Option<bool>,
    pub groups: Vec<&'static str>,
    pub deny: Vec<&'static str>,
    pub sudo: bool,
    pub specs: Vec<&'static str>,
    pub doas: bool,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub roles: Vec<RoleCase>,
    pub repair: bool,
    pub repaired_may_sudo: bool,
    pub group_mode: bool,
    pub templated: Vec<&'static str>,
    pub small_range: bool,
    pub users: Vec<&'static str>,
    pub groups: Vec<&'static str>,
    pub sudoers_names: Vec<&'static str>,
    pub members: Vec<&'static str>,
    pub logins: Vec<String>,
    pub user: String,
    pub words: Vec<String>,
    pub t: String,
    pub u: String,
}

fn role() -> impl Strategy<Value = RoleCase> {
    let create = prop_oneof![12 => Just(Some(true)), 4 => Just(None), 1 => Just(Some(false))];
    let groups = subsequence(GROUPS, 0..=3);
    let deny = prop_oneof![4 => Just(Vec::new()), 1 => subsequence(DENIES, 1..=2)];
    (
        select(PATTERNS),
        create,
        groups,
        deny,
        any::<bool>(),
        subsequence(SPECS, 0..=2),
        any::<bool>(),
    )
        .prop_map(
            |(pattern, create, groups, deny, sudo, specs, doas)| RoleCase {
                pattern,
                create,
                groups,
                deny,
                sudo,
                specs,
                doas,
            },
        )
}

/// Compiled once; a pattern given as a string would be compiled for every value.
fn regex(pattern: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(pattern).expect("a pattern of this file")
}

fn a_login() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => regex("[a-z_][a-z0-9_.-]{0,31}"),
        3 => vec(select(PIECES), 1..4).prop_map(|pieces| pieces.concat()),
        2 => select(NAMES).prop_map(str::to_owned),
        1 => select(NAMES).prop_map(str::to_uppercase),
        1 => any::<String>(),
    ]
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![8 => select(WORDS).prop_map(str::to_owned), 1 => regex("\\PC{0,12}")];
    vec(word, 1..6)
}

/// Values of traits. No word that is made up is protected: the model knows only the names above.
fn traits() -> impl Strategy<Value = String> {
    let word = prop_oneof![4 => select(NAMES).prop_map(str::to_owned), 2 => select(PIECES).prop_map(str::to_owned), 1 => regex("q[a-z]{0,2}")];
    vec(word, 0..3).prop_map(|words| words.join(" "))
}

pub fn case() -> impl Strategy<Value = Case> {
    let node = (
        vec(role(), 1..4),
        prop::bool::weighted(0.8),
        any::<bool>(),
        any::<bool>(),
        subsequence(vec!["team-*", "docker", "*", "ops"], 0..=2),
        prop::bool::weighted(0.2),
        subsequence(NAMES, 0..=3),
        subsequence(NAMES, 0..=3),
        (subsequence(NAMES, 0..=2), subsequence(NAMES, 0..=2)),
    );
    let request = (
        vec(a_login(), Case::LOGINS),
        any::<String>(),
        words(),
        traits(),
        traits(),
    );
    (node, request).prop_map(|(node, (logins, user, words, t, u))| {
        let (
            roles,
            repair,
            repaired_may_sudo,
            group_mode,
            templated,
            small_range,
            users,
            groups,
            (sudoers_names, members),
        ) = node;
        Case {
            roles,
            repair,
            repaired_may_sudo,
            group_mode,
            templated,
            small_range,
            users,
            groups,
            sudoers_names,
            members,
            logins,
            user,
            words,
            t,
            u,
        }
    })
}

/// An array of TOML.
fn array(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    format!("[{}]", words.join(","))
}

impl Case {
    /// Logins in one case.
    pub const LOGINS: usize = 3;

    pub fn toml(&self) -> String {
        let mut toml = format!("templated-groups = {}\n", array(&self.templated));
        toml += &format!(
            "names.invalid = '{}'\nnames.repaired-may-sudo = {}\n",
            if self.repair { "remove" } else { "refuse" },
            self.repaired_may_sudo
        );
        toml += &format!(
            "sudo.mode = '{}'\nlogins.shared = 'union'\n",
            if self.group_mode { "group" } else { "file" }
        );
        if self.small_range {
            toml += "uids.range = '70000-70015'\n";
        }
        for role in &self.roles {
            toml += &format!(
                "[[role]]\nmatch = '{}'\nsudo = {}\ndoas = {}\n",
                role.pattern, role.sudo, role.doas
            );
            toml += &format!(
                "groups = {}\ndeny-groups = {}\nsudoers = {}\n",
                array(&role.groups),
                array(&role.deny),
                array(&role.specs)
            );
            if let Some(create) = role.create {
                toml += &format!("create-user = {create}\n");
            }
        }
        toml
    }

    pub fn world(&self) -> World {
        let mut world = World::new(&self.toml());
        let source = || "files".to_owned();
        for (name, id) in self.users.iter().zip(70_003..) {
            world.users.push(FoundUser {
                name: (*name).to_owned(),
                uid: id,
                gid: id,
                source: source(),
            });
        }
        for (name, gid) in self.groups.iter().zip(70_007..) {
            world.groups.push(FoundGroup {
                name: (*name).to_owned(),
                gid,
                source: source(),
            });
        }
        world.host.sudoers_names = self
            .sudoers_names
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        world.host.busy_ids = [70_001].into();
        world.host.subids = vec![70_012..=70_013];
        world.host.sudoers_ids = [70_014].into();
        world.host.primary_gids = [70_015].into();
        // Of groups that are generated, and of one that has no name of its own.
        for (name, gid) in self.members.iter().zip([70_007, 990]) {
            let member = ((*name).to_owned(), gid, source());
            world.members.push(member);
        }
        world
    }

    pub fn requests(&self) -> Vec<LoginRequest> {
        let request = |name: &String| {
            let request = with(
                login(name, &self.words.join(" ")),
                "TELEPORT_USERNAME",
                &self.user,
            );
            with(with(request, "T", &self.t), "U", &self.u)
        };
        self.logins.iter().map(request).collect()
    }
}

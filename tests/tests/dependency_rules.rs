//! The dependency rules of docs/architecture.md: who may depend on whom, between crates and between folders.
//! Reads manifests and sources as text; runs nothing that was built.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Crates of the workspace, and which of each other they may use. What is installed never builds on what is installed.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("account-table", &[]),
    ("session-protocol", &[]),
    ("nss-module", &["account-table"]),
    ("pam-module", &["account-table", "session-protocol"]),
    ("userdb-service", &["account-table", "session-protocol"]),
    (
        "teleport-userdb-tests",
        &["account-table", "session-protocol"],
    ),
    (
        "teleport-userdb-bench",
        &["account-table", "session-protocol", "teleport-userdb-tests"],
    ),
];

/// What must not be loaded into every process of the host.
const HEAVY: [&str; 7] = [
    "tokio",
    "tracing",
    "zbus",
    "varlink",
    "serde",
    "serde_json",
    "serde_core",
];

/// Ways to do input or output, or to learn what time it is.
const IO_MODULES: [&str; 7] = ["fs", "net", "process", "env", "thread", "os", "io"];
const IO_CRATES: [&str; 9] = [
    "tokio",
    "nix",
    "libc",
    "rustix",
    "tracing",
    "zbus",
    "varlink",
    "sd_notify",
    "session_protocol",
];
const CLOCKS: [&str; 2] = ["Instant", "SystemTime"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(1)
        .unwrap_or(Path::new("."))
        .to_owned()
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(workspace())
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "cargo {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn crates_use_each_other_as_the_architecture_says() -> Result {
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--locked",
        "--no-deps",
        "--format-version=1",
    ])?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let mut seen = BTreeSet::new();
    for package in packages {
        let name = package["name"].as_str().ok_or("a package without name")?;
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(crate_name, _)| *crate_name == name)
            .ok_or_else(|| format!("{name} is not in the table of this test"))?;
        seen.insert(name);
        let dependencies = package["dependencies"]
            .as_array()
            .ok_or("no dependencies")?;
        // A path means: of this workspace.
        for dependency in dependencies
            .iter()
            .filter(|dependency| dependency["path"].is_string())
        {
            let used = dependency["name"].as_str().unwrap_or_default();
            assert!(
                used == name || allowed.contains(&used),
                "{name} depends on {used}; it may use {allowed:?}"
            );
        }
    }
    assert_eq!(
        seen.len(),
        MAY_USE.len(),
        "crates of the workspace: {seen:?}"
    );
    Ok(())
}

/// The crates that are installed, and the words for each in the table of direct dependencies.
const USERS: [(&str, &[&str]); 5] = [
    ("account-table", &["table"]),
    ("session-protocol", &["session-protocol"]),
    ("nss-module", &["nss-module", "modules"]),
    ("pam-module", &["pam-module", "modules"]),
    ("userdb-service", &["daemons", "sessiond", "command line"]),
];

#[test]
fn the_table_of_dependencies_names_each_with_who_uses_it() -> Result {
    let page = std::fs::read_to_string(workspace().join("docs/architecture.md"))?;
    let (_, table) = page.split_once("| crate | used by |").ok_or("no table")?;
    let words = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|word| word.trim().to_owned()).collect()
    };
    let rows: Vec<_> = table
        .lines()
        .map(|row| row.split('|').map(words).collect::<Vec<_>>())
        .filter(|cells| cells.len() > 3)
        .collect();
    let metadata = cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    for package in metadata["packages"].as_array().ok_or("no packages")? {
        let user = USERS.iter().find(|(user, _)| package["name"] == *user);
        let (Some((user, named)), Some(dependencies)) = (user, package["dependencies"].as_array())
        else {
            continue;
        };
        // Those of tests are listed as such, and a path means: of this workspace.
        let is_told = |one: &&serde_json::Value| one["kind"] != "dev" && one["path"].is_null();
        for dependency in dependencies.iter().filter(is_told) {
            let name = dependency["name"].as_str().unwrap_or_default();
            let is_named = rows.iter().any(|cells| {
                cells[1].contains(name) && named.iter().any(|word| cells[2].contains(*word))
            });
            assert!(
                is_named,
                "docs/architecture.md does not say that {user} uses {name}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_module_that_every_process_loads_stays_light() -> Result {
    let tree = cargo(&[
        "tree",
        "--locked",
        "-p",
        "nss-module",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.contains("account-table"), "{names:?}");
    for heavy in HEAVY {
        assert!(
            !names.contains(heavy),
            "nss-module depends on {heavy}: {names:?}"
        );
    }
    Ok(())
}

#[test]
fn the_data_plane_imports_neither_policy_nor_control_plane() -> Result {
    for (path, code) in sources("userdb-service/src/data")? {
        for other in ["policy", "control"] {
            assert!(
                !names_module(&code, other),
                "{} imports {other}/",
                path.display()
            );
        }
    }
    Ok(())
}

/// The rooms of the control plane, as `control/mod.rs` has them.
const ROOMS: [&str; 12] = [
    "calls",
    "configuration",
    "daemon",
    "end",
    "homes",
    "host",
    "leader",
    "lookup",
    "publication",
    "registry",
    "state",
    "sudo",
];

#[test]
fn of_the_control_plane_the_registry_and_the_host_know_nothing_of_the_rest() -> Result {
    let control = "userdb-service/src/control";
    let declared: BTreeSet<String> =
        std::fs::read_to_string(workspace().join(control).join("mod.rs"))?
            .lines()
            .filter_map(|line| Some(line.split_once("mod ")?.1.strip_suffix(';')?.to_owned()))
            .collect();
    assert_eq!(declared, ROOMS.map(str::to_owned).into());
    for (room, may_use) in [("registry", &["host", "leader"] as &[&str]), ("host", &[])] {
        for (path, code) in sources(&format!("{control}/{room}"))? {
            for other in ROOMS.iter().filter(|other| **other != room) {
                let used = imports(&code, "crate::control", other)
                    || code.contains(&format!(" super :: super :: {other} "));
                assert!(
                    !used || may_use.contains(other),
                    "{} imports control/{other}/; control/{room}/ may use {may_use:?}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_policy_does_no_input_or_output() -> Result {
    for (path, code) in sources("userdb-service/src/policy")? {
        let path = path.display();
        for other in ["control", "data", "runtime", "cli"] {
            assert!(!names_module(&code, other), "{path} imports {other}/");
        }
        for module in IO_MODULES {
            assert!(!imports(&code, "std", module), "{path} uses std::{module}");
        }
        for clock in CLOCKS {
            assert!(
                !imports(&code, "std::time", clock),
                "{path} reads the clock: std::time::{clock}"
            );
        }
        for name in IO_CRATES {
            assert!(
                !code.contains(&format!(" {name} :: ")),
                "{path} uses the crate {name}"
            );
        }
        for printing in ["println", "eprintln", "print", "eprint"] {
            assert!(!code.contains(&format!(" {printing} ! ")), "{path} prints");
        }
    }
    Ok(())
}

#[test]
fn these_checks_find_what_they_look_for() {
    let code = code_of(
        "use std::{fmt, fs::File};\nuse std::time::Duration; // std::net\nuse crate::{data, control::x};\n\
         fn f<'a>(s: &'a str) -> char { nix::unistd::getpid(); \"std::process\"; '\"' }\n\
         #[cfg(test)]\nmod tests { use std::net; }",
    );
    assert!(imports(&code, "std", "fs"), "{code}");
    assert!(!imports(&code, "std", "net"), "{code}");
    assert!(!imports(&code, "std", "process"), "{code}");
    assert!(imports(&code, "std::time", "Duration"), "{code}");
    assert!(!imports(&code, "std::time", "Instant"), "{code}");
    assert!(names_module(&code, "control"), "{code}");
    assert!(names_module(&code, "data"), "{code}");
    assert!(!names_module(&code, "policy"), "{code}");
    assert!(code.contains(" nix :: "), "{code}");
}

/// Does the code name `crate::module`, alone or in a group?
fn names_module(code: &str, module: &str) -> bool {
    imports(code, "crate", module) || code.contains(&format!(" super :: super :: {module} "))
}

/// Does the code name `root::name`, alone or in a group as in `use std::{fmt, fs}`?
fn imports(code: &str, root: &str, name: &str) -> bool {
    let root = root.replace("::", " :: ");
    if code.contains(&format!(" {root} :: {name} ")) {
        return true;
    }
    code.split(&format!(" {root} :: {{ ")).skip(1).any(|group| {
        let mut depth = 0;
        let mut first = true;
        for token in group.split_whitespace() {
            match token {
                "{" => depth += 1,
                "}" if depth == 0 => return false,
                "}" => depth -= 1,
                "," if depth == 0 => {
                    first = true;
                    continue;
                }
                _ if depth == 0 && first && token == name => return true,
                _ => {}
            }
            first = false;
        }
        false
    })
}

/// The sources below `folder` without tests, as tokens with blanks between them.
fn sources(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.file_stem().is_some_and(|stem| stem != "tests")
            {
                let code = code_of(&std::fs::read_to_string(&path)?);
                found.push((path, code));
            }
        }
    }
    assert!(!found.is_empty(), "no source below {folder}");
    Ok(found)
}

/// Rust source without comments, literals and the tests at its end.
fn code_of(source: &str) -> String {
    let source = source
        .split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    let mut code = String::from(" ");
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if rest.starts_with("r#\"") {
            rest = rest.find("\"#").map_or("", |end| &rest[end + 2..]);
        } else if first == '"' {
            rest = after_string(&rest[1..]);
        } else if first == '\'' {
            rest = after_quote(&rest[1..]);
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            code.push_str(&rest[..end]);
            code.push(' ');
            rest = &rest[end..];
        } else if rest.starts_with("::") {
            code.push_str(":: ");
            rest = &rest[2..];
        } else {
            if !first.is_whitespace() {
                code.push(first);
                code.push(' ');
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// What follows the closing quote of a string.
fn after_string(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// What follows a character literal, or the quote of a lifetime.
fn after_quote(text: &str) -> &str {
    let mut chars = text.char_indices();
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((second, c))) => {
            let after = &text[second + c.len_utf8()..];
            after.find('\'').map_or("", |end| &after[end + 1..])
        }
        (Some(_), Some((second, '\''))) => &text[second + 1..],
        _ => text,
    }
}

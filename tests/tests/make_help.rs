//! `make` alone lists every target that says what it is for, as README has it.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_target_with_a_description_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Without what a make above us has set.
    let output = Command::new("make")
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .current_dir(&root)
        .output()
        .expect("make runs");
    let listed = String::from_utf8(output.stdout).expect("text");
    let makefile = fs::read_to_string(root.join("Makefile")).expect("there is a Makefile");
    let described: Vec<&str> = makefile
        .lines()
        .filter(|line| line.contains(" ## ") && !line.starts_with(['\t', '#']))
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    assert!(described.len() > 20, "{described:?}");
    let missing: Vec<&str> = described
        .into_iter()
        .filter(|target| !listed.contains(&format!("  make {target} ")))
        .collect();
    assert!(missing.is_empty(), "{missing:?} in\n{listed}");
}

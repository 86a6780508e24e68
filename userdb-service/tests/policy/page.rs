//! Pages in docs do not outlive the tests they name.

use std::fs;
use std::path::Path;

/// All Rust source below `folder`.
fn source(folder: &Path, text: &mut String) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            source(&path, text);
        } else if name.ends_with(".rs") {
            text.push_str(&fs::read_to_string(&path).expect("source is text"));
        }
    }
}

#[test]
fn every_test_that_the_page_about_the_rfd_names_exists() {
    let page = include_str!("../../../docs/from-the-rfd.md");
    let mut code = String::new();
    source(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut code);
    let cells = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end_matches(" |").rsplit_once(" | "));
    let names = cells.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let missing: Vec<&str> = names
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_that_the_page_about_rights_names_exists() {
    let page = include_str!("../../../docs/rights.md");
    let mut code = String::new();
    source(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut code);
    // Names of tests are sentences; nothing else between backticks has so many words.
    let names: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.matches('_').count() > 4)
        .collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("fn {name}(")), "{name}");
    }
}

//! The shared object itself: what it exports and how it wants to be loaded.
//! Read with binutils, which the linker comes with.

use std::process::Command;

use crate::rig::module;

fn output(program: &str, option: &str) -> String {
    let output = Command::new(program)
        .args([option, "--wide"])
        .arg(module())
        .output()
        .unwrap_or_else(|error| panic!("{program} (of binutils): {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

#[test]
fn only_the_six_entry_points_are_exported() {
    let symbols = output("readelf", "--dyn-syms");
    let mut exported: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains(" GLOBAL ") || line.contains(" WEAK "))
        .filter(|line| !line.contains(" UND "))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    exported.sort_unstable();
    assert_eq!(
        exported,
        [
            "pam_sm_acct_mgmt",
            "pam_sm_authenticate",
            "pam_sm_chauthtok",
            "pam_sm_close_session",
            "pam_sm_open_session",
            "pam_sm_setcred",
        ]
    );
}

#[test]
fn it_stays_loaded_and_has_no_name_to_be_linked_by() {
    let dynamic = output("readelf", "--dynamic");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    assert!(!dynamic.contains("SONAME"), "{dynamic}");
}

#[test]
fn nothing_is_loaded_with_it_but_what_a_login_program_has_already() {
    let dynamic = output("readelf", "--dynamic");
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    for library in needed {
        let at_hand = ["[libpam.so.0]", "[libc.so.6]", "[ld-linux"];
        let is_at_hand = at_hand.iter().any(|name| library.contains(name));
        assert!(is_at_hand, "{library}");
    }
}

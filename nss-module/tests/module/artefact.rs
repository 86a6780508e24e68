//! The file that is shipped: what it needs, what it exports, how large it is.

use std::process::Command;

fn tool(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command)
        .args(arguments)
        .arg(crate::rig::module_file())
        .output()
        .expect("binutils");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn it_needs_libc_alone_has_glibcs_name_and_stays_loaded() {
    let dynamic = tool("readelf", &["--dynamic", "--wide"]);
    let needed: Vec<&str> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .collect();
    assert!(
        needed.len() == 1 && needed[0].contains("[libc.so.6]"),
        "{needed:?}"
    );
    assert!(dynamic.contains("[libnss_teleport.so.2]"), "{dynamic}");
    assert!(
        dynamic.contains("NODELETE") && dynamic.contains("BIND_NOW"),
        "{dynamic}"
    );
    let wanted = tool("nm", &["--dynamic", "--undefined-only"]);
    let not_of_glibc: Vec<&str> = wanted
        .lines()
        .filter(|line| !line.contains("@GLIBC_"))
        .collect();
    assert!(not_of_glibc.is_empty(), "{not_of_glibc:?}");
}

#[test]
fn it_is_code_and_data_never_both_and_nothing_runs_when_it_is_loaded() {
    let headers = tool("readelf", &["--program-headers", "--wide"]);
    let rights = |kind| -> Vec<String> {
        let words = headers.lines().map(str::split_whitespace);
        words
            .map(|words| words.collect::<Vec<_>>())
            .filter(|words| words.first() == Some(&kind))
            // Behind a type, an offset, two addresses and two sizes, before the alignment.
            .map(|words| words[6..words.len() - 1].concat())
            .collect()
    };
    assert_eq!(rights("LOAD"), ["RE", "RW"], "{headers}");
    assert_eq!(rights("GNU_STACK"), ["RW"], "{headers}");
    assert_eq!(rights("GNU_RELRO"), ["R"], "{headers}");
    let dynamic = tool("readelf", &["--dynamic", "--wide"]);
    for tag in ["INIT", "FINI", "TEXTREL"] {
        assert!(!dynamic.contains(tag), "{dynamic}");
    }
}

#[test]
fn it_exports_the_entry_points_and_nothing_else() {
    let exported = tool(
        "nm",
        &["--dynamic", "--defined-only", "--format=just-symbols"],
    );
    let mut exported: Vec<&str> = exported
        .lines()
        .map(|line| line.split('@').next().unwrap())
        .collect();
    exported.sort_unstable();
    let expected = [
        "endgrent",
        "endpwent",
        "getgrent_r",
        "getgrgid_r",
        "getgrnam_r",
        "getpwent_r",
        "getpwnam_r",
        "getpwuid_r",
        "initgroups_dyn",
        "setgrent",
        "setpwent",
    ];
    assert_eq!(
        exported,
        expected.map(|name| format!("_nss_teleport_{name}"))
    );
}

#[test]
fn nothing_in_it_can_panic() {
    let symbols = tool("nm", &["--demangle"]);
    let panics: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains("panic") || line.contains("_Unwind"))
        .collect();
    assert!(panics.is_empty(), "{panics:#?}");
}

#[test]
fn it_is_small_and_has_little_to_relocate() {
    let sections = tool("size", &["--format=berkeley"]);
    let total: u64 = sections
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
        .unwrap();
    assert!(total < 100_000, "{total} bytes");
    let relocations = tool("readelf", &["--relocs", "--wide"])
        .matches("R_")
        .count();
    assert!(relocations < 60, "{relocations} relocations");
}

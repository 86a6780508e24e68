//! What is measured, and what it is measured against: artefacts of the release build, and the C programs in tests/bench/c.
//! Nothing of ours is built here: `make bench` has done it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::page::workspace;

/// A built artefact, for example `module/libnss_teleport.so` or `release/teleport-userdbd`, from the target folder this program
/// itself was built into.
pub fn artefact(path: &str) -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .ok_or_else(|| io::Error::other("this program is not in target/PROFILE"))?;
    let found = target.join(path);
    if found.exists() {
        Ok(found)
    } else {
        Err(io::Error::other(format!(
            "{} is missing: run the benchmark by `make bench`, which builds it",
            found.display()
        )))
    }
}

/// Compiles `tests/bench/c/NAME.c` by `gcc -O2` with further arguments into `folder/OUTPUT`; the floors have to be built as
/// anybody would build them.
pub fn compile(
    source: &str,
    arguments: &[&str],
    folder: &Path,
    output: &str,
) -> io::Result<PathBuf> {
    let built = folder.join(output);
    let source = workspace().join("tests/bench/c").join(source);
    let ran = Command::new("gcc")
        .args(["-O2", "-Wall", "-Werror", "-o"])
        .arg(&built)
        .arg(&source)
        .args(arguments)
        .output()?;
    if ran.status.success() {
        Ok(built)
    } else {
        Err(io::Error::other(format!(
            "gcc {}: {}",
            source.display(),
            String::from_utf8_lossy(&ran.stderr)
        )))
    }
}

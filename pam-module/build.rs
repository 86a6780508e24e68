//! How the module is linked: it stays once it is loaded, and brings the unwinder that catches its panics.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    // Once loaded, stay: libpam unloads modules at pam_end, and code that a signal or another thread
    // may still be in must not vanish.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    with_the_unwinder_in_it()
}

/// Std asks for libgcc_s, which costs every login more to load than all the rest of the module: gcc has it find out at once what
/// processor this is, and in a virtual machine each of those questions goes to the host. Under that name the static library is given,
/// without that part. Tests are linked so, too: those of the guard show that panics are caught by it.
fn with_the_unwinder_in_it() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
    println!("cargo:rustc-link-arg=-L{}", folder.display());
    Ok(())
}

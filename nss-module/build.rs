//! How the module is linked: under the name glibc asks for, never unloaded, with nothing left to resolve or write to later, nothing
//! to run when it is loaded, and without the unwinder's library, which would cost every process on the host more than the module itself.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    for argument in [
        "-soname,libnss_teleport.so.2",
        // glibc may dlclose a module while threads still return through it.
        "-z,nodelete",
        // Costs an mprotect and a page in every process; but nobody's sshd or sudo shall have a writable table of our functions.
        "-z,relro",
        "-z,now",
        "-z,noexecstack",
        // Code and constants in one mapping: two to be made in every process, rather than four. The default but on x86.
        "-z,noseparate-code",
        "--gc-sections",
    ] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    run_nothing_when_loaded(&folder)?;
    leave_the_unwinder_out(&folder)
}

/// Leaves out what gcc puts at both ends of every library (constructors for C++, transactional memory and profilers, and four weak
/// symbols to be looked for in vain in every process), and std's constructors: one keeps the command line for `std::env::args`,
/// another, on arm64, picks atomics that newer processors have; without it those that all have are used.
fn run_nothing_when_loaded(folder: &Path) -> io::Result<()> {
    println!("cargo:rustc-cdylib-link-arg=-nostartfiles");
    let script = folder.join("no-constructors.ld");
    // With INSERT the script adds to the linker's own.
    fs::write(
        &script,
        "SECTIONS { /DISCARD/ : { *(.init_array .init_array.*) } } INSERT BEFORE .text;\n",
    )?;
    println!("cargo:rustc-cdylib-link-arg=-T{}", script.display());
    Ok(())
}

/// Nothing in the module can panic, so none of std's panic machinery is reachable; but two things would keep it in. lld holds on
/// to it for the sake of unwind tables of functions that are gone, GNU ld does not. And GNU ld records a need for libgcc_s before
/// it finds that nothing refers to it; given the static library under that name, it
/// just leaves it out. (Profiles in which panics unwind get it linked in.)
fn leave_the_unwinder_out(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
    // Without the dynamic linker, which the usual script would name for the same reason.
    fs::write(
        folder.join("libc.so"),
        "INPUT(-l:libc.so.6 -l:libc_nonshared.a)\n",
    )?;
    println!("cargo:rustc-cdylib-link-arg=-L{}", folder.display());
    println!("cargo:rustc-cdylib-link-arg=-fuse-ld=bfd");
    Ok(())
}

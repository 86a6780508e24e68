//! How the module is linked: under the name glibc asks for, never unloaded, with nothing left to resolve or write to later, and
//! without the unwinder's library, which would cost every process on the host more than the module itself.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    for argument in [
        "-soname,libnss_teleport.so.2",
        // glibc may dlclose a module while threads still return through it.
        "-z,nodelete",
        "-z,relro",
        "-z,now",
        "-z,noexecstack",
        "--gc-sections",
    ] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    leave_the_unwinder_out()
}

/// Nothing in the module can panic, so none of std's panic machinery is reachable; but two things would keep it in. lld holds on
/// to it for the sake of unwind tables of functions that are gone, GNU ld does not. And GNU ld records a need for libgcc_s before
/// it finds that nothing refers to it; given the static library under that name, it
/// just leaves it out. (Profiles in which panics unwind get it linked in.)
fn leave_the_unwinder_out() -> io::Result<()> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
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

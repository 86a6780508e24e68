//! Link options of the module. Nothing else is decided at build time.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Once loaded, stay: libpam unloads modules at pam_end, and code that a signal or another thread
    // may still be in must not vanish.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

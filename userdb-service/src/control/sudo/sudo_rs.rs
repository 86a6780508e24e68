//! Whether sudo-rs is on this host: it reads only some of the files in sudoers.d.
//! What follows from that is for the policy.

use std::path::Path;

/// Where distributions put it, under its own name or as sudo itself.
const OWN_NAMES: [&str; 4] = [
    "usr/bin/sudo-rs",
    "usr/local/bin/sudo-rs",
    "usr/lib/cargo/bin/sudo",
    "usr/libexec/sudo-rs",
];

/// Looks each time: it may be installed while the daemon runs, and a look costs a few microseconds.
pub(crate) fn is_installed() -> bool {
    is_installed_below(Path::new("/"))
}

/// The same of the host whose files are below `root`.
pub(crate) fn is_installed_below(root: &Path) -> bool {
    OWN_NAMES.iter().any(|path| root.join(path).exists())
}

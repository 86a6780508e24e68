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

/// Where distributions have the command.
const SUDO: &str = "usr/bin/sudo";

/// Looks each time: it may be installed while the daemon runs, and a look costs a few microseconds.
pub(crate) fn is_installed() -> bool {
    is_installed_below(Path::new("/"))
}

/// Whether what is called sudo here is sudo-rs: by a link, or because there is no other.
pub(crate) fn is_sudo() -> bool {
    is_sudo_below(Path::new("/"))
}

fn is_sudo_below(root: &Path) -> bool {
    let Ok(sudo) = root.join(SUDO).canonicalize() else {
        return is_installed_below(root);
    };
    let mut own = OWN_NAMES.iter().map(|path| root.join(path).canonicalize());
    own.any(|own| own.is_ok_and(|own| own == sudo))
}

/// Whether it is on the host whose files are below `root`.
pub(crate) fn is_installed_below(root: &Path) -> bool {
    OWN_NAMES.iter().any(|path| root.join(path).exists())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sudo_is_what_its_name_leads_to() {
        let root = std::env::temp_dir().join(format!("is-sudo-{}", std::process::id()));
        let (bin, cargo) = (root.join("usr/bin"), root.join("usr/lib/cargo/bin"));
        fs::create_dir_all(&bin).expect("made");
        fs::create_dir_all(&cargo).expect("made");
        assert!(!is_sudo_below(&root), "there is none");
        fs::write(cargo.join("sudo"), "").expect("written");
        assert!(is_sudo_below(&root), "there is no other");
        let sudo = bin.join("sudo");
        fs::write(&sudo, "").expect("written");
        assert!(!is_sudo_below(&root), "it is beside another");
        fs::remove_file(&sudo).expect("removed");
        symlink("sudo-rs", &sudo).expect("linked");
        symlink("../lib/cargo/bin/sudo", bin.join("sudo-rs")).expect("linked");
        assert!(is_sudo_below(&root), "a link leads to it");
        fs::remove_dir_all(root).expect("removed");
    }
}

//! The package under test and the programs of the rig that go into a machine with it.
//! Building them is not of this place: what is missing is said, not made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::image::SHELF;
use crate::{Machine, Ran, Result, Trouble};

/// Where the container client is in every machine.
pub(crate) const CLIENT: &str = "/usr/local/bin/teleport-child";
/// A stack of the service name `sshd`, which our modules serve by default: ours alone, for what is about ours alone.
const BARE_STACK: &str = "auth required pam_permit.so\n\
                          account required pam_teleport.so\n\
                          session required pam_teleport.so\n";
/// A stack without us, for local logins.
const LOCAL_STACK: &str = "auth required pam_permit.so\n\
                           account required pam_unix.so\n\
                           session required pam_unix.so\n\
                           session optional pam_systemd.so\n";

/// A service that is not of `pam-services`, with our modules in its stack all the same.
const FOREIGN_STACK: &str = "account required pam_teleport.so\naccount required pam_permit.so\n\
                             session required pam_teleport.so\nsession required pam_permit.so\n";

/// The newest `dist/teleport-userdb_*.deb` of the tree.
pub fn package_file() -> Result<PathBuf> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("dist");
    let changed = |path: &PathBuf| {
        fs::metadata(path)
            .and_then(|file| file.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    fs::read_dir(&dist)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("teleport-userdb_") && name.ends_with(".deb")
        })
        .max_by_key(changed)
        .ok_or_else(|| {
            Trouble::missing(
                "dist/teleport-userdb_*.deb is missing",
                "build the package under test with `make deb`",
            )
        })
}

impl Machine {
    /// Installs the package under test as an administrator would, with `dpkg -i`.
    pub fn install_package(&self) -> Result<Ran> {
        let path = "/var/tmp/teleport-userdb.deb";
        self.copy_in(&package_file()?, path)?;
        Ok(self.run(&["dpkg", "-i", path]))
    }

    /// Installs a package that the image keeps as a file.
    #[track_caller]
    pub fn install(&self, package: &str) {
        self.sh(&format!("dpkg -i {SHELF}/{package}_*.deb")).must();
    }

    /// Puts the container client in, and PAM stacks to use it with: `sshd` (ours alone), `local` (without us)
    /// and `foreign` (ours, under a name we do not serve).
    pub fn install_client(&self) -> Result<()> {
        self.copy_in(&client()?, CLIENT)?;
        self.write("/etc/pam.d/sshd", BARE_STACK);
        self.write("/etc/pam.d/local", LOCAL_STACK);
        self.write("/etc/pam.d/foreign", FOREIGN_STACK);
        Ok(())
    }
}

/// `teleport-child` beside the running test or program: cargo puts tests one folder deeper.
fn client() -> Result<PathBuf> {
    let own =
        std::env::current_exe().map_err(|error| Trouble::failed("finding this program", error))?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("teleport-child"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Trouble::missing(
                "the container client teleport-child is missing",
                "build it with `cargo build -p teleport-userdb-tests --bins`",
            )
        })
}

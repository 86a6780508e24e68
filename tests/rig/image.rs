//! The Debian roots that containers boot from: made once per package list, kept outside the tree.
//! What a single machine changes is not of this place: it boots over the image, never in it.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::mirror::debian_mirror;
use crate::{Result, Trouble};

/// Folder of the images; the default is [`CACHE`].
const CACHE_VARIABLE: &str = "TELEPORT_USERDB_CACHE";
const CACHE: &str = "/var/cache/teleport-userdb-rig";

/// In every image. The package under test is installed without a network, so its dependencies are here.
const PACKAGES: &[&str] = &[
    "at",
    "cron",
    "dbus",
    "libnss-systemd",
    "libpam-modules",
    "libpam-runtime",
    "libpam-systemd",
    "login",
    "passwd",
    "procps",
    "strace",
    "sudo",
    "systemd",
    "systemd-sysv",
    "systemd-userdbd",
    "util-linux",
];

/// Kept in the image as package files, for [`Machine::install`](crate::Machine::install): what would change
/// a machine that does not ask for it.
const SHELVED: &[&str] = &["opendoas", "nscd"];
/// The same for Debian unstable only.
const SHELVED_ON_SID: &[&str] = &["sudo-rs", "libcap2"];
/// Where they are.
pub(crate) const SHELF: &str = "/var/cache/rig";

/// A Debian release to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
    /// Debian unstable, the newest systemd.
    Sid,
}

/// Names the suite of the shared node; without it trixie.
const SUITE_VARIABLE: &str = "TELEPORT_USERDB_SUITE";

impl Suite {
    /// The suite that `TELEPORT_USERDB_SUITE` asks for, trixie if it asks for nothing.
    pub fn chosen() -> Result<Suite> {
        let name = std::env::var(SUITE_VARIABLE).unwrap_or_default();
        match name.as_str() {
            "" => Ok(Suite::Trixie),
            name => [Suite::Bookworm, Suite::Trixie, Suite::Sid]
                .into_iter()
                .find(|suite| suite.name() == name)
                .ok_or_else(|| {
                    Trouble::missing(
                        format!("{SUITE_VARIABLE} is {name:?}, which is no suite the tests know"),
                        "set it to bookworm, trixie or sid",
                    )
                }),
        }
    }

    /// The name Debian gives it.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
            Suite::Sid => "sid",
        }
    }
}

/// Folder with the root of `suite`, made now if it is not there yet (some 20 s).
pub(crate) fn image(suite: Suite) -> Result<PathBuf> {
    image_with(suite, &[])
}

/// As `image`, an image of its own with further packages in it. To be mounted over, never to be changed.
pub fn image_with(suite: Suite, further: &[&str]) -> Result<PathBuf> {
    let cache = cache();
    fs::create_dir_all(&cache)
        .map_err(|error| Trouble::failed(format!("making {}", cache.display()), error))?;
    let root = cache.join(format!("{}-{:016x}", suite.name(), recipe(suite, further)));
    let lock = cache.join(format!("{}.lock", suite.name()));
    // Test binaries may start side by side: one makes the image, the others wait for it.
    let file = File::create(&lock)
        .map_err(|error| Trouble::failed(format!("opening {}", lock.display()), error))?;
    let _held = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| Trouble::failed(format!("locking {}", lock.display()), error))?;
    if !root.exists() {
        make(suite, further, &root)?;
    }
    Ok(root)
}

pub(crate) fn cache() -> PathBuf {
    std::env::var_os(CACHE_VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from(CACHE), PathBuf::from)
}

/// Changes with everything that decides what is in the image.
fn recipe(suite: Suite, further: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (suite.name(), PACKAGES, shelved(suite)).hash(&mut hasher);
    if !further.is_empty() {
        further.hash(&mut hasher);
    }
    hasher.finish()
}

fn shelved(suite: Suite) -> Vec<&'static str> {
    let more = match suite {
        Suite::Sid => SHELVED_ON_SID,
        Suite::Bookworm | Suite::Trixie => &[],
    };
    [SHELVED, more].concat()
}

fn make(suite: Suite, further: &[&str], root: &Path) -> Result<()> {
    let mirror = debian_mirror()?;
    let half = root.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        // A mirror that stands still is good enough for tests, its signatures are checked all the same.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .arg(format!(
            "--include={}",
            [PACKAGES, further].concat().join(",")
        ))
        .arg(format!(
            "--customize-hook=mkdir -p \"$1\"{SHELF} && cd \"$1\"{SHELF} && \
             APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get --option APT::Sandbox::User=root download {}",
            shelved(suite).join(" ")
        ));
    if suite == Suite::Sid {
        command.arg(format!("--keyring={}", current_keys()?.display()));
    }
    let made = command.arg(suite.name()).arg(&half).arg(&mirror).output();
    let made = match made {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Trouble::missing(
                "mmdebstrap is missing",
                "install it with `apt-get install mmdebstrap` (it makes the Debian roots the tests boot)",
            ));
        }
        made => made.map_err(|error| Trouble::failed("starting mmdebstrap", error))?,
    };
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(Trouble::failed(
            format!("making a Debian {} root", suite.name()),
            last.join("\n"),
        ));
    }
    fs::rename(&half, root)
        .map_err(|error| Trouble::failed(format!("renaming {}", half.display()), error))
}

/// Unstable is signed by keys that an older keyring may not have; those of the trixie image, which this
/// machine's own keys vouch for, do.
fn current_keys() -> Result<PathBuf> {
    let keys = image(Suite::Trixie)?.join("usr/share/keyrings");
    let newer = keys.join("debian-archive-keyring.pgp");
    Ok(if newer.exists() {
        newer
    } else {
        keys.join("debian-archive-keyring.gpg")
    })
}

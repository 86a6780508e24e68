//! Where homes are to be made on this node, by its configuration, and how the daemon sees that place from its sandbox.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

use super::node::Seen;
use crate::control::end::janitor::Janitor;
use crate::control::homes::{HomeError, Homes};
use crate::policy::Config;

/// A folder as a process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// It may be written to, as far as mounts go.
    Writable,
    /// It is mounted for reading only.
    ReadOnly,
    /// It is not there.
    Absent,
    /// Nobody could look.
    Unseen,
}

/// The folder of persistent homes, if anybody can get one, taken up as the daemon does.
pub(super) fn look(config: &Config, root: bool) -> Seen<Option<String>> {
    let Some(base) = config.home_base() else {
        return Seen::Known(None);
    };
    match Homes::open(base, Janitor::default()) {
        // Here, outside of any sandbox.
        Ok(_) if view(Path::new("/"), base) == View::ReadOnly => Seen::Failed(format!(
            "no persistent home can be made: {} is mounted read-only; mount it for writing, or name another folder as home.base",
            base.display()
        )),
        Ok(_) => Seen::Known(Some(base.display().to_string())),
        Err(HomeError::Io { error, .. })
            if error.kind() == io::ErrorKind::PermissionDenied && !root =>
        {
            Seen::RootOnly
        }
        Err(error) => Seen::Failed(format!(
            "no persistent home can be made: {error}; make {} a folder of root's that nobody else can write to, or name another as home.base",
            base.display()
        )),
    }
}

/// The folder as the daemon with this PID sees it: its unit has it in a mount namespace of its own.
pub(super) fn as_seen_by(daemon: Option<u32>, base: &Path) -> View {
    match daemon {
        Some(pid) => view(Path::new(&format!("/proc/{pid}/root")), base),
        None => View::Unseen,
    }
}

/// `folder`, an absolute path, below `root`.
fn view(root: &Path, folder: &Path) -> View {
    // A link on the way that is absolute would lead out of the daemon's root into ours.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let below = folder.strip_prefix("/").unwrap_or(&folder);
    match statvfs(&root.join(below)) {
        Ok(seen) if seen.flags().contains(FsFlags::ST_RDONLY) => View::ReadOnly,
        Ok(_) => View::Writable,
        Err(nix::errno::Errno::ENOENT) => View::Absent,
        Err(_) => View::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(&[("config.toml", text)]).expect("good")
    }

    #[test]
    fn a_base_that_is_missing_is_told_where_somebody_can_have_a_persistent_home() {
        let base = "[home]\nbase = \"/no/such/folder\"\n";
        let role = "[[role]]\nmatch = \"dev\"\nhome = \"persistent\"\n";
        assert_eq!(look(&config(base), true), Seen::Known(None));
        match look(&config(&format!("{base}{role}")), true) {
            Seen::Failed(why) => assert!(why.contains("/no/such/folder"), "{why}"),
            seen => panic!("{seen:?}"),
        }
    }

    #[test]
    fn the_folder_is_looked_at_where_the_daemon_sees_it() {
        let me = Some(std::process::id());
        let root = std::env::temp_dir().join(format!("home-base-{}", std::process::id()));
        let (base, link) = (root.join("homes"), root.join("link"));
        fs::create_dir_all(&base).expect("made");
        std::os::unix::fs::symlink(&base, &link).expect("made");
        for base in [&base, &link] {
            assert_eq!(as_seen_by(me, base), View::Writable);
            assert_eq!(as_seen_by(None, base), View::Unseen);
            // In a root that has no such folder, the link does not lead back into ours.
            assert_eq!(view(&root, base), View::Absent);
        }
        // What is mounted read-only is seen through the process, too: it is in another mount namespace than ours.
        let sandboxed = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && echo ready && read -r _")
            .arg(&base)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn();
        let mut sandboxed = sandboxed.expect("this test needs unshare and root");
        let mut ready = [0; 6];
        let stdout = sandboxed.stdout.as_mut().expect("piped");
        let is_ready = io::Read::read_exact(stdout, &mut ready);
        is_ready.expect("this test needs root for a mount namespace");
        for base in [&base, &link] {
            assert_eq!(as_seen_by(Some(sandboxed.id()), base), View::ReadOnly);
        }
        assert_eq!(as_seen_by(me, &base), View::Writable);
        drop(sandboxed.stdin.take());
        sandboxed.wait().expect("ended");
        fs::remove_dir_all(root).expect("removed");
    }
}

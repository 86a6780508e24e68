//! How the daemon sees a folder from its sandbox, which is a mount namespace of its own.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

/// A folder as a process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// It may be written to, as far as mounts go.
    Writable,
    /// It is mounted for reading only.
    ReadOnly,
    /// So it is for everybody, not in the sandbox alone.
    ReadOnlyForAll,
    /// It is not there.
    Absent,
    /// Nobody could look.
    Unseen,
}

impl View {
    /// Nothing seen, if it is `this` and that harms nobody.
    pub(super) fn unless(self, this: View, harms_nobody: bool) -> View {
        match self == this && harms_nobody {
            true => View::Unseen,
            false => self,
        }
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
pub(super) fn view(root: &Path, folder: &Path) -> View {
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

/// The same of one that the daemon alone has to write to.
pub(super) fn as_seen_by_it_and_all(daemon: Option<u32>, folder: &Path) -> View {
    // A file in its place has a mount there, too, and that is not what is wrong with it.
    if !folder.is_dir() {
        return View::Unseen;
    }
    together(view(Path::new("/"), folder), as_seen_by(daemon, folder))
}

/// The same of one that others write to as well: the homes.
pub(super) fn as_all_write(daemon: Option<u32>, folder: &Path) -> View {
    match view(Path::new("/"), folder) {
        View::ReadOnly => View::ReadOnlyForAll,
        outside => together(outside, as_seen_by(daemon, folder)),
    }
}

/// A mount that was made read-only outside after the sandbox was made may be writable in there.
fn together(outside: View, inside: View) -> View {
    match (outside, inside) {
        (View::ReadOnly, View::ReadOnly | View::Unseen) => View::ReadOnlyForAll,
        (View::ReadOnly | View::Writable, inside) => inside,
        // There is nothing to mend in the sandbox.
        _ => View::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_is_read_only_for_everybody_is_told_apart_from_what_is_so_in_the_sandbox() {
        for (outside, inside, seen) in [
            (View::Writable, View::Writable, View::Writable),
            (View::Writable, View::ReadOnly, View::ReadOnly),
            (View::Writable, View::Unseen, View::Unseen),
            (View::ReadOnly, View::ReadOnly, View::ReadOnlyForAll),
            // Nobody runs, or nobody may look.
            (View::ReadOnly, View::Unseen, View::ReadOnlyForAll),
            (View::ReadOnly, View::Writable, View::Writable),
            (View::Absent, View::ReadOnly, View::Unseen),
        ] {
            assert_eq!(together(outside, inside), seen, "{outside:?} {inside:?}");
        }
        let all = View::ReadOnlyForAll;
        for (view, harms_nobody, seen) in [
            (all, false, all),
            (all, true, View::Unseen),
            (View::ReadOnly, true, View::ReadOnly),
        ] {
            assert_eq!(view.unless(all, harms_nobody), seen);
        }
        // The kernel's own, for everybody: and no sandbox makes it writable for users.
        let folder = Path::new("/proc/sys");
        if view(Path::new("/"), folder) == View::ReadOnly {
            assert_eq!(as_all_write(None, folder), View::ReadOnlyForAll);
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
            let of_all = as_seen_by_it_and_all(Some(sandboxed.id()), base);
            assert_eq!(of_all, View::ReadOnly);
        }
        let file = Path::new("/proc/self/status");
        assert_eq!(as_seen_by_it_and_all(me, file), View::Unseen);
        assert_eq!(as_seen_by(me, &base), View::Writable);
        drop(sandboxed.stdin.take());
        sandboxed.wait().expect("ended");
        fs::remove_dir_all(root).expect("removed");
    }
}

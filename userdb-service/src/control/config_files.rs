//! Where the configuration is read from. What it means is the policy's subject.
//!
//! Built-in defaults, then the package's file, the administrator's, and drop-ins in name order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::shortage::is_shortage;
use crate::policy::{Config, ConfigError};

/// Read in this order; a file that is not there is not missed.
const FILES: [&str; 2] = [
    "/usr/lib/teleport-userdb/config.toml",
    "/etc/teleport-userdb/config.toml",
];
const DROP_INS: &str = "/etc/teleport-userdb/config.d";

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// A file is there and cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file says something it may not say.
    Wrong(ConfigError),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Wrong(error) => error.fmt(f),
        }
    }
}

impl LoadError {
    /// There is not enough of something to read it with.
    pub(super) fn is_shortage(&self) -> bool {
        matches!(self, Self::Unreadable(_, error) if is_shortage(error))
    }

    /// The file (or folder) that is to be corrected.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable(path, _) => path,
            Self::Wrong(error) => &error.file,
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads and merges all files below `root` (`/` but for tests).
pub fn load(root: &Path) -> Result<Config, LoadError> {
    let mut files = Vec::new();
    for path in FILES.map(PathBuf::from).into_iter().chain(drop_ins(root)?) {
        match text(&below(root, &path)) {
            Ok(text) => files.push((path.display().to_string(), text)),
            // A link whose target is missing is not the same as no file: what it says must not be lost.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && below(root, &path).symlink_metadata().is_err() => {}
            Err(error) => return Err(LoadError::Unreadable(path, error)),
        }
    }
    Config::parse(&files).map_err(LoadError::Wrong)
}

/// A file's text. Of a file: a pipe would keep whoever reads it waiting for ever.
fn text(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it has to be a regular file"));
    }
    fs::read_to_string(path)
}

fn drop_ins(root: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let folder = Path::new(DROP_INS);
    let unreadable = |error| LoadError::Unreadable(folder.to_owned(), error);
    let entries = match fs::read_dir(below(root, folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("config-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for folder in ["usr/lib/teleport-userdb", "etc/teleport-userdb/config.d"] {
            fs::create_dir_all(root.join(folder)).expect("made");
        }
        root
    }

    #[test]
    fn later_files_win_and_drop_ins_come_in_name_order() {
        let root = host("order");
        for (path, delay) in [
            ("usr/lib/teleport-userdb/config.toml", 1),
            ("etc/teleport-userdb/config.toml", 2),
            ("etc/teleport-userdb/config.d/20-b.toml", 4),
            ("etc/teleport-userdb/config.d/10-a.toml", 5),
            ("etc/teleport-userdb/config.d/30-no.conf", 6),
            ("etc/teleport-userdb/config.d/.40-no.toml", 7),
        ] {
            fs::write(root.join(path), format!("retire-delay = \"{delay}s\"\n")).expect("written");
        }
        let config = load(&root).expect("good");
        assert_eq!(config.retire_delay, std::time::Duration::from_secs(4));
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn without_any_file_the_built_in_defaults_hold() {
        let root = host("none");
        assert_eq!(load(&root).expect("good"), Config::default());
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn a_link_whose_target_is_missing_is_refused_and_not_skipped() {
        let root = host("dangling");
        let link = root.join("etc/teleport-userdb/config.d/50-deny.toml");
        std::os::unix::fs::symlink("/no/such/file", link).expect("linked");
        let sentence = load(&root).expect_err("refused").to_string();
        assert!(sentence.contains("50-deny.toml"), "{sentence}");
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn a_pipe_and_a_folder_are_refused_and_not_waited_for() {
        let root = host("pipe");
        let path = root.join("etc/teleport-userdb/config.d/50-pipe.toml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let sentence = load(&root).expect_err("refused").to_string();
        assert!(
            sentence.contains("50-pipe.toml: it has to be a regular file"),
            "{sentence}"
        );
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        load(&root).expect_err("refused");
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line_and_key() {
        let root = host("wrong");
        fs::write(
            root.join("etc/teleport-userdb/config.d/x.toml"),
            "gecos = \"x\"\nretyre-delay = \"3s\"\n",
        )
        .expect("written");
        let sentence = load(&root).expect_err("refused").to_string();
        for part in ["/etc/teleport-userdb/config.d/x.toml", "2", "retyre-delay"] {
            assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
        }
        fs::remove_dir_all(root).expect("removed");
    }
}

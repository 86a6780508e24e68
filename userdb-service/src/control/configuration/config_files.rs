//! Where the configuration is read from. What it means is the policy's subject.
//!
//! Built-in defaults, then the package's file, the administrator's, and drop-ins in name order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::host::plain_root::as_plain_root;
use crate::control::host::regular;
use crate::policy::{Config, ConfigError};
use crate::runtime::shortage::is_shortage;

/// Read in this order; a file that is not there is not missed.
const FILES: [&str; 2] = [
    "/usr/lib/teleport-userdb/config.toml",
    "/etc/teleport-userdb/config.toml",
];
const DROP_INS: &str = "/etc/teleport-userdb/config.d";
/// The folders that these are in; one that is not there is not missed either.
const FOLDERS: [&str; 3] = ["/usr/lib/teleport-userdb", "/etc/teleport-userdb", DROP_INS];

/// Where an administrator's files are.
const FOLDER: &str = "/etc/teleport-userdb";
/// How long the files may take. Part of it may be on a disk that does not answer, and nobody who lives waits for that.
pub(in crate::control) const PATIENCE: Duration = Duration::from_secs(5);

/// The largest file that is read, in bytes: hundreds of times what a node needs.
const LARGEST: u64 = 4 << 20;

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
            Self::Unreadable(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{}: {error}; it has to be root's, readable for its owner, and not in /root: teleport-sessiond may read nothing else",
                    path.display()
                )
            }
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Wrong(error) => error.fmt(f),
        }
    }
}

impl LoadError {
    /// Nothing can be said of any file in particular.
    pub(in crate::control) fn of_all(error: io::Error) -> Self {
        Self::Unreadable(FOLDER.into(), error)
    }

    /// They were not read in time.
    pub(in crate::control) fn late() -> Self {
        Self::of_all(io::Error::other(format!(
            "not read within {PATIENCE:?}; the disk or the server it is on does not answer"
        )))
    }

    /// A file cannot be read, which says nothing of what it says.
    pub(in crate::control) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(..))
    }

    /// There is not enough of something to read it with.
    pub(in crate::control) fn is_shortage(&self) -> bool {
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
    for folder in FOLDERS.map(PathBuf::from) {
        let is_folder = fs::metadata(below(root, &folder)).map(|it| it.is_dir());
        match unless_absent(&below(root, &folder), is_folder) {
            Ok(Some(true) | None) => {}
            Ok(Some(false)) => {
                let error = io::Error::other("it has to be a folder");
                return Err(LoadError::Unreadable(folder, error));
            }
            Err(error) => return Err(LoadError::Unreadable(folder, error)),
        }
    }
    let mut files = Vec::new();
    for path in FILES.map(PathBuf::from).into_iter().chain(drop_ins(root)?) {
        let place = below(root, &path);
        match unless_absent(&place, regular::read(&place, LARGEST)) {
            Ok(Some(bytes)) => files.push((path.display().to_string(), text(path, bytes)?)),
            Ok(None) => {}
            Err(error) => return Err(LoadError::Unreadable(path, error)),
        }
    }
    Config::parse(&files).map_err(LoadError::Wrong)
}

/// The same by the rights that teleport-sessiond has, which may not read what is another's, or closed to its owner, and in the time that
/// it takes. For programs that end soon after: what hangs is left to itself.
pub fn load_as_the_daemon(root: &Path) -> Result<Config, LoadError> {
    let root = root.to_owned();
    as_plain_root(PATIENCE, move || load(&root))
        .map_err(LoadError::of_all)?
        .unwrap_or_else(|| Err(LoadError::late()))
}

/// What was seen at `path`, `None` where nothing is. A link whose target is missing is not the same as nothing: what it says
/// must not be lost.
fn unless_absent<T>(path: &Path, seen: io::Result<T>) -> io::Result<Option<T>> {
    match seen {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Err(io::Error::other(format!(
                "it is a link to {}, which is not there; correct the link, or remove it",
                target.display()
            ))),
            Err(_) => Ok(None),
        },
        seen => seen.map(Some),
    }
}

fn text(path: PathBuf, bytes: Vec<u8>) -> Result<String, LoadError> {
    String::from_utf8(bytes).map_err(|error| {
        let (good, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let byte = rest.first().copied().unwrap_or_default();
        LoadError::Wrong(ConfigError {
            file: path,
            line: good.iter().filter(|byte| **byte == b'\n').count() + 1,
            key: String::new(),
            message: format!(
                "this is not UTF-8 (the byte 0x{byte:02X}); save the file in the encoding UTF-8"
            ),
        })
    })
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
    fn a_folder_that_is_a_link_to_nowhere_is_refused_and_not_skipped() {
        for folder in [
            "usr/lib/teleport-userdb",
            "etc/teleport-userdb",
            "etc/teleport-userdb/config.d",
        ] {
            let root = host("dangling-folder");
            let link = root.join(folder);
            fs::remove_dir_all(&link).expect("removed");
            std::os::unix::fs::symlink("/no/such/folder", &link).expect("linked");
            let sentence = load(&root).expect_err("refused").to_string();
            assert_eq!(
                sentence,
                format!(
                    "/{folder}: it is a link to /no/such/folder, which is not there; correct the link, or remove it"
                )
            );
            fs::remove_dir_all(root).expect("removed");
        }
    }

    #[test]
    fn a_folder_may_be_missing_or_a_link_to_another() {
        let root = host("linked-folder");
        let folder = root.join("etc/teleport-userdb");
        fs::rename(&folder, root.join("etc/elsewhere")).expect("moved");
        assert_eq!(load(&root).expect("good"), Config::default());
        std::os::unix::fs::symlink("elsewhere", &folder).expect("linked");
        fs::write(folder.join("config.d/a.toml"), "gecos = \"x\"\n").expect("written");
        assert_eq!(load(&root).expect("good").gecos, "x");
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named_itself() {
        for folder in ["etc/teleport-userdb", "etc/teleport-userdb/config.d"] {
            let root = host("file-for-folder");
            fs::remove_dir_all(root.join(folder)).expect("removed");
            fs::write(root.join(folder), "").expect("written");
            let sentence = load(&root).expect_err("refused").to_string();
            assert_eq!(sentence, format!("/{folder}: it has to be a folder"));
            fs::remove_dir_all(root).expect("removed");
        }
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_named_with_its_line() {
        let root = host("latin-1");
        let file = root.join("etc/teleport-userdb/config.d/x.toml");
        fs::write(file, b"# f\xc3\xbcr alle\ngecos = \"\xfcber\"\n").expect("written");
        let sentence = load(&root).expect_err("refused").to_string();
        assert_eq!(
            sentence,
            "/etc/teleport-userdb/config.d/x.toml:2: this is not UTF-8 (the byte 0xFC); save the file in the encoding UTF-8"
        );
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

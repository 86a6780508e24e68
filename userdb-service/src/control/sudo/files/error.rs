//! Why a sudo right could not be written or taken away, and what an administrator can do about it.
//! Sentences only.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a grant could not be written or taken away.
#[derive(Debug)]
pub enum SudoersError {
    /// Something that is not ours has the name. It was left alone; the login goes without sudo.
    NotOurs(PathBuf),
    /// It has our header line, and other names: copies of ours have none, so somebody made it. It was
    /// left alone.
    Linked {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        links: libc::nlink_t,
    },
    /// The very file that we have written lacks our header line by now. It was left alone.
    Disowned(PathBuf),
    /// A file of root's that may be ours and that its mode keeps from being read. It was left alone.
    Closed(PathBuf),
    /// The folder is another one than at our start. Ours to write to is the one of then: start anew.
    Replaced(PathBuf),
    /// The thread that works on the folder has not got to it in time.
    Late(PathBuf),
    /// The folder or the file system would not keep the file as sudo needs it: `why` says what.
    Unsuitable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused: full, read-only, absent. Retry later; nothing half is left.
    Io {
        /// What was being done, with the path.
        what: String,
        /// The refusal.
        error: io::Error,
    },
}

impl fmt::Display for SudoersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SudoersError::NotOurs(path) => write!(
                f,
                "{} exists and is not ours (a regular file of root with our header line): left alone",
                path.display()
            ),
            SudoersError::Linked { path, links } => {
                let path = path.display();
                write!(
                    f,
                    "{path} has our header line but {links} names, so it is left alone and what it grants \
                     holds: remove it (rm {path}), and find its other names with: find / -xdev -samefile {path}"
                )
            }
            SudoersError::Disowned(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} was written by us and has lost its header line, so it is left alone and what it \
                     grants holds: remove it (rm {path}), or give it another name if it is meant to stay"
                )
            }
            SudoersError::Closed(path) => {
                let path = path.display();
                write!(
                    f,
                    "{path} cannot be read, by its mode, so nobody knows whether it is ours: it is left alone and what \
                     it grants holds: make it readable for its owner (chmod 0440 {path})"
                )
            }
            SudoersError::Replaced(path) => write!(
                f,
                "{} was replaced by another folder: teleport-sessiond starts anew to work in it",
                path.display()
            ),
            SudoersError::Late(path) => {
                write!(f, "the file system of {} does not answer", path.display())
            }
            SudoersError::Unsuitable { path, why } => write!(f, "{} {why}", path.display()),
            // The sandbox has a mount as it was when the daemon started.
            SudoersError::Io { what, error }
                if error.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                write!(
                    f,
                    "{what}: {error}; where it is writable by now, teleport-sessiond has to be restarted"
                )
            }
            SudoersError::Io { what, error } if error.kind() == io::ErrorKind::NotADirectory => {
                write!(f, "{what}: {error}; it has to be a folder")
            }
            // Root needs no capability in a folder of its own.
            SudoersError::Io { what, error } if error.raw_os_error() == Some(libc::EPERM) => {
                write!(
                    f,
                    "{what}: {error}; where it or its folder is immutable (lsattr -d), chattr -i is right"
                )
            }
            SudoersError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for SudoersError {}

//! Which files sudo and doas read: includes, folders, and which of them are skipped. What stands in a
//! file is read elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::own::Own;
use super::{Include, Parsed, Stamp, doas, sudoers};
use crate::control::sudo::files::is_ours;

/// sudo's own limit for nested includes.
const DEEPEST_INCLUDE: usize = 128;
/// More than this in one file is not read but an error: the names would not fit into an answer.
const LARGEST_FILE: u64 = 8 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Sudoers,
    Doas,
}

/// What was read, by file: our own are not among them. Without a stamp it is read again the next time.
pub(super) type Files = HashMap<PathBuf, (Option<Stamp>, Parsed)>;

/// One walk from the roots through all that they include.
pub(super) struct Walk<'a> {
    own: &'a mut Own,
    before: &'a Files,
    after: Files,
    /// Folders that are included.
    folders: BTreeSet<PathBuf>,
    /// What could not be read, where the walk is to go on past it.
    unread: Option<Vec<Unread>>,
}

/// A file or a folder that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which.
    pub path: PathBuf,
    /// As the kernel says.
    pub why: String,
}

impl<'a> Walk<'a> {
    /// `own`: our own files, as far as they are known. `before`: what the last walk has found.
    pub(super) fn new(own: &'a mut Own, before: &'a Files) -> Walk<'a> {
        Walk {
            own,
            before,
            after: Files::new(),
            folders: BTreeSet::new(),
            unread: None,
        }
    }

    /// Goes on past what cannot be read, and notes it.
    pub(super) fn going_on(self) -> Walk<'a> {
        Walk {
            unread: Some(Vec::new()),
            ..self
        }
    }

    /// Reads `path` and what it includes.
    ///
    /// # Errors
    /// A file that is there and cannot be read, by its name.
    pub(super) fn file(&mut self, syntax: Syntax, path: &Path) -> io::Result<()> {
        self.nested(syntax, path, 0)
    }

    /// What was found, by file.
    pub(super) fn files(self) -> Files {
        self.after
    }

    /// Folders that are included, there or not, and what could not be read of a walk that [goes on](Self::going_on).
    pub(super) fn met(self) -> (BTreeSet<PathBuf>, Vec<Unread>) {
        (self.folders, self.unread.unwrap_or_default())
    }

    /// This one cannot be read.
    fn cannot(&mut self, path: &Path, error: io::Error) -> io::Result<()> {
        let Some(unread) = &mut self.unread else {
            return Err(named(path, error));
        };
        let one = Unread {
            path: path.to_owned(),
            why: error.to_string(),
        };
        // It may be included twice.
        if !unread.contains(&one) {
            unread.push(one);
        }
        Ok(())
    }

    fn nested(&mut self, syntax: Syntax, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEEPEST_INCLUDE || self.after.contains_key(path) {
            return Ok(());
        }
        // Follows links, as sudo does. A FIFO would block, so only regular files are opened.
        let stamp = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Stamp::seen(&metadata),
            Ok(_) => return Ok(()),
            Err(e) if nobody_can_open(&e) => return Ok(()),
            Err(e) => return self.cannot(path, e),
        };
        // Our own files say nothing.
        if self.own.recognises(path, stamp) {
            return Ok(());
        }
        let seen = stamp.settled();
        let parsed = match self.before.get(path) {
            Some((before, parsed)) if *before == Some(stamp) => parsed.clone(),
            _ => match read(path) {
                Ok(text) if self.is_ours(path, &text) => {
                    self.own.add(path, seen);
                    return Ok(());
                }
                Ok(text) => match syntax {
                    Syntax::Sudoers => sudoers::parse(&text),
                    Syntax::Doas => doas::parse(&text),
                },
                Err(e) if nobody_can_open(&e) => return Ok(()),
                Err(e) => return self.cannot(path, e),
            },
        };
        let includes = parsed.includes.clone();
        self.after.insert(path.to_owned(), (seen, parsed));
        let folder = path.parent().unwrap_or(Path::new("/"));
        for include in includes {
            match include {
                Include::File(name) => {
                    self.nested(syntax, &folder.join(with_host(&name)), depth + 1)?;
                }
                Include::Folder(name) => {
                    self.folder(syntax, &folder.join(with_host(&name)), depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn folder(&mut self, syntax: Syntax, path: &Path, depth: usize) -> io::Result<()> {
        self.folders.insert(path.to_owned());
        let names = match self.own.others(path) {
            Some(names) => names,
            None => {
                let entries = match std::fs::read_dir(path) {
                    Ok(entries) => entries,
                    Err(e) if nobody_can_open(&e) => return Ok(()),
                    Err(e) => return self.cannot(path, e),
                };
                let names: io::Result<_> = entries.map(|entry| Ok(entry?.file_name())).collect();
                match names {
                    Ok(names) => self.own.listed(path, names),
                    Err(e) => return self.cannot(path, e),
                }
            }
        };
        for name in names {
            // sudo skips these, and so no rule in them has a meaning.
            let is_skipped = name.as_bytes().contains(&b'.') || name.as_bytes().ends_with(b"~");
            if !is_skipped {
                self.nested(syntax, &path.join(name), depth)?;
            }
        }
        Ok(())
    }

    /// Is this a file of ours, by the same rule by which we remove it?
    fn is_ours(&self, path: &Path, text: &[u8]) -> bool {
        let Some(name) = self.own.name(path) else {
            return false;
        };
        // Of the entry itself: a link is not ours, whatever it leads to.
        path.symlink_metadata()
            .is_ok_and(|entry| is_ours(name.as_bytes(), &entry, text))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    match text.len() as u64 > LARGEST_FILE {
        true => Err(io::Error::other("is larger than 8 MiB")),
        false => Ok(text),
    }
}

/// There is nothing, or nothing that sudo could open either, such as a link to itself.
fn nobody_can_open(error: &io::Error) -> bool {
    let never = [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];
    // A path with a NUL does not even reach the kernel.
    error.kind() == io::ErrorKind::InvalidInput
        || error
            .raw_os_error()
            .is_some_and(|errno| never.contains(&errno))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// `%h` in an include stands for the short host name.
fn with_host(name: &OsStr) -> PathBuf {
    let mut rest = name.as_bytes();
    let mut path = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"%h") {
        path.extend_from_slice(&rest[..at]);
        let host = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
        let short = host.split(|c| b".\n".contains(c)).next();
        path.extend_from_slice(short.unwrap_or_default());
        rest = &rest[at + 2..];
    }
    path.extend_from_slice(rest);
    std::ffi::OsString::from_vec(path).into()
}

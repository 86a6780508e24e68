//! What is mounted where, by the kernel's table of this process: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
//! Nothing that is mounted is looked into. Whose a mount is, or what follows from it, is not judged here.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where the kernel shows it.
pub(in crate::control) const PATH: &str = "/proc/self/mountinfo";

/// A line of the table.
pub(in crate::control) struct Mount<'t> {
    /// As statx(2) has it of a file on the mount.
    pub(in crate::control) id: u64,
    /// The folder it is on, from the root of this process.
    pub(in crate::control) point: PathBuf,
    /// The type of its file system.
    pub(in crate::control) kind: &'t [u8],
    options: &'t [u8],
    of_all: &'t [u8],
}

impl Mount<'_> {
    /// Whether this mount has `option`.
    pub(in crate::control) fn has(&self, option: &str) -> bool {
        names(self.options, option)
    }

    /// Whether its file system has `option`, wherever else it is mounted.
    pub(in crate::control) fn file_system_has(&self, option: &str) -> bool {
        names(self.of_all, option)
    }
}

/// The whole table, as it is at this moment.
pub(in crate::control) fn read() -> io::Result<Vec<u8>> {
    std::fs::read(PATH)
}

/// The mounts of a table, in its order: who is mounted on somebody comes after. What is not a line of it is left out.
pub(in crate::control) fn mounts(table: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(mount)
}

/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS]... - TYPE SOURCE OPTIONS`
fn mount(line: &[u8]) -> Option<Mount<'_>> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // Text of somebody's choice comes after the dash only as SOURCE and OPTIONS, and before it with its blanks escaped.
    let end = fields.iter().position(|field| *field == b"-")?;
    Some(Mount {
        id: str::from_utf8(fields.first()?).ok()?.parse().ok()?,
        point: unescaped(fields.get(4)?),
        options: fields.get(5)?,
        kind: fields.get(end + 1)?,
        of_all: fields.get(end + 3)?,
    })
}

fn names(options: &[u8], option: &str) -> bool {
    options
        .split(|byte| *byte == b',')
        .any(|other| other == option.as_bytes())
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                text.push(byte);
                rest = &after[3..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_tags_and_without() {
        let table = b"31 1 8:1 / /a\\040b ro,noexec - ext4 /dev/sda1 rw,x=ro\n\
            32 31 0:9 / /c rw shared:2 master:1 - fuse.sshfs a - rw,user_id=7\n\
            33 1 0:36\n\
            x 1 0:9 / /d rw - tmpfs tmpfs rw\n\n";
        let seen: Vec<_> = mounts(table)
            .map(|mount| {
                let has = ["ro", "noexec", "rw"].map(|option| mount.has(option));
                (mount.id, mount.point.clone(), mount.kind, has)
            })
            .collect();
        let line = |id, point: &str, kind, has| (id, PathBuf::from(point), kind, has);
        assert_eq!(
            seen,
            [
                line(31, "/a b", &b"ext4"[..], [true, true, false]),
                line(32, "/c", &b"fuse.sshfs"[..], [false, false, true]),
            ]
        );
        let first = mounts(table).next().expect("a mount");
        assert!(first.file_system_has("rw") && !first.file_system_has("ro"));
        assert!(read().is_ok_and(|table| mounts(&table).count() > 0));
    }

    #[test]
    fn escapes_of_the_kernel_are_read_and_others_left() {
        assert_eq!(unescaped(b"/a\\134b\\040c"), PathBuf::from("/a\\b c"));
        assert_eq!(unescaped(b"/a\\9\\04"), PathBuf::from("/a\\9\\04"));
    }
}

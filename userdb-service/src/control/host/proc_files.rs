//! Files of `/proc`, each read whole: they have no size that one could ask for, and are made as they are read. Those of one record, or
//! of many short ones: the kernel gives as many records at a time as there is room for, whole ones.
//! What stands in them is read elsewhere.

use std::io;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

/// What nearly every file has room in, so that it takes one read.
const FIRST: usize = 4 << 10;
/// No record of many is longer. Where a read has left as much room, there is none left.
const RECORD: usize = 1 << 10;

/// The text of the file at `path`.
///
/// # Errors
/// As the kernel says; ENOENT or ESRCH of a process that is no more.
pub(in crate::control) fn read(path: &str) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let mut text = Vec::with_capacity(FIRST);
    loop {
        if text.len() == text.capacity() {
            text.reserve(text.len());
        }
        match rustix::io::read(&file, spare_capacity(&mut text)) {
            Ok(count) if count == 0 || text.capacity() - text.len() >= RECORD => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The command of a process may be any bytes.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What stands behind `name` at the beginning of a line.
pub(in crate::control) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_however_long_it_is() {
        let path = std::env::temp_dir().join(format!("proc-files-{}", std::process::id()));
        for length in [0, 1, FIRST - RECORD, FIRST - 1, FIRST, FIRST + 1, 5 * FIRST] {
            let text = "teleport\n".repeat(length)[..length].to_owned();
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read(path.to_str().unwrap()).unwrap(), text);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read(path.to_str().unwrap()).is_err());
        assert_eq!(
            read("/proc/self/status").unwrap().lines().count(),
            std::fs::read_to_string("/proc/self/status")
                .unwrap()
                .lines()
                .count()
        );
    }
}

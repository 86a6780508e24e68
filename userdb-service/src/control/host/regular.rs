//! Reading a file in whose place somebody may have put something else: a pipe would keep whoever reads it waiting for ever, and what
//! is too large would fill the memory. What is in it is for others to know.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// All of a regular file of `most` bytes or fewer; links are followed.
///
/// # Errors
/// It cannot be read, is something else, or is larger.
pub(in crate::control) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = opened(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it has to be a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without this, opening a pipe waits for who writes.
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path).map_err(|error| {
        // A socket.
        let is_none = error.raw_os_error() == Some(nix::libc::ENXIO);
        match is_none {
            true => io::Error::other("it has to be a regular file"),
            false => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_folders_and_what_is_too_large_are_refused_at_once() {
        let folder = std::env::temp_dir().join(format!("regular-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let [pipe, file] = ["pipe", "file"].map(|name| folder.join(name));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        std::fs::write(&file, "four").expect("written");
        assert_eq!(read(&file, 4).expect("read"), b"four");
        for (path, most, part) in [
            (&pipe, 4, "regular file"),
            (&folder, 4, "regular file"),
            (&file, 3, "more than 3 bytes"),
        ] {
            let told = read(path, most).expect_err("refused").to_string();
            assert!(told.contains(part), "{told}");
        }
        std::fs::remove_dir_all(folder).expect("removed");
    }
}

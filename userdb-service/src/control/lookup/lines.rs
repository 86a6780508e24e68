//! The daemon's end of the stream to a lookup worker, line by line. What the lines say is not of this place.
//!
//! Watched for what comes and not for room, which a stream has unless one does not read: the kernel tells of room each time the
//! other side has read, and that would wake the daemon for nothing in the middle of each question.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::runtime::watched::{Watched, watch};

/// What most lines have room in.
const CHUNK: usize = 8 << 10;

/// A stream of lines.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Watched,
    /// What has come behind the last line that was taken.
    unread: Vec<u8>,
}

impl Lines {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// As the kernel says.
    pub(super) async fn connect(path: &Path) -> io::Result<Lines> {
        let stream = UnixStream::connect(path).await?.into_std()?;
        Ok(Lines {
            stream: watch(Rc::new(stream.into()), Interest::READABLE)?,
            unread: Vec::new(),
        })
    }

    /// Sends all of `bytes`, waiting for room where there is none.
    ///
    /// # Errors
    /// As the kernel says: the other side has hung up.
    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let stream: &OwnedFd = self.stream.get_ref();
        let mut rest = bytes;
        while !rest.is_empty() {
            match send(stream, rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // The kernel watches a descriptor once, but each copy of it.
                    let room = watch(Rc::new(stream.try_clone()?), Interest::WRITABLE)?;
                    drop(room.writable().await?);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next line, with what ends it; at most so many bytes.
    ///
    /// # Errors
    /// The stream ends before the line does, or the line is longer.
    pub(super) async fn next(&mut self, longest: usize) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..].iter().position(|b| *b == b'\n');
            if let Some(at) = found.map(|at| searched + at + 1)
                && at <= longest
            {
                let rest = self.unread.split_off(at);
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            searched = self.unread.len();
            if found.is_some() || searched >= longest {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut ready = self.stream.readable().await?;
            self.unread.reserve(CHUNK);
            match recv(
                ready.get_inner(),
                spare_capacity(&mut self.unread),
                RecvFlags::empty(),
            ) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // A stream that had less than there was room for has no more for now.
                Ok((count, _)) if count < CHUNK => ready.clear_ready(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn pair(name: &str) -> (UnixListener, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("lines-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (UnixListener::bind(&path).unwrap(), path)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_come_whole_however_they_were_sent() {
        let (listener, path) = pair("whole");
        let long = "x".repeat(3 * CHUNK);
        let said = format!("one\ntwo\n{long}\n\nhalf");
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for part in said.as_bytes().chunks(CHUNK - 3) {
                stream.write_all(part).unwrap();
            }
        });
        let mut lines = Lines::connect(&path).await.unwrap();
        for expected in ["one\n", "two\n", &format!("{long}\n"), "\n"] {
            let line = lines.next(long.len() + 1).await.unwrap();
            assert_eq!(line, expected.as_bytes());
        }
        let end = lines.next(10).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        peer.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_line_that_is_too_long_is_refused_whether_or_not_it_has_ended() {
        for said in ["12345678\n", "12345678"] {
            let (listener, path) = pair("long");
            let mut lines = Lines::connect(&path).await.unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            let refused = lines.next(8).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_has_no_room_yet_is_sent_once_the_other_side_has_read() {
        let (listener, path) = pair("room");
        let lines = Lines::connect(&path).await.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let bytes = vec![7; 4 << 20];
        let length = bytes.len();
        let peer = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(50));
            let mut heard = vec![0; length];
            stream.read_exact(&mut heard).map(|()| heard)
        });
        lines.send(&bytes).await.unwrap();
        assert!(peer.join().unwrap().unwrap() == bytes);
        std::fs::remove_file(path).unwrap();
    }
}

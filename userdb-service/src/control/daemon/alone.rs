//! That one `teleport-sessiond` works at a time: a lock on the folder of its state, held for its life.
//! The kernel gives it back with the process, however that ends; nothing is written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

const RETRY: Duration = Duration::from_millis(20);

/// Keeps others from working, until it is dropped.
#[derive(Debug)]
pub(in crate::control) struct Alone {
    _folder: Flock<File>,
}

/// Waits up to `patience` to be the only one. `None`: somebody else is at work.
///
/// # Errors
/// The folder cannot be opened; `NotFound` also means that nobody is at work.
pub(in crate::control) fn alone(folder: &Path, patience: Duration) -> io::Result<Option<Alone>> {
    let deadline = Instant::now() + patience;
    let mut folder = File::open(folder)?;
    loop {
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Some(Alone { _folder: held })),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => return Ok(None),
            Err((again, Errno::EWOULDBLOCK)) => folder = again,
            Err((_, error)) => return Err(error.into()),
        }
        std::thread::sleep(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_when_it_is_over() {
        let folder = std::env::temp_dir().join(format!("alone-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let first = alone(&folder, Duration::ZERO).unwrap().expect("nobody is");
        assert!(alone(&folder, RETRY * 2).unwrap().is_none());
        drop(first);
        assert!(alone(&folder, Duration::ZERO).unwrap().is_some());
        std::fs::remove_dir(&folder).unwrap();
        let absent = alone(&folder, Duration::ZERO).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }
}

//! Strangers who do their worst on our socket: idle, half a message, floods, lists that are not read.
//! Each kind says `there` when it is, and stays until its standard input ends.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, setresuid};

use crate::asker::What;
use crate::{OUR_SOCKET, OURS, Result};

/// UIDs of strangers; each kind of them has its own.
const FIRST_UID: u32 = 300_000;

pub(crate) fn run(kind: &str, connections: &str, uids: &str) -> Result {
    let (connections, uids): (u32, u32) = (connections.parse()?, uids.parse()?);
    setrlimit(Resource::RLIMIT_NOFILE, 20_000, 20_000)?;
    let first =
        FIRST_UID + 10_000 * u32::from(kind.as_bytes().first().copied().unwrap_or_default());
    let mut sockets = Vec::new();
    for number in 0..connections {
        sockets.push(connect_as(first + number % uids)?);
    }
    match kind {
        "idle" => {}
        "half" => {
            for socket in &mut sockets {
                // Who was closed to make room is not there any more; that is for the daemon to decide.
                let _ = socket.write_all(&What::Name.about(0, OURS)[..40]);
            }
        }
        "deaf" => {
            for socket in &mut sockets {
                socket.write_all(&What::All.about(0, OURS))?;
            }
        }
        "flood" => {
            for socket in sockets.drain(..) {
                flood(socket)?;
            }
        }
        _ => return Err(format!("{kind:?} is no kind of stranger").into()),
    }
    println!("there");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The kernel tells a server the credentials of the moment of connecting.
fn connect_as(uid: u32) -> Result<UnixStream> {
    let (root, user) = (Uid::from_raw(0), Uid::from_raw(uid));
    setresuid(user, user, root)?;
    let socket = UnixStream::connect(OUR_SOCKET);
    setresuid(root, root, root)?;
    Ok(socket?)
}

/// Pours questions into a connection without waiting for answers, which it throws away.
fn flood(mut socket: UnixStream) -> Result {
    let burst = What::Name.about(0, OURS).repeat(100);
    let mut reader = socket.try_clone()?;
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            let mut piece = vec![0; 32 << 10];
            while matches!(reader.read(&mut piece), Ok(count) if count > 0) {}
        })?;
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || while socket.write_all(&burst).is_ok() {})?;
    Ok(())
}

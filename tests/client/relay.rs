//! Bytes to and from a unix socket exactly as they come, and crowds of connections that do nothing.
//! What the bytes mean is for the tests outside; a server is told the PID and UID of a process in here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::{Uid, setresuid};

use crate::{Crowd, Relay};

const DONE: i32 = 0;
const NOT_CONNECTED: i32 = 2;

/// Standard input to the socket, the socket to standard output, until either ends.
pub(crate) fn relay(relay: &Relay) -> i32 {
    let connection = match UnixStream::connect(&relay.socket) {
        Ok(connection) => connection,
        Err(error) => return not_connected(&error),
    };
    let (Ok(to_server), Ok(mut input), Ok(mut output)) = (
        connection.try_clone(),
        unbuffered(io::stdin()),
        unbuffered(io::stdout()),
    ) else {
        return NOT_CONNECTED;
    };
    std::thread::spawn(move || {
        let _ = copy(&mut input, &mut &to_server);
        // The test has heard enough: to the server the caller is gone.
        let _ = to_server.shutdown(Shutdown::Both);
        std::process::exit(DONE);
    });
    let _ = copy(&mut &connection, &mut output);
    DONE
}

/// Opens connections, as many users, says `there` and keeps them until standard input ends.
pub(crate) fn crowd(crowd: &Crowd) -> i32 {
    let mut connections = Vec::new();
    for at in 0..crowd.connections {
        let uid = crowd.first_uid + at % crowd.uids;
        match connected_as(uid, &crowd.socket) {
            Ok(connection) => connections.push(connection),
            Err(error) => return not_connected(&error),
        }
        if let Some(message) = &crowd.say
            && let Some(connection) = connections.last_mut()
        {
            // A server that has had enough closes; that is its right.
            let end: &[u8] = if crowd.half { b"" } else { b"\0" };
            let _ = connection.write_all(&[message.as_bytes(), end].concat());
        }
    }
    println!("there");
    let _ = copy(&mut io::stdin(), &mut io::sink());
    DONE
}

/// The kernel tells a server the credentials of the moment of connecting.
fn connected_as(uid: u32, socket: &Path) -> io::Result<UnixStream> {
    let (root, user) = (Uid::from_raw(0), Uid::from_raw(uid));
    setresuid(user, user, root)?;
    let connection = UnixStream::connect(socket);
    setresuid(root, root, root)?;
    connection
}

fn not_connected(error: &io::Error) -> i32 {
    eprintln!("not connected: {error}");
    NOT_CONNECTED
}

/// A standard stream without a buffer between.
fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; 1 << 16];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => to.write_all(&piece[..count])?,
        }
    }
}

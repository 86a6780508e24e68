//! One call to the registry, with whatever rights and in whatever namespaces this process was started.
//! The answer is told as it came; what it should have been is for the tests.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{ForkResult, fork, getpid, getppid};
use serde_json::{Value, json};

use crate::Call;

const ANSWERED: i32 = 0;
const ERROR_ANSWERED: i32 = 1;
const NOT_CONNECTED: i32 = 2;
const NO_ANSWER: i32 = 3;

/// Prints the reply, or why there is none, and gives the exit status.
pub(crate) fn call(call: &Call) -> i32 {
    let mut connection = match connected(&call.socket) {
        Ok(connection) => connection,
        Err(error) => {
            println!("{}", json!({"connect": error.to_string()}));
            return NOT_CONNECTED;
        }
    };
    if call.orphaned {
        outlive_the_caller();
    }
    let parameters: Value = serde_json::from_str(&call.parameters).unwrap_or_default();
    let message = json!({"method": call.method, "parameters": parameters});
    match exchange(&mut connection, &message) {
        Ok(reply) => {
            println!("{reply}");
            if reply.get("error").is_some() {
                ERROR_ANSWERED
            } else {
                ANSWERED
            }
        }
        Err(error) => {
            println!("{}", json!({"answer": error.to_string()}));
            NO_ANSWER
        }
    }
}

/// One question on a connection of its own.
pub(crate) fn ask(socket: &Path, message: &Value) -> io::Result<Value> {
    exchange(&mut connected(socket)?, message)
}

fn connected(socket: &Path) -> io::Result<UnixStream> {
    let connection = UnixStream::connect(socket)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(connection)
}

/// The process that has connected ends, and a child goes on with its connection once it is gone.
fn outlive_the_caller() {
    let caller = getpid();
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            while getppid() == caller {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(ForkResult::Parent { .. }) => std::process::exit(0),
        Err(error) => println!("{}", json!({"fork": error.to_string()})),
    }
}

/// Messages of varlink are JSON objects, each ended by a NUL.
fn exchange(connection: &mut UnixStream, message: &Value) -> io::Result<Value> {
    connection.write_all(format!("{message}\0").as_bytes())?;
    let mut reply = Vec::new();
    while !reply.contains(&0) {
        let mut piece = [0; 4096];
        let length = connection.read(&mut piece)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reply.extend_from_slice(&piece[..length]);
    }
    let end = reply
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(reply.len());
    Ok(serde_json::from_slice(&reply[..end])?)
}

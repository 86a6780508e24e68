//! `make bench-userdb`: what a question to a userdb provider costs, and what strangers can make it cost.
//! Puts the parts together; each of them is a file.
//!
//! Outside, the conductor boots a node, lets the subjects take turns and judges. Inside, this same program asks: the
//! providers of systemd only talk to processes whose PID they can see.

mod asker;
mod conduct;
mod crowd;
mod goals;
mod hostile;
mod load;
mod lookups;
mod prepare;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => conduct::run(),
        ["short"] => conduct::short(),
        ["publish", users] => prepare::publish(users),
        ["records", file] => prepare::records(file),
        ["load", service, socket, what, connections, pace, users] => {
            load::run(service, socket, what, connections, pace, users)
        }
        ["list", service, socket, what, users, pace] => {
            load::list(service, socket, what, users, pace)
        }
        ["lookups", name] => lookups::run(name),
        ["crowd", kind, connections, uids] => crowd::run(kind, connections, uids),
        ["root", milliseconds] => hostile::root(milliseconds),
        _ => Err("usage: bench-userdb [short] (as root)".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-userdb: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever goes wrong ends the benchmark: half a measurement is none.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Our provider and its socket.
const OURS: &str = "com.goteleport.DynamicUser";
const OUR_SOCKET: &str = "/run/systemd/userdb/com.goteleport.DynamicUser";

//! `make bench-lookups`: what a lookup through glibc costs, by whom it is answered and among how many users.
//! Puts the parts together; each of them is a file.
//!
//! Everything runs in a root of its own over a Debian image, in workers: one process for each subject and size, with a mount
//! namespace that holds its users. The conductor lets the workers take turns and prints samples; the report judges them.

mod calls;
mod chart;
mod conduct;
mod population;
mod report;
mod subject;
mod tables;
mod worker;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => report::run(),
        ["conduct", root, modules] => conduct::run(root.as_ref(), modules.as_ref()),
        ["worker", subject, users] => worker::run(subject, users),
        ["publish", users] => worker::publish(users),
        ["warm-up", users] => worker::warm_up(users),
        _ => Err("usage: bench-lookups (without arguments, as root)".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-lookups: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever goes wrong ends the benchmark: half a measurement is none.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

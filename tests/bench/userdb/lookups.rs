//! Lookups of somebody else's name through nss-systemd in this process, to see what one more provider costs everybody.

use std::time::{Duration, Instant};

use nix::unistd::User;

use crate::Result;
use crate::asker::login;

const SAMPLE: Duration = Duration::from_millis(600);

/// Tells the microseconds of a lookup of a name that no provider has: everyone has to say no. The conductor has left
/// nsswitch.conf nobody but systemd to ask.
pub(crate) fn run(users: &str) -> Result {
    let mut number: u32 = users.parse()?;
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < SAMPLE {
        number += 1;
        let (name, _) = login(number);
        let asked = Instant::now();
        let found = User::from_name(&name)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        if found.is_some() {
            return Err(format!("{name} is somebody").into());
        }
    }
    println!("{:.2}", bench::median(&times));
    Ok(())
}

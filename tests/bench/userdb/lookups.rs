//! Lookups of somebody else's name through nss-systemd in this process, to see what one more provider costs everybody.

use std::time::{Duration, Instant};

use nix::unistd::User;

use crate::Result;
use crate::asker::ran;

const SAMPLE: Duration = Duration::from_millis(600);
/// A name that stands for nobody, another one each time.
pub(crate) const NOBODY: &str = "nobody";

/// Tells the microseconds of a lookup of `name`, and how many of them this process was running itself: what no provider, however
/// quick, can take away. The conductor has left nsswitch.conf nobody but systemd to ask.
pub(crate) fn run(name: &str) -> Result {
    let mut times = Vec::new();
    let (began, ran_before) = (Instant::now(), ran()?);
    while began.elapsed() < SAMPLE {
        let is_somebody = name != NOBODY;
        let name = match is_somebody {
            true => name.to_owned(),
            false => format!("absent{}", times.len()),
        };
        let asked = Instant::now();
        let found = User::from_name(&name)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        if found.is_some() != is_somebody {
            return Err(format!("{name}: {found:?}").into());
        }
    }
    let own = (ran()? - ran_before).as_secs_f64() * 1e6 / times.len() as f64;
    println!("{:.2} {own:.2}", bench::median(&times));
    Ok(())
}

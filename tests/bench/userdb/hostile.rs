//! Lookups as root, one connection each, while strangers do their worst.

use std::time::{Duration, Instant};

use crate::asker::{What, ask, connect};
use crate::{OUR_SOCKET, OURS, Result};

/// Between two lookups: root is not a flood itself.
const PAUSE: Duration = Duration::from_millis(2);

/// Tells `lookups p50 p99 max` in milliseconds.
pub(crate) fn root(milliseconds: &str) -> Result {
    let time = Duration::from_millis(milliseconds.parse()?);
    let question = What::Name.about(0, OURS);
    let mut heard = Vec::new();
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let asked = Instant::now();
        ask(&mut connect(OUR_SOCKET)?, &question, &mut heard)?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
        if !heard.starts_with(What::Name.begins()) {
            return Err("a wrong answer among strangers".into());
        }
        std::thread::sleep(PAUSE);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} {:.3} {:.3} {:.3}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

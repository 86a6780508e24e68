//! Whether a login costs the same among many existing users, and among many live sessions, as among few.
//! The floor is asked in the same rounds: what slows the machine slows it, too.

use bench::Rounds;

use crate::Result;
use crate::node::Node;

/// Few local users and many.
pub(crate) const FEW: usize = 30;
pub(crate) const MANY: usize = 100_000;
/// Live sessions of as many users.
pub(crate) const LIVE: usize = 1_000;

/// The last depends on nothing but the machine and its disk.
const SUBJECTS: [&str; 3] = ["ours", "floor", "floor, asking nobody"];
const LOGINS: usize = 20;
/// The floor has glibc read all of /etc/passwd and /etc/group five times for each.
const LOGINS_OF_THE_FLOOR: usize = 5;

/// Milliseconds of a login, by subject; the same rounds of each pair belong together.
pub(crate) struct Flat {
    pub(crate) few: Rounds,
    pub(crate) many: Rounds,
    pub(crate) alone: Rounds,
    pub(crate) crowded: Rounds,
    /// Logins that were refused.
    pub(crate) wrong: usize,
}

pub(crate) fn measure(node: &mut Node, rounds: usize) -> Result<Flat> {
    let mut flat = Flat {
        few: Rounds::default(),
        many: Rounds::default(),
        alone: Rounds::default(),
        crowded: Rounds::default(),
        wrong: 0,
    };
    for round in 0..rounds {
        for users in [FEW, MANY] {
            node.have_users(users)?;
            let into = if users == FEW {
                &mut flat.few
            } else {
                &mut flat.many
            };
            flat.wrong += logins(node, into, round, &format!("among{users}r{round}"))?;
            // What ends them is not to run beside the next.
            node.settle(0)?;
        }
        eprintln!("round {round}: {FEW} and {MANY} users");
    }
    node.have_users(FEW)?;
    for round in 0..rounds {
        flat.wrong += logins(node, &mut flat.alone, round, &format!("alone{round}"))?;
        node.settle(0)?;
    }
    let held = node.hold("live", LIVE)?;
    for round in 0..rounds {
        flat.wrong += logins(node, &mut flat.crowded, round, &format!("crowded{round}"))?;
        node.settle(LIVE)?;
    }
    drop(held);
    node.settle(0)?;
    Ok(flat)
}

/// Who begins changes from round to round.
fn logins(node: &Node, into: &mut Rounds, round: usize, prefix: &str) -> Result<usize> {
    let mut wrong = 0;
    for at in 0..SUBJECTS.len() {
        let subject = SUBJECTS[(at + round) % SUBJECTS.len()];
        let count = if subject == "floor" {
            LOGINS_OF_THE_FLOOR
        } else {
            LOGINS
        };
        node.logins(subject, &format!("{prefix}w"), 1, false, false)?;
        let burst = node.logins(subject, &format!("{prefix}n"), count, false, false)?;
        into.add(subject, burst.login);
        wrong += burst.wrong;
    }
    Ok(wrong)
}

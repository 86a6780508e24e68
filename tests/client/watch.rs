//! Lookups of users who are there all the time, by NSS and by userdb, while something is done to our services.
//! What is done to them is for the tests.

use std::io;
use std::time::{Duration, Instant};

use nix::unistd::User;
use serde_json::json;

use crate::{Watch, registry};

/// Failures shown in full.
const SHOWN: usize = 8;
const USERDB: &str = "/run/systemd/userdb/com.goteleport.DynamicUser";

/// Prints how many lookups there were, how many failed and how long the slowest took, and gives 0 if none failed.
pub(crate) fn run(watch: &Watch) -> i32 {
    let (mut lookups, mut failures) = (0_u64, Vec::new());
    let mut slowest = [Duration::ZERO; 2];
    while !watch.until.exists() {
        for login in &watch.logins {
            for (way, lookup) in [by_nss as fn(&str) -> Result<(), String>, by_userdb]
                .iter()
                .enumerate()
            {
                let began = Instant::now();
                let found = lookup(login);
                slowest[way] = slowest[way].max(began.elapsed());
                lookups += 1;
                if let Err(why) = found {
                    failures.push(format!("{login}: {why}"));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let shown: Vec<&String> = failures.iter().take(SHOWN).collect();
    println!(
        "{}",
        json!({
            "lookups": lookups, "failures": failures.len(), "first_failures": shown,
            "slowest_nss_us": slowest[0].as_micros(), "slowest_userdb_ms": slowest[1].as_millis(),
        })
    );
    i32::from(!failures.is_empty())
}

fn by_nss(login: &str) -> Result<(), String> {
    match User::from_name(login) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("NSS says that there is no such user".to_owned()),
        Err(error) => Err(format!("NSS fails: {error}")),
    }
}

/// A client that is hung up on by a service that is killed asks the next one, as libvarlink's users have to; what
/// counts is an answer that says there is no such user, or none at all.
fn by_userdb(login: &str) -> Result<(), String> {
    let question = json!({
        "method": "io.systemd.UserDatabase.GetUserRecord",
        "parameters": {"userName": login, "service": "com.goteleport.DynamicUser"},
    });
    let mut last = String::new();
    for _ in 0..200 {
        match registry::ask(USERDB.as_ref(), &question) {
            Ok(answer) if answer["parameters"]["record"]["userName"] == *login => return Ok(()),
            Ok(answer) => return Err(format!("userdb says {answer}")),
            Err(error) if hung_up(&error) => last = error.to_string(),
            Err(error) => return Err(format!("userdb fails: {error}")),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("userdb never answers: {last}"))
}

/// The socket is stopped with its service for a moment, or the service that has accepted is gone.
fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

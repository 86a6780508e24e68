//! A worker: one process in the world of one subject, which measures what it is told to, a line for a line.
//! Also the child that publishes our table, so that the writer's memory is not in the process that looks up.

use std::ffi::CString;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use account_table::{DEFAULT_PATH, Trust, Writer};
use bench::median;

use crate::Result;
use crate::calls::{Call, Caller};
use crate::population::{absent, login, spec};
use crate::subject::{Kind, Subject};
use crate::world;

/// Fresh processes in one sample of their cost.
const FRESH: usize = 15;
/// Changes in one sample of their cost.
const CHANGES: u32 = 200;

unsafe extern "C" {
    /// glibc's own way to set one database's services for this process; it then leaves nsswitch.conf alone.
    fn __nss_configure_lookup(
        database: *const libc::c_char,
        services: *const libc::c_char,
    ) -> libc::c_int;
}

fn use_only(service: &str) -> Result {
    let service = CString::new(service)?;
    for database in [c"passwd", c"group"] {
        // SAFETY: both strings are NUL-terminated; called before any thread is started.
        if unsafe { __nss_configure_lookup(database.as_ptr(), service.as_ptr()) } != 0 {
            return Err(format!("glibc does not take {service:?} for {database:?}").into());
        }
    }
    Ok(())
}

fn writer() -> Result<Writer> {
    let path = Path::new(DEFAULT_PATH.to_str()?);
    Ok(Writer::open(path, Trust::Root)?)
}

/// `bench-lookups publish USERS`
pub(crate) fn publish(users: &str) -> Result {
    let mut writer = writer()?;
    for number in 0..users.parse()? {
        writer.publish(&spec(number))?;
    }
    Ok(())
}

/// `bench-lookups warm-up USERS`
pub(crate) fn warm_up(users: &str) -> Result {
    Ok(Caller::new(users.parse()?).warm_up()?)
}

/// Has another process ask nscd for everybody. Whoever asks for nscd's memory in the moment in which that grows goes without it
/// for good, and would measure nscd's socket.
fn warm_up_in_a_child(users: u32) -> Result {
    world::in_a_child("warm-up", users)
}

/// `bench-lookups worker SUBJECT USERS`: enters the subject's world, says `ready`, then answers each line with a number.
pub(crate) fn run(subject: &str, users: &str) -> Result {
    let subject = Subject {
        kind: subject.parse()?,
        users: users.parse()?,
    };
    world::enter(subject)?;
    if subject.kind == Kind::Publisher {
        let mut writer = writer()?;
        return answer(|words| match words {
            ["publish"] => changes(&mut writer, subject.users),
            _ => Err(format!("a publisher does not know {words:?}").into()),
        });
    }
    // nscd is asked before any service, as long as nobody has chosen services for the process.
    if subject.kind != Kind::Nscd {
        use_only(subject.kind.service())?;
    }
    let mut caller = Caller::new(subject.users);
    if subject.kind == Kind::Nscd {
        warm_up_in_a_child(subject.users)?;
    }
    if matches!(subject.kind, Kind::Nscd | Kind::Sss) {
        caller.warm_up()?;
    }
    answer(|words| match words {
        [call, hit] if Call::ALL.iter().any(|known| known.name() == *call) => {
            let call = Call::ALL.into_iter().find(|known| known.name() == *call);
            let call = call.ok_or("no such call")?;
            Ok(caller.sample(call, *hit == "hit")?)
        }
        ["threads", count] => Ok(caller.throughput(count.parse()?)?),
        ["first", kind] => fresh_processes(kind),
        ["memory"] => first("memory", &login(0)),
        _ => Err(format!("a worker does not know {words:?}").into()),
    })
}

fn answer(mut measure: impl FnMut(&[&str]) -> Result<f64>) -> Result {
    let mut out = std::io::stdout();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        writeln!(out, "{}", measure(&words)?)?;
    }
    Ok(())
}

/// Microseconds for one change: somebody more is published, then withdrawn.
fn changes(writer: &mut Writer, users: u32) -> Result<f64> {
    let newcomer = spec(users + 5_000);
    let began = Instant::now();
    for _ in 0..CHANGES / 2 {
        writer.publish(&newcomer)?;
        writer.withdraw(&newcomer.login)?;
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(CHANGES) / 1000.0)
}

/// What one fresh process prints.
fn first(kind: &str, name: &str) -> Result<f64> {
    let output = Command::new("/run-first").args([kind, name]).output()?;
    if !output.status.success() {
        return Err(format!("a fresh process asked for {kind} {name}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Microseconds of the first lookup, the median of some processes.
fn fresh_processes(kind: &str) -> Result<f64> {
    let name = match kind {
        "miss" => absent(0),
        _ => login(0),
    };
    let samples: Result<Vec<f64>> = (0..FRESH).map(|_| first(kind, &name)).collect();
    Ok(median(&samples?) / 1000.0)
}

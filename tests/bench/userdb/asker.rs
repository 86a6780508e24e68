//! One connection that asks and hears, and how questions look on the wire.
//! Nothing is measured here.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::Result;

/// A call of a method of the interface, as bytes.
pub(crate) fn question(method: &str, key: &str, service: &str, more: bool) -> Vec<u8> {
    let comma = if key.is_empty() { "" } else { "," };
    let more = if more { ",\"more\":true" } else { "" };
    format!(
        "{{\"method\":\"io.systemd.UserDatabase.{method}\",\
         \"parameters\":{{{key}{comma}\"service\":\"{service}\"}}{more}}}\0"
    )
    .into_bytes()
}

/// Login number `number` of those that are published, and its UID.
pub(crate) fn login(number: u32) -> (String, u32) {
    (format!("user{number:05}"), 1_900_000_000 + number)
}

/// What a benchmark asks for again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Name,
    Uid,
    Miss,
    Memberships,
    All,
}

impl What {
    pub(crate) fn named(word: &str) -> Result<What> {
        Ok(match word {
            "name" => What::Name,
            "uid" => What::Uid,
            "miss" => What::Miss,
            "memberships" => What::Memberships,
            "all" => What::All,
            _ => return Err(format!("{word:?} is nothing to ask for").into()),
        })
    }

    /// The question about login `number`.
    pub(crate) fn about(self, number: u32, service: &str) -> Vec<u8> {
        let (name, uid) = login(number);
        match self {
            What::Name => question(
                "GetUserRecord",
                &format!("\"userName\":\"{name}\""),
                service,
                false,
            ),
            What::Uid => question("GetUserRecord", &format!("\"uid\":{uid}"), service, false),
            What::Miss => question(
                "GetUserRecord",
                "\"userName\":\"nobody-has-this\"",
                service,
                false,
            ),
            What::Memberships => question(
                "GetMemberships",
                &format!("\"userName\":\"{name}\""),
                service,
                true,
            ),
            What::All => question("GetUserRecord", "", service, true),
        }
    }

    /// What a right answer begins with.
    pub(crate) fn begins(self) -> &'static [u8] {
        match self {
            What::Name | What::Uid | What::All => b"{\"parameters\":{\"record\":{",
            What::Miss => b"{\"error\":\"io.systemd.UserDatabase.NoRecordFound\"",
            What::Memberships => b"{\"parameters\":{\"userName\":",
        }
    }
}

/// Sends a question and hears one reply whole.
pub(crate) fn ask(socket: &mut UnixStream, question: &[u8], heard: &mut Vec<u8>) -> Result {
    socket.write_all(question)?;
    heard.clear();
    heard.resize(4096, 0);
    let mut length = 0;
    loop {
        match socket.read(&mut heard[length..]) {
            Ok(0) => return Err("the provider has closed the connection".into()),
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if heard[length - 1] == 0 {
            heard.truncate(length);
            return Ok(());
        }
        if length == heard.len() {
            heard.resize(2 * length, 0);
        }
    }
}

pub(crate) fn connect(path: &str) -> Result<UnixStream> {
    let socket = UnixStream::connect(path)?;
    // A provider that says nothing for so long has lost; nothing here may hang.
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(socket)
}

/// How long this thread has been running.
pub(crate) fn ran() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

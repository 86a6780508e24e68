//! Whether teleport-userdbd answers, and from the table that everybody reads.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use account_table::{DEFAULT_PATH, Table, Trust};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde_json::{Value, json};

use super::list::users;
use super::node::{Seen, TableSeen};
use super::sessions::{PATIENCE, is_lost, not_reached, silent};
use super::units;
use crate::{USERDB_SERVICE, USERDB_SOCKET};

const DAEMON: &str = "teleport-userdbd";

/// What it calls itself; the sentence where it does not answer, or has never heard of a user whom the `table` has.
pub(super) fn look(table: &Seen<TableSeen>) -> Seen<String> {
    let socket = Path::new(USERDB_SOCKET);
    let user = table.known().and_then(|table| table.logins.first());
    match answers(socket, PATIENCE) {
        Seen::Known(_)
            if user.is_some_and(|user| is_stale(socket, PATIENCE, user, is_published)) =>
        {
            Seen::Failed(format!(
                "{DAEMON} does not know the users of the table at {}, so it has another; `systemctl restart {DAEMON}` has it read this one",
                DEFAULT_PATH.to_string_lossy()
            ))
        }
        seen => seen,
    }
}

/// Asks a varlink service who it is.
fn answers(path: &Path, patience: Duration) -> Seen<String> {
    let product = ask(
        path,
        patience,
        &json!({"method": "org.varlink.service.GetInfo"}),
    )
    .and_then(|answer| match answer.pointer("/parameters/product") {
        Some(Value::String(product)) => Ok(product.clone()),
        _ => Err(io::Error::other("its answer to GetInfo names no product")),
    });
    match product {
        Ok(product) => Seen::Known(product),
        // The kernel's word for a time-out of a socket.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let is_activating = units::is_activating(&format!("{DAEMON}.service"));
            Seen::Failed(silent(DAEMON, "", is_activating))
        }
        Err(error) => Seen::Failed(not_reached(
            DAEMON,
            &format!(" on {}: {error}", path.display()),
            is_lost(path, DAEMON),
        )),
    }
}

/// Whether it has no record of a user who is still published then: people come and go while we look.
fn is_stale(
    path: &Path,
    patience: Duration,
    user: &str,
    is_published: impl FnOnce(&str) -> bool,
) -> bool {
    let question = json!({
        "method": "io.systemd.UserDatabase.GetUserRecord",
        "parameters": {"userName": user, "service": USERDB_SERVICE},
    });
    let answer = ask(path, patience, &question);
    answer.is_ok_and(|answer| answer.get("error").is_some()) && is_published(user)
}

fn is_published(user: &str) -> bool {
    let table = Table::open(DEFAULT_PATH, Trust::Root);
    let users = table.as_ref().and_then(users).unwrap_or_default();
    users.iter().any(|one| one.login == user)
}

fn ask(path: &Path, patience: Duration, question: &Value) -> io::Result<Value> {
    let mut stream = connect(path, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("{question}\0").as_bytes())?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while answer.len() < 64 * 1024 {
        stream.read_exact(&mut byte)?;
        if byte == [0] {
            break;
        }
        answer.extend(byte);
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// A connection, to write to which takes `patience` at most, and to make it, too: where a queue is full, that waits.
fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_provider_that_takes_the_call_and_says_nothing_is_to_be_restarted() {
        let path = scratch("silent");
        let listener = UnixListener::bind(&path).expect("bound");
        let seen = answers(&path, Duration::from_millis(50));
        assert_eq!(
            seen,
            Seen::Failed("teleport-userdbd does not answer: no answer in time; `systemctl restart teleport-userdbd` ends it and starts another".to_owned())
        );
        drop(listener);
        match answers(&path, PATIENCE) {
            Seen::Failed(why) => assert!(why.contains("systemctl start"), "{why}"),
            seen => panic!("{seen:?}"),
        }
        fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_provider_whose_queue_is_full_is_not_waited_for_for_ever() {
        let path = scratch("full-queue");
        let listener = UnixListener::bind(&path).expect("bound");
        rustix::net::listen(&listener, 0).expect("a queue for one");
        let _first = UnixStream::connect(&path).expect("room for one");
        let (said, heard) = std::sync::mpsc::channel();
        let socket = path.clone();
        std::thread::spawn(move || said.send(answers(&socket, Duration::from_millis(20))));
        let seen = heard.recv_timeout(Duration::from_secs(30));
        assert!(
            matches!(&seen, Ok(Seen::Failed(why)) if why.contains("systemctl restart")),
            "{seen:?}"
        );
        fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_provider_that_has_not_heard_of_a_published_user_has_another_table() {
        let path = scratch("stale");
        for (answer, is_published, stale) in [
            (
                "{\"error\":\"io.systemd.UserDatabase.NoRecordFound\"}",
                true,
                true,
            ),
            (
                "{\"error\":\"io.systemd.UserDatabase.NoRecordFound\"}",
                false,
                false,
            ),
            ("{\"parameters\":{\"record\":{}}}", true, false),
        ] {
            let listener = UnixListener::bind(&path).expect("bound");
            let provider = std::thread::spawn(move || {
                let (mut asker, _) = listener.accept().expect("asked");
                let mut asked = Vec::new();
                let mut byte = [1];
                while byte != [0] {
                    asker.read_exact(&mut byte).expect("a question");
                    asked.extend(byte);
                }
                write!(asker, "{answer}\0").expect("answered");
                String::from_utf8(asked).expect("text")
            });
            let found = is_stale(&path, Duration::from_secs(30), "maria", |_| is_published);
            assert_eq!(found, stale, "{answer}");
            let asked = provider.join().expect("asked");
            assert!(asked.contains("\"userName\":\"maria\""), "{asked}");
            fs::remove_file(&path).expect("removed");
        }
    }
}

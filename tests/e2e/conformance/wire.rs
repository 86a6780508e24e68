//! A connection to a provider, from inside the machine: raw bytes out, messages in.
//! What should be answered does not enter.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rig::Machine;
use serde_json::{Value, json};

use crate::OURS;

const CLIENT: &str = "/usr/local/bin/teleport-child";
/// Every answer of a provider is due long before.
const LIMIT: Duration = Duration::from_secs(20);

/// The full name of a method of the interface.
pub(crate) fn userdb(method: &str) -> String {
    format!("io.systemd.UserDatabase.{method}")
}

pub(crate) fn socket_of(service: &str) -> String {
    format!("/run/systemd/userdb/{service}")
}

/// One connection, made by a process of its own.
pub(crate) struct Wire {
    relay: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<Vec<u8>>,
    pending: Vec<u8>,
}

impl Wire {
    #[track_caller]
    pub(crate) fn to(machine: &Machine, service: &str) -> Wire {
        Wire::by(machine, &[CLIENT, "relay"], service)
    }

    /// By a process without rights.
    #[track_caller]
    pub(crate) fn as_nobody(machine: &Machine, service: &str) -> Wire {
        let nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        Wire::by(
            machine,
            &[&nobody[..], &[CLIENT, "relay"]].concat(),
            service,
        )
    }

    #[track_caller]
    fn by(machine: &Machine, program: &[&str], service: &str) -> Wire {
        let socket = socket_of(service);
        let mut relay = machine
            .command(&[program, &[&socket]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdout, stdin) = (relay.stdout.take().unwrap(), relay.stdin.take());
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            while let Ok(count) = stdout.read(&mut piece) {
                if count == 0 || sender.send(piece[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Wire {
            relay,
            stdin,
            heard,
            pending: Vec::new(),
        }
    }

    /// Sends bytes; a server that has closed meanwhile does not hear them.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_raw(format!("{message}\0").as_bytes());
    }

    /// The next message; `None` if the server has closed the connection.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(serde_json::from_slice(&message[..end]).unwrap());
            }
            match self.heard.recv_timeout(LIMIT) {
                Ok(bytes) => self.pending.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no answer within {LIMIT:?}"),
            }
        }
    }

    /// Whether nothing at all is said for so long, and the connection stays.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        match self.heard.recv_timeout(time) {
            Ok(bytes) => self.pending.extend(bytes),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.pending.is_empty()
    }

    /// All replies to a call that takes several, the last one without `continues`; `None` for the end of the
    /// connection.
    #[track_caller]
    pub(crate) fn replies(&mut self) -> Vec<Option<Value>> {
        let mut replies = Vec::new();
        loop {
            let reply = self.next();
            let last = reply
                .as_ref()
                .is_none_or(|reply| reply.get("continues") != Some(&json!(true)));
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.relay.wait();
    }
}

/// One question on a connection of its own, and the one reply.
#[track_caller]
pub(crate) fn ask(machine: &Machine, method: &str, parameters: &Value) -> Value {
    let mut wire = Wire::to(machine, OURS);
    wire.send(&json!({"method": userdb(method), "parameters": parameters}));
    wire.next().expect("our provider closed the connection")
}

/// One question that takes many replies; records or pairs, none for NoRecordFound.
#[track_caller]
pub(crate) fn ask_all(machine: &Machine, method: &str, mut parameters: Value) -> Vec<Value> {
    parameters["service"] = json!(OURS);
    let mut wire = Wire::to(machine, OURS);
    wire.send(&json!({"method": userdb(method), "parameters": parameters, "more": true}));
    let mut found = Vec::new();
    for reply in wire.replies() {
        let reply = reply.expect("our provider closed the connection");
        if reply["error"] == userdb("NoRecordFound") {
            assert!(found.is_empty(), "an error after records");
            return found;
        }
        assert!(reply.get("error").is_none(), "{reply}");
        let parameters = &reply["parameters"];
        found.push(parameters.get("record").unwrap_or(parameters).clone());
    }
    found
}

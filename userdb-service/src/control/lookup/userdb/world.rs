//! Services that are played: in a folder of the test's own, on sockets.
//! What they are to say is the tests'.

use std::collections::VecDeque;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use super::manager::MANAGER;
use super::*;

pub(crate) const NO: &str = r#"{"error":"io.systemd.UserDatabase.NoRecordFound","parameters":{}}"#;
pub(crate) const YES: &str = r#"{"parameters":{"record":{"userName":"ann"},"incomplete":false}}"#;

pub(crate) struct World {
    pub(crate) root: PathBuf,
    /// How many calls came on each connection.
    pub(crate) heard: Arc<Mutex<Vec<usize>>>,
}

impl World {
    pub(crate) fn new(name: &str) -> World {
        let root = std::env::temp_dir().join(format!("userdb-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["services", "etc"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        World {
            root,
            heard: Arc::default(),
        }
    }

    pub(crate) fn database(&self) -> UserDatabase {
        let folders = ["etc", "not-there"].map(|name| self.root.join(name));
        UserDatabase::at(self.root.join("services"), folders)
    }

    /// Says `replies`, one after the other on each connection, the last of them for ever; `""` hangs up.
    pub(crate) fn serves<const N: usize>(&self, service: &str, replies: [&'static str; N]) {
        let path = self.root.join("services").join(service);
        let listener = UnixListener::bind(path).unwrap();
        let heard = self.heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut calls = BufReader::new(stream.try_clone().unwrap());
                let mut replies = VecDeque::from(replies);
                let mut count = 0;
                let mut call = Vec::new();
                while calls.read_until(0, &mut call).unwrap_or(0) > 0 {
                    assert_eq!(call.pop(), Some(0));
                    let call: serde_json::Value =
                        serde_json::from_slice(&std::mem::take(&mut call)).unwrap();
                    assert!(call["parameters"]["service"].is_string(), "{call}");
                    count += 1;
                    let reply = match replies.len() {
                        1 => replies[0],
                        _ => replies.pop_front().unwrap(),
                    };
                    if reply.is_empty() {
                        break;
                    }
                    // Who hangs up in the middle has heard enough.
                    let _ = stream.write_all(format!("{reply}\0").as_bytes());
                }
                heard.lock().unwrap().push(count);
            }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// A PID 1 that is the test itself.
pub(crate) struct Manager(UnixListener);

impl Manager {
    /// In place of the one before, if there was one.
    pub(crate) fn of(world: &World) -> Manager {
        let path = world.root.join("services").join(MANAGER);
        let _ = std::fs::remove_file(&path);
        Manager(UnixListener::bind(path).unwrap())
    }

    /// Answers on a connection that has been made.
    pub(crate) fn let_in(&self, replies: &[&str]) -> UnixStream {
        self.0.set_nonblocking(true).unwrap();
        let (stream, _) = self.0.accept().expect("somebody connected");
        say(&stream, replies);
        stream
    }

    /// The same on one that is still to come.
    pub(crate) fn wait_for(&self, replies: &[&str]) -> UnixStream {
        self.0.set_nonblocking(false).unwrap();
        let (stream, _) = self.0.accept().unwrap();
        say(&stream, replies);
        stream
    }

    pub(crate) fn has_nobody_new(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.accept().is_err_and(|error| is_full(&error))
    }
}

pub(crate) fn say(mut stream: &UnixStream, replies: &[&str]) {
    let replies: String = replies.iter().map(|reply| format!("{reply}\0")).collect();
    stream.write_all(replies.as_bytes()).unwrap();
}

/// What has come on a connection, without waiting for it. `None`: the other side has hung up.
pub(crate) fn asked(mut stream: &UnixStream) -> Option<Vec<String>> {
    stream.set_nonblocking(true).unwrap();
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Err(error) if is_full(&error) => {}
        // Also where it has left something unread.
        Ok(_) | Err(_) => return None,
    }
    let text = String::from_utf8(text).unwrap();
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Waits for it: what another test runs at this moment has the other side open, too, until it has become its own program.
pub(crate) fn is_hung_up_on(mut stream: &UnixStream) -> bool {
    stream.set_nonblocking(false).unwrap();
    let patience = Duration::from_secs(10);
    stream.set_read_timeout(Some(patience)).unwrap();
    let end = stream.read_to_end(&mut Vec::new());
    // Also where it has left something unread, which is an error.
    !end.is_err_and(|error| is_full(&error))
}

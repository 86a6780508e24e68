//! A registry of the real interface over the real transport, which decides by the name of the login.
//! It remembers what it was asked and which process asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use session_protocol::sessions::{
    self, Admission, Call_Close, Call_List, Call_Open, Call_Reserve, VarlinkInterface,
};
use varlink::{ConnectionHandler, VarlinkService};

use crate::rig::SOCKET;

/// The uid the registry gives everybody.
pub(crate) const UID: u32 = 0x7000_0001;

/// The sentence of a refusal, with something in it that must not reach a terminal.
pub(crate) const REFUSAL: &str = "No role of yours makes the user \"denied\".\x1b[2J";

/// What it should look like on a terminal.
pub(crate) const REFUSAL_SHOWN: &str = "No role of yours makes the user \"denied\".\\u{1b}[2J";

/// One call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and handle or login, as in "open s1 alice".
    pub(crate) what: String,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) undecodable: Vec<String>,
    pub(crate) peer: i32,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    live: Vec<String>,
    made: usize,
}

/// A running registry; dropped, its socket is gone.
pub(crate) struct Registry {
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).expect("bind the registry's socket");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(SOCKET, mode).expect("make the socket root's alone");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &shared);
            }
        });
        Self { state }
    }

    /// Everything asked so far, as in "reserve alice".
    pub(crate) fn asked(&self) -> Vec<String> {
        self.calls().into_iter().map(|asked| asked.what).collect()
    }

    pub(crate) fn calls(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }

    /// Handles of what is reserved or open.
    pub(crate) fn live(&self) -> Vec<String> {
        lock(&self.state).live.clone()
    }

    /// Waits for what a process that is ending may still be saying.
    pub(crate) fn settle(&self) {
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = fs::remove_file(SOCKET);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("the registry's state")
}

fn serve(stream: UnixStream, state: &Arc<Mutex<State>>) {
    let peer = rustix::net::sockopt::socket_peercred(&stream).expect("the caller");
    let interface = Interface {
        state: Arc::clone(state),
        peer: peer.pid.as_raw_nonzero().get(),
    };
    let service = VarlinkService::new(
        "Gravitational",
        "test registry",
        "1",
        "https://example.com",
        vec![Box::new(sessions::new(Box::new(interface)))],
    );
    let mut reader = BufReader::new(stream.try_clone().expect("a second half"));
    let mut writer = stream;
    // A caller that hangs up early is the caller's affair.
    let _ = service.handle(&mut reader, &mut writer, None);
    let _ = writer.flush();
}

struct Interface {
    state: Arc<Mutex<State>>,
    peer: i32,
}

enum Decision {
    Admitted(Admission),
    Refused,
}

impl Interface {
    fn note(
        &self,
        what: String,
        environment: &varlink::StringHashMap<String>,
        undecodable: &[String],
    ) {
        lock(&self.state).asked.push(Asked {
            what,
            environment: environment.clone().into_iter().collect(),
            undecodable: undecodable.to_vec(),
            peer: self.peer,
        });
    }

    /// `held` is the handle the caller has already.
    fn decide(&self, held: Option<String>, login: &str, service: &str) -> Decision {
        let mut admission = Admission {
            session: None,
            ignored: false,
            foreign: false,
            userName: login.to_owned(),
            uid: None,
            gid: None,
            homeDirectory: None,
            shell: None,
            messages: Vec::new(),
        };
        match login {
            _ if service != "teleport" => admission.ignored = true,
            "root" => admission.foreign = true,
            "denied" => return Decision::Refused,
            _ => {
                let mut state = lock(&self.state);
                let session = held.unwrap_or_else(|| {
                    state.made += 1;
                    let session = format!("s{}", state.made);
                    state.live.push(session.clone());
                    session
                });
                admission.session = Some(session);
                admission.userName = login.to_lowercase();
                admission.uid = Some(UID.into());
                admission.gid = Some(UID.into());
                admission.homeDirectory = Some("/".to_owned());
                admission.shell = Some("/bin/sh".to_owned());
                admission.messages = vec![format!("Welcome,\t{login}.")];
            }
        }
        Decision::Admitted(admission)
    }
}

impl VarlinkInterface for Interface {
    fn reserve(
        &self,
        call: &mut dyn Call_Reserve,
        login: String,
        service: String,
        environment: varlink::StringHashMap<String>,
        undecodable: Vec<String>,
        _patience_usec: Option<i64>,
        _session: Option<String>,
    ) -> varlink::Result<()> {
        self.note(format!("reserve {login}"), &environment, &undecodable);
        match self.decide(None, &login, &service) {
            Decision::Admitted(admission) => call.reply(admission),
            Decision::Refused => call.reply_refused("policy".to_owned(), REFUSAL.to_owned()),
        }
    }

    fn open(
        &self,
        call: &mut dyn Call_Open,
        session: Option<String>,
        login: String,
        service: String,
        environment: varlink::StringHashMap<String>,
        undecodable: Vec<String>,
        _patience_usec: Option<i64>,
    ) -> varlink::Result<()> {
        // A handle of the caller's making names nothing yet.
        let held = session.filter(|session| lock(&self.state).live.contains(session));
        let shown = held.as_deref().unwrap_or("-");
        self.note(format!("open {shown} {login}"), &environment, &undecodable);
        match self.decide(held, &login, &service) {
            Decision::Admitted(admission) => call.reply(admission),
            Decision::Refused => call.reply_refused("policy".to_owned(), REFUSAL.to_owned()),
        }
    }

    fn close(&self, call: &mut dyn Call_Close, session: String) -> varlink::Result<()> {
        self.note(
            format!("close {session}"),
            &varlink::StringHashMap::new(),
            &[],
        );
        let mut state = lock(&self.state);
        let before = state.live.len();
        state.live.retain(|live| *live != session);
        if state.live.len() == before {
            return call.reply_unknown_session(session);
        }
        call.reply()
    }

    fn list(&self, call: &mut dyn Call_List) -> varlink::Result<()> {
        call.reply(Vec::new())
    }
}

//! A login through PAM inside a machine, driven step by step from outside by `teleport-child`.
//! What libpam is asked, and in which order, is of the client; here is only the talk with it.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::package::CLIENT;
use crate::{Machine, Ran};

/// One line the client wrote about what it did; `event` says which kind it is.
pub type Event = Value;

/// What a login shall be like.
#[derive(Clone, Debug)]
pub struct LoginBuilder<'m> {
    machine: &'m Machine,
    kind: &'static str,
    wrapper: Vec<String>,
    options: Vec<String>,
    command: Vec<String>,
}

/// A login under way. Dropping it lets it go on to its end.
#[derive(Debug)]
pub struct Login {
    child: Child,
    stdin: Option<ChildStdin>,
    events: BufReader<ChildStderr>,
    seen: Vec<Event>,
    command: String,
    began: Instant,
}

/// A login that has ended.
pub struct Ended {
    /// Exit status and what the person at the terminal saw.
    pub ran: Ran,
    /// Everything the client said about its steps.
    pub events: Vec<Event>,
}

impl Machine {
    /// A session channel: the PAM caller runs a command as `login` and waits for it. Teleport user `alice`, role `dev`.
    pub fn login<'m>(&'m self, login: &str) -> LoginBuilder<'m> {
        self.login_of("exec", login)
    }

    /// The forwarding child of a connection: it becomes the login user itself and closes as that user.
    pub fn forwarding<'m>(&'m self, login: &str) -> LoginBuilder<'m> {
        self.login_of("networking", login)
    }

    fn login_of<'m>(&'m self, kind: &'static str, login: &str) -> LoginBuilder<'m> {
        LoginBuilder {
            machine: self,
            kind,
            wrapper: Vec::new(),
            options: Vec::new(),
            command: Vec::new(),
        }
        .option("--login", login)
    }
}

impl LoginBuilder<'_> {
    /// The person's name in Teleport.
    pub fn user(self, user: &str) -> Self {
        self.option("--user", user)
    }

    /// Roles as Teleport joins them, by spaces.
    pub fn roles(self, roles: &str) -> Self {
        self.option("--roles", roles)
    }

    /// The PAM service; without it `teleport`.
    pub fn service(self, service: &str) -> Self {
        self.option("--service", service)
    }

    /// One more `NAME=value` of the PAM environment.
    pub fn env(self, assignment: &str) -> Self {
        self.option("--env", assignment)
    }

    /// Runs the PAM caller by another program, such as unshare with options.
    pub fn inside(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Any other option of the client, see `teleport-child exec --help`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.options.push(flag.to_owned());
        self
    }

    /// Any other option of the client that takes a value.
    pub fn option(mut self, option: &str, value: &str) -> Self {
        self.options.push(format!("{option}={value}"));
        self
    }

    /// Stops at `point` until [`Login::go_on`]: start, account, authenticate, open, command, became, close.
    pub fn hold(self, point: &str) -> Self {
        self.option("--hold", point)
    }

    /// What the user runs, by the login shell's `-c`; without it nothing is run.
    pub fn command(mut self, line: &str) -> Self {
        self.command = vec!["--".to_owned(), line.to_owned()];
        self
    }

    /// Starts the login; it runs up to its first hold.
    #[track_caller]
    pub fn start(self) -> Login {
        let client = [
            self.wrapper,
            vec![CLIENT.to_owned(), self.kind.to_owned()],
            self.options,
            self.command,
        ]
        .concat();
        let client: Vec<&str> = client.iter().map(String::as_str).collect();
        // The shell stays as the parent, as the node process is that of a Teleport child.
        let under_a_parent = [&["sh", "-c", "\"$@\"; exit $?", "sh"], client.as_slice()].concat();
        let mut command = self.machine.command(&under_a_parent);
        let began = Instant::now();
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("entering the machine failed: {error}"),
        };
        let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            panic!("a started command lacks its pipes");
        };
        Login {
            child,
            stdin: Some(stdin),
            events: BufReader::new(stderr),
            seen: Vec::new(),
            command: crate::machine::shown(&client),
            began,
        }
    }

    /// Runs the login to its end without a stop.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().finish()
    }
}

impl Login {
    /// Waits until the client stops at `point`; false if it ends before.
    pub fn try_reach(&mut self, point: &str) -> bool {
        while let Some(event) = self.next_event() {
            if event["event"] == "reached" {
                return event["point"] == point;
            }
        }
        false
    }

    /// Waits until the client stops at `point`. Panics with what it said if it ends or stops elsewhere before.
    #[track_caller]
    pub fn reach(&mut self, point: &str) -> &mut Self {
        while let Some(event) = self.next_event() {
            if event["event"] == "reached" {
                assert!(
                    event["point"] == point,
                    "expected to reach {point}: {}",
                    self.told()
                );
                return self;
            }
        }
        panic!("the login ended before it reached {point}: {}", self.told());
    }

    /// Waits until the client stops at `point`; false if it ends before.
    pub fn reaches(&mut self, point: &str) -> bool {
        while let Some(event) = self.next_event() {
            if event["event"] == "reached" && event["point"] == point {
                return true;
            }
        }
        false
    }

    /// Lets the client go on from where it stopped.
    #[track_caller]
    pub fn go_on(&mut self) -> &mut Self {
        let written = match self.stdin.as_mut() {
            Some(stdin) => stdin.write_all(b"\n").and_then(|()| stdin.flush()),
            None => Ok(()),
        };
        assert!(written.is_ok(), "the client is gone: {}", self.told());
        self
    }

    /// PID of the PAM caller inside the machine.
    #[track_caller]
    pub fn pid(&mut self) -> String {
        while !self.seen.iter().any(|event| event["event"] == "pid") {
            assert!(
                self.next_event().is_some(),
                "the client did not tell its PID: {}",
                self.told()
            );
        }
        let event = self.seen.iter().find(|event| event["event"] == "pid");
        event
            .map(|event| event["pid"].to_string())
            .unwrap_or_default()
    }

    /// Everything the client said so far.
    pub fn events(&self) -> &[Event] {
        &self.seen
    }

    /// Lets it go on to its end, past all stops.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        let asked = Instant::now();
        drop(self.stdin.take());
        while self.next_event().is_some() {}
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            let _ = pipe.read_to_string(&mut stdout);
        }
        let status = self
            .child
            .wait()
            .ok()
            .and_then(|status| status.code())
            .unwrap_or(-1);
        let ran = Ran {
            command: self.command.clone(),
            status,
            stdout,
            stderr: self.told(),
            elapsed: self.began.elapsed(),
        };
        assert!(
            asked.elapsed() < Duration::from_secs(120),
            "a login hangs: {ran}"
        );
        Ended {
            ran,
            events: std::mem::take(&mut self.seen),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        let mut line = String::new();
        match self.events.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|_| serde_json::json!({"said": line.trim_end()}));
                self.seen.push(event.clone());
                Some(event)
            }
        }
    }

    fn told(&self) -> String {
        let lines: Vec<String> = self
            .seen
            .iter()
            .map(|event| format!("  {event}\n"))
            .collect();
        format!("{}\n{}", self.command, lines.concat())
    }
}

/// What a person would want to see of it: the terminal, then each event on a line.
impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.ran, f)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let mut rest = Vec::new();
        let _ = self.events.read_to_end(&mut rest);
        let _ = self.child.wait();
    }
}

impl Ended {
    /// What the command wrote: the terminal without what PAM told the person.
    pub fn written(&self) -> String {
        let terminal = self.ran.stdout.trim_end().to_owned() + "\n";
        let written = self.messages().iter().fold(terminal, |rest, message| {
            rest.replacen(&format!("{message}\n"), "", 1)
        });
        written.trim_end().to_owned()
    }

    /// The same, and panics unless the status is 0.
    #[track_caller]
    pub fn must_write(&self) -> String {
        self.ran.must();
        self.written()
    }

    /// What PAM told the person, a message each.
    pub fn messages(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter(|event| event["event"] == "message")
            .filter_map(|event| event["text"].as_str())
            .collect()
    }

    /// The PAM code a phase (`account`, `authenticate`, `open`, `close`) ended with, by its name in Linux-PAM.
    pub fn code(&self, phase: &str) -> Option<&str> {
        self.events
            .iter()
            .find(|event| event["event"] == "phase" && event["phase"] == phase)
            .and_then(|event| event["code"].as_str())
    }

    /// What the PAM caller's own lookup right after a phase found; `None` if it did not look.
    pub fn lookup(&self, after: &str) -> Option<&Event> {
        self.events
            .iter()
            .find(|event| event["event"] == "lookup" && event["after"] == after)
    }
}

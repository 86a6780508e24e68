//! A login as a Teleport child makes it: the order of the calls, and what each failure leads to.
//! Any failure leads to `pam_end` alone: Teleport never closes a session that did not open.

use serde_json::json;

use crate::Login;
use std::sync::atomic::Ordering;

use crate::pam::{self, Code, Handle, Library, SUCCESS};
use crate::tell;
use crate::user::{self, Identity};

const ACCOUNT_REFUSED: i32 = 251;
const AUTHENTICATION_REFUSED: i32 = 252;
const SESSION_REFUSED: i32 = 253;
const USER_UNKNOWN: i32 = 254;
const BROKEN: i32 = 255;

/// Makes the login and gives the exit status. `forwarding` becomes the user in this process.
pub(crate) fn run(login: &Login, forwarding: bool) -> i32 {
    let library = match Library::load() {
        Ok(library) => library,
        Err(error) => return broken(&format!("libpam cannot be loaded: {error}")),
    };
    // Teleport's child is a Go process: libpam is called in one of several threads.
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    tell::event(&json!({"event": "pid", "pid": std::process::id()}));
    let mut session = Session {
        login,
        handles: Vec::new(),
        uid: None,
    };
    let status = session.opened(library).and_then(|()| {
        if forwarding {
            session.forward()
        } else {
            session.command()
        }
    });
    match status {
        Ok(status) => {
            session.close();
            session.end();
            status
        }
        Err(status) => {
            session.end();
            status
        }
    }
}

/// A call of libpam.
type Phase = fn(&mut Handle) -> Code;

struct Session<'l> {
    login: &'l Login,
    handles: Vec<Handle>,
    /// UID of the login once a lookup has told it, to look for it when the name is gone.
    uid: Option<nix::unistd::Uid>,
}

impl Session<'_> {
    fn opened(&mut self, library: Library) -> Result<(), i32> {
        pam::LATIN1.store(self.login.latin1, Ordering::Relaxed);
        for index in 0..self.login.handles {
            let handle = Handle::start(library, &self.login.service, &self.login.login)
                .map_err(|code| broken(&format!("pam_start: {code}")))?;
            self.handles.push(handle);
            self.environment(index)?;
            tell::reached("start", index, &self.login.hold);
            if self.login.regardless {
                self.every_phase(index);
                continue;
            }
            self.phase(index, "account", Handle::account, ACCOUNT_REFUSED)?;
            if self.login.auth {
                self.phase(
                    index,
                    "authenticate",
                    Handle::authenticate,
                    AUTHENTICATION_REFUSED,
                )?;
            }
            self.phase(index, "open", Handle::open, SESSION_REFUSED)?;
        }
        Ok(())
    }

    fn environment(&mut self, index: usize) -> Result<(), i32> {
        let login = self.login;
        let fixed = [
            ("TELEPORT_USERNAME", &login.user),
            ("TELEPORT_LOGIN", &login.login),
            ("TELEPORT_ROLES", &login.roles),
        ];
        let fixed = fixed.map(|(name, value)| format!("{name}={value}"));
        for assignment in fixed.iter().chain(&login.env) {
            let Some((name, value)) = assignment.split_once('=') else {
                return Err(broken(&format!(
                    "--env takes NAME=value, not {assignment:?}"
                )));
            };
            // SAFETY: the only other thread is parked and reads no environment.
            unsafe { std::env::set_var(name, value) };
            if !login.process_env_only {
                let code = self.handles[index].put_env(assignment);
                if code != SUCCESS {
                    return Err(broken(&format!("pam_putenv: {code}")));
                }
            }
        }
        Ok(())
    }

    fn phase(&mut self, index: usize, name: &str, call: Phase, refused: i32) -> Result<(), i32> {
        let code = call(&mut self.handles[index]);
        self.told(index, name, code);
        if code != SUCCESS {
            let sentence = self.handles[index].sentence(code);
            println!("Failed to launch: {sentence}.");
            return Err(refused);
        }
        self.look(index, name);
        tell::reached(name, index, &self.login.hold);
        Ok(())
    }

    fn every_phase(&mut self, index: usize) {
        let phases: [(&str, Phase); 5] = [
            ("authenticate", Handle::authenticate),
            ("setcred", Handle::set_cred),
            ("password", Handle::change_token),
            ("account", Handle::account),
            ("open", Handle::open),
        ];
        for (name, call) in phases {
            let code = call(&mut self.handles[index]);
            self.told(index, name, code);
            tell::reached(name, index, &self.login.hold);
        }
    }

    fn told(&self, index: usize, phase: &str, code: Code) {
        let sentence = self.handles[index].sentence(code);
        tell::event(&json!({
            "event": "phase", "phase": phase, "handle": index, "code": code.to_string(), "sentence": sentence,
        }));
    }

    fn look(&mut self, index: usize, after: &str) {
        if self.login.look {
            let (event, uid) = user::looked(&self.login.login, self.uid, after, index);
            self.uid = uid;
            tell::event(&event);
        }
    }

    /// The first lookup of a Teleport child comes only here, after PAM.
    fn identity(&self) -> Result<Identity, i32> {
        match user::identity(&self.login.login) {
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => {
                println!("Failed to launch: user: unknown user {}.", self.login.login);
                Err(USER_UNKNOWN)
            }
            Err(error) => {
                println!(
                    "Failed to launch: looking up user {}: {error}.",
                    self.login.login
                );
                Err(USER_UNKNOWN)
            }
        }
    }

    fn command(&mut self) -> Result<i32, i32> {
        let environment = self
            .handles
            .first()
            .map(Handle::env_list)
            .unwrap_or_default();
        let Some(line) = &self.login.command else {
            return Ok(0);
        };
        let identity = self.identity()?;
        let mut child =
            user::run(&identity, line, &environment, self.login.terminal_fd).map_err(|error| {
                broken(&format!(
                    "{} cannot be run: {error}",
                    identity.user.shell.display()
                ))
            })?;
        tell::reached("command", 0, &self.login.hold);
        let status = child
            .wait()
            .map_err(|error| broken(&format!("waiting for the command: {error}")))?;
        let signal =
            std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
        Ok(status.code().or(signal).unwrap_or(BROKEN))
    }

    fn forward(&mut self) -> Result<i32, i32> {
        let identity = self.identity()?;
        user::become_identity(identity.user.uid, identity.user.gid, &identity.groups)
            .map_err(|error| broken(&format!("becoming {}: {error}", self.login.login)))?;
        tell::reached("became", 0, &self.login.hold);
        Ok(0)
    }

    fn close(&mut self) {
        for index in 0..self.handles.len() {
            if !self.login.end_only {
                let code = self.handles[index].close();
                self.told(index, "close", code);
                self.look(index, "close");
                tell::reached("close", index, &self.login.hold);
            }
        }
    }

    fn end(&mut self) {
        for (index, handle) in std::mem::take(&mut self.handles).into_iter().enumerate() {
            let code = handle.end();
            tell::event(
                &json!({"event": "phase", "phase": "end", "handle": index, "code": code.to_string()}),
            );
            self.look(index, "end");
        }
    }
}

pub(crate) fn broken(why: &str) -> i32 {
    tell::event(&json!({"event": "broken", "why": why}));
    println!("{why}");
    BROKEN
}

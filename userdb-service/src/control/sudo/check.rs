//! Asks visudo about the specifications that roles give, once, when the configuration is loaded.
//! A role with one that visudo refuses keeps everything but sudo; writing files is not of this place.
//!
//! visudo is no filter (it accepts what would grant rights to others): that a specification is one line
//! for one user is held by its type. This is about what sudo would trip over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::process::Command;
use tokio::time::timeout;

use crate::policy::Config;
use crate::policy::names::Login;
use crate::policy::sudoers::{FULL, SudoersSpec, render};
use crate::runtime;

/// Where the system keeps it, and what it is called where sudo-rs is installed beside sudo.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
const NAMES: [&str; 2] = ["visudo", "visudo-rs"];

/// It takes 3 ms.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whom the checked line is for. Any login would do.
const STAND_IN: &str = "somebody";

/// Standard input by name: the visudo of sudo-rs takes files only.
const STDIN: &str = "/proc/self/fd/0";

/// Longest answer that is repeated to the administrator, in bytes.
const MAX_ANSWER: usize = 300;

/// Checks specifications and remembers what came of it, so that each is asked about once.
#[derive(Debug)]
pub struct SudoersCheck {
    /// Where visudo may be; looked for each time, because it may be installed later.
    places: Vec<PathBuf>,
    patience: Duration,
    known: RefCell<BTreeMap<SudoersSpec, Known>>,
}

/// What visudo has said.
#[derive(Clone, Debug)]
struct Known {
    answer: Result<(), String>,
    /// It may be another visudo by now: this holds only for as long as the new one says nothing.
    is_old: bool,
}

/// A role that gives no sudo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// visudo refuses a specification: to be corrected.
    Wrong(String),
    /// visudo gave no answer. It may the next time.
    Unanswered(String),
    /// The same, and nothing is withheld: it took this before.
    AsBefore(String),
    /// There is no visudo, and so no sudo to speak of.
    NoVisudo(String),
}

impl std::fmt::Display for Withheld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong(sentence)
            | Self::Unanswered(sentence)
            | Self::AsBefore(sentence)
            | Self::NoVisudo(sentence) => f.write_str(sentence),
        }
    }
}

impl Default for SudoersCheck {
    /// With the visudo of this system.
    fn default() -> Self {
        let places = FOLDERS
            .iter()
            .flat_map(|folder| NAMES.map(|name| Path::new(folder).join(name)));
        SudoersCheck::with(places.collect(), PATIENCE)
    }
}

impl SudoersCheck {
    /// With the first visudo that is in one of these places.
    pub fn with(places: Vec<PathBuf>, patience: Duration) -> Self {
        SudoersCheck {
            places,
            patience,
            known: RefCell::default(),
        }
    }

    /// Whether there is a visudo to ask.
    pub fn has_visudo(&self) -> bool {
        self.places.iter().any(|path| is_program(path))
    }

    /// Has visudo asked anew about all of it: it may be another by now.
    pub fn ask_anew(&self) {
        let mut known = self.known.borrow_mut();
        known.values_mut().for_each(|known| known.is_old = true);
    }

    /// Takes sudo from each role with a specification that visudo refuses, or from all where visudo
    /// cannot be asked; says which and why. What was withheld before is found out anew.
    pub async fn withhold_refused(&self, config: &mut Config) -> Vec<Withheld> {
        let visudo = self.places.iter().find(|path| is_program(path));
        let mut withheld = Vec::new();
        // One that hangs would hang for each specification.
        let mut unanswered = None;
        for role in &mut config.roles {
            role.sudo_withheld = None;
            let specs: Vec<SudoersSpec> = role.specs().collect();
            for spec in specs {
                let role_name = role.pattern.as_str().escape_debug().to_string();
                let no_sudo = format!("{}: role \"{role_name}\" gives no sudo", role.place);
                let Some(visudo) = visudo else {
                    role.sudo_withheld = Some("there is no visudo on this node".to_owned());
                    withheld.push(Withheld::NoVisudo(format!(
                        "{no_sudo}: there is no visudo on this node; install sudo, then reload teleport-sessiond"
                    )));
                    break;
                };
                let answer = match (self.remembered(&spec), &unanswered) {
                    (Some(answer), _) => Some(answer),
                    (None, Some(_)) => None,
                    (None, None) => match self.ask(visudo, &spec).await {
                        Ok(answer) => {
                            let known = Known {
                                answer: answer.clone(),
                                is_old: false,
                            };
                            self.known.borrow_mut().insert(spec.clone(), known);
                            Some(answer)
                        }
                        Err(error) => {
                            let why = format!("{} cannot be asked ({error})", visudo.display());
                            unanswered = Some(why);
                            None
                        }
                    },
                };
                let said =
                    |why: &str| format!("sudoers \"{}\": {why}", spec.as_str().escape_debug());
                let now = unanswered.as_deref().unwrap_or_default();
                let before = match answer {
                    Some(_) => None,
                    None => self.said_before(&spec),
                };
                match answer.or(before.clone()) {
                    Some(Ok(())) => {
                        if before.is_some() {
                            let place = &role.place;
                            withheld.push(Withheld::AsBefore(format!(
                                "{place}: role \"{role_name}\" gives sudo as before: {}",
                                said(now)
                            )));
                        }
                        continue;
                    }
                    Some(Err(why)) if before.is_some() => {
                        let why = said(&format!("{now}; when it was asked before, {why}"));
                        withheld.push(Withheld::Unanswered(format!("{no_sudo}: {why}")));
                        role.sudo_withheld = Some(why);
                    }
                    Some(Err(why)) => {
                        let why = said(&why);
                        withheld.push(Withheld::Wrong(format!(
                            "{no_sudo}: {why}; write what sudoers(5) takes behind a user's name, such as \"{FULL}\""
                        )));
                        role.sudo_withheld = Some(why);
                    }
                    None => {
                        let why = said(now);
                        withheld.push(Withheld::Unanswered(format!("{no_sudo}: {why}")));
                        role.sudo_withheld = Some(why);
                    }
                }
                break;
            }
        }
        withheld
    }

    /// The same for a program without an event loop.
    ///
    /// # Errors
    /// No event loop could be made; nothing is withheld.
    pub fn withhold_refused_blocking(&self, config: &mut Config) -> io::Result<Vec<Withheld>> {
        runtime::block_on(self.withhold_refused(config))
    }

    fn remembered(&self, spec: &SudoersSpec) -> Option<Result<(), String>> {
        let known = self.known.borrow();
        let known = known.get(spec).filter(|known| !known.is_old);
        known.map(|known| known.answer.clone())
    }

    fn said_before(&self, spec: &SudoersSpec) -> Option<Result<(), String>> {
        let known = self.known.borrow();
        known.get(spec).map(|known| known.answer.clone())
    }

    /// visudo's answer; an error if there is none. What is wrong with visudo itself, such as that it finds nobody in passwd, ends it
    /// as a mistake in the file does; but then it refuses what is right, too.
    async fn ask(&self, visudo: &Path, spec: &SudoersSpec) -> io::Result<Result<(), String>> {
        let Err(why) = self.run(visudo, spec).await? else {
            return Ok(Ok(()));
        };
        match self.run(visudo, &SudoersSpec::full()).await? {
            Ok(()) => Ok(Err(format!("visudo refuses it: {why}"))),
            Err(own) => Err(io::Error::other(format!("it refuses any rule: {own}"))),
        }
    }

    /// What visudo has against it, if anything; an error if it was not run to its end.
    async fn run(&self, visudo: &Path, spec: &SudoersSpec) -> io::Result<Result<(), String>> {
        let login = Login::try_from(STAND_IN).map_err(|why| io::Error::other(why.to_string()))?;
        let mut file = File::from(memfd_create(c"sudoers", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(render(&login, std::slice::from_ref(spec)).as_bytes())?;
        file.rewind()?;
        let asked = Command::new(visudo)
            .args(["-c", "-f", STDIN])
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = timeout(self.patience, asked)
            .await
            .map_err(|_| io::Error::other(format!("no answer in {:?}", self.patience)))??;
        if output.status.success() {
            return Ok(Ok(()));
        }
        if output.status.code().is_none() {
            return Err(io::Error::other(output.status.to_string()));
        }
        Ok(Err(refusal(&output.stderr, &output.stdout)))
    }
}

/// Why visudo failed, in its own words, on one line.
fn refusal(stderr: &[u8], stdout: &[u8]) -> String {
    let words = [stderr, stdout].concat();
    let words = String::from_utf8_lossy(&words[..words.len().min(MAX_ANSWER)]).into_owned();
    let line = words.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or("it does not say why").escape_debug();
    line.to_string().replace(STDIN, "line")
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

//! What each phase of a login decides: from the transaction, the registry's answer and whether others know
//! the user, to a PAM code and what is said. No I/O, no libpam: the shell in `run` brings both.

use session_protocol::client::{Failure, LoginRequest};
use session_protocol::sessions::Admission;

use crate::pam::{Code, Priority, Style};

#[cfg(test)]
mod tests;

/// The outside as a phase sees it.
pub(crate) trait World {
    /// PAM_USER, now.
    fn user(&self) -> Option<Vec<u8>>;
    /// PAM_SERVICE.
    fn service(&self) -> Option<Vec<u8>>;
    /// Entries of the PAM environment, "NAME=value"; None if there is no memory to read them.
    fn environment(&self) -> Option<Vec<Vec<u8>>>;
    /// Sets PAM_USER; false if it cannot be.
    fn rename(&mut self, user: &str) -> bool;
    /// The process this is.
    fn process(&self) -> u32;
    /// Asks the registry for a reservation.
    fn reserve(&mut self, request: &LoginRequest) -> Result<Admission, Failure>;
    /// Asks the registry for a session, out of the reservation if there is one.
    fn open(
        &mut self,
        reservation: Option<&str>,
        request: &LoginRequest,
    ) -> Result<Admission, Failure>;
    /// Ends a reservation or session.
    fn close(&mut self, session: &str) -> Result<(), Failure>;
    /// True if the user exists and is not one the registry has published.
    fn known_to_others(&self, login: &str) -> bool;
}

/// What a transaction keeps from its first phase to its end.
#[derive(Debug)]
pub(crate) struct Kept {
    subject: Subject,
    stage: Stage,
    /// What the person has been told: nothing is said twice.
    told: Vec<String>,
    /// What the person is still to be told.
    unsaid: Vec<String>,
}

/// Whom the transaction is about: read once, whatever happens to the PAM environment afterwards.
#[derive(Debug)]
enum Subject {
    /// No Teleport login, or a service that is none of ours.
    NotOurs,
    /// That was not to be found out. It may be a login of ours, so it is not let through as if it were none.
    Unread,
    /// A login that is refused whatever the registry says, unless the service is none of ours, which only the
    /// registry knows. The sentence says why.
    Refused { request: LoginRequest, why: String },
    /// A login, and the PAM user it must still have.
    Login { request: LoginRequest, user: String },
}

/// How far a login has come.
#[derive(Debug)]
enum Stage {
    /// Nothing is held: not asked yet, refused, unanswered or closed.
    Nothing,
    /// Somebody else's user.
    Foreign,
    Reserved(Held),
    Open(Held),
}

/// A reservation or session.
#[derive(Clone, Debug)]
struct Held {
    session: String,
    /// The process that has got it: a copy of the handle in a child must not end it.
    process: u32,
}

/// What comes of a phase.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: Code,
    /// For the person.
    pub(crate) told: Vec<(Style, String)>,
    /// For the log.
    pub(crate) logged: Vec<(Priority, String)>,
    /// The user to give the terminal to.
    pub(crate) terminal: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Account,
    Open,
}

/// pam_sm_acct_mgmt: the login is reserved.
pub(crate) fn account(world: &mut dyn World, kept: &mut Option<Kept>) -> Verdict {
    let kept = kept.get_or_insert_with(|| Kept::read(world));
    admit(Phase::Account, world, kept)
}

/// pam_sm_open_session: the reservation becomes a session. What the account phase has not seen is none of
/// ours: between it and here any module, and the user's own files, may have filled the environment.
pub(crate) fn open_session(world: &mut dyn World, kept: &mut Option<Kept>) -> Verdict {
    match kept {
        Some(kept) => admit(Phase::Open, world, kept),
        None => Verdict::of(Code::Ignore),
    }
}

/// pam_sm_close_session: whatever is held ends. Once is enough: what cannot be said now is said by the end
/// of this process, which the registry sees.
pub(crate) fn close_session(world: &mut dyn World, kept: &mut Option<Kept>) -> Verdict {
    let Some(kept) = kept else {
        return Verdict::of(Code::Ignore);
    };
    if matches!(kept.subject, Subject::NotOurs) {
        return Verdict::of(Code::Ignore);
    }
    match kept.let_go() {
        Some(held) => end(world, &held),
        None => Verdict::of(Code::Success),
    }
}

/// pam_end: what was never closed ends, unless it is another process's.
pub(crate) fn transaction_over(world: &mut dyn World, kept: &mut Kept) -> Verdict {
    match kept.let_go() {
        Some(held) if held.process == world.process() => end(world, &held),
        _ => Verdict::of(Code::Success),
    }
}

impl Kept {
    fn read(world: &dyn World) -> Self {
        Self {
            subject: Subject::read(world),
            stage: Stage::Nothing,
            told: Vec::new(),
            unsaid: Vec::new(),
        }
    }

    /// The program wanted silence, so the person has heard nothing of the verdict. The registry does not repeat itself: what goes for
    /// the whole login is said in the next phase.
    pub(crate) fn was_silent(&mut self, verdict: &Verdict) {
        let infos = verdict
            .told
            .iter()
            .filter(|(style, _)| *style == Style::Info);
        let unsaid: Vec<String> = infos.map(|(_, text)| text.clone()).collect();
        self.told.retain(|text| !unsaid.contains(text));
        self.unsaid.extend(unsaid);
    }

    fn let_go(&mut self) -> Option<Held> {
        match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Reserved(held) | Stage::Open(held) => Some(held),
            Stage::Nothing | Stage::Foreign => None,
        }
    }

    fn handle(&self) -> Option<String> {
        match &self.stage {
            Stage::Reserved(held) | Stage::Open(held) => Some(held.session.clone()),
            Stage::Nothing | Stage::Foreign => None,
        }
    }
}

impl Subject {
    fn read(world: &dyn World) -> Self {
        let mut teleport_login = None;
        let mut request = LoginRequest::default();
        let Some(environment) = world.environment() else {
            return Subject::Unread;
        };
        for entry in environment {
            let mut parts = entry.splitn(2, |byte| *byte == b'=');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            if name == b"TELEPORT_LOGIN" {
                teleport_login = Some(value.to_vec());
            }
            match (str::from_utf8(name), str::from_utf8(value)) {
                (Ok(name), Ok(value)) => {
                    request
                        .environment
                        .insert(name.to_owned(), value.to_owned());
                }
                _ => request.undecodable.push(lossy(name)),
            }
        }
        let Some(teleport_login) = teleport_login else {
            return Subject::NotOurs;
        };
        request.service = lossy(&world.service().unwrap_or_default());
        let user = world.user();
        request.login = lossy(user.as_deref().unwrap_or_default());
        let why = match &user {
            None => format!(
                "Teleport admits {:?}, but PAM names no user to log in.",
                lossy(&teleport_login)
            ),
            Some(user) if *user != teleport_login => format!(
                "Teleport admits {:?}, but PAM logs in {:?}.",
                lossy(&teleport_login),
                lossy(user)
            ),
            Some(user) => match str::from_utf8(user) {
                Ok(user) => {
                    let user = user.to_owned();
                    return Subject::Login { request, user };
                }
                Err(_) => "The login is not valid UTF-8.".to_owned(),
            },
        };
        Subject::Refused { request, why }
    }
}

/// Account and open: the table of cases.
fn admit(phase: Phase, world: &mut dyn World, kept: &mut Kept) -> Verdict {
    let (request, user) = match &kept.subject {
        Subject::NotOurs => return Verdict::of(Code::Ignore),
        Subject::Unread => return phase.unread(),
        Subject::Refused { request, why } => {
            let verdict = phase.refuse(Priority::Warning, why);
            if phase == Phase::Account && is_none_of_ours(world, request) {
                kept.subject = Subject::NotOurs;
                return Verdict::of(Code::Ignore);
            }
            return verdict;
        }
        Subject::Login { request, user } => (request, user),
    };
    let now = world.user().unwrap_or_default();
    if now != user.as_bytes() {
        let why = format!(
            "The user was admitted as {user:?}, but another PAM module has made it {:?}.",
            lossy(&now)
        );
        return phase.refuse(Priority::Warning, &why);
    }
    match (&kept.stage, phase) {
        (Stage::Foreign | Stage::Open(_), _) | (Stage::Reserved(_), Phase::Account) => {
            return Verdict::of(Code::Success);
        }
        (Stage::Nothing | Stage::Reserved(_), _) => {}
    }
    let answer = match phase {
        Phase::Account => world.reserve(request),
        // The registry makes a reservation that has ended meanwhile anew.
        Phase::Open => world.open(kept.handle().as_deref(), request),
    };
    match answer {
        Ok(admission) => admitted(phase, world, kept, admission),
        Err(Failure::Refused { message, .. }) => phase.refuse(Priority::Notice, &message),
        Err(Failure::NotAdmitted { message }) => phase.refuse(Priority::Error, &message),
        Err(failure) => {
            let verdict = phase.unanswered(world, &request.login, &failure);
            if verdict.code == Code::Success {
                // Asked once is enough: a user of this host waits for a hung registry once, not twice.
                kept.stage = Stage::Foreign;
            }
            verdict
        }
    }
}

/// Is the service one that the registry leaves alone? Anything else it says of this login counts for nothing.
fn is_none_of_ours(world: &mut dyn World, request: &LoginRequest) -> bool {
    match world.reserve(request) {
        Ok(admission) => {
            if let Some(session) = admission.session {
                // Not worth a word: it ends with this process at the latest.
                let _ = world.close(&session);
            }
            admission.ignored
        }
        Err(_) => false,
    }
}

fn admitted(phase: Phase, world: &mut dyn World, kept: &mut Kept, admission: Admission) -> Verdict {
    let Subject::Login { request, user } = &mut kept.subject else {
        return Verdict::of(Code::Ignore);
    };
    let mut verdict = Verdict::of(Code::Success);
    match admission.session {
        None if admission.ignored => {
            kept.subject = Subject::NotOurs;
            return Verdict::of(Code::Ignore);
        }
        None if admission.foreign => kept.stage = Stage::Foreign,
        Some(session) if !admission.userName.is_empty() => {
            let process = world.process();
            let held = Held { session, process };
            kept.stage = match phase {
                Phase::Account => Stage::Reserved(held),
                Phase::Open => Stage::Open(held),
            };
            if admission.userName != *user {
                // What is held already ends with the transaction.
                if !world.rename(&admission.userName) {
                    let why = format!("The PAM user cannot be set to {:?}.", admission.userName);
                    return phase.refuse(Priority::Error, &why);
                }
                verdict.log(
                    Priority::Notice,
                    format!("{user:?} logs in as {:?}", admission.userName),
                );
                *user = admission.userName;
            }
            if phase == Phase::Open {
                verdict.terminal = admission.uid.and_then(|uid| u32::try_from(uid).ok());
            }
        }
        _ => {
            let why = "neither a session nor a reason why there is none".to_owned();
            return phase.unanswered(world, &request.login, &Failure::Protocol(why));
        }
    }
    let unsaid = std::mem::take(&mut kept.unsaid);
    for message in unsaid.into_iter().chain(admission.messages) {
        if !kept.told.contains(&message) {
            verdict.told.push((Style::Info, message.clone()));
            kept.told.push(message);
        }
    }
    verdict
}

fn end(world: &mut dyn World, held: &Held) -> Verdict {
    let mut verdict = Verdict::of(Code::Success);
    // Not worth a louder word: the forwarding process closes as the login user, who may not connect, and
    // the registry ends what its leader leaves.
    if let Err(failure) = world.close(&held.session) {
        verdict.log(
            Priority::Debug,
            format!("the session ends with this process: close: {failure}"),
        );
    }
    verdict
}

impl Phase {
    fn refuse(self, priority: Priority, sentence: &str) -> Verdict {
        let mut verdict = Verdict::of(match self {
            Phase::Account => Code::PermDenied,
            Phase::Open => Code::SessionErr,
        });
        verdict.told.push((Style::Error, sentence.to_owned()));
        verdict.log(priority, format!("refused: {sentence}"));
        verdict
    }

    /// The environment, which says whether this is a login of ours, could not be read.
    fn unread(self) -> Verdict {
        let mut verdict = Verdict::of(match self {
            Phase::Account => Code::BufErr,
            Phase::Open => Code::SessionErr,
        });
        let sentence =
            "The login cannot be admitted now: there is no memory to read its PAM environment."
                .to_owned();
        verdict.log(Priority::Error, sentence.clone());
        verdict.told.push((Style::Error, sentence));
        verdict
    }

    /// Without the registry, those log in whom it would not have had to make.
    fn unanswered(self, world: &dyn World, login: &str, failure: &Failure) -> Verdict {
        let asked = !matches!(failure, Failure::TooLong(_));
        if world.known_to_others(login) {
            let mut verdict = Verdict::of(Code::Success);
            let silent = if asked {
                "does not answer"
            } else {
                "is not asked"
            };
            verdict.log(
                Priority::Warning,
                format!("teleport-sessiond {silent} ({failure}); {login:?} is a user of this host and logs in"),
            );
            return verdict;
        }
        let mut verdict = Verdict::of(match self {
            Phase::Account => Code::AuthinfoUnavail,
            Phase::Open => Code::SessionErr,
        });
        let (sentence, hint) = if asked {
            let sentence = format!(
                "The user {login:?} cannot be made now because teleport-sessiond does not answer; the administrator \
                 should look at \"systemctl status teleport-sessiond.socket teleport-sessiond.service\"."
            );
            (sentence, format!(" ({failure})"))
        } else {
            let sentence = format!(
                "The user {login:?} cannot be made: {failure}; Teleport has to say less in roles and traits."
            );
            (sentence, String::new())
        };
        verdict.log(Priority::Error, format!("{sentence}{hint}"));
        verdict.told.push((Style::Error, sentence));
        verdict
    }
}

impl Verdict {
    fn of(code: Code) -> Self {
        Self {
            code,
            told: Vec::new(),
            logged: Vec::new(),
            terminal: None,
        }
    }

    fn log(&mut self, priority: Priority, text: String) {
        self.logged.push((priority, text));
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! The shell around the phases: a PAM transaction, the registry, the table and the terminal, carried to
//! the decisions and back. No decision is made here.

use std::time::Duration;

use session_protocol::client::{Failure, LoginRequest, Registry};
use session_protocol::sessions::Admission;

use crate::arguments::Settings;
use crate::pam::{Call, Code, Ending, Handle, ModuleData, Priority};
use crate::phases::{self, Kept, Verdict, World};
use crate::text::{printable, sayable};
use crate::{elsewhere, tty};

/// Longest time the end of a session may take: Teleport kills what does not end within five seconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is kept in the PAM handle.
#[derive(Debug, Default)]
struct Stored {
    kept: Option<Kept>,
    /// Those of the last phase: the clean-up at pam_end gets none.
    settings: Settings,
    /// To be taken back at the end.
    terminal: Option<tty::Lasting>,
}

/// A transaction during one phase.
struct Transaction<'t, 'h> {
    handle: &'t Handle<'h>,
    settings: Settings,
}

/// Account phase.
pub(crate) fn account(call: &mut Call<'_>) -> Code {
    phase(call, "account", Code::SystemErr, phases::account)
}

/// Session phase, opening.
pub(crate) fn open_session(call: &mut Call<'_>) -> Code {
    phase(call, "open_session", Code::SessionErr, phases::open_session)
}

/// Session phase, closing.
pub(crate) fn close_session(call: &mut Call<'_>) -> Code {
    let code = phase(call, "close_session", Code::Success, phases::close_session);
    if let Some(Ok(mut stored)) = call
        .handle
        .data::<Stored>()
        .map(|data| data.try_borrow_mut())
    {
        stored.take_terminal_back(&call.handle);
    }
    code
}

/// Carries a phase out; `broken` is answered where the handle cannot keep anything.
fn phase(
    call: &mut Call<'_>,
    name: &str,
    broken: Code,
    decide: fn(&mut dyn World, &mut Option<Kept>) -> Verdict,
) -> Code {
    let (settings, ignored) = Settings::parse(&call.arguments);
    for text in ignored {
        call.handle.log(Priority::Warning, &printable(&text));
    }
    if call.handle.data::<Stored>().is_none() && !call.handle.set_data(Stored::default()) {
        call.handle
            .log(Priority::Error, "PAM has no memory for the session");
        return broken;
    }
    let mut transaction = Transaction {
        handle: &call.handle,
        settings,
    };
    let verdict = {
        // Borrowed by nobody else: libpam does not call the module while it is in it.
        let Some(Ok(mut stored)) = call
            .handle
            .data::<Stored>()
            .map(|data| data.try_borrow_mut())
        else {
            return broken;
        };
        stored.settings = settings;
        let verdict = decide(&mut transaction, &mut stored.kept);
        if call.silent
            && let Some(kept) = &mut stored.kept
        {
            kept.was_silent(&verdict);
        }
        verdict
    };
    if let Some(uid) = verdict.terminal {
        let lasting = transaction.give_terminal(uid);
        if let Some(Ok(mut stored)) = call
            .handle
            .data::<Stored>()
            .map(|data| data.try_borrow_mut())
        {
            stored.terminal = lasting;
        }
    }
    transaction.log(&verdict);
    transaction.debug(|| format!("{name}: {:?}", verdict.code));
    if !call.silent {
        for (style, text) in &verdict.told {
            call.handle.tell(*style, &sayable(text));
        }
    }
    verdict.code
}

impl Stored {
    fn take_terminal_back(&mut self, handle: &Handle<'_>) {
        let taken = self.terminal.take().map(|given| tty::take_back(&given));
        if let Some(Err(error)) = taken {
            let text = format!("the terminal could not be taken back: {error}");
            handle.log(Priority::Warning, &printable(&text));
        }
    }
}

impl ModuleData for Stored {
    fn end(&mut self, handle: &Handle<'_>, ending: Ending) {
        if ending == Ending::Over {
            self.take_terminal_back(handle);
        }
        let (Ending::Over, Some(kept)) = (ending, &mut self.kept) else {
            return;
        };
        let mut transaction = Transaction {
            handle,
            settings: self.settings,
        };
        let verdict = phases::transaction_over(&mut transaction, kept);
        transaction.log(&verdict);
    }
}

impl Transaction<'_, '_> {
    fn log(&self, verdict: &Verdict) {
        for (priority, text) in &verdict.logged {
            if *priority != Priority::Debug || self.settings.debug {
                self.handle.log(*priority, &printable(text));
            }
        }
    }

    fn debug(&self, text: impl FnOnce() -> String) {
        if self.settings.debug {
            self.handle.log(Priority::Debug, &printable(&text()));
        }
    }

    /// The terminal, if it has to be taken back.
    fn give_terminal(&self, uid: u32) -> Option<tty::Lasting> {
        match tty::give(self.handle.tty().as_deref(), uid) {
            Ok(given) => {
                self.debug(|| match &given {
                    Some(given) => format!("terminal {} given to uid {uid}", given.device),
                    None => "no terminal to give".to_owned(),
                });
                given?.lasting
            }
            Err(error) => {
                let text = format!("the terminal could not be given to uid {uid}: {error}");
                self.handle.log(Priority::Warning, &printable(&text));
                None
            }
        }
    }

    fn registry(&self, longest: Duration) -> Registry {
        Registry::new(self.settings.timeout.min(longest))
    }
}

impl World for Transaction<'_, '_> {
    fn user(&self) -> Option<Vec<u8>> {
        self.handle.user()
    }

    fn service(&self) -> Option<Vec<u8>> {
        self.handle.service()
    }

    fn environment(&self) -> Option<Vec<Vec<u8>>> {
        self.handle.environment()
    }

    fn rename(&mut self, user: &str) -> bool {
        self.handle.set_user(user)
    }

    fn process(&self) -> u32 {
        std::process::id()
    }

    fn reserve(&mut self, request: &LoginRequest) -> Result<Admission, Failure> {
        self.registry(Duration::MAX).reserve(request)
    }

    fn open(
        &mut self,
        reservation: Option<&str>,
        request: &LoginRequest,
    ) -> Result<Admission, Failure> {
        self.registry(Duration::MAX).open(reservation, request)
    }

    fn close(&mut self, session: &str) -> Result<(), Failure> {
        self.registry(CLOSE_TIMEOUT).close(session)
    }

    fn known_to_others(&self, login: &str) -> bool {
        elsewhere::known_to_others(login)
    }
}

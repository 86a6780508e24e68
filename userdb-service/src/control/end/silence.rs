//! Whether a service answers anybody: who waits for a turn to ask it need not wait for one that is silent.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What is known of a service.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    answered: Option<Instant>,
    silent: Option<Instant>,
}

impl Silence {
    /// Somebody has been answered.
    pub(super) fn is_over(&self) {
        *self.heard() = Heard {
            answered: Some(Instant::now()),
            silent: None,
        };
    }

    /// Who has asked at `asked` has waited long enough. If others were answered meanwhile, that says nothing of the service.
    pub(super) fn noticed(&self, asked: Instant) {
        let mut heard = self.heard();
        if heard.answered.is_none_or(|answered| answered < asked) {
            heard.silent = Some(Instant::now());
        }
    }

    /// Whether somebody has waited long enough at some time after `came`, and nobody has been answered since.
    pub(super) fn was_noticed_after(&self, came: Instant) -> bool {
        self.heard().silent.is_some_and(|silent| silent >= came)
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_silent_to_those_who_came_before_that_was_noticed_until_it_answers_somebody() {
        let silence = Silence::default();
        let came = Instant::now();
        assert!(!silence.was_noticed_after(came));
        silence.noticed(came);
        assert!(silence.was_noticed_after(came));
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(!silence.was_noticed_after(Instant::now()), "he may ask");
        silence.is_over();
        assert!(!silence.was_noticed_after(came));
        // His question alone was not answered.
        silence.noticed(came);
        assert!(!silence.was_noticed_after(came));
    }
}

//! The module's arguments in the service's file: `debug` and `timeout=`.
//! What is not understood is reported, never a reason to fail a login.

use std::time::Duration;

/// How the module was asked to behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Log what happens, not only what goes wrong.
    pub(crate) debug: bool,
    /// Longest time a call to the registry may take.
    pub(crate) timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debug: false,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// Reads the arguments; the texts say what was ignored and why.
    pub(crate) fn parse(arguments: &[String]) -> (Self, Vec<String>) {
        let mut settings = Self::default();
        let mut ignored = Vec::new();
        for argument in arguments {
            if argument == "debug" {
                settings.debug = true;
            } else if let Some(value) = argument.strip_prefix("timeout=") {
                match seconds(value) {
                    Some(timeout) => settings.timeout = timeout,
                    None => ignored.push(format!(
                        "argument {argument:?} ignored: a timeout is a number of seconds from 1 to 600, as in timeout=5"
                    )),
                }
            } else {
                ignored.push(format!(
                    "argument {argument:?} ignored: there are only debug and timeout="
                ));
            }
        }
        (settings, ignored)
    }
}

/// "5" or "5s".
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.strip_suffix('s').unwrap_or(value);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = digits.parse().ok()?;
    (1..=600)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> (Settings, Vec<String>) {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Settings::parse(&arguments)
    }

    #[test]
    fn without_arguments_the_timeout_is_five_seconds() {
        let (settings, ignored) = parse(&[]);
        assert_eq!((settings.debug, settings.timeout.as_secs()), (false, 5));
        assert!(ignored.is_empty());
    }

    #[test]
    fn a_timeout_may_have_its_unit() {
        assert_eq!(parse(&["timeout=2"]).0.timeout.as_secs(), 2);
        assert_eq!(parse(&["debug", "timeout=30s"]).0.timeout.as_secs(), 30);
        assert!(parse(&["debug"]).0.debug);
    }

    #[test]
    fn what_is_not_understood_is_named_and_changes_nothing() {
        for odd in [
            "timeout=",
            "timeout=0",
            "timeout=s",
            "timeout=+5",
            "timeout=5ms",
            "timeout=601",
            "Debug",
            "use_first_pass",
        ] {
            let (settings, ignored) = parse(&[odd]);
            assert_eq!(settings, Settings::default(), "{odd}");
            assert_eq!(ignored.len(), 1, "{odd}");
            assert!(ignored[0].contains(odd), "{odd}");
        }
    }
}

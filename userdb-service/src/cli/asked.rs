//! Whether a login could be decided on: a lookup worker is asked, as teleport-sessiond asks it, about a name that nobody has.

use std::path::Path;

use super::node::Seen;
use super::units;
use crate::control::lookup::nsswitch::NSSWITCH;
use crate::control::lookup::{LookupFailed, Lookups, Settings, THE_HOST};
use crate::policy::decide::{Answer, Facts, Question};
use crate::runtime;

/// A name as any, which nobody has.
const NOBODY: &str = "teleport-check-asks";
/// What workers are started from.
const TEMPLATE: &str = "teleport-lookup@.service";
/// Who is to blame where nobody has been asked yet.
const WORKER: &str = "the lookup worker";

/// The sentence where every new login is refused. What the host keeps to itself does not count where `host_is_told_of` elsewhere.
pub(super) fn look(root: bool, home_base: Option<&Path>, host_is_told_of: bool) -> Seen<()> {
    if !root {
        return Seen::RootOnly;
    }
    let lookups = Lookups::new(Settings::default());
    match runtime::block_on(ask(&lookups, home_base, host_is_told_of)) {
        Ok(Ok(())) => Seen::Known(()),
        Ok(Err(failed)) => {
            let template = (failed.source == WORKER).then(|| units::enabled(TEMPLATE));
            Seen::Failed(sentence(&failed, template.flatten().as_deref()))
        }
        Err(error) => Seen::Failed(format!("no lookup worker can be asked: {error}")),
    }
}

async fn ask(
    lookups: &Lookups,
    home_base: Option<&Path>,
    host_is_told_of: bool,
) -> Result<(), LookupFailed> {
    let kinds = [Question::User, Question::Group, Question::GroupsOf];
    let questions = kinds.map(|kind| kind(NOBODY.to_owned()));
    let facts = lookups.ask(&questions, home_base).await?;
    failure(facts, host_is_told_of).map_or(Ok(()), Err)
}

/// Who has not answered.
fn failure(facts: Facts, host_is_told_of: bool) -> Option<LookupFailed> {
    let mut answers = facts.answers.into_values();
    let of_others = answers.find_map(|answer| match answer {
        Answer::Failed { source, why } => Some(LookupFailed { source, why }),
        Answer::User(_) | Answer::Group(_) | Answer::Groups(_) => None,
    });
    let of_host = facts.host.failure.filter(|_| !host_is_told_of);
    of_others.or(of_host.map(|host| LookupFailed {
        source: host.source,
        why: host.why,
    }))
}

/// What happened, and what would be right; `template` is how systemd has it, where it was asked.
fn sentence(failed: &LookupFailed, template: Option<&str>) -> String {
    let mend = match (failed.source.as_str(), template) {
        (_, Some(masked @ ("masked" | "masked-runtime"))) => {
            let runtime = match masked {
                "masked" => "",
                _ => "--runtime ",
            };
            format!(
                "{TEMPLATE} is {masked}, `systemctl unmask {runtime}{TEMPLATE} && systemctl restart {}` is right",
                units::LOOKUP
            )
        }
        (_, Some("not-found")) => {
            format!("{TEMPLATE} is missing, installing the package teleport-userdb anew is right")
        }
        (WORKER, _) if failed.why.starts_with("cannot connect") => {
            format!(
                "`systemctl restart {}` makes that socket anew",
                units::LOOKUP
            )
        }
        (WORKER, _) => format!(
            "`journalctl -u 'teleport-lookup@*'` says why, and `systemctl cat {TEMPLATE}` what was changed of the worker's unit"
        ),
        (THE_HOST, _) => format!(
            "a lookup worker has to read that: `systemctl cat {TEMPLATE}` shows what its sandbox keeps from it (InaccessiblePaths=, TemporaryFileSystem=, ...); what sudoers or doas.conf includes has to be elsewhere"
        ),
        // The folder of homes.
        (folder, _) if folder.starts_with('/') && folder != NSSWITCH => {
            format!("the disk of {folder} has to answer, or home.base to name another folder")
        }
        (source, _) => format!(
            "{source} has to answer, or not to be asked any more (/etc/nsswitch.conf, /run/systemd/userdb)"
        ),
    };
    format!("every new login is refused: {failed}; {mend}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use crate::policy::decide::{HostFacts, HostFailure};

    fn failed(source: &str, why: &str) -> LookupFailed {
        LookupFailed {
            source: source.to_owned(),
            why: why.to_owned(),
        }
    }

    #[test]
    fn a_worker_that_cannot_be_reached_or_ends_is_told_with_what_mends_it() {
        let socket = std::env::temp_dir().join(format!("no-lookup-{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let asked = || {
            let lookups = Lookups::new(Settings {
                socket: socket.clone(),
                timeout: Duration::from_secs(30),
                workers: 1,
            });
            let asked = runtime::block_on(ask(&lookups, None, false)).expect("an event loop");
            sentence(&asked.expect_err("nobody answers"), Some("static"))
        };
        let told = asked();
        assert!(told.contains("No such file"), "{told}");
        assert!(
            told.contains("`systemctl restart teleport-lookup.socket`"),
            "{told}"
        );
        let listener = UnixListener::bind(&socket).expect("bound");
        let ends = std::thread::spawn(move || drop(listener.accept().expect("somebody")));
        let told = asked();
        ends.join().expect("accepted");
        assert!(
            told.contains("worker died") && told.contains("journalctl -u 'teleport-lookup@*'"),
            "{told}"
        );
        std::fs::remove_file(&socket).expect("removed");
    }

    #[test]
    fn a_template_that_cannot_be_started_is_named() {
        let ended = failed(WORKER, "the lookup worker died: end of file");
        for (state, naming) in [
            (
                "masked",
                "`systemctl unmask teleport-lookup@.service && systemctl restart teleport-lookup.socket`",
            ),
            (
                "masked-runtime",
                "`systemctl unmask --runtime teleport-lookup@.service && ",
            ),
            ("not-found", "installing the package teleport-userdb anew"),
        ] {
            let told = sentence(&ended, Some(state));
            assert!(told.contains(naming), "{told}");
        }
    }

    #[test]
    fn another_provider_that_does_not_answer_is_named() {
        let why = "no answer within 3s".to_owned();
        let answer = Answer::Failed {
            source: "sss".to_owned(),
            why: why.clone(),
        };
        let facts = Facts {
            answers: [(Question::User(NOBODY.to_owned()), answer)].into(),
            host: HostFacts::default(),
        };
        let told = sentence(&failure(facts, true).expect("it failed"), None);
        assert!(
            told.contains("sss: no answer within 3s") && told.contains("sss has to answer"),
            "{told}"
        );
        let told = sentence(&failed("/srv/homes", "no answer within 3s"), None);
        assert!(
            told.contains("home.base") && !told.contains("nsswitch"),
            "{told}"
        );
        let hidden = failed(THE_HOST, "/etc/sudoers.d/more: Permission denied");
        let told = sentence(&hidden, None);
        assert!(
            told.contains("`systemctl cat teleport-lookup@.service`") && !told.contains("nsswitch"),
            "{told}"
        );
        let of_host = || Facts {
            host: HostFacts {
                failure: Some(HostFailure {
                    source: THE_HOST.to_owned(),
                    why: why.clone(),
                }),
                ..HostFacts::default()
            },
            ..Facts::default()
        };
        assert!(failure(of_host(), false).is_some());
        assert_eq!(failure(of_host(), true), None, "it is told of elsewhere");
    }
}

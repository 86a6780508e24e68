//! Which of the PAM services that the configuration names use our module. In any other service the module keeps out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::node::Seen;

/// Where libpam looks a service up, in its order.
const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];
const EXAMPLE: &str = "/usr/lib/teleport-userdb/pam.d/teleport";
const PHASES: [&str; 2] = ["account", "session"];

/// In which of the [`PHASES`] a file uses our module.
type Uses = [bool; 2];

/// The services that are set up; a sentence where none is, or one in part.
pub(super) fn look(services: &[String], root: bool) -> Seen<Vec<String>> {
    judge(services, root, &read)
}

fn read(name: &str) -> io::Result<String> {
    let mut text = Err(io::ErrorKind::NotFound.into());
    for folder in FOLDERS {
        // An absolute name stays as it is.
        text = fs::read(Path::new(folder).join(name));
        if !matches!(&text, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
    }
    text.map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn judge(
    services: &[String],
    root: bool,
    read: &dyn Fn(&str) -> io::Result<String>,
) -> Seen<Vec<String>> {
    let (mut set_up, mut hidden) = (Vec::new(), false);
    for service in services {
        let text = match read(service) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !root => {
                hidden = true;
                continue;
            }
            Err(error) => {
                return Seen::Failed(format!(
                    "the PAM service {service} cannot be read: {error}; {EXAMPLE} is what belongs into /etc/pam.d/{service}"
                ));
            }
        };
        let lacking = match uses(&text, read, &mut BTreeMap::new()) {
            [true, true] => {
                set_up.push(service.clone());
                continue;
            }
            // One that is named, and that this node has no use for.
            [false, false] => continue,
            [true, false] => PHASES[1],
            [false, true] => PHASES[0],
        };
        return Seen::Failed(format!(
            "/etc/pam.d/{service} has no line \"{lacking} ... pam_teleport.so\"; compare it with {EXAMPLE}"
        ));
    }
    match (set_up.is_empty(), hidden, services.first()) {
        (false, ..) => Seen::Known(set_up),
        (true, true, _) => Seen::RootOnly,
        (true, false, Some(first)) => Seen::Failed(format!(
            "none of the PAM services that pam-services names ({}) uses pam_teleport.so; {EXAMPLE} is what belongs into /etc/pam.d/{first}, or let pam-services name the service that uses it",
            services.join(", ")
        )),
        (true, false, None) => Seen::Failed(
            "pam-services names no PAM service, so no user is made; name the one that Teleport has as service_name, such as [\"teleport\"]"
                .to_owned(),
        ),
    }
}

/// A service with this text uses our module itself, or by what it includes.
fn uses(
    text: &str,
    read: &dyn Fn(&str) -> io::Result<String>,
    known: &mut BTreeMap<String, Uses>,
) -> Uses {
    let mut uses_it = Uses::default();
    for line in text.replace("\\\n", " ").lines() {
        let rule = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = rule.split_whitespace().collect();
        let phase = words.first().copied().unwrap_or_default();
        let phase = phase.strip_prefix('-').unwrap_or(phase);
        let at = PHASES
            .iter()
            .position(|name| name.eq_ignore_ascii_case(phase));
        match (words.as_slice(), at) {
            (["@include", name, ..], _) => {
                let there = included(name, read, known);
                uses_it = [uses_it[0] || there[0], uses_it[1] || there[1]];
            }
            ([_, "include" | "substack", name, ..], Some(at)) => {
                uses_it[at] |= included(name, read, known)[at];
            }
            ([_, words @ ..], Some(at)) => {
                let mut files = words.iter().map(|word| word.rsplit('/').next());
                uses_it[at] |= files.any(|file| file == Some("pam_teleport.so"));
            }
            _ => {}
        }
    }
    uses_it
}

/// The same of a file by its name. One that is not there, or in the middle of being looked at, is no help.
fn included(
    name: &str,
    read: &dyn Fn(&str) -> io::Result<String>,
    known: &mut BTreeMap<String, Uses>,
) -> Uses {
    if let Some(known) = known.get(name) {
        return *known;
    }
    known.insert(name.to_owned(), Uses::default());
    let there = read(name).map_or(Uses::default(), |text| uses(&text, read, known));
    known.insert(name.to_owned(), there);
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "account requisite pam_teleport.so\n\
        -session [success=ok \\\n default=die] /lib/security/pam_teleport.so debug\n";

    fn judged(services: &[&str], files: &[(&str, &str)]) -> Seen<Vec<String>> {
        let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        judge(&services, true, &|name| {
            let file = files.iter().find(|(file, _)| *file == name);
            file.map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    #[track_caller]
    fn sentence(seen: Seen<Vec<String>>) -> String {
        match seen {
            Seen::Failed(sentence) => sentence,
            seen => panic!("{seen:?}"),
        }
    }

    fn known(services: &[&str]) -> Seen<Vec<String>> {
        Seen::Known(services.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn one_service_that_is_named_and_set_up_is_enough() {
        let plain = "account required pam_unix.so\nsession required pam_unix.so\n";
        for (files, set_up) in [
            (&[("teleport", BOTH)][..], &["teleport"][..]),
            (&[("sshd", BOTH)], &["sshd"]),
            (&[("teleport", BOTH), ("sshd", plain)], &["teleport"]),
            (&[("teleport", BOTH), ("sshd", BOTH)], &["teleport", "sshd"]),
        ] {
            assert_eq!(judged(&["teleport", "sshd"], files), known(set_up));
        }
    }

    #[test]
    fn a_service_that_is_not_named_does_not_count() {
        let told = sentence(judged(&["sshd"], &[("teleport", BOTH)]));
        assert!(told.contains("(sshd)"), "{told}");
        assert!(told.contains("/etc/pam.d/sshd"), "{told}");
        let told = sentence(judged(&[], &[("teleport", BOTH)]));
        assert!(told.contains("pam-services names no"), "{told}");
    }

    #[test]
    fn a_service_that_is_set_up_in_part_is_told_with_what_it_lacks() {
        let account = "account requisite pam_teleport.so\n#session requisite pam_teleport.so\n";
        let session = "session requisite pam_teleport.so # account pam_teleport.so\n";
        for (half, lacking) in [(account, "\"session ..."), (session, "\"account ...")] {
            let files = [("teleport", BOTH), ("sshd", half)];
            let told = sentence(judged(&["teleport", "sshd"], &files));
            assert!(
                told.contains("/etc/pam.d/sshd") && told.contains(lacking),
                "{told}"
            );
        }
    }

    #[test]
    fn what_a_service_includes_is_read_too_and_only_for_its_phase() {
        let files = [
            (
                "sshd",
                "Account include both\nsession substack /etc/pam.d/deep\n",
            ),
            ("both", BOTH),
            ("/etc/pam.d/deep", "@include both\n@include nowhere\n"),
        ];
        assert_eq!(judged(&["sshd"], &files), known(&["sshd"]));
        let files = [("sshd", "account include both\n"), ("both", BOTH)];
        assert!(sentence(judged(&["sshd"], &files)).contains("\"session ..."));
    }

    #[test]
    fn files_that_include_each_other_end() {
        let both = "@include both\n@include sshd\n";
        sentence(judged(&["sshd"], &[("sshd", both), ("both", both)]));
    }

    #[test]
    fn a_file_that_only_root_may_read_is_not_wrong() {
        let denied = |_: &str| Err(io::ErrorKind::PermissionDenied.into());
        let services = ["teleport".to_owned()];
        assert_eq!(judge(&services, false, &denied), Seen::RootOnly);
        sentence(judge(&services, true, &denied));
    }
}

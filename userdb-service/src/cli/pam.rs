//! Which of the PAM services that the configuration names use our module, and at what of them libpam would have a login fail. In any
//! other service the module keeps out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::libraries;
use super::node::Seen;

/// Where libpam looks a service up, in its order.
const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];
const EXAMPLE: &str = "/usr/lib/teleport-userdb/pam.d/teleport";
const MODULE: &str = "pam_teleport.so";
const PHASES: [&str; 2] = ["account", "session"];
/// Our module has no part in these, and a login fails by them all the same.
const OTHERS: [&str; 2] = ["auth", "password"];
/// What libpam takes in the place of a control, but for what begins with "[".
const CONTROLS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];
const INCLUDE: [&str; 2] = ["include", "substack"];

/// In which of the [`PHASES`] a file uses our module.
type Uses = [bool; 2];

/// What libpam would see.
struct Files<'a> {
    /// The text of a service, or of a file by its absolute name.
    read: &'a dyn Fn(&str) -> io::Result<String>,
    /// Whether there is a module under a name as in a rule.
    has_module: &'a dyn Fn(&str) -> bool,
}

/// The services that are set up; a sentence where none is, or one in part.
pub(super) fn look(services: &[String], root: bool) -> Seen<Vec<String>> {
    let files = Files {
        read: &read,
        has_module: &has_module,
    };
    judge(services, root, &files)
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

/// One without a folder is in libpam's own, which is one of the folder of libraries.
fn has_module(name: &str) -> bool {
    let path = match (Path::new(name), libraries::folder()) {
        (path, _) if path.is_absolute() => path.to_owned(),
        (path, Some(folder)) => folder.join("security").join(path),
        // Not knowing where, it is taken to be there.
        (_, None) => return true,
    };
    path.is_file()
}

fn judge(services: &[String], root: bool, files: &Files<'_>) -> Seen<Vec<String>> {
    let (mut set_up, mut hidden) = (Vec::new(), false);
    // Under such a name libpam knows no service.
    let (capital, services): (Vec<&String>, Vec<&String>) = services
        .iter()
        .partition(|name| name.contains(|c: char| c.is_ascii_uppercase()));
    for service in &services {
        let text = match (files.read)(service) {
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
        let mut reading = Reading {
            files,
            known: BTreeMap::new(),
            fault: None,
        };
        let uses = reading.uses(service, &text);
        let lacking = match (uses, reading.fault) {
            // One that is named, and that this node has no use for.
            ([false, false], _) => continue,
            (_, Some(fault)) => {
                return Seen::Failed(format!(
                    "logins by the PAM service {service} fail: {fault}; compare it with {EXAMPLE}"
                ));
            }
            ([true, true], None) => {
                set_up.push((*service).clone());
                continue;
            }
            ([true, false], None) => PHASES[1],
            ([false, true], None) => PHASES[0],
        };
        return Seen::Failed(format!(
            "/etc/pam.d/{service} has no line \"{lacking} ... pam_teleport.so\"; compare it with {EXAMPLE}"
        ));
    }
    match (set_up.is_empty(), hidden, services.first(), capital.first()) {
        (false, ..) => Seen::Known(set_up),
        (true, true, ..) => Seen::RootOnly,
        (true, false, None, Some(capital)) => Seen::Failed(format!(
            "pam-services names no PAM service but \"{capital}\", and libpam makes the names of services small, so no login is by one with a capital; write \"{}\"",
            capital.to_ascii_lowercase()
        )),
        (true, false, Some(first), _) => {
            let names: Vec<&str> = services.iter().map(|name| name.as_str()).collect();
            Seen::Failed(format!(
                "none of the PAM services that pam-services names ({}) uses pam_teleport.so; {EXAMPLE} is what belongs into /etc/pam.d/{first}, or let pam-services name the service that uses it",
                names.join(", ")
            ))
        }
        (true, false, None, None) => Seen::Failed(
            "pam-services names no PAM service, so no user is made; name the one that Teleport has as service_name, such as [\"teleport\"]"
                .to_owned(),
        ),
    }
}

/// A service, and what it includes.
struct Reading<'a> {
    files: &'a Files<'a>,
    known: BTreeMap<String, Uses>,
    /// The first thing at which libpam would have a login fail.
    fault: Option<String>,
}

impl Reading<'_> {
    /// A file with this text uses our module itself, or by what it includes.
    fn uses(&mut self, name: &str, text: &str) -> Uses {
        let mut uses_it = Uses::default();
        if text.contains("\r\n") {
            self.is_wrong(format!(
                "the lines of {name} end as those of Windows do (CR LF), which libpam takes for a part of the last word; `sed -i 's/\\r$//'` takes that away"
            ));
        }
        for line in text.replace("\\\n", " ").lines() {
            let rule = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = rule.split_whitespace().collect();
            let phase = words.first().copied().unwrap_or_default();
            let phase = phase.strip_prefix('-').unwrap_or(phase);
            let is = |name: &&str| name.eq_ignore_ascii_case(phase);
            let at = PHASES.iter().position(is);
            match (words.as_slice(), at) {
                (["@include", included, ..], _) => {
                    let there = self.included(name, included);
                    uses_it = [uses_it[0] || there[0], uses_it[1] || there[1]];
                }
                ([_, control, included, ..], _)
                    if is_one_of(control, &INCLUDE) && (at.is_some() || OTHERS.iter().any(is)) =>
                {
                    let there = self.included(name, included);
                    if let Some(at) = at {
                        uses_it[at] |= there[at];
                    }
                }
                ([_, control, words @ ..], Some(at)) => {
                    if !control.starts_with('[') && !is_one_of(control, &CONTROLS) {
                        self.is_wrong(format!(
                            "libpam does not know the word \"{control}\" in {name} (one of {})",
                            CONTROLS.join(", ")
                        ));
                    }
                    let ours = words
                        .iter()
                        .find(|word| word.rsplit('/').next() == Some(MODULE));
                    if let Some(module) = ours {
                        uses_it[at] = true;
                        if !(self.files.has_module)(module) {
                            self.is_wrong(format!(
                                "there is no module {module}, which {name} names; {MODULE} without a folder is right, and installing the package teleport-userdb anew where the file is missing"
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        uses_it
    }

    /// The same of a file by its name. One in the middle of being looked at is no help.
    fn included(&mut self, by: &str, name: &str) -> Uses {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        self.known.insert(name.to_owned(), Uses::default());
        let there = match (self.files.read)(name) {
            Ok(text) => self.uses(name, &text),
            Err(error) => {
                // What others may not see is for root to judge.
                if error.kind() != io::ErrorKind::PermissionDenied {
                    self.is_wrong(format!(
                        "{by} includes {name}, which cannot be read: {error}"
                    ));
                }
                Uses::default()
            }
        };
        self.known.insert(name.to_owned(), there);
        there
    }

    fn is_wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|one| one.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "account requisite pam_teleport.so\n\
        -session [success=ok \\\n default=die] /lib/security/pam_teleport.so debug\n";

    fn judged(services: &[&str], files: &[(&str, &str)]) -> Seen<Vec<String>> {
        let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        let read = |name: &str| {
            let file = files.iter().find(|(file, _)| *file == name);
            file.map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let files = Files {
            read: &read,
            has_module: &|name| !name.contains("nowhere"),
        };
        judge(&services, true, &files)
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
            ("/etc/pam.d/deep", "@include both\n"),
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
        let denied = Files {
            read: &|_| Err(io::ErrorKind::PermissionDenied.into()),
            has_module: &|_| true,
        };
        let services = ["teleport".to_owned()];
        assert_eq!(judge(&services, false, &denied), Seen::RootOnly);
        sentence(judge(&services, true, &denied));
    }

    #[test]
    fn what_libpam_would_have_a_login_fail_at_is_told() {
        let plain = "account required pam_unix.so\nsession required pam_unix.so\n";
        for (text, naming) in [
            (BOTH.replace('\n', "\r\n"), "(CR LF)"),
            (
                format!("{BOTH}session requisit pam_unix.so\n"),
                "\"requisit\"",
            ),
            (format!("{BOTH}@include nowhere\n"), "includes nowhere"),
            (format!("{BOTH}auth include nowhere\n"), "includes nowhere"),
            (
                BOTH.replace("/lib/", "/nowhere/"),
                "no module /nowhere/security/pam_teleport.so",
            ),
        ] {
            let told = sentence(judged(&["sshd"], &[("sshd", &text)]));
            assert!(
                told.contains(naming) && told.contains("sshd fail"),
                "{told}"
            );
            // Whoever logs in by it has nothing to do with us.
            let text = text.replace(MODULE, "pam_nobody.so");
            let files = [("teleport", BOTH), ("sshd", &text)];
            assert_eq!(judged(&["teleport", "sshd"], &files), known(&["teleport"]));
        }
        for good in ["Required", "[success=ok", "optional"] {
            let text = format!("{BOTH}session {good} pam_unix.so\nauth odd pam_unix.so\n");
            assert_eq!(judged(&["sshd"], &[("sshd", &text)]), known(&["sshd"]));
        }
        sentence(judged(&["sshd"], &[("sshd", plain)]));
    }

    #[test]
    fn a_service_with_capitals_is_none() {
        let files = [("Teleport", BOTH), ("sshd", BOTH)];
        let told = sentence(judged(&["Teleport"], &files));
        assert!(told.contains("write \"teleport\""), "{told}");
        assert_eq!(judged(&["Teleport", "sshd"], &files), known(&["sshd"]));
    }
}

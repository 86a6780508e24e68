//! Where Debian comes from: the archive this machine itself installs from, with its signing keys.
//! No host is named here; what the machine's own apt sources say is taken as it stands.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, Trouble};

/// Overrides what the apt sources say: the address of a Debian archive.
const OVERRIDE: &str = "TELEPORT_USERDB_MIRROR";

/// One `deb` entry of apt's sources.
#[derive(Debug, PartialEq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// Address of the Debian archive that serves this machine's own release.
pub(crate) fn debian_mirror() -> Result<String> {
    if let Some(uri) = std::env::var(OVERRIDE).ok().filter(|uri| !uri.is_empty()) {
        return Ok(uri);
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = codename(&release).unwrap_or_default();
    sources(Path::new("/etc/apt"))
        .into_iter()
        .find(|source| serves(source, codename))
        .map(|source| source.uri)
        .ok_or_else(|| {
            Trouble::missing(
                format!(
                    "no entry of /etc/apt serves the Debian release {codename:?} of this machine"
                ),
                format!("put the address of a Debian archive into {OVERRIDE}"),
            )
        })
}

fn serves(source: &Source, codename: &str) -> bool {
    source.suites.iter().any(|suite| suite == codename)
        && source
            .components
            .iter()
            .any(|component| component == "main")
}

fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|value| value.trim_matches('"'))
}

/// All `deb` entries under `apt`, in the order apt reads them.
fn sources(apt: &Path) -> Vec<Source> {
    let mut files = vec![apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = fs::read_dir(apt.join("sources.list.d"))
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.append(&mut parts);
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(text.lines().filter_map(one_line)),
            Some("sources") => found.extend(stanzas(&text)),
            _ => {}
        }
    }
    found
}

/// `deb [options] URI SUITE COMPONENT...`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some(Source {
        uri: words.next()?.to_owned(),
        suites: vec![words.next()?.to_owned()],
        components: words
            .take_while(|word| !word.starts_with('#'))
            .map(str::to_owned)
            .collect(),
    })
}

/// The deb822 form: stanzas of `Field: words`, continued by lines that begin with a space.
fn stanzas(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            found.extend(source_of(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((field, value)) = line.split_once(':') {
            stanza.push((field.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

fn source_of(stanza: &[(String, String)]) -> Option<Source> {
    let words = |field: &str| -> Vec<String> {
        stanza
            .iter()
            .filter(|(name, _)| name == field)
            .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned))
            .collect()
    };
    if !words("types").iter().any(|kind| kind == "deb") || words("enabled") == ["no"] {
        return None;
    }
    Some(Source {
        uri: words("uris").into_iter().next()?,
        suites: words("suites"),
        components: words("components"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str]) -> Source {
        Source {
            uri: uri.to_owned(),
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
            components: vec!["main".to_owned()],
        }
    }

    #[test]
    fn a_stanza_names_its_first_uri_and_all_suites() {
        let text = "# a comment\nTypes: deb deb-src\nURIs: http://a.example/debian http://b.example/debian\n\
                    Suites: trixie\n trixie-updates\nComponents: main\n\nTypes: deb-src\nURIs: http://c.example\n";
        assert_eq!(
            stanzas(text),
            [source(
                "http://a.example/debian",
                &["trixie", "trixie-updates"]
            )]
        );
    }

    #[test]
    fn a_disabled_stanza_is_not_a_source() {
        assert_eq!(
            stanzas(
                "Types: deb\nEnabled: no\nURIs: http://a.example\nSuites: sid\nComponents: main\n"
            ),
            []
        );
    }

    #[test]
    fn a_one_line_entry_may_have_options_and_a_remark() {
        assert_eq!(
            one_line("deb [signed-by=/k.gpg arch=amd64] http://a.example/debian sid main # ours"),
            Some(source("http://a.example/debian", &["sid"]))
        );
        assert_eq!(one_line("# deb http://a.example/debian sid main"), None);
        assert_eq!(one_line("deb-src http://a.example/debian sid main"), None);
    }

    #[test]
    fn a_suite_of_another_name_does_not_serve_the_release() {
        assert!(serves(&source("u", &["trixie"]), "trixie"));
        assert!(!serves(&source("u", &["trixie-security"]), "trixie"));
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=\"trixie\"\n"),
            Some("trixie")
        );
    }
}

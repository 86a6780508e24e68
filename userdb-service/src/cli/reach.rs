//! What every process of the machine has to come by, for our users to have names and homes: modes and files that are theirs to read.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use account_table::DEFAULT_PATH;

use super::libraries;
use crate::USERDB_SOCKET;
use crate::control::lookup::nsswitch::NSSWITCH;
use crate::policy::config::EPHEMERAL_BASE;

/// The folder of all that is published.
const PUBLISHED: &str = "/run/teleport-userdb";
const MODULE: &str = "libnss_teleport.so.2";
const READ: u32 = 0o4;
/// What it takes to connect to a socket.
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;

/// What is out of reach, each with what brings it back.
pub(super) fn look(has_ephemeral_homes: bool) -> Vec<String> {
    let mut needed = vec![
        (PathBuf::from(NSSWITCH), READ),
        (PathBuf::from(PUBLISHED), SEARCH),
        (
            PathBuf::from(DEFAULT_PATH.to_string_lossy().into_owned()),
            READ,
        ),
    ];
    // systemd's own lookups, and teleport-userdbd itself, which asks itself whether it answers, and is ended where it does not.
    let socket = Path::new(USERDB_SOCKET);
    needed.extend(socket.parent().map(|folder| (folder.to_owned(), SEARCH)));
    needed.push((socket.to_owned(), WRITE));
    needed.extend(has_ephemeral_homes.then(|| (PathBuf::from(EPHEMERAL_BASE), SEARCH)));
    let module = libraries::folder().map(|folder| folder.join(MODULE));
    needed.extend(module.clone().map(|module| (module, READ)));
    let closed = needed.iter().filter_map(|(path, bit)| closed(path, *bit));
    module
        .and_then(|module| missing(&module))
        .into_iter()
        .chain(closed)
        .collect()
}

/// What is not there, or not to be seen by us, is told of elsewhere.
fn closed(path: &Path, bit: u32) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let right = match bit {
        READ => "r",
        WRITE => "w",
        _ => "x",
    };
    (mode & bit == 0).then(|| {
        format!(
            "{} has mode {:04o}, `chmod a+{right} {0}` opens it",
            path.display(),
            mode & 0o7777
        )
    })
}

fn missing(module: &Path) -> Option<String> {
    let seen = fs::metadata(module);
    let is_gone = seen.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_gone.then(|| {
        format!(
            "{} is missing, installing the package teleport-userdb anew is right",
            module.display()
        )
    })
}

/// The judgement on these.
pub(super) fn judge(out_of_reach: &[String]) -> Result<String, String> {
    if out_of_reach.is_empty() {
        return Ok("Everybody can read what users are looked up in.".to_owned());
    }
    Err(format!(
        "Users have no name or no home, for not everybody can get at what they are looked up in: {}.",
        out_of_reach.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cannot_read_or_search_is_told_with_what_opens_it() {
        let folder = std::env::temp_dir().join(format!("reach-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        let file = folder.join("accounts");
        fs::write(&file, "").expect("written");
        for (path, bit, mode, told) in [
            (&file, READ, 0o644, None),
            (&file, READ, 0o600, Some("accounts` opens it")),
            (&file, READ, 0o640, Some("has mode 0640, `chmod a+r /")),
            (&file, WRITE, 0o666, None),
            (&file, WRITE, 0o600, Some("has mode 0600, `chmod a+w /")),
            (&folder, SEARCH, 0o711, None),
            (&folder, SEARCH, 0o750, Some("has mode 0750, `chmod a+x /")),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
            let found = closed(path, bit);
            assert_eq!(found.is_some(), told.is_some(), "{mode:o}");
            let sentence = found.unwrap_or_default();
            assert!(sentence.contains(told.unwrap_or_default()), "{sentence}");
        }
        let module = folder.join(MODULE);
        assert_eq!(closed(&module, READ), None);
        let sentence = missing(&module).expect("not there");
        assert!(sentence.contains("libnss_teleport.so.2 is missing"));
        assert!(judge(&[sentence]).is_err() && judge(&[]).is_ok());
        assert_eq!(missing(&file), None);
        fs::remove_dir_all(folder).expect("removed");
    }
}

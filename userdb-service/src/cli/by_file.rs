//! Whether sudo reads the files by which roles give it. What it makes of each of them is not of this place.

use serde::Serialize;

use super::node::Seen;
use crate::control::lookup::named;
use crate::control::sudo::files::{SudoersError, SudoersFiles};
use crate::policy::plan::SudoMode;
use crate::policy::{Config, SudoersSpec};

/// Why it reads none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ignored {
    /// There is no such folder.
    NoFolder,
    /// It is not root's, or others can write to it.
    UnfitFolder,
    /// Nothing includes it.
    NotIncluded,
}

/// Whether some role gives sudo by a file.
pub(super) fn gives_files(config: &Config) -> bool {
    let specs = config.roles.iter().flat_map(|role| role.specs());
    let by_file =
        |spec: SudoersSpec| config.sudo.mode == SudoMode::File || !SudoersSpec::is_full(&spec);
    specs.into_iter().any(by_file)
}

/// Whether sudo reads what is given by file, for a configuration by which anything is.
pub(super) fn look(config: &Config, root: bool) -> Seen<Option<Ignored>> {
    if !gives_files(config) {
        return Seen::Unread;
    }
    if !root {
        return Seen::RootOnly;
    }
    judged(&SudoersFiles::default(), || named::includes_ours().ok())
}

/// `includes` says whether the folder is included, if that can be told. What cannot be read is told elsewhere.
fn judged(files: &SudoersFiles, includes: impl FnOnce() -> Option<bool>) -> Seen<Option<Ignored>> {
    match files.is_there() {
        Ok(false) => Seen::Known(Some(Ignored::NoFolder)),
        Err(SudoersError::Unsuitable { .. }) => Seen::Known(Some(Ignored::UnfitFolder)),
        Err(error) => Seen::Failed(error.to_string()),
        Ok(true) => match includes() {
            Some(true) => Seen::Known(None),
            Some(false) => Seen::Known(Some(Ignored::NotIncluded)),
            None => Seen::Unread,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn roles_give_sudo_by_a_file_unless_it_is_all_of_it_and_that_goes_by_group() {
        let role = "[[role]]\nmatch = \"ops\"\n";
        let by_group = "[sudo]\nmode = \"group\"\n";
        let full = format!("{role}sudo = true\n");
        let id = format!("{role}sudoers = [\"ALL=(root) NOPASSWD: /usr/bin/id\"]\n");
        for (text, gives) in [
            (role.to_owned(), false),
            (full.clone(), true),
            (id.clone(), true),
            (format!("{by_group}{full}"), false),
            (format!("{by_group}{id}"), true),
        ] {
            let config = Config::parse(&[("config.toml", &text)]).expect("good");
            assert_eq!(gives_files(&config), gives, "{text}");
            if !gives {
                assert_eq!(look(&config, true), Seen::Unread, "{text}");
            }
        }
    }

    #[test]
    fn the_folder_has_to_be_there_root_s_alone_and_included() {
        let folder = std::env::temp_dir().join(format!("by-file-{}", std::process::id()));
        let files = SudoersFiles::new(&folder);
        let found = |includes| judged(&files, || includes);
        assert_eq!(found(Some(true)), Seen::Known(Some(Ignored::NoFolder)));
        fs::create_dir(&folder).expect("made");
        for (mode, includes, seen) in [
            (0o777, Some(true), Seen::Known(Some(Ignored::UnfitFolder))),
            (0o750, Some(true), Seen::Known(None)),
            (0o750, Some(false), Seen::Known(Some(Ignored::NotIncluded))),
            (0o750, None, Seen::Unread),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("set");
            assert_eq!(found(includes), seen, "{mode:o}");
        }
        fs::remove_dir(&folder).expect("removed");
    }
}

//! Whether sudo reads the files by which roles give it. What it makes of each of them is not of this place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use super::node::Seen;
use crate::control::lookup::named;
use crate::control::sudo::files::{SudoersError, SudoersFiles, is_ignored};
use crate::policy::plan::SudoMode;
use crate::policy::{Config, SudoersSpec};

pub(super) const SUDO: &str = "/usr/bin/sudo";
pub(super) const SUDOERS: &str = "/etc/sudoers";

/// Why it reads none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ignored {
    /// There is no such folder.
    NoFolder,
    /// Something else has its name.
    NotAFolder,
    /// It is not root's, or others can write to it.
    UnfitFolder,
    /// Root's group can write to it. sudo would read it; the daemon works in no such folder.
    GroupsFolder,
    /// Nothing includes it.
    NotIncluded,
    /// The file that would include it is not root's, or others can write to it: sudo refuses everybody.
    UnfitSudoers,
    /// The program does not run as root.
    NoSetuid,
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
    match of_itself(Path::new(SUDO), Path::new(SUDOERS)) {
        Some(ignored) => Seen::Known(Some(ignored)),
        None => judged(&SudoersFiles::default(), || named::includes_ours().ok()),
    }
}

/// What keeps sudo from everything. One that is elsewhere, or has another file, is not judged.
fn of_itself(sudo: &Path, sudoers: &Path) -> Option<Ignored> {
    let is_root_s = |program: fs::Metadata| program.uid() == 0 && program.mode() & 0o4000 != 0;
    if fs::metadata(sudo).is_ok_and(|program| !is_root_s(program)) {
        return Some(Ignored::NoSetuid);
    }
    let is_unfit = fs::metadata(sudoers).is_ok_and(|file| is_ignored(&file));
    is_unfit.then_some(Ignored::UnfitSudoers)
}

/// `includes` says whether the folder is included, if that can be told. What cannot be read is told elsewhere.
fn judged(files: &SudoersFiles, includes: impl FnOnce() -> Option<bool>) -> Seen<Option<Ignored>> {
    let seen = fs::metadata(files);
    if seen.as_ref().is_ok_and(|seen| !seen.is_dir()) {
        return Seen::Known(Some(Ignored::NotAFolder));
    }
    match files.is_there() {
        Ok(false) => Seen::Known(Some(Ignored::NoFolder)),
        Err(SudoersError::Unsuitable { .. }) => {
            Seen::Known(Some(match seen.is_ok_and(|seen| !is_ignored(&seen)) {
                true => Ignored::GroupsFolder,
                false => Ignored::UnfitFolder,
            }))
        }
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
            (0o775, Some(true), Seen::Known(Some(Ignored::GroupsFolder))),
            (0o750, Some(true), Seen::Known(None)),
            (0o750, Some(false), Seen::Known(Some(Ignored::NotIncluded))),
            (0o750, None, Seen::Unread),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).expect("set");
            assert_eq!(found(includes), seen, "{mode:o}");
        }
        // As if its group were not root's.
        std::os::unix::fs::chown(&folder, None, Some(12345)).expect("this test needs root");
        fs::set_permissions(&folder, Permissions::from_mode(0o775)).expect("set");
        assert_eq!(found(None), Seen::Known(Some(Ignored::UnfitFolder)));
        fs::remove_dir(&folder).expect("removed");
        fs::write(&folder, "").expect("written");
        assert_eq!(found(None), Seen::Known(Some(Ignored::NotAFolder)));
        fs::remove_file(&folder).expect("removed");
    }

    #[test]
    fn sudo_has_to_run_as_root_and_its_first_file_to_be_root_s_alone() {
        let name = |of: &str| format!("by-file-{of}-{}", std::process::id());
        let [sudo, sudoers] = ["sudo", "sudoers"].map(|of| std::env::temp_dir().join(name(of)));
        assert_eq!(of_itself(&sudo, &sudoers), None);
        for (path, mode, seen) in [
            (&sudo, 0o755, Some(Ignored::NoSetuid)),
            (&sudo, 0o4755, None),
            (&sudoers, 0o442, Some(Ignored::UnfitSudoers)),
            (&sudoers, 0o440, None),
            (&sudoers, 0o660, None),
        ] {
            fs::write(path, "").expect("written");
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
            assert_eq!(of_itself(&sudo, &sudoers), seen, "{mode:o}");
        }
        std::os::unix::fs::chown(&sudoers, Some(12345), None).expect("this test needs root");
        let unfit = Some(Ignored::UnfitSudoers);
        assert_eq!(of_itself(&sudo, &sudoers), unfit);
        for path in [sudo, sudoers] {
            fs::remove_file(path).expect("removed");
        }
    }
}

//! What the registry, the table and sudoers.d say of the same logins, held against each other.

use std::collections::BTreeSet;
use std::path::Path;

use super::node::{Seen, TableSeen};
use crate::control::state::StateDir;
use crate::policy::Login;
use crate::policy::sudoers::file_name;

/// Our sudoers files whose login neither the registry nor, where that does not answer, the table knows.
pub(super) fn stale(
    sudoers: &Seen<Vec<String>>,
    registry: [&Seen<Vec<String>>; 2],
    table: &Seen<TableSeen>,
) -> Seen<Vec<String>> {
    let files = match sudoers {
        Seen::Known(files) => files,
        Seen::RootOnly => return Seen::RootOnly,
        Seen::Failed(why) => return Seen::Failed(why.clone()),
        Seen::Unread => return Seen::Unread,
    };
    let mut live: BTreeSet<&str> = BTreeSet::new();
    for logins in registry.into_iter().filter_map(Seen::known) {
        live.extend(logins.iter().map(String::as_str));
    }
    if let Some(table) = table.known() {
        live.extend(table.logins.iter().map(String::as_str));
    }
    let needed: BTreeSet<String> = live
        .into_iter()
        .filter_map(|login| Login::try_from(login).ok())
        .map(|login| file_name(&login))
        .collect();
    let mut stale = files.clone();
    stale.retain(|name| !needed.contains(name));
    Seen::Known(stale)
}

/// Logins that are published without a session as long as they have processes, as the daemon has written down.
pub(super) fn lingering(root: bool, state: &Path) -> BTreeSet<String> {
    if !root {
        return BTreeSet::new();
    }
    let loaded = StateDir::read(state).unwrap_or_default();
    let stays = loaded
        .standings
        .iter()
        .filter(|one| one.outlasts_sessions());
    stays.map(|one| String::from(one.login.clone())).collect()
}

/// Logins that had sessions all the while and are not published, and published ones that never had any and do not linger.
pub(super) fn unmatched(
    registry: [&Seen<Vec<String>>; 2],
    table: &Seen<TableSeen>,
    lingering: &BTreeSet<String>,
) -> Seen<Vec<String>> {
    let ([Seen::Known(before), Seen::Known(after)], Seen::Known(published)) = (registry, table)
    else {
        return match registry {
            [Seen::RootOnly, _] => Seen::RootOnly,
            _ => Seen::Failed(
                "sessions and users cannot be compared while one of them is not to be seen"
                    .to_owned(),
            ),
        };
    };
    let stayed = before.iter().filter(|login| after.contains(login));
    let unpublished = stayed.filter(|login| !published.logins.contains(login));
    let left_over =
        without_session(registry, table).filter(|login| !lingering.contains(login.as_str()));
    let unmatched: BTreeSet<String> = unpublished.chain(left_over).cloned().collect();
    Seen::Known(unmatched.into_iter().collect())
}

/// Published logins that had a session in neither look.
pub(super) fn without_session<'a>(
    registry: [&'a Seen<Vec<String>>; 2],
    table: &'a Seen<TableSeen>,
) -> impl Iterator<Item = &'a String> {
    let published = table.known().into_iter().flat_map(|table| &table.logins);
    published.filter(move |login| {
        let mut looks = registry.into_iter().filter_map(Seen::known);
        !looks.any(|logins| logins.contains(login))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(logins: &[&str]) -> Seen<Vec<String>> {
        Seen::Known(logins.iter().map(|login| (*login).to_owned()).collect())
    }

    fn table(logins: &[&str]) -> Seen<TableSeen> {
        Seen::Known(TableSeen {
            logins: logins.iter().map(|login| (*login).to_owned()).collect(),
            ..TableSeen::default()
        })
    }

    #[test]
    fn who_comes_or_goes_during_the_look_is_not_unmatched() {
        let (before, after) = (known(&["stays", "goes"]), known(&["stays", "comes"]));
        let unmatched =
            |published: &[&str]| unmatched([&before, &after], &table(published), &BTreeSet::new());
        for published in [&["stays"][..], &["comes", "goes", "stays"]] {
            assert_eq!(unmatched(published), known(&[]));
        }
        assert_eq!(unmatched(&["left-over"]), known(&["left-over", "stays"]));
    }

    #[test]
    fn nobody_but_root_compares_sessions_with_users() {
        let hidden = [&Seen::RootOnly, &Seen::RootOnly];
        let nobody = BTreeSet::new();
        assert_eq!(unmatched(hidden, &table(&[]), &nobody), Seen::RootOnly);
    }

    #[test]
    fn who_lingers_is_published_without_a_session_and_that_is_right() {
        let on = known(&["maria"]);
        let published = table(&["left-over", "lingers", "maria"]);
        let lingering = BTreeSet::from(["lingers".to_owned(), "maria".to_owned()]);
        assert_eq!(
            unmatched([&on, &on], &published, &lingering),
            known(&["left-over"])
        );
    }

    #[test]
    fn a_sudoers_file_without_a_live_login_is_stale() {
        let files = known(&["teleport-a=2eb", "teleport-gone"]);
        let none = known(&[]);
        assert_eq!(
            stale(&files, [&none, &known(&["a.b"])], &table(&[])),
            known(&["teleport-gone"])
        );
        // With the daemon gone the table is what is left to go by.
        let failed = Seen::Failed("x".to_owned());
        assert_eq!(
            stale(&files, [&failed, &failed], &table(&["a.b", "gone"])),
            known(&[])
        );
    }

    #[test]
    fn who_lingers_is_what_the_daemon_has_written_down() {
        let root = std::env::temp_dir().join(format!("lingering-{}", std::process::id()));
        let state = StateDir::open(&root).expect("made");
        for (login, phase, linger) in [
            ("stranded", "lingering", false),
            ("open", "live", true),
            ("over", "terminating", true),
            ("plain", "live", false),
        ] {
            let standing = serde_json::json!({
                "login": login, "given": login, "uid": 0x7000_0001, "gid": 0x7000_0001, "phase": phase,
                "owners": ["alice"], "may_have_remains": true, "linger": linger,
            });
            let standing = serde_json::from_value(standing).expect("a standing");
            state.save_login(&standing).expect("written");
        }
        let logins = ["open", "stranded"].map(str::to_owned);
        assert_eq!(lingering(true, &root), BTreeSet::from(logins));
        assert_eq!(lingering(false, &root), BTreeSet::new());
        std::fs::remove_dir_all(root).expect("removed");
    }
}

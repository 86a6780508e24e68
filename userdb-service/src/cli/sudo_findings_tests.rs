//! Judgements of nodes whose sudo files are made up.

use crate::cli::by_file::Ignored;
use crate::cli::findings::tests::{good, wrong};
use crate::cli::findings::{all_good, judge};
use crate::cli::node::{Node, Seen};
use crate::cli::sandbox::View;
use crate::cli::unread::UnreadFile;
use crate::cli::written::WithoutFile;
use crate::control::state::StuckRight;
use crate::control::sudo::files::{Amiss, SudoersError};
use crate::policy::Login;

#[track_caller]
fn told(found: (&str, String), check: &str, parts: &[&str]) {
    assert_eq!(found.0, check);
    for part in parts {
        assert!(found.1.contains(part), "{part:?}: {}", found.1);
    }
    assert!(found.1.ends_with('.'), "{}", found.1);
}

#[test]
fn what_the_lookup_workers_cannot_read_keeps_everybody_out_and_is_told_with_what_opens_it() {
    let mut node = good();
    let file = |path: &str, why: &str, mend: Option<&str>| UnreadFile {
        path: path.to_owned(),
        why: why.to_owned(),
        mend: mend.map(str::to_owned),
    };
    node.unread_sudoers = Seen::Known(vec![
        file(
            "/etc/sudoers.d/x",
            "denied",
            Some("chmod u+r /etc/sudoers.d/x"),
        ),
        file("/etc/doas.conf", "is larger than 8 MiB", None),
    ]);
    told(
        wrong(&node),
        "sudoers",
        &[
            "Every new login is refused",
            "/etc/sudoers.d/x (denied): `chmod u+r /etc/sudoers.d/x`",
            "/etc/doas.conf (is larger than 8 MiB): make it readable",
        ],
    );
}

fn without(login: &str, file: &str, found: Amiss) -> WithoutFile {
    WithoutFile {
        login: login.to_owned(),
        file: file.to_owned(),
        found,
    }
}

#[test]
fn sudo_whose_file_is_not_there_is_told_with_login_file_and_what_brings_it_back() {
    let mut node = good();
    node.without_sudoers = Seen::Known(vec![without("a.b", "teleport-a=2eb", Amiss::Absent)]);
    let parts = [
        "a.b (/etc/sudoers.d/teleport-a=2eb)",
        "`systemctl restart teleport-sessiond` writes it again",
    ];
    told(wrong(&node), "sudo rights", &parts);
}

#[test]
fn a_file_that_grants_nothing_is_told_with_what_has_become_of_it_and_what_the_daemon_can_do() {
    const FILE: &str = "/etc/sudoers.d/teleport-zed";
    let restart = "`systemctl restart teleport-sessiond` writes it again.";
    let remove = &format!("; remove {FILE}, then {restart}");
    let room = &format!("; make room, then {restart}");
    let attribute = &format!("; `chattr -i /etc/sudoers.d`, then {restart}");
    let restart = &format!("; {restart}");
    let chmod = &format!("; `chmod 0440 {FILE}` is right.");
    for (found, what, mend) in [
        (Amiss::NoFile, "a folder, a link or a pipe", remove),
        (Amiss::Owner, "not root's", remove),
        (Amiss::Empty, "is empty", remove),
        (Amiss::Headless, "its header line", remove),
        (Amiss::Linked, "other names", remove),
        (Amiss::Rule, "has lost the rule", restart),
        (Amiss::Closed, "cannot be read by its owner", chmod),
        (Amiss::Mode, "by others than root", chmod),
        (Amiss::NoRoom, "its file system is full", room),
        (Amiss::Immutable, "its folder is immutable", attribute),
    ] {
        let mut node = good();
        node.without_sudoers = Seen::Known(vec![
            without("gone", "teleport-gone", Amiss::Absent),
            without("zed", "teleport-zed", found),
        ]);
        let of_it = format!("granted to zed by {FILE}, which");
        let parts = ["gone (/etc", &of_it, what, mend];
        told(wrong(&node), "sudo rights", &parts);
    }
}

#[test]
fn rights_that_cannot_be_taken_away_are_told_with_the_login_that_they_keep_out_and_the_file() {
    let mut node = good();
    node.stuck_rights = Seen::Known(vec![StuckRight {
        login: Login::try_from("zed").expect("a login"),
        why: SudoersError::Disowned("/etc/sudoers.d/teleport-zed".into()).to_string(),
    }]);
    let parts = [
        "Every new login as zed is refused",
        "/etc/sudoers.d/teleport-zed",
        "remove it (rm /etc/sudoers.d/teleport-zed)",
    ];
    told(wrong(&node), "old rights", &parts);
}

#[test]
fn a_folder_that_cannot_be_written_to_takes_a_restart_and_first_to_be_writable_if_it_is_for_nobody()
{
    let mut node = good();
    node.sudoers_view = View::ReadOnly;
    let parts = [
        "in its sandbox",
        "`systemctl restart teleport-sessiond`",
        "where that does not help, `systemctl cat teleport-sessiond.service` shows what keeps it so (ReadOnlyPaths=",
    ];
    told(wrong(&node), "sudoers folder", &parts);
    node.sudoers_view = View::ReadOnlyForAll;
    let parts = [
        "read-only for everybody",
        "make it writable, then `systemctl restart teleport-sessiond`",
    ];
    told(wrong(&node), "sudoers folder", &parts);
}

#[test]
fn sudo_that_reads_no_file_of_ours_is_told_with_what_makes_it() {
    for (ignored, parts) in [
        (
            Ignored::NoFolder,
            [
                "there is no /etc/sudoers.d",
                "`mkdir -m 0750 /etc/sudoers.d",
            ],
        ),
        (
            Ignored::UnfitFolder,
            [
                "not root's",
                "`chown root /etc/sudoers.d && chmod go-w /etc/sudoers.d`",
            ],
        ),
        (
            Ignored::NotAFolder,
            [
                "/etc/sudoers.d is no folder",
                "`mv /etc/sudoers.d /etc/sudoers.d.away && mkdir -m 0750 /etc/sudoers.d",
            ],
        ),
        (
            Ignored::GroupsFolder,
            ["though sudo would read it", "`chmod g-w /etc/sudoers.d`"],
        ),
        (
            Ignored::UnfitSudoers,
            [
                "sudo refuses everybody: /etc/sudoers is not root's",
                "chmod 0440 /etc/sudoers`",
            ],
        ),
        (
            Ignored::NoSetuid,
            ["has lost its setuid bit", "chmod 4755 /usr/bin/sudo`"],
        ),
        (
            Ignored::NotIncluded,
            ["does not include", "\"@includedir /etc/sudoers.d\""],
        ),
    ] {
        let mut node = good();
        node.sudoers_ignored = Seen::Known(Some(ignored));
        told(wrong(&node), "sudo reads them", &parts);
    }
    // Where no role gives anything by file.
    let mut node = good();
    node.sudoers_ignored = Seen::Unread;
    let findings = judge(&node);
    assert!(all_good(&findings));
    assert!(
        findings
            .iter()
            .all(|finding| finding.check != "sudo reads them")
    );
}

#[test]
fn what_is_left_over_is_removed_once_the_daemon_can_read_it_and_write_to_the_folder() {
    let left_over = |node: &Node| {
        let findings = judge(node);
        let mut of_it = findings.into_iter();
        let found = of_it.find(|finding| finding.check == "sudoers files");
        found.expect("judged").message
    };
    let restart = "`systemctl restart teleport-sessiond` removes what is left over, or its journal says why it cannot.";
    let mut node = good();
    let stale = ["teleport-t1", "teleport-t2"].map(str::to_owned);
    node.stale_sudoers = Seen::Known(stale.to_vec());
    let nobody = "Nobody live has teleport-t1, teleport-t2; ";
    assert_eq!(left_over(&node), format!("{nobody}{restart}"));
    node.unread_sudoers = Seen::Known(vec![UnreadFile {
        path: "/etc/sudoers.d/teleport-t2".to_owned(),
        why: "denied".to_owned(),
        mend: None,
    }]);
    let chmod = "`chmod 0440 /etc/sudoers.d/teleport-t2` (teleport-sessiond cannot read it), then ";
    assert_eq!(left_over(&node), format!("{nobody}{chmod}{restart}"));
    node.sudoers_view = View::ReadOnlyForAll;
    let writable = "make /etc/sudoers.d writable, then ";
    assert_eq!(
        left_over(&node),
        format!("{nobody}{writable}{chmod}{restart}")
    );
}

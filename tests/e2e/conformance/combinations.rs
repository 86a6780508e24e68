//! Every user, group and membership once, whatever of systemd's is installed, runs, or is asked by NSS.

use rig::{LOCAL_GROUP, Machine, Suite, boot_node};

use crate::lists::{groups_of, lines_of, times_in};
use crate::session;

/// A group that a role gives and nobody else has.
const MADE: &str = "combined";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Userdbd {
    Running,
    Stopped,
    /// As where nobody has installed the package. It cannot come back without a network, so it is last.
    Removed,
}

#[test]
fn everything_is_listed_once_in_every_combination() {
    let node = boot_node(Suite::chosen().unwrap()).unwrap();
    // Beside the group of all of ours: one of /etc/group, and one that is not there without them.
    node.write(
        "/etc/teleport-userdb/config.d/10-groups.toml",
        &format!("[[role]]\nmatch = \"ops\"\ngroups = [\"{LOCAL_GROUP}\", \"{MADE}\"]\n"),
    );
    node.run(&["systemctl", "reload", "teleport-sessiond.service"])
        .must();
    let _sessions = [session(&node, "kaspar"), session(&node, "kirsten")];
    for userdbd in [Userdbd::Running, Userdbd::Stopped, Userdbd::Removed] {
        let units = "systemd-userdbd.socket systemd-userdbd.service";
        match userdbd {
            Userdbd::Running => {}
            Userdbd::Stopped => {
                node.sh(&format!("systemctl mask --runtime --now {units}"))
                    .must();
            }
            Userdbd::Removed => {
                node.sh(&format!("systemctl unmask --runtime {units}"))
                    .must();
                node.run(&["dpkg", "--purge", "--force-depends", "systemd-userdbd"])
                    .must();
            }
        }
        for asked in [true, false] {
            let edit = if asked {
                "/^\\(passwd\\|group\\):/{/systemd/!s/$/ systemd/}"
            } else {
                "/^\\(passwd\\|group\\):/s/ systemd//"
            };
            node.run(&["sed", "-i", edit, "/etc/nsswitch.conf"]).must();
            let lines = node.run(&["grep", "-E", "^(passwd|group):", "/etc/nsswitch.conf"]);
            assert_eq!(
                lines.must().matches("systemd").count(),
                2 * usize::from(asked)
            );
            each_is_there_once(&node, userdbd, asked);
        }
    }
}

#[track_caller]
fn each_is_there_once(node: &Machine, userdbd: Userdbd, asked: bool) {
    let here = format!("userdbd {userdbd:?}, nss-systemd asked: {asked}");
    for login in ["kaspar", "kirsten"] {
        assert_eq!(lines_of(node, &["getent", "passwd"], login), 1, "{here}");
        assert_eq!(lines_of(node, &["getent", "group"], login), 1, "{here}");
        assert_eq!(
            lines_of(node, &["getent", "passwd", login], login),
            1,
            "{here}"
        );
        let mut groups = groups_of(node, login);
        groups.sort();
        assert_eq!(groups, [MADE, LOCAL_GROUP, login, "teleport-tmp"], "{here}");
        for group in [MADE, "teleport-tmp"] {
            assert_eq!(times_in(node, group, login), 1, "{here}");
            assert_eq!(times_in_list(node, group, login), 1, "{here}");
        }
        // `files` lists its own members of its group, and nss-systemd alone adds ours, in lines of its own.
        let added = times_in_list(node, LOCAL_GROUP, login);
        assert_eq!(added, usize::from(asked), "{here}");
        // Where neither is there, systemd's library lists NSS and the socket both, and cannot tell them apart.
        if userdbd == Userdbd::Running || (userdbd == Userdbd::Stopped && asked) {
            for kind in ["user", "group"] {
                let list = ["userdbctl", kind, "--output=classic"];
                assert_eq!(lines_of(node, &list, login), 1, "userdbctl {kind}: {here}");
            }
        }
    }
    assert_eq!(
        lines_of(node, &["getent", "group"], "teleport-tmp"),
        1,
        "{here}"
    );
    // The same line whether the group is asked for or comes up in the list.
    let list = node.run(&["getent", "group"]);
    let line = node.run(&["getent", "group", "teleport-tmp"]);
    assert!(
        list.must()
            .lines()
            .any(|one| same_members(one, line.must())),
        "{here}\n{list}{line}"
    );
    let installed = node.run(&["sh", "-c", "command -v userdbctl"]).succeeded();
    assert_eq!(installed, userdbd != Userdbd::Removed);
}

/// How often a login is a member of a group in the whole of `getent group`, however many lines the group has there.
#[track_caller]
fn times_in_list(node: &Machine, group: &str, login: &str) -> usize {
    let list = node.run(&["getent", "group"]);
    let begin = format!("{group}:");
    list.must()
        .lines()
        .filter(|line| line.starts_with(&begin))
        .flat_map(|line| line.rsplit(':').next().unwrap_or_default().split(','))
        .filter(|member| *member == login)
        .count()
}

/// Whether two lines of a group database say the same, in whatever order of members.
fn same_members(one: &str, other: &str) -> bool {
    let parts = |line: &str| {
        let (head, members) = line.rsplit_once(':').unwrap_or_default();
        let mut members: Vec<String> = members.split(',').map(str::to_owned).collect();
        members.sort();
        (head.to_owned(), members)
    };
    parts(one) == parts(other)
}

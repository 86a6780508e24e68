//! Who is in a group: a few at once, and how many are met one by one.
//! What is said of them, and at which pace, is decided in `memberships`.

use std::ops::ControlFlow;

use account_table::{Account, Lookup, MembershipRef, Table};

/// Bytes that a query for the members of a small group adds to its answer at once, about: less than is sent in one piece.
const AT_ONCE: usize = 8 << 10;
/// Bytes of JSON around two names.
const AROUND: usize = 64;

/// The members of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// All of them.
    Few(Logins),
    /// There are more in the group with this GID than are said at once. The table lists members in one go only, which takes too long
    /// for others to wait for, and a list of them that is kept until its reader has taken it takes memory for each reader: so
    /// they have to be met among all users.
    Many(u32),
}

/// Logins, each ended by a NUL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Logins(String);

impl Logins {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\0')
    }
}

/// The members of the group called so, in as many looks as are soon over.
pub(super) fn of(table: &Table, group: &str) -> Lookup<Members> {
    let found = match table.group_by_name(group.as_bytes()) {
        Lookup::Found(found) => found,
        Lookup::Absent => return Lookup::Absent,
        Lookup::Busy => return Lookup::Busy,
    };
    let mut logins = Logins::default();
    let mut room = Some(AT_ONCE);
    let listed = table.members(&found, |account| {
        let login = account.login();
        room = room.and_then(|room| room.checked_sub(login.len() + group.len() + AROUND));
        if room.is_none() {
            return ControlFlow::Break(());
        }
        logins.0.push_str(login);
        logins.0.push('\0');
        ControlFlow::Continue(())
    });
    match listed {
        Lookup::Found(()) if room.is_none() => Lookup::Found(Members::Many(found.gid())),
        Lookup::Found(()) => Lookup::Found(Members::Few(logins)),
        // It has vanished meanwhile, or vanished and come back: ask anew.
        Lookup::Absent | Lookup::Busy => Lookup::Busy,
    }
}

/// Whether the account is in the group with this name and GID. What has led there a moment ago is `known`, and not looked up again.
pub(super) fn is_one(
    table: &Table,
    account: &Account,
    (group, gid): (&str, u32),
    known: &mut Option<MembershipRef>,
) -> Lookup<()> {
    for membership in account.groups().filter(|one| one.gid == gid) {
        if *known == Some(membership) {
            return Lookup::Found(());
        }
        match table.group_of(&membership) {
            Lookup::Found(found) if found.name() == group => {
                *known = Some(membership);
                return Lookup::Found(());
            }
            // Another one with that GID, or it has lost its last member since the account was read.
            Lookup::Found(_) | Lookup::Absent => {}
            Lookup::Busy => return Lookup::Busy,
        }
    }
    Lookup::Absent
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    use account_table::{AccountSpec, GroupOrigin, GroupSpec, Trust, Writer};

    use super::*;

    const GID: u32 = 3000;
    const FEW: u32 = 20;

    /// A table in which [`FEW`] users are in "few", and so many in "many".
    fn with_table(name: &str, many: u32, look: impl FnOnce(&Table)) {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let trust = Trust::Owner(nix::unistd::geteuid().as_raw());
        let mut writer = Writer::open(&path, trust).unwrap();
        let group = |name: &str, gid| GroupSpec {
            name: name.into(),
            gid,
            origin: GroupOrigin::Synthesized,
        };
        for number in 0..many {
            let mut groups = vec![group("many", GID)];
            if number < FEW {
                groups.push(group("few", GID + 1));
            }
            writer
                .publish(&AccountSpec {
                    login: format!("user{number}"),
                    uid: 100_000 + number,
                    gid: 100_000 + number,
                    home: "/".into(),
                    shell: "/bin/sh".into(),
                    groups,
                    ..AccountSpec::default()
                })
                .unwrap();
        }
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        look(&Table::open(&name, trust).unwrap());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_few_are_listed_and_many_are_not() {
        with_table("members", 4000, |table| {
            let Lookup::Found(Members::Few(few)) = of(table, "few") else {
                panic!("few");
            };
            let mut few: Vec<&str> = few.iter().collect();
            few.sort_unstable();
            few.dedup();
            assert_eq!(few.len(), FEW as usize);
            assert_eq!(of(table, "many"), Lookup::Found(Members::Many(GID)));
            assert_eq!(of(table, "none"), Lookup::Absent);
        });
    }

    #[test]
    fn who_is_one_is_in_the_group_of_that_name_and_gid() {
        with_table("member", FEW, |table| {
            let Lookup::Found(account) = table.user_by_name(b"user0") else {
                panic!("user0");
            };
            let is_one = |group, gid| is_one(table, &account, (group, gid), &mut None);
            assert_eq!(is_one("few", GID + 1), Lookup::Found(()));
            assert_eq!(is_one("many", GID), Lookup::Found(()));
            assert_eq!(is_one("many", GID + 1), Lookup::Absent);
            assert_eq!(is_one("other", GID), Lookup::Absent);
        });
    }
}

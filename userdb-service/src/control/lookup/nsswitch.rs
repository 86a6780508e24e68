//! `/etc/nsswitch.conf`: which services answer for users and for groups.
//! Parsing only; nobody is asked from here. The worker and the command line share it; the NSS module, which may not allocate, has one of
//! its own that only says whether a service is listed.

/// Where it is.
pub(crate) const NSSWITCH: &str = "/etc/nsswitch.conf";

/// The services to ask, in order, for each of the databases that concern us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Services {
    pub(crate) passwd: Vec<String>,
    pub(crate) group: Vec<String>,
    /// Who is asked for the groups of a user; without such a line those of `group` are.
    pub(crate) initgroups: Option<Vec<String>>,
    /// Who knows netgroups; glibc's own, without such a line.
    pub(crate) netgroup: Vec<String>,
}

impl Services {
    /// Who may know a name as a member: whom glibc asks at a login, and those that list groups to others.
    pub(crate) fn of_members(&self) -> Vec<String> {
        let mut services = self.group.clone();
        for service in self.initgroups.iter().flatten() {
            if !services.contains(service) {
                services.push(service.clone());
            }
        }
        services
    }
}

/// Reads the services as glibc does: a later line for a database replaces an earlier one, a missing
/// line or file means `files`, actions in brackets are not services.
pub(crate) fn parse(text: &str) -> Services {
    let mut services = Services {
        passwd: vec!["files".to_owned()],
        group: vec!["files".to_owned()],
        initgroups: None,
        netgroup: vec!["nis".to_owned(), "files".to_owned()],
    };
    for (database, rest) in lines(text) {
        let list = match database {
            "passwd" => &mut services.passwd,
            "group" => &mut services.group,
            "netgroup" => &mut services.netgroup,
            "initgroups" => services.initgroups.get_or_insert_default(),
            _ => continue,
        };
        *list = names(entries(rest));
    }
    services
}

/// The databases of ours whose line names us and returns, for a name that is not found, before it asks us. Of groups of a
/// user, `systemd` asks us, too.
pub(crate) fn returning(text: &str) -> Vec<String> {
    let us = |database| match database {
        "passwd" | "group" => Some(&["teleport"][..]),
        "initgroups" => Some(&["teleport", "systemd"][..]),
        _ => None,
    };
    let mut returning = Vec::new();
    for (database, rest) in lines(text) {
        let Some(us) = us(database) else {
            continue;
        };
        let is_us = |entry: &Entry| us.contains(&entry.service.as_str());
        let entries = entries(rest);
        let before = entries.iter().take_while(|entry| !is_us(entry));
        let returns = entries.iter().any(is_us) && before.into_iter().any(|entry| entry.returns);
        returning.retain(|known| known != database);
        returning.extend(returns.then(|| database.to_owned()));
    }
    returning
}

/// Each line's database, and what stands behind it.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.trim_start_matches(is_space)
            .split_once(|c: char| c == ':' || is_space(c))
    })
}

/// White space in the sense of C, which is what glibc splits by.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

/// A service on a line.
struct Entry {
    service: String,
    /// Whether nobody behind it is asked for what it does not know.
    returns: bool,
}

fn entries(mut rest: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_space);
        if let Some(actions) = rest.strip_prefix('[') {
            let Some((actions, after)) = actions.split_once(']') else {
                return entries;
            };
            if let Some(entry) = entries.last_mut() {
                entry.returns = on_not_found(actions).unwrap_or(entry.returns);
            }
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return entries;
        }
        let end = rest
            .find(|c: char| c == '[' || is_space(c))
            .unwrap_or(rest.len());
        entries.push(Entry {
            service: rest[..end].to_owned(),
            returns: false,
        });
        rest = &rest[end..];
    }
}

/// Whether actions such as `!UNAVAIL=return` return for a name that is not found; `None` where they say nothing of it.
fn on_not_found(actions: &str) -> Option<bool> {
    let spaced = actions.replace('=', " = ");
    let words: Vec<&str> = spaced
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    let mut returns = None;
    for action in words.chunks(3) {
        let [status, "=", then] = action else {
            return returns;
        };
        let (status, all_others) = match status.strip_prefix('!') {
            Some(status) => (status, true),
            None => (*status, false),
        };
        if status.eq_ignore_ascii_case("notfound") != all_others {
            returns = Some(then.eq_ignore_ascii_case("return"));
        }
    }
    returns
}

fn names(entries: Vec<Entry>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for Entry { service, .. } in entries {
        if !names.contains(&service) {
            names.push(service);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwd(text: &str) -> Vec<String> {
        parse(text).passwd
    }

    #[test]
    fn services_are_read_in_order_for_each_database() {
        let read = parse(
            "# a comment\npasswd:  files teleport systemd\ngroup:\tfiles sss # x\nhosts: dns\n",
        );
        assert_eq!(read.passwd, ["files", "teleport", "systemd"]);
        assert_eq!(read.group, ["files", "sss"]);
    }

    #[test]
    fn members_are_asked_for_at_both_lines() {
        let read = parse("group: files teleport\ninitgroups: files sss\n");
        assert_eq!(read.of_members(), ["files", "teleport", "sss"]);
        assert_eq!(parse("group: files sss\n").of_members(), ["files", "sss"]);
    }

    #[test]
    fn without_a_file_or_a_line_the_services_are_those_of_glibc() {
        assert_eq!(passwd(""), ["files"]);
        assert_eq!(parse("passwd: sss\n").group, ["files"]);
    }

    #[test]
    fn the_services_of_netgroups_have_a_line_of_their_own() {
        assert_eq!(parse("netgroup: files sss\n").netgroup, ["files", "sss"]);
        assert_eq!(parse("group: sss\n").netgroup, ["nis", "files"]);
    }

    #[test]
    fn actions_are_not_services_even_without_a_space() {
        assert_eq!(
            passwd("passwd: files[SUCCESS=merge] teleport [NOTFOUND=return !UNAVAIL=continue]sss"),
            ["files", "teleport", "sss"]
        );
        assert_eq!(passwd("passwd: files [NOTFOUND=return"), ["files"]);
    }

    #[test]
    fn the_last_line_of_a_database_counts_and_a_service_is_asked_once() {
        assert_eq!(
            passwd("passwd: files\npasswd: sss files sss\n"),
            ["sss", "files"]
        );
    }

    #[test]
    fn what_is_white_space_is_what_c_takes_for_it() {
        assert_eq!(
            passwd("\x0bpasswd:\x0bfiles\x0bsss\x0c[NOTFOUND\x0b=\x0breturn]\u{a0}nis\n"),
            ["files", "sss", "\u{a0}nis"]
        );
        assert_eq!(
            returning("passwd:\x0bfiles\x0b[NOTFOUND\x0b=\x0breturn]\x0bteleport"),
            ["passwd"]
        );
    }

    #[test]
    fn a_database_whose_name_merely_begins_like_ours_is_another_one() {
        assert_eq!(passwd("passwd_compat: nis\n"), ["files"]);
    }

    #[test]
    fn a_line_that_returns_before_it_comes_to_us_is_known() {
        for line in [
            "passwd: files [NOTFOUND=return] teleport systemd",
            "passwd: files[ notfound = RETURN ]teleport",
            "passwd: files [!SUCCESS=return] teleport",
            "passwd: files [SUCCESS=continue !UNAVAIL=return] teleport",
            "passwd: files [UNAVAIL=return] sss [NOTFOUND=return] teleport",
            "passwd: teleport\npasswd: files [NOTFOUND=return] teleport",
        ] {
            assert_eq!(returning(line), ["passwd"], "{line}");
        }
        for line in [
            "passwd: files teleport [NOTFOUND=return] systemd",
            "passwd: files [!NOTFOUND=return] teleport",
            "passwd: files [UNAVAIL=return SUCCESS=continue] teleport",
            "passwd: files [!UNAVAIL=return NOTFOUND=continue] teleport",
            "passwd: files [NOTFOUND=return] systemd",
            "passwd: files [NOTFOUND=return] teleport\npasswd: files teleport",
            "#passwd: files [NOTFOUND=return] teleport",
            "hosts: files [NOTFOUND=return] teleport",
        ] {
            assert!(returning(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn the_groups_of_a_user_reach_us_by_systemd_too() {
        let reaches = |line: &str| returning(line).is_empty();
        assert!(reaches("initgroups: systemd [NOTFOUND=return] teleport"));
        assert!(!reaches("initgroups: files [NOTFOUND=return] systemd"));
        assert!(!reaches("group: systemd [NOTFOUND=return] teleport"));
    }
}

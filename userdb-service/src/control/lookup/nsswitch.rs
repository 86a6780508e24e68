//! `/etc/nsswitch.conf`: which services answer for users and for groups.
//! Parsing only; nobody is asked from here.

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
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_start();
        let Some((database, rest)) = line.split_once(|c: char| c == ':' || c.is_ascii_whitespace())
        else {
            continue;
        };
        let list = match database {
            "passwd" => &mut services.passwd,
            "group" => &mut services.group,
            "netgroup" => &mut services.netgroup,
            "initgroups" => services.initgroups.get_or_insert_default(),
            _ => continue,
        };
        *list = service_names(rest);
    }
    services
}

fn service_names(mut rest: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(action) = rest.strip_prefix('[') {
            match action.split_once(']') {
                Some((_, after)) => rest = after,
                None => return names,
            }
            continue;
        }
        if rest.is_empty() {
            return names;
        }
        let end = rest
            .find(|c: char| c == '[' || c.is_ascii_whitespace())
            .unwrap_or(rest.len());
        let name = &rest[..end];
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        rest = &rest[end..];
    }
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
    fn a_database_whose_name_merely_begins_like_ours_is_another_one() {
        assert_eq!(passwd("passwd_compat: nis\n"), ["files"]);
    }
}

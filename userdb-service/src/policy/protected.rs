//! Names that nobody may log in under and that no template may make a group of, although nobody has
//! them: names that give rights, or will, by being known to sudo, to a package or to systemd.
//! What really exists (users and groups of others) is asked elsewhere.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::config::{Config, GroupTemplate};
use super::decide::HostFacts;
use super::glob;

/// Words that sudoers reads as something else than a user: a line that begins with one is a syntax
/// error (found by trying what the grammar has, with sudo 1.9.13).
const SUDOERS_WORDS: &[&str] = &["sudoedit", "list", "sha224", "sha256", "sha384", "sha512"];

/// Users and groups that distributions, packages and systemd make and that carry rights or own data.
/// Patterns as in `names.protected`, separated by spaces.
const BUILT_IN: &[&str] = &[
    // Rights by name, in sudoers and polkit rules as shipped.
    "root sudo wheel admin toor operator nopasswdlogin",
    // Groups that own devices, logs or secrets.
    "adm disk shadow kmem mem staff tty utmp video render audio input cdrom dialout floppy tape lp",
    "lpadmin plugdev netdev bluetooth crontab ssh _ssh ssl-cert ssh_keys sgx users uucp fuse wireshark",
    "scanner src i2c gpio sasl tss keys",
    // Groups whose members can become root.
    "docker podman containerd lxd lxc incus incus-admin libvirt libvirt-* kvm qemu vboxusers",
    // Users of the system.
    "nobody nogroup nfsnobody daemon bin sys sync games man mail news proxy backup irc gnats ftp halt",
    "shutdown messagebus dbus polkitd sshd ntp chrony _chrony named bind rpc rpcuser statd sssd nslcd",
    "nscd unbound dnsmasq avahi postfix dovecot exim _apt tcpdump uuidd usbmux gdm sddm lightdm colord",
    // Users of services.
    "www-data apache httpd nginx haproxy squid tomcat postgres mysql mariadb mongodb redis memcache",
    "rabbitmq elasticsearch kafka zookeeper cassandra influxdb grafana prometheus jenkins git gitlab-*",
    "gitea nexus vault consul nomad etcd kubelet puppet salt zabbix nagios clamav ceph gluster",
    // Names that systemd makes by itself.
    "systemd-* foreign-* vu-* ns-* unknown-* greeter-* gdm-*",
];

/// The same list, names and patterns apart: each login is looked for in it several times.
static SORTED_OUT: LazyLock<BuiltIn> = LazyLock::new(|| {
    let listed = BUILT_IN.iter().flat_map(|line| line.split(' '));
    let (patterns, names): (Vec<_>, Vec<_>) = listed.partition(|entry| glob::is_pattern(entry));
    let names = names.into_iter().collect();
    BuiltIn { names, patterns }
});

struct BuiltIn {
    names: HashSet<&'static str>,
    patterns: Vec<&'static str>,
}

fn is_built_in(name: &str) -> bool {
    let BuiltIn { names, patterns } = &*SORTED_OUT;
    names.contains(name) || patterns.iter().any(|pattern| glob::matches(pattern, name))
}

/// Why a name is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection<'a> {
    /// `names.protected` matches.
    Configured(&'a str),
    /// The built-in list matches.
    BuiltIn,
    /// Begins with `teleport-`.
    Teleport,
    /// Named in sudoers or doas.conf.
    Sudoers,
    /// In a netgroup that is named in sudoers.
    Netgroup,
    /// A word of the sudoers grammar.
    SudoersWord,
}

/// What protects `name`. `names.allow` lifts all of it but the words of sudoers.
pub(crate) fn protection<'a>(
    config: &'a Config,
    host: &HostFacts,
    name: &str,
) -> Option<Protection<'a>> {
    if SUDOERS_WORDS.contains(&name) {
        return Some(Protection::SudoersWord);
    }
    if config.names.allow.iter().any(|allowed| allowed == name) {
        return None;
    }
    if name.starts_with("teleport-") {
        return Some(Protection::Teleport);
    }
    if let Some(pattern) = config
        .names
        .protected
        .iter()
        .find(|pattern| pattern.matches(name))
    {
        return Some(Protection::Configured(pattern.as_str()));
    }
    if in_sudoers(host, name) {
        return Some(Protection::Sudoers);
    }
    if host.in_netgroups.contains(name) {
        return Some(Protection::Netgroup);
    }
    is_built_in(name).then_some(Protection::BuiltIn)
}

/// Does sudoers name this number, as `#UID` or `%#GID`? Then it gives rights to whoever has it.
pub(crate) fn is_sudoers_id(host: &HostFacts, id: u32) -> bool {
    host.sudoers_ids.contains(&id)
}

/// Does sudoers name this user or group? sudo compares users without case; a leading % marks a group.
pub(crate) fn in_sudoers(host: &HostFacts, name: &str) -> bool {
    let is_named = |named: &String| named.trim_start_matches('%').eq_ignore_ascii_case(name);
    host.sudoers_names.iter().any(is_named)
}

/// Does a role grant or deny a group of this name, or may it, by a template? Then nobody logs in under
/// it, now or when the group has no member: the private group would be taken for the granted one, and
/// give what is denied. Not even `names.allow` lifts it.
pub(crate) fn is_role_group(config: &Config, name: &str) -> bool {
    if is_reserved_group(name) {
        return true;
    }
    config.roles.iter().any(|role| {
        role.groups
            .iter()
            .any(|group| may_stand_for(config, group, name))
            // A denial of many says nothing of a single name: with "*" nobody could log in.
            || role.deny_groups.iter().any(|denied| denied.as_str() == name)
    })
}

/// Can this entry of a role's `groups` come to mean the group `name`?
fn may_stand_for(config: &Config, group: &GroupTemplate, name: &str) -> bool {
    let (prefix, suffix) = match group {
        GroupTemplate::Literal(literal) => return literal.as_str() == name,
        GroupTemplate::Variable { prefix, suffix, .. } => (prefix, suffix),
    };
    let word = name
        .strip_prefix(prefix.as_str())
        .and_then(|rest| rest.strip_suffix(suffix.as_str()));
    let bare = prefix.is_empty() && suffix.is_empty();
    word.is_some_and(|word| !word.is_empty())
        && config.templated_groups.iter().any(|pattern| {
            // Where every name may be a group, no login can be told from one; who is first has it.
            let tells = pattern.as_str().contains(|c| !glob::is_wild(c));
            (tells || !bare) && pattern.matches(name)
        })
}

/// Is this a group of this project, or one by which Teleport tells the users it has made itself? Nobody
/// logs in under its name, and no variable puts anybody into it.
pub(crate) fn is_reserved_group(name: &str) -> bool {
    let ours = [MARKER, SUDO_GROUP, DOAS_GROUP];
    let teleports = ["teleport-system", "teleport-keep", "teleport-static"];
    ours.contains(&name) || teleports.contains(&name)
}

/// The group that marks all of our users. It grants nothing by itself. This project makes it itself, as it does the
/// next two; none of them is ever a login.
pub(crate) const MARKER: &str = "teleport-tmp";
/// See [`MARKER`].
pub(crate) const SUDO_GROUP: &str = "teleport-sudo";
/// See [`MARKER`].
pub(crate) const DOAS_GROUP: &str = "teleport-doas";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::config::Role;
    use crate::policy::glob::Glob;
    use crate::policy::names::GroupName;

    #[test]
    fn names_that_carry_rights_are_protected_and_ordinary_ones_are_not() {
        let (config, host) = (Config::default(), HostFacts::default());
        for name in [
            "sudo",
            "wheel",
            "admin",
            "root",
            "docker",
            "lxd",
            "systemd-network",
            "vu-x-1",
            "ns-1",
            "foreign-0",
            "unknown-7",
            "teleport-x",
            "teleport-tmp",
            "git",
            "_apt",
            "sudoedit",
        ] {
            assert!(protection(&config, &host, name).is_some(), "{name}");
        }
        for name in [
            "alice",
            "ubuntu",
            "ec2-user",
            "developer",
            "deploy",
            "a.b",
            "debian",
            "centos",
            "dev",
            "ops",
            "sudo1",
            "teleport",
            "test",
        ] {
            assert_eq!(protection(&config, &host, name), None, "{name}");
        }
    }

    #[test]
    fn sudoers_protects_what_it_names_whatever_the_case() {
        let config = Config::default();
        let host = HostFacts {
            sudoers_names: ["Carol", "%ops", "dave"].map(String::from).into(),
            ..HostFacts::default()
        };
        for name in ["carol", "ops", "dave"] {
            assert_eq!(
                protection(&config, &host, name),
                Some(Protection::Sudoers),
                "{name}"
            );
        }
        assert_eq!(protection(&config, &host, "erin"), None);
    }

    #[test]
    fn a_member_of_a_netgroup_in_sudoers_is_protected_and_others_are_not() {
        let mut config = Config::default();
        let host = HostFacts {
            in_netgroups: ["netta".to_owned()].into(),
            ..HostFacts::default()
        };
        let netgroup = Some(Protection::Netgroup);
        assert_eq!(protection(&config, &host, "netta"), netgroup);
        assert_eq!(protection(&config, &host, "nett"), None);
        config.names.allow = vec!["netta".to_owned()];
        assert_eq!(protection(&config, &host, "netta"), None);
    }

    #[test]
    fn allow_lifts_single_names() {
        let mut config = Config::default();
        config.names.protected = vec![Glob::new("svc-*")];
        config.names.allow = vec!["git".to_owned(), "svc-a".to_owned()];
        let host = HostFacts::default();
        assert_eq!(protection(&config, &host, "git"), None);
        assert_eq!(protection(&config, &host, "svc-a"), None);
        assert_eq!(
            protection(&config, &host, "svc-b"),
            Some(Protection::Configured("svc-*"))
        );
    }

    #[test]
    fn the_groups_of_roles_are_nobodys_login() {
        let mut config = Config::default();
        let mut role = Role::new(Glob::new("*"), "config.toml:1".to_owned());
        role.groups = vec![GroupTemplate::Literal(GroupName::try_from("ops").unwrap())];
        config.roles.push(role);
        assert!(is_role_group(&config, "ops"));
        assert!(!is_role_group(&config, "dev"));
    }

    #[test]
    fn what_a_template_may_come_to_name_and_what_is_denied_by_name_is_nobodys_login() {
        let mut config = Config::default();
        let mut role = Role::new(Glob::new("*"), "config.toml:1".to_owned());
        role.groups = [("", ""), ("grp-", "-x")]
            .map(|(prefix, suffix)| GroupTemplate::Variable {
                prefix: prefix.to_owned(),
                variable: "T".to_owned(),
                suffix: suffix.to_owned(),
            })
            .into();
        role.deny_groups = vec![Glob::new("adm"), Glob::new("web-*")];
        config.roles.push(role);
        config.templated_groups = vec![Glob::new("team-*")];
        for name in ["team-a", "adm"] {
            assert!(is_role_group(&config, name), "{name}");
        }
        // Outside the bounds, and denied by a pattern only.
        for name in ["grp-a-x", "web-a", "alice"] {
            assert!(!is_role_group(&config, name), "{name}");
        }
        // Unbounded, the template tells by what it is written with.
        config.templated_groups = vec![Glob::new("*")];
        assert!(is_role_group(&config, "grp-a-x"));
        for name in ["grp--x", "grp-a", "alice"] {
            assert!(!is_role_group(&config, name), "{name}");
        }
    }
}

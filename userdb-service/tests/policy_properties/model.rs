//! What a plan must be, worked out a second time in the most obvious way.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use userdb_service::policy::sudoers::{FULL, HEADER, file_name, render};
use userdb_service::policy::{LoginRequest, Plan};

use crate::case::{Case, RoleCase};
use crate::world::World;

/// Protected among the names that are generated, without anybody having them.
const PROTECTED: &[&str] = &[
    "root", "sudo", "docker", "sudoedit", "list", "sha224", "sha256", "sha384", "sha512",
];

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=31).contains(&bytes.len())
        && matches!(bytes[0], b'a'..=b'z' | b'_')
        && bytes
            .iter()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'))
        && bytes[bytes.len() - 1] != b'.'
}

fn glob(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['*', rest @ ..], _) => {
            glob(rest, text) || (!text.is_empty() && glob(pattern, &text[1..]))
        }
        (['?', rest @ ..], [_, text @ ..]) => glob(rest, text),
        ([want, rest @ ..], [have, text @ ..]) => want == have && glob(rest, text),
        _ => false,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    glob(
        &pattern.chars().collect::<Vec<_>>(),
        &text.chars().collect::<Vec<_>>(),
    )
}

/// The words a template entry of a role stands for.
fn spelled(case: &Case, group: &str) -> Option<Vec<String>> {
    let words = |text: &str| {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match group {
        "{{env.T}}" => Some(words(&case.t)),
        "team-{{env.U}}" => Some(
            words(&case.u)
                .iter()
                .map(|word| format!("team-{word}"))
                .collect(),
        ),
        _ => None,
    }
}

/// The names of the groups that the plan must have, no more and no less.
fn groups(
    case: &Case,
    world: &World,
    roles: &[&RoleCase],
    plan: &Plan,
    sudo: bool,
    doas: bool,
    powerless: bool,
) -> BTreeSet<String> {
    let mut groups = BTreeSet::new();
    let exists = |name: &str| case.groups.contains(&name);
    let live = |name: &str| world.occupancy.logins.contains_key(name);
    for group in roles.iter().flat_map(|role| &role.groups) {
        let Some(names) = spelled(case, group) else {
            groups.extend((exists(group) || !live(group)).then(|| (*group).to_owned()));
            continue;
        };
        for name in names.into_iter().filter(|name| {
            is_name(name) && case.templated.iter().any(|pattern| matches(pattern, name))
        }) {
            let somebodys = case.users.contains(&name.as_str())
                || case
                    .sudoers_names
                    .iter()
                    .any(|named| named.eq_ignore_ascii_case(&name));
            let reserved = name.starts_with("teleport-");
            let protected = PROTECTED.contains(&name.as_str()) || somebodys;
            if !reserved && (exists(&name) || !(protected || live(&name))) {
                groups.insert(name);
            }
        }
    }
    groups.extend(sudo.then(|| "teleport-sudo".to_owned()));
    groups.extend(doas.then(|| "teleport-doas".to_owned()));
    groups.retain(|name| {
        !roles
            .iter()
            .flat_map(|role| &role.deny)
            .any(|pattern| matches(pattern, name))
    });
    let in_sudoers = |name: &String| case.sudoers_names.iter().any(|named| named == name);
    groups.retain(|name| !(powerless && in_sudoers(name)));
    groups.remove(plan.login.as_str());
    groups.insert("teleport-tmp".to_owned());
    groups
}

/// Is this the plan for this login, and nothing but that?
pub fn check_plan(
    case: &Case,
    world: &World,
    request: &LoginRequest,
    plan: &Plan,
) -> Result<(), TestCaseError> {
    let (given, name) = (request.login.as_str(), plan.login.as_str());
    prop_assert!(is_name(name), "{:?} is not a name", name);
    let repaired = given != name;
    prop_assert!(!repaired || (case.repair && !is_name(given)));
    let aliases: Vec<&str> = plan.aliases.iter().map(AsRef::as_ref).collect();
    prop_assert_eq!(aliases, if repaired { vec![given] } else { vec![] });
    prop_assert!(
        !given.contains(|c: char| c.is_control() || c.is_whitespace() || ":/\\\"'`".contains(c))
    );

    // The name is nobody's.
    for taken in [given, name] {
        prop_assert!(
            !case.members.contains(&taken),
            "{:?} is in a group of somebody's",
            taken
        );
        prop_assert!(
            !case.users.contains(&taken) && !case.groups.contains(&taken),
            "{:?} is somebody's",
            taken
        );
        prop_assert!(
            !case
                .sudoers_names
                .iter()
                .any(|named| named.eq_ignore_ascii_case(taken))
        );
    }
    prop_assert!(!PROTECTED.contains(&name) && !name.starts_with("teleport-"));
    prop_assert!(
        !case
            .roles
            .iter()
            .any(|role| role.groups.contains(&name) || role.deny.contains(&name))
    );
    let templated = |pattern: &str| case.templated.contains(&pattern);
    for role in &case.roles {
        let is_team = name.len() > 5 && name.starts_with("team-");
        let by_u = is_team && (templated("*") || templated("team-*"));
        let by_t = (is_team && templated("team-*")) || (templated(name) && name != "*");
        prop_assert!(
            !(role.groups.contains(&"team-{{env.U}}") && by_u),
            "{}",
            name
        );
        prop_assert!(!(role.groups.contains(&"{{env.T}}") && by_t), "{}", name);
    }
    for barred in [70_014, 70_015] {
        prop_assert!(![plan.uid.get(), plan.gid.get()].contains(&barred));
        prop_assert!(plan.groups.iter().all(|group| group.gid != barred));
    }
    for (dot, _) in name.match_indices('.') {
        prop_assert!(
            !case.users.contains(&&name[..dot]),
            "{:?} reads as user.group",
            name
        );
    }

    // The roles let it be made.
    let text = case.words.join(" ");
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let roles: Vec<&RoleCase> = case
        .roles
        .iter()
        .filter(|role| words.iter().any(|word| matches(role.pattern, word)))
        .collect();
    prop_assert!(
        roles.iter().any(|role| role.create == Some(true))
            && roles.iter().all(|role| role.create != Some(false))
    );

    // The number is free and in its range.
    let uid = plan.uid.get();
    let range = if case.small_range {
        70_000..=70_015
    } else {
        0x7000_0000..=0x7FFD_FFFF
    };
    prop_assert!(range.contains(&uid), "UID {}", uid);
    prop_assert_eq!(uid, plan.gid.get());
    let taken = |id: u32| {
        id == 70_001
            || (70_012..=70_013).contains(&id)
            || world.users.iter().any(|user| user.uid == id)
            || world.groups.iter().any(|group| group.gid == id)
    };
    prop_assert!(!taken(uid), "UID {} is taken", uid);
    prop_assert!(
        world
            .occupancy
            .uids
            .get(&plan.uid)
            .is_none_or(|owner| owner.as_str() == given)
    );
    prop_assert!(world.occupancy.gids.keys().all(|gid| gid.get() != uid));

    // The rights are the configured ones.
    let powerless = repaired && !case.repaired_may_sudo;
    let configured: BTreeSet<&str> = roles
        .iter()
        .flat_map(|role| {
            role.sudo
                .then_some(FULL)
                .into_iter()
                .chain(role.specs.iter().copied())
        })
        .collect();
    let full = configured.contains(FULL) && case.group_mode && !powerless;
    let doas = roles.iter().any(|role| role.doas) && !powerless;
    let specs: BTreeSet<&str> = configured
        .into_iter()
        .filter(|spec| !(powerless || case.group_mode && *spec == FULL))
        .collect();
    prop_assert_eq!(
        plan.sudoers
            .iter()
            .map(AsRef::as_ref)
            .collect::<BTreeSet<&str>>(),
        specs.clone()
    );
    prop_assert_eq!(plan.sudoers.len(), specs.len());
    let have: BTreeSet<String> = plan
        .groups
        .iter()
        .map(|group| group.name.to_string())
        .collect();
    let mut want = groups(case, world, &roles, plan, full, doas, powerless);
    // In a tiny range there may be no number left for a group of our own; that is noted, and only that may lack.
    if case.small_range {
        want.retain(|name| {
            have.contains(name)
                || !plan
                    .notes
                    .iter()
                    .any(|note| note.contains(&format!("in {name}: no GID")))
        });
    }
    prop_assert_eq!(&have, &want);
    prop_assert_eq!(plan.doas, have.contains("teleport-doas"));
    for group in &plan.groups {
        let existing = world
            .groups
            .iter()
            .find(|existing| existing.name == group.name.as_str());
        match existing {
            Some(existing) => prop_assert_eq!(existing.gid, group.gid),
            None => prop_assert!(
                range.contains(&group.gid) && !taken(group.gid) && group.gid != uid,
                "GID {}",
                group.gid
            ),
        }
    }
    prop_assert!(
        plan.gecos.len() <= 255 && !plan.gecos.contains(|c: char| c == ':' || c.is_control())
    );
    prop_assert!(
        plan.notes
            .iter()
            .all(|note| !note.contains(char::is_control))
    );

    // The file says that and nothing else.
    let file = render(&plan.login, &plan.sudoers);
    let mut lines = file.split_inclusive('\n');
    prop_assert_eq!(
        lines.next().and_then(|line| line.strip_suffix('\n')),
        Some(HEADER)
    );
    for (line, spec) in lines.by_ref().zip(&plan.sudoers) {
        prop_assert_eq!(line, format!("{name} {}\n", spec.as_str()));
    }
    prop_assert_eq!(lines.next(), None);
    let file = file_name(&plan.login);
    prop_assert!(
        file.starts_with("teleport-") && !file.contains(['.', '~', '/']) && file.len() <= 255
    );
    Ok(())
}

/// Do these users, on one node at the same time, keep apart?
pub fn check_together(plans: &[Box<Plan>]) -> Result<(), TestCaseError> {
    for (count, one) in plans.iter().enumerate() {
        for other in &plans[count + 1..] {
            if one.given == other.given {
                prop_assert_eq!((&one.login, one.uid), (&other.login, other.uid));
                continue;
            }
            prop_assert_ne!(one.uid, other.uid);
            prop_assert_ne!(file_name(&one.login), file_name(&other.login));
            let names = |plan: &Plan| -> BTreeSet<String> {
                plan.aliases
                    .iter()
                    .map(ToString::to_string)
                    .chain([plan.login.to_string()])
                    .collect()
            };
            prop_assert!(
                names(one).is_disjoint(&names(other)),
                "{:?} and {:?} share a name",
                one.given,
                other.given
            );
        }
    }
    Ok(())
}

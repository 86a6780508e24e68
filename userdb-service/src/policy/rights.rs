//! What a login is granted: memberships, lines in sudoers, doas. A right that cannot be given is
//! left out and noted; it never refuses the login.

use std::collections::HashSet;

use super::allocate::Allocator;
use super::config::GroupTemplate;
use super::decide::{LoginRequest, Refusal};
use super::names::{GroupName, Login};
use super::plan::{GrantedGroup, GroupOrigin, SudoMode};
use super::protected::{
    DOAS_GROUP, MARKER, SUDO_GROUP, in_sudoers, is_reserved_group, is_sudoers_id, protection,
};
use super::quoting::quoted;
use super::roles::Matching;
use super::sentences;
use super::shortfalls;
use super::sudoers::SudoersSpec;
use super::trace::Trace;

/// Most memberships of one login: an account is published in a record of fixed size.
pub(crate) const MAX_GROUPS: usize = 96;

/// Most words of one variable that are looked at.
const MAX_WORDS: usize = 128;

/// Most notes about groups of one login: of ten roles with a variable each there would be more than an answer holds.
const MAX_NOTES: usize = 64;

/// What the roles of one login come to.
#[derive(Default)]
pub(crate) struct Rights {
    pub(crate) groups: Vec<GrantedGroup>,
    pub(crate) sudoers: Vec<SudoersSpec>,
    pub(crate) doas: bool,
}

/// One wanted membership and where the wish comes from.
struct Wish {
    name: GroupName,
    from: Source,
}

#[derive(Clone, PartialEq)]
enum Source {
    /// We make it ourselves: the marker, sudo, doas.
    Own,
    /// Named in the configuration.
    Literal,
    /// Named by a variable of the PAM environment.
    Variable(String),
}

/// Works out the rights. `repaired` logins are kept from sudo and doas unless the configuration says
/// otherwise.
pub(crate) fn rights(
    allocator: &mut Allocator<'_, '_>,
    request: &LoginRequest,
    login: &Login,
    matching: &Matching<'_>,
    repaired: bool,
    notes: &mut Vec<String>,
    trace: &mut Trace,
) -> Result<Rights, Refusal> {
    let mut rights = Rights {
        sudoers: matching.specs(),
        doas: matching.doas(),
        groups: Vec::new(),
    };
    let powerless = repaired && !allocator.config.names.repaired_may_sudo;
    if powerless && (rights.doas || !rights.sudoers.is_empty()) {
        notes.push(shortfalls::repaired_without_sudo(&request.login, login));
        (rights.sudoers, rights.doas) = (Vec::new(), false);
    }

    notes.extend(matching.without_sudo().map(shortfalls::sudo_withheld));
    // Not a note: the person could do nothing about it, at every login.
    for spec in rights
        .sudoers
        .iter()
        .filter(|spec| spec.asks_for_password())
    {
        trace.say("sudoers", || {
            format!(
                "{} is of no use: it asks for a password, and the login has none; write NOPASSWD: before the commands",
                quoted(spec.as_str())
            )
        });
    }

    let mut left_out = Vec::new();
    let mut wishes = vec![own(MARKER)?];
    if allocator.config.sudo.mode == SudoMode::Group
        && rights.sudoers.iter().any(SudoersSpec::is_full)
    {
        rights.sudoers.retain(|spec| !spec.is_full());
        wishes.push(own(SUDO_GROUP)?);
    }
    if rights.doas {
        wishes.push(own(DOAS_GROUP)?);
    }
    let mut no_wishes = Vec::new();
    wish_for(allocator, request, matching, &mut wishes, &mut no_wishes);

    for wish in wishes {
        let name = wish.name.clone();
        let denied = matching
            .denies(name.as_str())
            .filter(|_| name.as_str() != MARKER);
        if let Some(pattern) = denied {
            trace.say("deny-groups", || {
                format!("{name} is denied by {}", quoted(pattern))
            });
            // Denied by the administrator: nothing to tell the user, except for a right of its own kind.
            if wish.from == Source::Own {
                notes.push(shortfalls::own_group_denied(&name, pattern));
            }
        } else if powerless && in_sudoers(&allocator.facts.host, name.as_str()) {
            // A group such as `sudo` gives what `sudo = true` gives.
            left_out.push(shortfalls::repaired_without_group(
                &request.login,
                login,
                &name,
            ));
        } else if rights.groups.len() == MAX_GROUPS {
            left_out.push(shortfalls::too_many_groups(&name, MAX_GROUPS));
        } else if name.as_str() != login.as_str() {
            match membership(allocator, &wish) {
                Ok(group) if powerless && is_sudoers_id(&allocator.facts.host, group.gid) => {
                    left_out.push(shortfalls::repaired_without_group(
                        &request.login,
                        login,
                        &name,
                    ));
                }
                Ok(group) => {
                    trace.say("groups", || {
                        format!(
                            "member of {name}, GID {} ({})",
                            group.gid,
                            origin(group.origin)
                        )
                    });
                    rights.groups.push(group);
                }
                Err(note) => left_out.push(note),
            }
        }
    }
    left_out.append(&mut no_wishes);
    notes.extend(first_of(left_out, trace));
    rights.doas &= rights
        .groups
        .iter()
        .any(|group| group.name.as_str() == DOAS_GROUP);
    Ok(rights)
}

/// Each of these notes once, and no more of them than somebody reads: they are told at the login, and kept with the session.
fn first_of(mut notes: Vec<String>, trace: &mut Trace) -> Vec<String> {
    let mut seen = HashSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    if notes.len() > MAX_NOTES {
        let others = notes.split_off(MAX_NOTES);
        notes.push(shortfalls::more_about_groups(others.len()));
        for note in others {
            trace.say("groups", || note);
        }
    }
    notes
}

fn own(name: &str) -> Result<Wish, Refusal> {
    let name = GroupName::try_from(name).map_err(|why| sentences::internal(&why.to_string()))?;
    Ok(Wish {
        name,
        from: Source::Own,
    })
}

fn origin(origin: GroupOrigin) -> &'static str {
    match origin {
        GroupOrigin::Synthesized => "made for its members",
        GroupOrigin::ForeignFiles => "exists in /etc/group",
        GroupOrigin::Foreign => "exists elsewhere",
    }
}

/// The groups that roles name, each once, what is written out before what comes by a variable.
fn wish_for(
    allocator: &Allocator<'_, '_>,
    request: &LoginRequest,
    matching: &Matching<'_>,
    wishes: &mut Vec<Wish>,
    notes: &mut Vec<String>,
) {
    let mut wish = |name: GroupName, from: Source| {
        if !wishes.iter().any(|wish| wish.name == name) {
            wishes.push(Wish { name, from });
        }
    };
    for group in matching.groups() {
        if let GroupTemplate::Literal(name) = group {
            wish(name.clone(), Source::Literal);
        }
    }
    for group in matching.groups() {
        let GroupTemplate::Variable {
            prefix,
            variable,
            suffix,
        } = group
        else {
            continue;
        };
        if request.undecodable.contains(variable) {
            notes.push(shortfalls::undecodable_template(variable));
        }
        // An absent variable means a trait the user does not have: no group.
        let words = request
            .environment
            .get(variable)
            .map(String::as_str)
            .unwrap_or_default();
        for (count, word) in words.split(' ').filter(|word| !word.is_empty()).enumerate() {
            // What is asked, noted and published for one login stays bounded, whatever its traits hold.
            if count == MAX_WORDS {
                notes.push(shortfalls::too_many_words(variable, MAX_WORDS));
                break;
            }
            let spelled = format!("{prefix}{word}{suffix}");
            match GroupName::try_from(spelled.as_str()) {
                Err(why) => notes.push(shortfalls::invalid_group(variable, &spelled, why)),
                // They mean rights that roles give otherwise, or that a user is Teleport's to remove.
                Ok(name) if is_reserved_group(name.as_str()) => {
                    notes.push(shortfalls::reserved_group(variable, &name));
                }
                Ok(name)
                    if allocator
                        .config
                        .templated_groups
                        .iter()
                        .any(|pattern| pattern.matches(name.as_str())) =>
                {
                    wish(name, Source::Variable(variable.clone()));
                }
                Ok(name) => notes.push(shortfalls::group_not_templated(variable, &name)),
            }
        }
    }
}

/// May a variable not name this group, although it exists? `teleport-` groups are the node's and
/// Teleport's own, and say what somebody may do; only `names.allow` lets a trait give one.
fn is_beyond_templates(allocator: &Allocator<'_, '_>, wish: &Wish) -> bool {
    let name = wish.name.as_str();
    let allowed = allocator.config.names.allow.iter();
    matches!(wish.from, Source::Variable(_))
        && name.starts_with("teleport-")
        && !allowed.into_iter().any(|allowed| allowed == name)
}

/// Membership in one group: the existing one of that name, else one of our own.
fn membership(allocator: &mut Allocator<'_, '_>, wish: &Wish) -> Result<GrantedGroup, String> {
    let name = &wish.name;
    match allocator.desk.group(name.as_str()) {
        Err(failure) => {
            return Err(shortfalls::group_lookup_failed(
                name,
                failure.source,
                failure.why,
            ));
        }
        Ok(Some(found)) if found.gid == 0 => return Err(shortfalls::group_of_root(name)),
        Ok(Some(_)) if is_beyond_templates(allocator, wish) => {
            return Err(shortfalls::group_of_the_node(name));
        }
        Ok(Some(found)) => {
            let origin = if found.source == "files" {
                GroupOrigin::ForeignFiles
            } else {
                GroupOrigin::Foreign
            };
            return Ok(GrantedGroup {
                name: name.clone(),
                gid: found.gid,
                origin,
            });
        }
        Ok(None) => {}
    }
    if allocator.occupancy.logins.contains_key(name.as_str()) {
        return Err(shortfalls::group_is_a_login(name));
    }
    if let Source::Variable(variable) = &wish.from {
        if protection(allocator.config, &allocator.facts.host, name.as_str()).is_some() {
            return Err(shortfalls::protected_group(variable, name));
        }
        match allocator.desk.user(name.as_str()) {
            Err(failure) => {
                return Err(shortfalls::group_lookup_failed(
                    name,
                    failure.source,
                    failure.why,
                ));
            }
            Ok(Some(_)) => return Err(shortfalls::protected_group(variable, name)),
            Ok(None) => {}
        }
    }
    let gid = allocator
        .group(name)
        .ok_or_else(|| shortfalls::no_gid(name))?;
    Ok(GrantedGroup {
        name: name.clone(),
        gid,
        origin: GroupOrigin::Synthesized,
    })
}

//! The steps of the decision, in the order in which they may end it. Each rule stands in its own
//! room; here is only which comes first, and what they make together.

use super::allocate::Allocator;
use super::config::{Config, DEFAULT_SHELL, EPHEMERAL_BASE, HomeMode, InvalidNames};
use super::decide::{Decision, Facts, LoginPhase, LoginRequest, Occupancy, Occupant, Refusal};
use super::desk::Desk;
use super::names::{Alias, Login, MAX_GIVEN, check_given};
use super::plan::{Grants, Home, Plan, SharedLogins};
use super::protected::{is_role_group, protection};
use super::quoting::quoted;
use super::repair::repair;
use super::rights::rights;
use super::trace::Trace;
use super::{request as environment, roles, sentences, shortfalls};
use crate::invisible::is_invisible;

/// Longest comment field, in bytes.
const MAX_GECOS: usize = 255;

/// Decides. See [`super::decide::decide`].
pub(crate) fn evaluate(
    config: &Config,
    request: &LoginRequest,
    facts: &Facts,
    occupancy: &Occupancy,
    trace: &mut Trace,
) -> Decision {
    let mut desk = Desk::new(facts, occupancy);
    let outcome = steps(config, request, facts, occupancy, &mut desk, trace);
    let questions = desk.into_questions();
    if !questions.is_empty() {
        return Decision::Ask(questions);
    }
    match outcome {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn steps<'a>(
    config: &'a Config,
    request: &LoginRequest,
    facts: &'a Facts,
    occupancy: &'a Occupancy,
    desk: &mut Desk<'a>,
    trace: &mut Trace,
) -> Result<Decision, Refusal> {
    if !config.pam_services.contains(&request.service) {
        trace.say("pam-services", || {
            format!("{} is not one of ours", quoted(&request.service))
        });
        return Ok(Decision::NotOurs);
    }
    if !environment::is_by_teleport(request) {
        trace.say("TELEPORT_LOGIN", || {
            "is not set: this is not a login by Teleport".to_owned()
        });
        return Ok(Decision::NotOurs);
    }
    environment::same_login(request)?;

    // Before anything is refused: a user of somebody else goes on, whatever our rules are.
    let given = request.login.as_str();
    let can_exist = !given.is_empty() && given.len() <= MAX_GIVEN && !given.contains(is_invisible);
    if can_exist && let Some(user) = desk.user(given)? {
        trace.say("login exists elsewhere", || {
            format!(
                "{} is UID {} of {}",
                quoted(given),
                user.uid,
                quoted(&user.source)
            )
        });
        return Ok(Decision::Foreign);
    }

    if !config.auto_create_users {
        return Err(sentences::switched_off());
    }
    let teleport_user = environment::teleport_user(request)?;
    let words = environment::roles(request)?;
    let matching = roles::matching(config, &words, trace);
    matching.may_create(&words)?;

    let login = login_of(config, given, trace)?;
    if let Some(failure) = &facts.host.failure {
        return Err(sentences::lookup_failed(&failure.source, &failure.why));
    }
    let repaired = login.as_str() != given;
    is_free_name(config, facts, occupancy, desk, given, &login)?;
    if let Some(other) = occupancy.logins.get(&login)
        && other.given != given
        && !other.is_ending()
    {
        return Err(sentences::other_spelling(given, &login, &other.given));
    }
    let occupant = occupancy.on(&login, given);

    let mut notes = Vec::new();
    let mut allocator = Allocator {
        config,
        facts,
        occupancy,
        desk,
        chosen: Default::default(),
    };
    let (uid, gid) = allocator.user(request, &login, &mut notes, trace)?;
    let rights = rights(
        &mut allocator,
        request,
        &login,
        &matching,
        repaired,
        &mut notes,
        trace,
    )?;
    let home = home(
        config,
        facts,
        &login,
        uid.get(),
        matching.home(),
        &mut notes,
    );

    let plan = Plan {
        given: given.to_owned(),
        aliases: if repaired {
            Alias::try_from(given).into_iter().collect()
        } else {
            Vec::new()
        },
        uid,
        gid,
        teleport_user: teleport_user.to_owned(),
        roles: words.iter().map(|word| (*word).to_owned()).collect(),
        gecos: gecos(&config.gecos, teleport_user, &words, &login),
        home,
        shell: matching.shell().unwrap_or(DEFAULT_SHELL).to_owned(),
        groups: rights.groups,
        sudoers: rights.sudoers,
        sudo_mode: config.sudo.mode,
        doas: rights.doas,
        linger: matching.linger(),
        max_sessions: matching.max_sessions(),
        resources: matching.resources(&mut notes),
        disposition: config.disposition,
        notes,
        login,
    };
    if let Some(occupant) = occupant {
        may_join(&plan, occupant)?;
    }
    Ok(Decision::Grant(Box::new(plan)))
}

/// The valid name that the given login is, or becomes.
fn login_of(config: &Config, given: &str, trace: &mut Trace) -> Result<Login, Refusal> {
    check_given(given).map_err(|why| sentences::invalid_login(given, why))?;
    if let Ok(login) = Login::try_from(given) {
        return Ok(login);
    }
    if config.names.invalid == InvalidNames::Refuse {
        return Err(sentences::invalid_login_refused(given));
    }
    let login = repair(given).map_err(|why| sentences::beyond_repair(given, why))?;
    trace.say("names.invalid", || {
        format!("{} becomes \"{login}\"", quoted(given))
    });
    Ok(login)
}

/// Nobody else has the name, and no right hangs on it.
fn is_free_name(
    config: &Config,
    facts: &Facts,
    occupancy: &Occupancy,
    desk: &mut Desk<'_>,
    given: &str,
    login: &Login,
) -> Result<(), Refusal> {
    let repaired = login.as_str() != given;
    if repaired && desk.user(login.as_str())?.is_some() {
        return Err(sentences::repaired_is_a_user(given, login));
    }
    if desk.group(login.as_str())?.is_some() || (repaired && desk.group(given)?.is_some()) {
        return Err(sentences::is_a_group(given, login));
    }
    let names = match repaired {
        true => &[given, login.as_str()][..],
        false => &[given],
    };
    // As for groups of that name, whatever `names.allow` says.
    for name in names {
        if let Some((gid, group)) = desk.group_with_member(name, login)? {
            return Err(sentences::is_a_member(name, gid, group));
        }
    }
    // Whatever `names.allow` says: sudo takes one for the other.
    for name in names {
        if let Some(twin) = facts.host.case_twins.get(*name) {
            return Err(sentences::differs_in_case(given, twin));
        }
    }
    if occupancy.groups.contains_key(login.as_str()) {
        return Err(sentences::is_our_group(login));
    }
    if is_role_group(config, login.as_str()) {
        return Err(sentences::is_a_role_group(login));
    }
    for name in names {
        if let Some(protection) = protection(config, &facts.host, name) {
            return Err(sentences::protected_name(name, protection));
        }
    }
    if !config
        .names
        .allow
        .iter()
        .any(|allowed| allowed == login.as_str())
    {
        for (dot, _) in login.as_str().match_indices('.') {
            let owner = &login.as_str()[..dot];
            if desk.user(owner)?.is_some() {
                return Err(sentences::reads_as_user_and_group(login, owner));
            }
        }
    }
    Ok(())
}

fn home(
    config: &Config,
    facts: &Facts,
    login: &Login,
    uid: u32,
    by_role: Option<HomeMode>,
    notes: &mut Vec<String>,
) -> Home {
    match by_role.unwrap_or(config.home.mode) {
        HomeMode::None => Home::None,
        HomeMode::Ephemeral => Home::Ephemeral {
            path: format!("{EPHEMERAL_BASE}/{login}"),
        },
        HomeMode::Persistent => {
            let path = format!("{}/{login}", config.home.base);
            match facts.host.homes.get(login.as_str()) {
                Some(owner) if *owner != uid => {
                    notes.push(shortfalls::home_is_not_ours(&path, *owner, uid));
                    Home::None
                }
                _ => Home::Persistent { path },
            }
        }
    }
}

/// Fills the template. What would end the field or the line, or act on a terminal, becomes `_`.
fn gecos(template: &str, user: &str, roles: &[&str], login: &Login) -> String {
    let mut gecos = String::new();
    let mut rest = template;
    while let Some((before, field)) = rest.split_once('{') {
        gecos.push_str(before);
        let (name, after) = field.split_once('}').unwrap_or((field, ""));
        match name {
            "user" => gecos.push_str(user),
            "roles" => gecos.push_str(&roles.join(" ")),
            "login" => gecos.push_str(login.as_str()),
            _ => {}
        }
        rest = after;
    }
    gecos.push_str(rest);
    // What is bad begins a new piece: as a rule there is one.
    let clean = gecos.split(|c| c == ':' || is_invisible(c));
    let mut gecos = clean.collect::<Vec<_>>().join("_");
    while gecos.len() > MAX_GECOS {
        gecos.pop();
    }
    gecos
}

/// May this session join those that are on the login already?
fn may_join(plan: &Plan, occupant: &Occupant) -> Result<(), Refusal> {
    if !matches!(occupant.phase, LoginPhase::Reserved | LoginPhase::Active) {
        return Ok(());
    }
    may_share(plan, occupant)?;
    match plan.max_sessions {
        Some(most) if occupant.sessions >= most => {
            Err(sentences::too_many_sessions(&plan.login, most))
        }
        _ => Ok(()),
    }
}

/// Do the other Teleport users on the login put up with this one's rights, and it with theirs?
pub(crate) fn may_share(plan: &Plan, occupant: &Occupant) -> Result<(), Refusal> {
    let mut others = occupant
        .teleport_users
        .iter()
        .filter(|(user, _)| **user != plan.teleport_user)
        .peekable();
    match occupant.shared {
        SharedLogins::Never if others.peek().is_some() => {
            return Err(sentences::login_in_use(&plan.login));
        }
        SharedLogins::Refuse => {
            let mine = occupant
                .teleport_users
                .get(&plan.teleport_user)
                .cloned()
                .unwrap_or_default();
            let mine: Grants = mine.union(&plan.grants());
            if others.any(|(_, theirs)| *theirs != mine) {
                return Err(sentences::rights_differ(&plan.login));
            }
        }
        SharedLogins::Never | SharedLogins::Intersect | SharedLogins::Union => {}
    }
    Ok(())
}

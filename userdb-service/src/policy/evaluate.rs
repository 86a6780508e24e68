//! The steps of the decision, in the order in which they may end it.
//! Each rule stands in its own room; here is only which comes first and what it passes on.

use super::config::Config;
use super::decide::{Answer, Decision, Facts, LoginRequest, Occupancy, Question, Reason, Refusal};
use super::ids::{Candidates, Gid, Uid};
use super::names::Login;
use super::plan::{Home, Plan, Resources};

/// Decides. See [`super::decide::decide`].
pub(crate) fn evaluate(
    config: &Config,
    request: &LoginRequest,
    facts: &Facts,
    occupancy: &Occupancy,
) -> Decision {
    let env = &request.environment;
    if !config.pam_services.contains(&request.service) || !env.contains_key("TELEPORT_LOGIN") {
        return Decision::NotOurs;
    }
    let question = Question::User(request.login.clone());
    match facts.answers.get(&question) {
        None => return Decision::Ask(vec![question]),
        Some(Answer::User(Some(_))) => return Decision::Foreign,
        Some(Answer::Failed { source, .. }) => {
            return refuse(
                Reason::LookupFailed,
                format!("The users of \"{source}\" could not be looked up; try again later."),
            );
        }
        Some(_) => {}
    }
    let roles: Vec<String> = env
        .get("TELEPORT_ROLES")
        .map_or("", String::as_str)
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    let matching: Vec<_> = config
        .roles
        .iter()
        .filter(|role| roles.iter().any(|word| role.pattern.matches(word)))
        .collect();
    if !config.auto_create_users
        || !matching.iter().any(|role| role.create_user == Some(true))
        || matching.iter().any(|role| role.create_user == Some(false))
    {
        return refuse(
            Reason::Policy,
            "No role of yours may create users on this node.".to_owned(),
        );
    }
    let Ok(login) = Login::try_from(request.login.as_str()) else {
        return refuse(
            Reason::InvalidName,
            "The login is not a valid name.".to_owned(),
        );
    };
    let ours = occupancy.logins.get(&login).map(|occupant| occupant.uid);
    let free = |id: &u32| {
        Uid::try_from(*id).is_ok_and(|uid| {
            occupancy
                .uids
                .get(&uid)
                .is_none_or(|owner| *owner == request.login)
        })
    };
    let hashed = Candidates::new(&config.uids.key, &request.login, &config.uids.range)
        .find(free)
        .and_then(|id| Uid::try_from(id).ok());
    let Some(uid) = ours.or(hashed) else {
        return refuse(Reason::Taken, "No UID is left.".to_owned());
    };
    Decision::Grant(Box::new(Plan {
        given: request.login.clone(),
        aliases: Vec::new(),
        uid,
        gid: Gid::from(uid),
        teleport_user: env.get("TELEPORT_USERNAME").cloned().unwrap_or_default(),
        roles,
        gecos: String::new(),
        home: Home::Ephemeral {
            path: format!("{}/{login}", super::config::EPHEMERAL_BASE),
        },
        shell: super::config::DEFAULT_SHELL.to_owned(),
        groups: Vec::new(),
        sudoers: Vec::new(),
        sudo_mode: config.sudo.mode,
        doas: false,
        linger: false,
        max_sessions: None,
        resources: Resources::default(),
        disposition: config.disposition,
        notes: Vec::new(),
        login,
    }))
}

fn refuse(reason: Reason, message: String) -> Decision {
    Decision::Refuse(Refusal { reason, message })
}

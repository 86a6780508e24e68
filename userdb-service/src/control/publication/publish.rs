//! From what the policy granted to what everybody may read: the account in the published table.
//!
//! All of it is public. Roles, addresses and session handles do not enter.

use account_table::{Account, AccountSpec, GroupOrigin, GroupSpec};

use crate::control::registry::Published;
use crate::policy::Plan;
use crate::policy::plan::{self, Disposition};

/// As many as a record has room for.
const MOST_VARIABLES: usize = u8::MAX as usize;

/// The account as the table takes it. Its retire delay becomes logind's stop delay, so that the user's
/// runtime directory outlives quick re-logins.
pub(in crate::control) fn account(published: &Published) -> AccountSpec {
    let plan = &published.plan;
    AccountSpec {
        login: plan.login.to_string(),
        aliases: plan.aliases.iter().map(ToString::to_string).collect(),
        uid: plan.uid.get(),
        gid: plan.gid.get(),
        gecos: plan.gecos.clone(),
        home: plan.home.path().to_owned(),
        shell: plan.shell.clone(),
        locked: false,
        since_usec: published.since_usec,
        sessions: published.sessions,
        stop_delay_usec: u64::try_from(published.retire_delay.as_micros()).unwrap_or(u64::MAX),
        disposition: match plan.disposition {
            Disposition::Dynamic => account_table::Disposition::Dynamic,
            Disposition::Regular => account_table::Disposition::Regular,
        },
        tasks_max: plan.resources.tasks_max,
        memory_max: plan.resources.memory_max,
        cpu_weight: plan.resources.cpu_weight,
        umask: plan.resources.umask,
        environment: environment(plan),
        groups: plan
            .groups
            .iter()
            .map(|group| GroupSpec {
                name: group.name.to_string(),
                gid: group.gid,
                origin: match group.origin {
                    plan::GroupOrigin::Synthesized => GroupOrigin::Synthesized,
                    plan::GroupOrigin::ForeignFiles => GroupOrigin::ForeignFiles,
                    plan::GroupOrigin::Foreign => GroupOrigin::Foreign,
                },
            })
            .collect(),
    }
}

/// Up to 257 systemd gives a user manager no HOME where the home is /. It would look for its user when it ends, who is gone by then, and
/// fail.
fn environment(plan: &Plan) -> Vec<String> {
    let mut environment = plan.resources.environment.clone();
    let has_home = plan.home.path() != "/" || environment.iter().any(|it| it.starts_with("HOME="));
    if !has_home && environment.len() < MOST_VARIABLES {
        environment.push("HOME=/".to_owned());
    }
    environment
}

/// What is published already, locked and without memberships: all that is known of a user whose sessions
/// cannot be read any more.
pub(in crate::control) fn locked(account: &Account) -> AccountSpec {
    AccountSpec {
        login: account.login().to_owned(),
        aliases: account.aliases().map(str::to_owned).collect(),
        uid: account.uid(),
        gid: account.gid(),
        gecos: account.gecos().to_owned(),
        home: account.home().to_owned(),
        shell: account.shell().to_owned(),
        locked: true,
        since_usec: account.since_usec(),
        sessions: 0,
        stop_delay_usec: account.stop_delay_usec(),
        disposition: account.disposition(),
        tasks_max: account.tasks_max(),
        memory_max: account.memory_max(),
        cpu_weight: account.cpu_weight(),
        umask: account.umask(),
        environment: account.environment().map(str::to_owned).collect(),
        groups: Vec::new(),
    }
}

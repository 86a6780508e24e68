//! What is right and what is wrong about a node, as sentences. Pure: it judges what [`super::node`] saw.

use serde::Serialize;

use super::node::{CLOCK_TOLERANCE, Node, Seen};
use super::reach;
use super::sandbox::View;
use super::sudo_findings;
use super::unit_findings;
use super::unit_word::unit_word;
use super::units::SESSIOND;
use super::written::Leaving;
use crate::control::lookup::nsswitch::NSSWITCH;
use crate::policy::config::EPHEMERAL_BASE;

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not as it should be; the sentence says what would be right.
    Wrong,
    /// Only root can tell.
    Unknown,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, in a word or two.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// A sentence.
    pub message: String,
    /// Nothing wrong, and something to know.
    pub note: bool,
}

impl Finding {
    pub(super) fn new(
        check: &'static str,
        verdict: Verdict,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            verdict,
            message: message.into(),
            note: false,
        }
    }

    fn of(check: &'static str, judged: Result<String, String>) -> Finding {
        match judged {
            Ok(message) => Finding::new(check, Verdict::Ok, message),
            Err(message) => Finding::new(check, Verdict::Wrong, message),
        }
    }

    fn note(check: &'static str, message: impl Into<String>) -> Finding {
        Finding {
            note: true,
            ..Finding::new(check, Verdict::Ok, message)
        }
    }
}

/// Judges everything.
pub fn judge(node: &Node) -> Vec<Finding> {
    const CONFIGURATION: &str = "Only root can read the configuration.";
    let order = |check, database, services: &[String]| {
        Some(order(check, database, services, returns(node, database)))
    };
    [
        seen(
            "configuration",
            &node.configuration,
            "It can be read only by root.",
            |()| Ok("The configuration is good.".to_owned()),
        ),
        node.held.and_then(|held| held.finding(&node.configuration)),
        seen("shells", &node.missing_shells, CONFIGURATION, |missing| {
            shells(missing)
        }),
        seen("home base", &node.home_base, CONFIGURATION, |base| {
            base.as_deref().map_or_else(
                || Ok("Nobody can have a persistent home.".to_owned()),
                |base| home_base(base, node.home_base_view),
            )
        }),
        order("nsswitch passwd", "passwd", &node.nsswitch_passwd),
        order("nsswitch group", "group", &node.nsswitch_group),
        Some(members(
            node.nsswitch_initgroups.as_deref(),
            returns(node, "initgroups"),
        )),
        Some(Finding::of("reach", reach::judge(&node.out_of_reach))),
        seen(
            "pam service",
            &node.pam,
            "It can be read only by root.",
            |services| {
                Ok(format!(
                    "pam_teleport.so is used in account and session of {}.",
                    services.join(", ")
                ))
            },
        ),
        seen("units", &node.units, "", |units| {
            unit_findings::all_as_needed(units, node)
        }),
        seen("lookup", &node.lookup, "Only root can ask.", |()| {
            Ok("Other providers can be asked about a login.".to_owned())
        }),
        seen("registry", &node.registry, "It answers root only.", |_| {
            Ok("teleport-sessiond answers.".to_owned())
        }),
        seen("userdb", &node.userdb, "", |_| {
            Ok("teleport-userdbd answers.".to_owned())
        }),
        seen("table", &node.table, "", |table| {
            Ok(format!(
                "The table of users is there and trusted, with {} users.",
                table.logins.len()
            ))
        }),
        seen(
            "sessions",
            &node.unmatched,
            "They can be compared with the users only by root.",
            |unmatched| sessions(unmatched, &node.lingering),
        ),
        seen(
            "sudoers",
            &node.unread_sudoers,
            "Only root can tell whether it is read.",
            |unread| sudo_findings::read(unread),
        ),
        seen(
            "sudoers files",
            &node.stale_sudoers,
            "Only root can read them.",
            |stale| sudo_findings::left_over(stale, node),
        ),
        sudo_findings::folder(node.sudoers_view),
        seen(
            "sudo reads them",
            &node.sudoers_ignored,
            "Only root can tell.",
            |ignored| sudo_findings::taken_up(*ignored),
        ),
        homes(node.homes_view),
        seen(
            "sudo rights",
            &node.without_sudoers,
            "Only root can see whose files are missing.",
            |without| sudo_findings::granted(without),
        ),
        seen(
            "old rights",
            &node.stuck_rights,
            "Only root can see them.",
            |stuck| sudo_findings::taken_away(stuck),
        ),
        seen(
            "leaving",
            &node.leaving,
            "Only root can see who is being ended.",
            |leaving| Ok(ends(leaving)),
        ),
        Some(programs(node)),
        Some(clock(node)),
    ]
    .into_iter()
    .flatten()
    .chain(notes(node))
    .collect()
}

/// What is not wrong, and what an administrator may not have thought of.
fn notes(node: &Node) -> Vec<Finding> {
    let no_users = node.no_users.known().and_then(Option::as_ref);
    let by_group = node.by_group.known().into_iter().flatten();
    no_users
        .map(|why| Finding::note("roles", why.sentence()))
        .into_iter()
        .chain(by_group.map(|by| Finding::note("rights by group", by.sentence())))
        .collect()
}

fn home_base(base: &str, view: View) -> Result<String, String> {
    match view {
        View::Writable | View::Unseen => Ok(format!("{base} is there for persistent homes.")),
        View::ReadOnly | View::ReadOnlyForAll => Err(format!(
            "teleport-sessiond has {base} read-only in its sandbox, so who is to have a persistent home goes without one; add it to ReadWritePaths= of {SESSIOND}, with a \"-\" before it: `systemctl edit {SESSIOND}`, [Service], ReadWritePaths={}, then `systemctl restart teleport-sessiond`.",
            unit_word(&format!("-{base}"))
        )),
        View::Absent => Err(format!(
            "teleport-sessiond does not see {base} in its sandbox, so who is to have a persistent home goes without one; `systemctl cat {SESSIOND}` shows what hides it (ProtectHome=, InaccessiblePaths=, TemporaryFileSystem=): take that away, then `systemctl restart teleport-sessiond`."
        )),
    }
}

/// Whether ephemeral homes can be made and written to; silent where they can.
fn homes(view: View) -> Option<Finding> {
    let message = match view {
        View::ReadOnlyForAll => format!(
            "{EPHEMERAL_BASE} is read-only, so who is to have an ephemeral home goes without one; `mount -o remount,rw {EPHEMERAL_BASE}` makes it writable."
        ),
        View::ReadOnly => format!(
            "teleport-sessiond has {EPHEMERAL_BASE} read-only in its sandbox, so who is to have an ephemeral home goes without one; `systemctl restart teleport-sessiond`, and where that does not help, `systemctl cat {SESSIOND}` shows what keeps it so (ReadOnlyPaths=)."
        ),
        View::Writable | View::Absent | View::Unseen => return None,
    };
    Some(Finding::new("homes", Verdict::Wrong, message))
}

fn ends(leaving: &[Leaving]) -> String {
    if leaving.is_empty() {
        return "Nothing is left of anybody without a session.".to_owned();
    }
    let each: Vec<String> = leaving
        .iter()
        .map(|one| format!("{} ({})", one.login, one.word()))
        .collect();
    format!("Without a session, and not gone yet: {}.", each.join(", "))
}

fn shells(missing: &[String]) -> Result<String, String> {
    if missing.is_empty() {
        return Ok("Every shell that a user may get is there.".to_owned());
    }
    Err(format!(
        "Sessions with these shells end at once, for they are not on this node: {}; install them, or name others.",
        missing.join(", ")
    ))
}

fn sessions(unmatched: &[String], lingering: &[String]) -> Result<String, String> {
    if !unmatched.is_empty() {
        return Err(format!(
            "Sessions and published users differ in {}; `systemctl restart teleport-sessiond` publishes anew.",
            unmatched.join(", ")
        ));
    }
    Ok(match lingering {
        [] => "Exactly the logins with sessions are published.".to_owned(),
        lingering => format!(
            "Exactly the logins with sessions are published, and those whose processes go on: {}.",
            lingering.join(", ")
        ),
    })
}

fn returns(node: &Node, database: &str) -> bool {
    node.nsswitch_returning
        .iter()
        .any(|returning| returning == database)
}

/// Whether our users' groups are asked of us: an `initgroups` line, where there is one, replaces `group`.
fn members(line: Option<&[String]>, returns: bool) -> Finding {
    const CHECK: &str = "nsswitch initgroups";
    let Some(services) = line else {
        let message = format!("{NSSWITCH} has no initgroups line, so groups are those of group.");
        return Finding::new(CHECK, Verdict::Ok, message);
    };
    let names = |name: &str| services.iter().any(|service| service == name);
    let what = match (names("teleport"), names("systemd"), returns) {
        (true, _, false) => {
            let message = format!("{NSSWITCH} asks us for the groups of a user.");
            return Finding::new(CHECK, Verdict::Ok, message);
        }
        // nss-systemd answers by the user database, of which we are a part.
        (false, true, false) => {
            let message =
                format!("{NSSWITCH} asks systemd for the groups of a user, which asks us.");
            return Finding::new(CHECK, Verdict::Ok, message);
        }
        (false, false, _) => format!("lacks teleport ({})", services.join(" ")),
        (_, _, true) => "returns before we are asked".to_owned(),
    };
    let message = format!(
        "The line initgroups in {NSSWITCH} {what}, so no user of ours is in the groups that roles give; remove that line, or put teleport behind files."
    );
    Finding::new(CHECK, Verdict::Wrong, message)
}

/// Whether nothing is wrong.
pub fn all_good(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Wrong)
}

fn seen<T>(
    check: &'static str,
    seen: &Seen<T>,
    hidden: &str,
    judge: impl FnOnce(&T) -> Result<String, String>,
) -> Option<Finding> {
    Some(match seen {
        Seen::Known(value) => Finding::of(check, judge(value)),
        Seen::RootOnly => Finding::new(check, Verdict::Unknown, hidden),
        Seen::Failed(why) => Finding::new(check, Verdict::Wrong, sentence(why)),
        // Neither good nor wrong: the configuration is.
        Seen::Unread => return None,
    })
}

/// `why` with the capital letter and the full stop of a sentence, where it does not end one by itself.
fn sentence(why: &str) -> String {
    let mut text = why.to_owned();
    // A path or a command keeps its spelling.
    let word = text.split(' ').next().unwrap_or_default();
    if word.chars().all(|c| c.is_ascii_lowercase())
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

fn order(check: &'static str, database: &str, services: &[String], returns: bool) -> Finding {
    let place = |name: &str| services.iter().position(|service| service == name);
    let right = format!("\"{database}: files teleport systemd\" is right");
    let wrong = |what: &str| {
        Finding::new(
            check,
            Verdict::Wrong,
            format!("In {NSSWITCH} the line {database} {what}; {right}."),
        )
    };
    let Some(ours) = place("teleport") else {
        return wrong("does not name teleport");
    };
    if returns {
        return wrong("returns before teleport is asked");
    }
    // Others first: a name of theirs is never ours.
    if place("files")
        .or(place("compat"))
        .is_some_and(|files| files > ours)
    {
        return wrong("names teleport before files");
    }
    if place("systemd").is_some_and(|systemd| systemd < ours) {
        return wrong("names teleport after systemd");
    }
    Finding::new(
        check,
        Verdict::Ok,
        format!("The line {database} of {NSSWITCH} names teleport in its place."),
    )
}

fn programs(node: &Node) -> Finding {
    const CHECK: &str = "sudo";
    match (node.sudo, node.visudo) {
        (true, true) => Finding::new(CHECK, Verdict::Ok, "sudo and visudo are installed."),
        (true, false) => Finding::new(
            CHECK,
            Verdict::Wrong,
            "There is a sudo without a visudo: the rules of roles cannot be checked; install the whole package.",
        ),
        // Without sudo nobody can have rights by it, which may be just what is wanted.
        (false, _) => Finding::new(
            CHECK,
            Verdict::Ok,
            "sudo is not installed: what roles say of it has no effect.",
        ),
    }
}

fn clock(node: &Node) -> Finding {
    const CHECK: &str = "clock";
    let tolerance = u64::try_from(CLOCK_TOLERANCE.as_micros()).unwrap_or(u64::MAX);
    let latest = node.table.known().map_or(0, |table| table.latest_usec);
    if latest > node.now_usec.saturating_add(tolerance) {
        return Finding::new(
            CHECK,
            Verdict::Wrong,
            "A user came later than now: the clock was set back, and the times shown are wrong; `timedatectl` says whether it is synchronized.",
        );
    }
    Finding::new(CHECK, Verdict::Ok, "Nobody came later than now.")
}

#[cfg(test)]
#[path = "findings_tests.rs"]
pub(super) mod tests;

//! What is right and what is wrong about a node, as sentences. Pure: it judges what [`super::node`] saw.

use serde::Serialize;

use super::node::{CLOCK_TOLERANCE, NSSWITCH, Node, PAM, SWEEP, Seen, Unit};

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
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, message: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict,
            message: message.into(),
        }
    }
}

/// Judges everything.
pub fn judge(node: &Node) -> Vec<Finding> {
    vec![
        seen(
            "configuration",
            &node.configuration,
            "It can be read only by root.",
            |()| Ok("The configuration is good.".to_owned()),
        ),
        shells(&node.missing_shells),
        order("nsswitch passwd", "passwd", &node.nsswitch_passwd),
        order("nsswitch group", "group", &node.nsswitch_group),
        members(node.nsswitch_initgroups.as_deref()),
        seen(
            "pam service",
            &node.pam,
            "It can be read only by root.",
            |()| {
                Ok(format!(
                    "{PAM} uses pam_teleport.so in account and session."
                ))
            },
        ),
        seen("units", &node.units, "", |units| all_enabled(units)),
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
            |unmatched| {
                if unmatched.is_empty() {
                    return Ok("Exactly the logins with sessions are published.".to_owned());
                }
                Err(format!(
                    "Sessions and published users differ in {}; `systemctl restart teleport-sessiond` publishes anew.",
                    unmatched.join(", ")
                ))
            },
        ),
        seen(
            "sudoers files",
            &node.stale_sudoers,
            "Only root can read them.",
            |stale| {
                if stale.is_empty() {
                    return Ok("Each sudoers file of ours belongs to a live user.".to_owned());
                }
                Err(format!(
                    "Nobody live has {}; `systemctl restart teleport-sessiond` removes what is left over.",
                    stale.join(", ")
                ))
            },
        ),
        programs(node),
        clock(node),
    ]
}

fn shells(missing: &[String]) -> Finding {
    const CHECK: &str = "shells";
    if missing.is_empty() {
        return Finding::new(
            CHECK,
            Verdict::Ok,
            "Every shell that a user may get is there.",
        );
    }
    let message = format!(
        "Sessions with these shells end at once, for they are not on this node: {}; install them, or name others.",
        missing.join(", ")
    );
    Finding::new(CHECK, Verdict::Wrong, message)
}

/// Whether our users' groups are asked of us: an `initgroups` line, where there is one, replaces `group`.
fn members(line: Option<&[String]>) -> Finding {
    const CHECK: &str = "nsswitch initgroups";
    let Some(services) = line else {
        let message = format!("{NSSWITCH} has no initgroups line, so groups are those of group.");
        return Finding::new(CHECK, Verdict::Ok, message);
    };
    if services.iter().any(|service| service == "teleport") {
        let message = format!("{NSSWITCH} asks us for the groups of a user.");
        return Finding::new(CHECK, Verdict::Ok, message);
    }
    let message = format!(
        "The line initgroups in {NSSWITCH} lacks teleport ({}), so no user of ours is in the groups that roles give; remove that line, or put teleport behind files.",
        services.join(" ")
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
) -> Finding {
    match seen {
        Seen::Known(value) => match judge(value) {
            Ok(message) => Finding::new(check, Verdict::Ok, message),
            Err(message) => Finding::new(check, Verdict::Wrong, message),
        },
        Seen::RootOnly => Finding::new(check, Verdict::Unknown, hidden),
        Seen::Failed(why) => Finding::new(check, Verdict::Wrong, sentence(why)),
    }
}

/// `why` with the capital letter and the full stop of a sentence.
fn sentence(why: &str) -> String {
    let mut text = why.to_owned();
    // A path or a command keeps its spelling.
    let word = text.split(' ').next().unwrap_or_default();
    if word.chars().all(|c| c.is_ascii_lowercase())
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_uppercase();
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn order(check: &'static str, database: &str, services: &[String]) -> Finding {
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

fn all_enabled(units: &[Unit]) -> Result<String, String> {
    let mut wrong = Vec::new();
    for unit in units {
        if unit.enabled != "enabled" {
            wrong.push(format!(
                "{} is {}, `systemctl enable {}` is right",
                unit.name, unit.enabled, unit.name
            ));
        }
        // Reloading it is as active as ever.
        if !matches!(unit.active.as_str(), "active" | "reloading") && unit.name != SWEEP {
            wrong.push(format!(
                "{} is {}, `systemctl start {}` is right",
                unit.name, unit.active, unit.name
            ));
        }
    }
    match wrong.is_empty() {
        true => Ok("All units are enabled and active.".to_owned()),
        false => Err(format!("{}.", wrong.join("; "))),
    }
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
mod tests;

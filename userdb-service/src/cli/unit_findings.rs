//! What is wrong about our units, with the commands that mend it. Pure, as [`super::findings`], of which it is a part.

use super::node::{Node, Seen};
use super::units::{ACTIVATING, AGAIN, ENABLED, HELPERS, LOOKUP, SWEEP, Unit};

/// Whether they run that have to, and none has failed.
pub(super) fn all_as_needed(units: &[Unit], node: &Node) -> Result<String, String> {
    let wrong: Vec<String> = units
        .iter()
        .filter(|unit| !is_told_of(unit, node))
        .filter_map(|unit| fault(unit, is_done(&unit.name, node)))
        .collect();
    match wrong.is_empty() {
        true => Ok("All units are enabled and active.".to_owned()),
        false => Err(format!("{}.", wrong.join("; "))),
    }
}

/// Where no worker answers it is said why that socket has failed, and more than to start it is needed.
fn is_told_of(unit: &Unit, node: &Node) -> bool {
    let has_failed = !unit.enabled.starts_with("masked") && unit.active == "failed";
    unit.name == LOOKUP && has_failed && matches!(node.lookup, Seen::Failed(_))
}

/// What is wrong about a unit, with the commands that mend it.
fn fault(unit: &Unit, is_done: bool) -> Option<String> {
    let (name, enabled, active) = (&unit.name, unit.enabled.as_str(), unit.active.as_str());
    if enabled == "not-found" {
        return Some(format!(
            "{name} is missing, installing the package teleport-userdb anew is right"
        ));
    }
    let mut commands = Vec::new();
    // A masked one can be neither enabled nor started.
    match enabled {
        "masked" => commands.push("unmask"),
        "masked-runtime" => commands.push("unmask --runtime"),
        _ => {}
    }
    let is_masked = !commands.is_empty();
    let is_to_be_enabled = ENABLED.contains(&name.as_str()) && enabled != "enabled";
    // These come and go, and a failure stays until somebody takes note of it.
    let comes_and_goes = name == SWEEP || HELPERS.contains(&name.as_str());
    let has_failed = comes_and_goes && active == "failed";
    // Who is being started needs no command for it, and may need something else. Reloading it is as active as ever.
    let is_coming = active == ACTIVATING && !comes_and_goes && !is_masked;
    let is_to_be_started =
        !matches!(active, "active" | "reloading") && !is_coming && !comes_and_goes;
    commands.extend(is_to_be_enabled.then_some("enable"));
    commands.extend(is_to_be_started.then_some("start"));
    if has_failed && !is_done {
        return Some(format!(
            "{name} has failed, `systemctl status {name}` says why; once what it was to do is done, `systemctl reset-failed {name}` is right"
        ));
    }
    commands.extend(has_failed.then_some("reset-failed"));
    let states = [
        (is_masked || is_to_be_enabled).then_some(enabled),
        (is_to_be_started || has_failed).then_some(active),
    ];
    let states: Vec<&str> = states.into_iter().flatten().collect();
    // For a shell, whose escape the names of mount units have in them.
    let word = match name.contains('\\') {
        true => format!("'{name}'"),
        false => name.clone(),
    };
    let commands: Vec<String> = commands
        .into_iter()
        .map(|command| format!("systemctl {command} {word}"))
        .collect();
    let mend = (!commands.is_empty()).then(|| {
        format!(
            "{name} is {}, `{}` is right",
            states.join(" and "),
            commands.join(" && ")
        )
    });
    let wait = is_coming.then(|| {
        format!(
            "{name} is being started; where that takes long, `systemctl status {word}` says why"
        )
    });
    let both: Vec<String> = mend.into_iter().chain(wait).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Whether what the unit was to do is known to be done meanwhile, by another.
fn is_done(unit: &str, node: &Node) -> bool {
    match unit {
        AGAIN => node.userdb.known().is_some(),
        // No file of ours is left over.
        _ => node.stale_sudoers.known().is_some_and(Vec::is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::{good, wrong};
    use super::super::units::{ACTIVATING, SESSIOND};
    use super::*;

    #[test]
    fn a_unit_that_does_not_get_as_far_as_to_run_is_told_with_what_says_why() {
        let mend = "`systemctl enable teleport-sessiond.service` is right; ";
        for (enabled, beside) in [
            ("enabled", String::new()),
            ("disabled", format!("{SESSIOND} is disabled, {mend}")),
        ] {
            let mut node = good();
            if let Seen::Known(units) = &mut node.units {
                units.retain(|unit| unit.name != SESSIOND);
                units.push(Unit {
                    name: SESSIOND.to_owned(),
                    enabled: enabled.to_owned(),
                    active: ACTIVATING.to_owned(),
                });
            }
            let told = format!(
                "{beside}{SESSIOND} is being started; where that takes long, `systemctl status {SESSIOND}` says why."
            );
            assert_eq!(wrong(&node), ("units", told));
        }
    }
}

//! What keeps sudo from what roles give, and people out because of sudo's files, as sentences. Pure, as [`super::findings`], of which it
//! is a part.

use super::by_file::{Ignored, SUDO, SUDOERS};
use super::findings::{Finding, Verdict};
use super::node::Node;
use super::sandbox::View;
use super::units::SESSIOND;
use super::unread::{UnreadFile, shell_word};
use super::written::WithoutFile;
use crate::control::state::StuckRight;
use crate::control::sudo::files::Amiss;
use crate::policy::sudoers::SUDOERS_D;

/// Whether the lookup workers can read what sudoers and doas.conf include.
pub(super) fn read(unread: &[UnreadFile]) -> Result<String, String> {
    if unread.is_empty() {
        return Ok("The lookup workers can read what sudoers and doas.conf include.".to_owned());
    }
    let each: Vec<String> = unread.iter().map(UnreadFile::sentence).collect();
    Err(format!(
        "Every new login is refused, because the lookup workers (root without any capability) cannot read {}.",
        each.join("; ")
    ))
}

/// Whether files of ours belong to live users. The daemon removes what it can read, from a folder that it can write to.
pub(super) fn left_over(stale: &[String], node: &Node) -> Result<String, String> {
    if stale.is_empty() {
        return Ok("Each sudoers file of ours belongs to a live user.".to_owned());
    }
    let unread = |path: &String| {
        let mut unread = node.unread_sudoers.known().into_iter().flatten();
        unread.any(|one| one.path == *path)
    };
    let closed: Vec<String> = stale
        .iter()
        .map(|name| format!("{SUDOERS_D}/{name}"))
        .filter(unread)
        .map(|path| shell_word(&path))
        .collect();
    let is_read_only = node.sudoers_view == View::ReadOnlyForAll;
    let first = [
        is_read_only.then(|| format!("make {SUDOERS_D} writable")),
        (!closed.is_empty()).then(|| {
            let files = closed.join(" ");
            format!("`chmod 0440 {files}` (teleport-sessiond cannot read it)")
        }),
    ];
    let first: String = first
        .into_iter()
        .flatten()
        .map(|step| format!("{step}, then "))
        .collect();
    Err(format!(
        "Nobody live has {}; {first}`systemctl restart teleport-sessiond` removes what is left over, or its journal says why it cannot.",
        stale.join(", ")
    ))
}

/// Whether the daemon can write to the folder; silent where it can.
pub(super) fn folder(view: View) -> Option<Finding> {
    let message = match view {
        View::ReadOnly => format!(
            "teleport-sessiond has {SUDOERS_D} read-only in its sandbox: nobody gets sudo by a file, and nothing can be taken away; `systemctl restart teleport-sessiond`, and where that does not help, `systemctl cat {SESSIOND}` shows what keeps it so (ReadOnlyPaths=, ReadWritePaths=, ProtectSystem=, InaccessiblePaths=)."
        ),
        View::ReadOnlyForAll => format!(
            "{SUDOERS_D} is read-only for everybody: nobody gets sudo by a file, and nothing can be taken away; make it writable, then `systemctl restart teleport-sessiond`, whose sandbox keeps it as it was when the daemon started."
        ),
        View::Writable | View::Absent | View::Unseen => return None,
    };
    Some(Finding::new("sudoers folder", Verdict::Wrong, message))
}

/// Whether sudo reads the files by which roles give it.
pub(super) fn taken_up(ignored: Option<Ignored>) -> Result<String, String> {
    let (what, mend) = match ignored {
        None => return Ok(format!("sudo reads the files in {SUDOERS_D}.")),
        Some(Ignored::NoFolder) => (
            format!("there is no {SUDOERS_D}"),
            format!("`mkdir -m 0750 {SUDOERS_D} && systemctl restart teleport-sessiond`"),
        ),
        Some(Ignored::UnfitFolder) => (
            format!("sudo ignores {SUDOERS_D}, which is not root's or can be written to by others"),
            format!("`chown root {SUDOERS_D} && chmod go-w {SUDOERS_D}`"),
        ),
        Some(Ignored::NotAFolder) => (
            format!("{SUDOERS_D} is no folder"),
            format!(
                "`mv {SUDOERS_D} {SUDOERS_D}.away && mkdir -m 0750 {SUDOERS_D} && systemctl restart teleport-sessiond`"
            ),
        ),
        Some(Ignored::GroupsFolder) => (
            format!(
                "teleport-sessiond works in no folder that a group can write to, as {SUDOERS_D} is, though sudo would read it"
            ),
            format!("`chmod g-w {SUDOERS_D}`"),
        ),
        Some(Ignored::UnfitSudoers) => (
            format!(
                "sudo refuses everybody: {SUDOERS} is not root's or can be written to by others"
            ),
            format!("`chown root:root {SUDOERS} && chmod 0440 {SUDOERS}`"),
        ),
        Some(Ignored::NoSetuid) => (
            format!("{SUDO} does not run as root: it is another's or has lost its setuid bit"),
            format!("`chown root:root {SUDO} && chmod 4755 {SUDO}`"),
        ),
        Some(Ignored::NotIncluded) => (
            format!("sudoers does not include {SUDOERS_D}"),
            format!("as its last line \"@includedir {SUDOERS_D}\" (`visudo`)"),
        ),
    };
    Err(format!(
        "Roles give sudo by a file, and nobody gets it, because {what}; {mend} is right."
    ))
}

/// Whether each live user's file grants what was written into it.
pub(super) fn granted(without: &[WithoutFile]) -> Result<String, String> {
    if without.is_empty() {
        return Ok("Each live user that was granted sudo by a file has it.".to_owned());
    }
    let (absent, amiss): (Vec<_>, Vec<_>) =
        without.iter().partition(|one| one.found == Amiss::Absent);
    let mut sentences = Vec::new();
    if !absent.is_empty() {
        let each: Vec<String> = absent
            .iter()
            .map(|one| format!("{} ({})", one.login, path(one)))
            .collect();
        sentences.push(format!(
            "Sudo was granted by a file that is not there: {}; `systemctl restart teleport-sessiond` writes it again, or its journal says why it cannot.",
            each.join(", ")
        ));
    }
    sentences.extend(amiss.into_iter().map(amiss_of));
    Err(sentences.join(" "))
}

/// The file of somebody live as it was found, and what makes it grant what it is to grant.
fn amiss_of(one: &WithoutFile) -> String {
    let path = path(one);
    let restart = "`systemctl restart teleport-sessiond` writes it again".to_owned();
    // In its place the daemon touches nothing that is not its own.
    let remove = format!("remove {path}, then {restart}");
    let chmod = format!("`chmod 0440 {path}` is right");
    let (what, mend) = match one.found {
        Amiss::Absent => ("is not there", restart),
        Amiss::NoFile => ("is a folder, a link or a pipe", remove),
        Amiss::Owner => ("is not root's, so that sudo ignores it", remove),
        Amiss::Closed => ("cannot be read by its owner", chmod),
        Amiss::Empty => ("is empty", remove),
        Amiss::Headless => ("is not ours any more: it has lost its header line", remove),
        Amiss::Linked => ("has other names, so that it is left alone", remove),
        Amiss::Rule => ("has lost the rule that was written into it", restart),
        Amiss::Mode => (
            "can be written to by others than root, so that sudo ignores it",
            chmod,
        ),
        Amiss::NoRoom => (
            "is not there, and its file system is full (`df`, `df -i`)",
            format!("make room, then {restart}"),
        ),
        Amiss::Immutable => (
            "is not there, and its folder is immutable",
            format!("`chattr -i {SUDOERS_D}`, then {restart}"),
        ),
    };
    format!(
        "Sudo was granted to {} by {path}, which {what}; {mend}.",
        one.login
    )
}

fn path(one: &WithoutFile) -> String {
    format!("{SUDOERS_D}/{}", one.file)
}

/// Whether sudo rights of sessions that are over could be taken away.
pub(super) fn taken_away(stuck: &[StuckRight]) -> Result<String, String> {
    if stuck.is_empty() {
        return Ok("No rights of earlier sessions are in anybody's way.".to_owned());
    }
    let each: Vec<String> = stuck.iter().map(stuck_of).collect();
    Err(each.join(" "))
}

/// In the words of the daemon, which name the file and what to do.
pub(super) fn stuck_of(right: &StuckRight) -> String {
    let StuckRight { login, why } = right;
    format!(
        "Every new login as {login} is refused as long as the sudo rights of an earlier session of it cannot be taken away: {why}. teleport-sessiond tries again every 30 s at the latest."
    )
}

#[cfg(test)]
#[path = "sudo_findings_tests.rs"]
mod tests;

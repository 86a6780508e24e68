//! The section of docs/benchmarks.md: figures, ratios, and which goals are reached.
//! It measures nothing.

use bench::{Bound, Goal, Rounds, goals_table, machine_line, table};

use crate::counts::Counts;
use crate::flat::{FEW, Flat, LIVE, MANY};
use crate::node::SUBJECTS;
use crate::{Measured, STORM};

/// Everything that was measured.
pub(crate) struct Results<'a> {
    pub(crate) measured: &'a [Measured],
    pub(crate) counts: &'a [(&'static str, Counts)],
    pub(crate) flat: &'a Flat,
    /// Existing users, rounds, and what went wrong.
    pub(crate) storm: &'a [(usize, usize, usize)],
    pub(crate) at_once: usize,
}

pub(crate) fn text(results: &Results<'_>) -> String {
    let Results {
        measured,
        counts,
        flat,
        at_once,
        ..
    } = *results;
    let mut text = format!(
        "{}\n\nA login is `pam_acct_mgmt` and `pam_open_session`, a logout `pam_close_session`, on a booted Debian that writes to the disk of this machine, one process each. \
         *Ours* gives a sudoers file, synced to disk; *with home* also makes an ephemeral home from /etc/skel. *Script* is \
         what Teleport's documentation of PAM has: `useradd -m` by pam_exec in the account phase and pam_motd in the session (*no motd*: \
         without it); `userdel -r` at the end, no sudoers file. *Floor* is a C daemon with a \
         C PAM module that asks the same name services about the login, writes its session down and syncs a sudoers file \
         ([c/sessions_floor.c](../tests/bench/c/sessions_floor.c)): no policy, no homes, nothing ended, nobody checked; *asking nobody* \
         is the same without its questions. \
         Milliseconds.\n\n",
        machine_line()
    );
    let parallel = format!("{at_once} at once, all in / out");
    let mut rows = Vec::new();
    for of in measured {
        for subject in SUBJECTS {
            let wrong = of.wrong.iter().find(|(name, _)| name == subject);
            rows.push(vec![
                of.users.to_string(),
                subject.to_owned(),
                format!("{:.2}", of.login.median(subject)),
                format!("{:.2}", of.logout.median(subject)),
                format!(
                    "{:.1} / {:.1}",
                    of.all_in.median(subject),
                    of.all_out.median(subject)
                ),
                wrong.map_or(0, |(_, wrong)| *wrong).to_string(),
            ]);
        }
    }
    text += &table(
        &[
            "existing users",
            "",
            "login",
            "logout",
            &parallel,
            "refused",
        ],
        &rows,
    );
    let rows: Vec<Vec<String>> = counts
        .iter()
        .map(|(subject, of)| {
            vec![
                (*subject).to_owned(),
                format!("{:.1}", of.syncs),
                format!("{:.1}", of.forks),
                format!("{:.1}", of.files),
            ]
        })
        .collect();
    text += "\nFor one login and logout, by strace; what ends a user's remains comes after `retire-delay` and keeps nobody waiting:\n\n";
    text += &table(
        &["", "syncs", "new processes", "files written outside /run"],
        &rows,
    );
    text += &among(flat);
    text += "\n";
    text += &goals_table(&goals(results));
    text
}

/// A login among few and among many.
fn among(flat: &Flat) -> String {
    let rounds = [
        ("ours, login", "ours"),
        ("floor, login", "floor"),
        ("floor, asking nobody, login", "floor, asking nobody"),
    ];
    let row = |(name, subject): (&str, &str)| {
        let of = [&flat.few, &flat.many, &flat.alone, &flat.crowded];
        let medians = of.map(|rounds| format!("{:.2}", rounds.median(subject)));
        [vec![name.to_owned()], medians.to_vec()].concat()
    };
    let head = [
        String::new(),
        format!("{FEW} users"),
        format!("{MANY} users"),
        format!("{FEW} users, no session live"),
        format!("{FEW} users, {LIVE} sessions live"),
    ];
    format!(
        "\nAmong more existing users (in turn, round by round) and among more live sessions, without homes. The floor has glibc read \
         `/etc/passwd` and `/etc/group` for each question; ours keeps them in order while they do not change:\n\n{}",
        table(&head.each_ref().map(String::as_str), &rounds.map(row))
    )
}

fn goals(results: &Results<'_>) -> Vec<Goal> {
    let Results {
        measured,
        counts,
        flat,
        storm,
        at_once,
    } = *results;
    let mut goals = Vec::new();
    for of in measured {
        let users = of.users;
        goals.push(Goal::new(
            format!("S1 login / floor, {users} users"),
            Bound::AtMost(2.0),
            of.login.ratio("ours", "floor"),
        ));
        let times = if users < 1000 { 25.0 } else { 400.0 };
        for (what, subject) in [
            ("login with home", "ours, with home"),
            ("login without home", "ours"),
        ] {
            let what = format!("S1 script / {what}, {users} users");
            let ratio = of.login.ratio("script", subject);
            let floor = of.login.ratio("script", "floor");
            goals.push(Goal::new(what, Bound::AtLeast(times), ratio).with_floor(floor));
        }
        goals.push(Goal::new(
            format!("S2 logout / floor, {users} users"),
            Bound::AtMost(2.0),
            of.logout.ratio("ours", "floor"),
        ));
        let what = format!("S2 script / logout, {users} users");
        let ratio = of.logout.ratio("script", "ours");
        let floor = of.logout.ratio("script", "floor");
        goals.push(Goal::new(what, Bound::AtLeast(40.0), ratio).with_floor(floor));
        for (what, subject) in [("with home", "ours, with home"), ("without home", "ours")] {
            goals.push(Goal::new(
                format!("S3 script / ours {what}, {at_once} logins at once, {users} users"),
                Bound::AtLeast(10.0),
                of.all_in.ratio("script", subject),
            ));
        }
    }
    let median = |rounds: &Rounds| rounds.median("ours");
    goals.push(Goal::new(
        format!("S4 login among {MANY} users / among {FEW}"),
        Bound::AtMost(1.2),
        median(&flat.many) / median(&flat.few),
    ));
    let beside_alone = |rounds: &Rounds| rounds.ratio("ours", "floor, asking nobody");
    goals.push(Goal::new(
        "the same, each beside the floor that asks nobody",
        Bound::AtMost(1.2),
        beside_alone(&flat.many) / beside_alone(&flat.few),
    ));
    let beside_floor = |rounds: &Rounds| rounds.ratio("ours", "floor");
    goals.push(Goal::new(
        format!("login with {LIVE} sessions live / with none, each beside the floor"),
        Bound::AtMost(1.2),
        beside_floor(&flat.crowded) / beside_floor(&flat.alone),
    ));
    let refused: usize = measured
        .iter()
        .flat_map(|of| &of.wrong)
        .filter(|(subject, _)| !subject.starts_with("script"))
        .map(|(_, wrong)| wrong)
        .sum();
    goals.push(Goal::new(
        "logins of ours and of the floor that were refused",
        Bound::AtMost(0.0),
        (refused + flat.wrong) as f64,
    ));
    for (subject, of) in counts {
        // "" or ", with home"; the script has no goals.
        let Some(form) = subject.strip_prefix("ours") else {
            continue;
        };
        goals.push(Goal::new(
            format!("S5 syncs of a login and logout{form}"),
            Bound::AtMost(2.0),
            of.syncs,
        ));
        goals.push(Goal::new(
            format!("S5 new processes{form}"),
            Bound::AtMost(0.0),
            of.forks,
        ));
        goals.push(Goal::new(
            format!("S5 files written outside /run{form}"),
            Bound::AtMost(1.0),
            of.files,
        ));
    }
    for (users, rounds, wrong) in storm {
        goals.push(Goal::new(
            format!("S6 {STORM} at once × {rounds} among {users} users: missing after login or left after logout"),
            Bound::AtMost(0.0),
            *wrong as f64,
        ));
    }
    goals
}

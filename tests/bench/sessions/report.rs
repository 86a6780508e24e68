//! The section of docs/benchmarks.md: figures, ratios, and which goals are reached.
//! It measures nothing.

use bench::{Bound, Goal, goals_table, machine_line, table};

use crate::counts::Counts;
use crate::node::SUBJECTS;
use crate::{Measured, STORM};

pub(crate) fn text(
    measured: &[Measured],
    counts: &[(&str, Counts)],
    storm: &[(usize, usize, usize)],
    at_once: usize,
) -> String {
    let mut text = format!(
        "{}\n\nA login is `pam_acct_mgmt` and `pam_open_session`, a logout `pam_close_session`, on a booted Debian, one process each. \
         *Ours* gives a sudoers file, synced to disk; *with home* also makes an ephemeral home from /etc/skel. *Script* is \
         `useradd -m` in the account phase and `userdel -r` at the end, by pam_exec, without sudoers. *Floor* is a C daemon with a \
         C PAM module that asks the same name services about the login, writes its session down and syncs a sudoers file \
         ([c/sessions_floor.c](../tests/bench/c/sessions_floor.c)): no policy, no homes, nothing ended, nobody checked. \
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
    text += "\n";
    text += &goals_table(&goals(measured, counts, storm, at_once));
    text
}

fn goals(
    measured: &[Measured],
    counts: &[(&str, Counts)],
    storm: &[(usize, usize, usize)],
    at_once: usize,
) -> Vec<Goal> {
    let mut goals = Vec::new();
    for of in measured {
        let users = of.users;
        goals.push(Goal::new(
            format!("S1 login / floor, {users} users"),
            Bound::AtMost(2.0),
            of.login.ratio("ours", "floor"),
        ));
        let times = if users < 1000 { 25.0 } else { 400.0 };
        goals.push(Goal::new(
            format!("S1 script / login with home, {users} users"),
            Bound::AtLeast(times),
            of.login.ratio("script", "ours, with home"),
        ));
        goals.push(Goal::new(
            format!("S1 script / login without home, {users} users"),
            Bound::AtLeast(times),
            of.login.ratio("script", "ours"),
        ));
        goals.push(Goal::new(
            format!("S2 logout / floor, {users} users"),
            Bound::AtMost(2.0),
            of.logout.ratio("ours", "floor"),
        ));
        goals.push(Goal::new(
            format!("S2 script / logout, {users} users"),
            Bound::AtLeast(40.0),
            of.logout.ratio("script", "ours"),
        ));
        goals.push(Goal::new(
            format!("S3 script / ours with home, {at_once} logins at once, {users} users"),
            Bound::AtLeast(10.0),
            of.all_in.ratio("script", "ours, with home"),
        ));
    }
    if let [few, many] = measured {
        let growth = |subject: &str| many.login.median(subject) / few.login.median(subject);
        // glibc reads /etc/passwd from its beginning for whoever asks, the floor included.
        goals.push(Goal::new(
            format!("S4 login among {} users / among {}", many.users, few.users),
            Bound::AtMost(1.2),
            growth("ours"),
        ));
        goals.push(Goal::new(
            format!(
                "S4 login among {} users / among {}, beside the floor's own growth",
                many.users, few.users
            ),
            Bound::AtMost(1.2),
            growth("ours") / growth("floor"),
        ));
    }
    if let Some((_, ours)) = counts.iter().find(|(subject, _)| *subject == "ours") {
        goals.push(Goal::new(
            "S5 syncs of a login and logout",
            Bound::AtMost(2.0),
            ours.syncs,
        ));
        goals.push(Goal::new(
            "S5 new processes",
            Bound::AtMost(0.0),
            ours.forks,
        ));
        goals.push(Goal::new(
            "S5 files written outside /run",
            Bound::AtMost(1.0),
            ours.files,
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

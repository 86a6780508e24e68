//! `teleport-userdbctl list`: the users that exist now, from the published table alone.
//! Needs no rights and no daemon.

use account_table::{Account, Cursor, DEFAULT_PATH, Lookup, Table, Trust};
use serde::Serialize;

use super::output::{Output, moment};
use super::{Failure, GOOD, WRONG, table};

/// A user as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The login.
    pub login: String,
    /// Other names it resolves under.
    pub aliases: Vec<String>,
    /// UID.
    pub uid: u32,
    /// GID of the private group.
    pub gid: u32,
    /// Open sessions; none while it is only reserved, or lingers.
    pub sessions: u32,
    /// Since when, microseconds of CLOCK_REALTIME.
    pub since_usec: u64,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// The comment.
    pub gecos: String,
    /// Barred from logging in.
    pub locked: bool,
    /// In a word, what it is here by.
    pub state: State,
}

/// What a user is here by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A session.
    Open,
    /// A login that has not opened its session yet.
    Reserved,
    /// What it left running: it has no rights, and nobody logs in as it.
    Locked,
}

impl State {
    fn of(locked: bool, sessions: u32) -> State {
        match (locked, sessions) {
            (true, _) => State::Locked,
            (false, 0) => State::Reserved,
            (false, _) => State::Open,
        }
    }

    fn word(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Reserved => "reserved",
            State::Locked => "locked",
        }
    }
}

/// How often a busy table is asked again.
const ATTEMPTS: u32 = 50;

/// The users in a table, by login; `None` where the writer was in the way all the time.
pub fn users(table: &Table) -> Option<Vec<User>> {
    'again: for _ in 0..ATTEMPTS {
        let (mut users, mut cursor) = (Vec::new(), Cursor::default());
        loop {
            match table.next_user(&mut cursor) {
                Lookup::Found(account) => users.push(user(table, &account)),
                Lookup::Absent => break,
                Lookup::Busy => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    continue 'again;
                }
            }
        }
        users.sort_by(|a: &User, b| a.login.cmp(&b.login));
        return Some(users);
    }
    None
}

fn user(table: &Table, account: &Account) -> User {
    let group = |membership| match table.group_of(&membership) {
        Lookup::Found(group) => group.name().to_owned(),
        // It has just vanished; its number is what is left.
        Lookup::Absent | Lookup::Busy => membership.gid.to_string(),
    };
    User {
        login: account.login().to_owned(),
        aliases: account.aliases().map(str::to_owned).collect(),
        uid: account.uid(),
        gid: account.gid(),
        sessions: account.sessions(),
        since_usec: account.since_usec(),
        home: account.home().to_owned(),
        shell: account.shell().to_owned(),
        groups: account.groups().map(group).collect(),
        gecos: account.gecos().to_owned(),
        locked: account.locked(),
        state: State::of(account.locked(), account.sessions()),
    }
}

/// The whole table as text.
pub fn render(users: &[User], legend: bool) -> String {
    let mut table = table::Table::new(&[
        ("LOGIN", false),
        ("UID", true),
        ("SESSIONS", true),
        ("STATE", false),
        ("SINCE", false),
        ("HOME", false),
        ("SHELL", false),
        ("GROUPS", false),
        ("GECOS", false),
    ]);
    for user in users {
        table.row([
            user.login.clone(),
            user.uid.to_string(),
            user.sessions.to_string(),
            user.state.word().to_owned(),
            moment(user.since_usec),
            user.home.clone(),
            user.shell.clone(),
            user.groups.join(","),
            user.gecos.clone(),
        ]);
    }
    table.render(legend, "users")
}

pub(super) fn run(output: Output) -> Result<(String, u8), Failure> {
    let failed = |message: String| Failure {
        status: WRONG,
        message,
    };
    let path = DEFAULT_PATH.to_string_lossy();
    let table = Table::open(DEFAULT_PATH, Trust::Root).ok_or_else(|| {
        failed(format!(
            "there is no table of users at {path} that can be trusted; `systemctl restart teleport-sessiond teleport-userdbd` has the one make it, and the other answer from it"
        ))
    })?;
    let users = users(&table)
        .ok_or_else(|| failed(format!("{path} is being changed all the time; try again")))?;
    let text = output.show(&users, || render(&users, output.legend));
    Ok((text, GOOD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed_with_header_and_footer() {
        let user = User {
            login: "maria".to_owned(),
            aliases: vec!["Maria".to_owned()],
            uid: 1_879_048_192,
            gid: 1_879_048_192,
            sessions: 2,
            since_usec: 1_795_233_906_000_000,
            home: "/run/teleport-userdb/home/maria".to_owned(),
            shell: "/bin/bash".to_owned(),
            groups: vec!["teleport-tmp".to_owned(), "docker".to_owned()],
            gecos: "Teleport user\u{1b}c".to_owned(),
            locked: false,
            state: State::Open,
        };
        assert_eq!(
            render(std::slice::from_ref(&user), true),
            "LOGIN        UID SESSIONS STATE SINCE                       HOME                            SHELL     GROUPS              GECOS\n\
             maria 1879048192        2 open  Sat 2026-11-21 04:05:06 UTC /run/teleport-userdb/home/maria /bin/bash teleport-tmp,docker Teleport user\\u{1b}c\n\
             \n1 user listed.\n"
        );
        let locked = User {
            sessions: 0,
            locked: true,
            state: State::Locked,
            ..user.clone()
        };
        let reserved = User {
            sessions: 0,
            state: State::Reserved,
            ..user.clone()
        };
        for (user, word) in [(&locked, "locked"), (&reserved, "reserved")] {
            let text = render(std::slice::from_ref(user), false);
            assert!(text.contains(&format!(" 0 {word} ")), "{text}");
            assert_eq!(State::of(user.locked, user.sessions), user.state);
            assert_eq!(serde_json::to_value(user).unwrap()["state"], word);
        }
        assert_eq!(
            serde_json::to_value(&user).unwrap()["sinceUsec"],
            1_795_233_906_000_000_u64
        );
    }
}

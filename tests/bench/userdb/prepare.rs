//! What the subjects answer from: accounts in the published table, the same as drop-ins, the same as a file for the floor.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use account_table::{AccountSpec, Disposition, GroupOrigin, GroupSpec, Trust, Writer};
use serde_json::Value;

use crate::asker::{What, connect, login};
use crate::{OUR_SOCKET, OURS, Result};

const TABLE: &str = "/run/teleport-userdb/accounts";
const DROP_INS: &str = "/run/userdb";

/// Publishes so many accounts and no others, where sessiond would. It must be stopped.
pub(crate) fn publish(users: &str) -> Result {
    let users: u32 = users.parse()?;
    let _ = fs::remove_file(TABLE);
    let mut writer = Writer::open(Path::new(TABLE), Trust::Root)?;
    for number in 0..users {
        writer.publish(&account(number, 1))?;
    }
    Ok(())
}

/// What changes the table again and again, as logins do: a user who has one session more, or one less.
pub(crate) struct Changes {
    writer: Writer,
    sessions: u32,
}

impl Changes {
    pub(crate) fn begin() -> Result<Changes> {
        let writer = Writer::open(Path::new(TABLE), Trust::Root)?;
        Ok(Changes {
            writer,
            sessions: 1,
        })
    }

    pub(crate) fn change(&mut self) -> Result {
        self.sessions = 3 - self.sessions;
        Ok(self.writer.publish(&account(0, self.sessions))?)
    }
}

fn account(number: u32, sessions: u32) -> AccountSpec {
    let (login, uid) = login(number);
    AccountSpec {
        gecos: "User somebody with roles dev ops created by Teleport.".into(),
        home: format!("/run/teleport-userdb/home/{login}"),
        login,
        uid,
        gid: uid,
        shell: "/bin/bash".into(),
        since_usec: 1_700_000_000_000_000,
        sessions,
        stop_delay_usec: 3_000_000,
        disposition: Disposition::Dynamic,
        groups: vec![GroupSpec {
            name: "team".into(),
            gid: 1_950_000_000,
            origin: GroupOrigin::Synthesized,
        }],
        ..AccountSpec::default()
    }
}

/// Writes what our provider says of each user into `file` for the floor, and as drop-ins; so all say the same.
pub(crate) fn records(file: &str) -> Result {
    use std::io::{Read, Write};
    let mut socket = connect(OUR_SOCKET)?;
    socket.write_all(&What::All.about(0, OURS))?;
    let mut heard = Vec::new();
    let mut piece = vec![0; 1 << 16];
    let mut lines = String::new();
    let _ = fs::remove_dir_all(DROP_INS);
    fs::create_dir_all(DROP_INS)?;
    loop {
        let count = socket.read(&mut piece)?;
        heard.extend_from_slice(&piece[..count]);
        while let Some(end) = heard.iter().position(|byte| *byte == 0) {
            let message: Vec<u8> = heard.drain(..=end).collect();
            let reply: Value = serde_json::from_slice(&message[..end])?;
            let mut record = reply["parameters"]["record"].clone();
            let (name, uid) = (
                record["userName"].as_str().unwrap_or_default().to_owned(),
                record["uid"].clone(),
            );
            writeln!(lines, "{name}\t{uid}\t{record}")?;
            // A drop-in has the service of whoever reads it.
            if let Some(record) = record.as_object_mut() {
                record.remove("service");
                record.remove("memberOf");
            }
            fs::write(format!("{DROP_INS}/{name}.user"), record.to_string())?;
            symlink(format!("{name}.user"), format!("{DROP_INS}/{uid}.user"))?;
            fs::write(format!("{DROP_INS}/{name}:team.membership"), "")?;
            if reply.get("continues").is_none() {
                fs::write(file, lines)?;
                return Ok(());
            }
        }
        if count == 0 {
            return Err("the list of our provider ended in the middle".into());
        }
    }
}

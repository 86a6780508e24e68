//! The users every subject is given: the same names, IDs and groups in each one's own format.
//! Pure; writing them where a subject looks is `world`'s business.

use account_table::{AccountSpec, GroupOrigin, GroupSpec};

/// Users in one team.
pub(crate) const TEAM: u32 = 10;

pub(crate) fn login(number: u32) -> String {
    format!("teleport-user-{number}")
}

pub(crate) fn uid(number: u32) -> u32 {
    100_000 + number
}

pub(crate) fn team(number: u32) -> String {
    format!("team{}", number / TEAM)
}

pub(crate) fn team_gid(number: u32) -> u32 {
    60_000 + number / TEAM
}

/// Names and IDs nobody has.
pub(crate) fn absent(number: u32) -> String {
    format!("absent{number}")
}

pub(crate) fn absent_id(number: u32) -> u32 {
    20_000 + number
}

fn gecos() -> &'static str {
    "User somebody with roles dev created by Teleport."
}

fn home(number: u32) -> String {
    format!("/run/teleport-userdb/home/{}", login(number))
}

/// The user as our table has it.
pub(crate) fn spec(number: u32) -> AccountSpec {
    AccountSpec {
        login: login(number),
        uid: uid(number),
        gid: uid(number),
        gecos: gecos().into(),
        home: home(number),
        shell: "/bin/bash".into(),
        sessions: 1,
        groups: vec![GroupSpec {
            name: team(number),
            gid: team_gid(number),
            origin: GroupOrigin::Synthesized,
        }],
        ..AccountSpec::default()
    }
}

/// Lines for the end of /etc/passwd.
pub(crate) fn passwd(users: u32) -> String {
    (0..users)
        .map(|n| {
            format!(
                "{}:*:{}:{}:{}:{}:/bin/bash\n",
                login(n),
                uid(n),
                uid(n),
                gecos(),
                home(n)
            )
        })
        .collect()
}

/// Lines for the end of /etc/group: the private groups and the teams.
pub(crate) fn group(users: u32) -> String {
    let mut text: String = (0..users)
        .map(|n| format!("{}:x:{}:\n", login(n), uid(n)))
        .collect();
    for first in (0..users).step_by(TEAM as usize) {
        let members: Vec<String> = (first..users.min(first + TEAM)).map(login).collect();
        let members = members.join(",");
        text.push_str(&format!(
            "{}:x:{}:{members}\n",
            team(first),
            team_gid(first)
        ));
    }
    text
}

/// Files of systemd's drop-in folder: name, content, and the name of a link to it.
pub(crate) fn drop_ins(number: u32) -> Vec<(String, String, Option<String>)> {
    let (name, id) = (login(number), uid(number));
    let user = format!(
        "{{\"userName\":\"{name}\",\"uid\":{id},\"gid\":{id},\"realName\":\"{}\",\"homeDirectory\":\"{}\",\
         \"shell\":\"/bin/bash\",\"disposition\":\"regular\"}}",
        gecos(),
        home(number)
    );
    let group = |name: &str, gid: u32| {
        (
            format!("{name}.group"),
            format!("{{\"groupName\":\"{name}\",\"gid\":{gid},\"disposition\":\"regular\"}}"),
            Some(format!("{gid}.group")),
        )
    };
    let mut files = vec![
        (format!("{name}.user"), user, Some(format!("{id}.user"))),
        group(&name, id),
        (
            format!("{name}:{}.membership", team(number)),
            // An empty file would mean a masked one.
            "{}\n".to_owned(),
            None,
        ),
    ];
    if number.is_multiple_of(TEAM) {
        files.push(group(&team(number), team_gid(number)));
    }
    files
}

/// The file that libnss_shm.c maps.
pub(crate) fn floor_table(users: u32) -> Vec<u8> {
    let teams = users.div_ceil(TEAM);
    let groups = users + teams;
    let size = |entries: u32| (2 * entries).next_power_of_two().max(2) as usize;
    let (user_size, group_size) = (size(users), size(groups));
    let (mut by_name, mut by_uid) = (vec![0u32; user_size], vec![0u32; user_size]);
    let (mut by_group, mut by_gid) = (vec![0u32; group_size], vec![0u32; group_size]);
    let (mut people, mut parties) = (Vec::new(), Vec::new());
    for n in 0..users {
        put(&mut by_name, hash(&login(n)), n);
        put(&mut by_uid, mix(uid(n).into()), n);
        for number in [uid(n), uid(n), 1, team_gid(n), 0] {
            people.extend(number.to_ne_bytes());
        }
        let (mut text, mut starts) = (String::new(), Vec::new());
        for field in [login(n).as_str(), "*", gecos(), &home(n), "/bin/bash"] {
            starts.push(text.len() as u16);
            text.push_str(field);
            text.push('\0');
        }
        let lengths = [&[text.len() as u16], &starts[1..], &[0]].concat();
        people.extend(lengths.iter().flat_map(|length| length.to_ne_bytes()));
        text_field(&mut people, &text, 192);
        put(&mut by_group, hash(&login(n)), n);
        put(&mut by_gid, mix(uid(n).into()), n);
        party(&mut parties, &login(n), uid(n), 0, 0);
    }
    for t in 0..teams {
        let first = t * TEAM;
        put(&mut by_group, hash(&team(first)), users + t);
        put(&mut by_gid, mix(team_gid(first).into()), users + t);
        let members = users.min(first + TEAM) - first;
        party(&mut parties, &team(first), team_gid(first), members, first);
    }
    let mut file = 0u64.to_ne_bytes().to_vec();
    let head = [user_size as u32 - 1, group_size as u32 - 1, users, groups];
    let index = [&head[..], &by_name, &by_uid, &by_group, &by_gid].concat();
    file.extend(index.iter().flat_map(|word| word.to_ne_bytes()));
    file.extend(people);
    file.extend(parties);
    file.extend((0..users).flat_map(u32::to_ne_bytes));
    file
}

fn text_field(record: &mut Vec<u8>, text: &str, width: usize) {
    let end = record.len() + width;
    record.extend(text.bytes());
    record.resize(end, 0);
}

fn party(parties: &mut Vec<u8>, name: &str, gid: u32, members: u32, first: u32) {
    text_field(parties, name, 40);
    for number in [gid, members, first, 0] {
        parties.extend(number.to_ne_bytes());
    }
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ value >> 32
}

fn hash(name: &str) -> u64 {
    let (mut hash, mut rest) = (0, name.as_bytes());
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = mix(hash ^ u64::from_le_bytes(*word));
        rest = tail;
    }
    let last = |last: u64, byte: &u8| last << 8 | u64::from(*byte);
    mix(hash ^ rest.iter().fold(0, last))
}

fn put(index: &mut [u32], hash: u64, number: u32) {
    let mask = index.len() - 1;
    let mut at = hash as usize & mask;
    while index[at] != 0 {
        at = (at + 1) & mask;
    }
    index[at] = number + 1;
}

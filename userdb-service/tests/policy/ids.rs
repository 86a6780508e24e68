//! Which numbers users and groups get.

use std::collections::BTreeSet;

use userdb_service::policy::decide::{
    Answer, Decision, Facts, FoundGroup, FoundUser, LoginRequest, Question, Reason, decide,
};
use userdb_service::policy::ids::{Candidates, DEFAULT_KEY};
use userdb_service::policy::plan::{GroupOrigin, Plan};

use crate::world::{PLAIN, World, login, with};

/// A small pseudo-random generator: the tests are the same on every run.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn ranged(range: &str) -> String {
    format!("uids.range = \"{range}\"\n{PLAIN}")
}

#[test]
fn the_number_of_a_login_is_published_and_the_same_everywhere() {
    // Recorded once: another number here would be another UID on every node after an upgrade.
    for (name, uid) in [("alice", ALICE), ("bob", BOB)] {
        let plan = World::new(PLAIN).plan(&login(name, "dev"));
        assert_eq!((plan.uid.get(), plan.gid.get()), (uid, uid), "{name}");
    }
    let marker = &World::new(PLAIN).plan(&login("alice", "dev")).groups[0];
    assert_eq!(
        (marker.name.as_ref(), marker.gid, marker.origin),
        ("teleport-tmp", TMP, GroupOrigin::Synthesized)
    );
}

const ALICE: u32 = 2_062_506_660;
const BOB: u32 = 2_093_880_415;
const TMP: u32 = 2_009_900_654;

#[test]
fn the_number_is_of_the_original_login_under_the_configured_key() {
    let world = World::new(PLAIN);
    assert_ne!(
        world.plan(&login("Bob", "dev")).uid,
        world.plan(&login("bob", "dev")).uid
    );
    let other = World::new(&format!(
        "uids.key = \"000102030405060708090a0b0c0d0e0f\"\n{PLAIN}"
    ));
    assert_ne!(
        other.plan(&login("bob", "dev")).uid,
        world.plan(&login("bob", "dev")).uid
    );
}

#[test]
fn a_number_that_anybody_has_is_not_given() {
    let first = World::new(PLAIN).plan(&login("alice", "dev")).uid.get();
    let mut nodes = [
        World::new(PLAIN).with_user("carol", first),
        World::new(PLAIN).with_group("carols", first),
        World::new(PLAIN),
        World::new(PLAIN),
        World::new(PLAIN),
        World::new(PLAIN),
    ];
    nodes[2].host.subids = vec![first - 10..=first + 10];
    nodes[3].host.busy_ids = [first].into();
    nodes[4].host.homes = [("carol".to_owned(), first)].into();
    nodes[5]
        .occupancy
        .uids
        .insert(first.try_into().unwrap(), "carol".into());
    let second = Candidates::new(&DEFAULT_KEY, "alice", &(0x7000_0000..=0x7FFD_FFFF))
        .nth(1)
        .unwrap();
    for (count, node) in nodes.iter().enumerate() {
        assert_eq!(
            node.plan(&login("alice", "dev")).uid.get(),
            second,
            "node {count}"
        );
    }
}

#[test]
fn a_failing_lookup_of_a_number_refuses_instead_of_moving_the_login_to_another_one() {
    let first = World::new(PLAIN).plan(&login("alice", "dev")).uid.get();
    for failing in [Question::UserId(first), Question::GroupId(first)] {
        let world = World::new(PLAIN).with_failing(failing);
        assert_eq!(
            world.refusal(&login("alice", "dev")).reason,
            Reason::LookupFailed
        );
    }
}

#[test]
fn the_owner_of_a_persistent_home_is_the_uid_of_its_login() {
    let owner = 0x7000_1234;
    let mut world = World::new(PLAIN);
    world.host.homes = [("alice".to_owned(), owner), ("bob".to_owned(), 1000)].into();
    assert_eq!(world.plan(&login("alice", "dev")).uid.get(), owner);
    // A home of somebody outside the range says nothing.
    assert_eq!(
        world.plan(&login("bob", "dev")).uid,
        World::new(PLAIN).plan(&login("bob", "dev")).uid
    );
    // And one whose owner is taken cannot be had.
    let world = world.with_user("carol", owner);
    assert_eq!(world.refusal(&login("alice", "dev")).reason, Reason::Taken);
}

#[test]
fn a_repaired_login_does_not_take_over_the_home_of_the_plain_one() {
    let mut world = World::new(PLAIN);
    let plain = world.plan(&login("bob", "dev")).uid.get();
    world.host.homes = [("bob".to_owned(), plain)].into();
    assert_eq!(world.refusal(&login("Bob", "dev")).reason, Reason::Taken);
    let own = World::new(PLAIN).plan(&login("Bob", "dev")).uid.get();
    world.host.homes = [("bob".to_owned(), own)].into();
    assert_eq!(world.plan(&login("Bob", "dev")).uid.get(), own);
}

#[test]
fn a_full_range_refuses() {
    let mut world = World::new(&ranged("70000-70003"));
    for (count, name) in ["a", "b", "c"].into_iter().enumerate() {
        let plan = world.plan(&login(name, "dev"));
        world.open(&plan);
        // The marker group has taken a number with the first login.
        assert_eq!(world.occupancy.gids.len(), 1, "login {count}");
    }
    let refusal = world.refusal(&login("d", "dev"));
    assert_eq!(refusal.reason, Reason::Taken);
    assert!(
        refusal.message.contains("70000-70003"),
        "{}",
        refusal.message
    );
    // Released numbers go to no other name, and back to their own.
    world.close_all();
    world.refusal(&login("d", "dev"));
    world.plan(&login("b", "dev"));
}

#[test]
fn a_range_full_of_others_is_found_out_in_few_rounds() {
    let mut world = World::new(&ranged("70000-70999"));
    for id in 70_000..71_000 {
        world = world.with_user(&format!("u{id}"), id);
    }
    let (decision, rounds) = world.decide_in_rounds(&login("alice", "dev"));
    assert!(matches!(decision, Decision::Refuse(refusal) if refusal.reason == Reason::Taken));
    assert!(rounds < 6, "{rounds} rounds");
}

#[test]
fn an_ordinary_login_takes_one_round_of_questions() {
    let toml = "[[role]]\nmatch = \"*\"\ncreate-user = true\ngroups = [\"docker\", \"new\"]\n";
    let (_, rounds) = World::new(toml)
        .with_group("docker", 990)
        .decide_in_rounds(&login("jane.doe", "dev"));
    assert_eq!(rounds, 1);
    let (_, rounds) = World::new(toml)
        .with_user("jane.doe", 1000)
        .decide_in_rounds(&login("jane.doe", "dev"));
    assert_eq!(rounds, 1);
}

#[test]
fn requested_numbers_are_honoured_inside_their_range_only() {
    let toml = format!("uids.requested = \"20000-59999\"\n{PLAIN}");
    let world = World::new(&toml);
    let hashed = world.plan(&login("alice", "dev")).uid.get();
    let ids = |uid: Option<&str>, gid: Option<&str>| {
        let mut request = login("alice", "dev");
        if let Some(uid) = uid {
            request = with(request, "TELEPORT_UID", uid);
        }
        if let Some(gid) = gid {
            request = with(request, "TELEPORT_GID", gid);
        }
        let plan = world.plan(&request);
        (plan.uid.get(), plan.gid.get(), plan.notes.len())
    };
    assert_eq!(ids(Some("20001"), None), (20001, 20001, 0));
    assert_eq!(ids(Some("20001"), Some("20002")), (20001, 20002, 0));
    assert_eq!(ids(None, Some("20002")), (hashed, 20002, 0));
    for odd in [
        "60000",
        "0",
        "-1",
        "",
        "20001x",
        "0x5000",
        "+20001",
        "4294967296",
        " 20001",
    ] {
        assert_eq!(ids(Some(odd), None), (hashed, hashed, 1), "{odd:?}");
    }
    // Not at all by default.
    let plan = World::new(PLAIN).plan(&with(login("alice", "dev"), "TELEPORT_UID", "20001"));
    assert_eq!((plan.uid.get(), plan.notes.len()), (hashed, 1));
}

#[test]
fn a_requested_number_that_is_taken_is_refused_and_never_probed() {
    let toml = format!("uids.requested = \"20000-59999\"\n{PLAIN}");
    let request = with(login("alice", "dev"), "TELEPORT_UID", "20001");
    let mut nodes = [
        World::new(&toml).with_user("carol", 20001),
        World::new(&toml).with_group("carols", 20001),
        World::new(&toml),
        World::new(&toml),
    ];
    nodes[2].host.busy_ids = [20001].into();
    nodes[3]
        .occupancy
        .uids
        .insert(20001.try_into().unwrap(), "carol".into());
    for node in &nodes {
        assert_eq!(node.refusal(&request).reason, Reason::Taken);
    }
    let gid = with(login("alice", "dev"), "TELEPORT_GID", "20001");
    assert_eq!(nodes[1].refusal(&gid).reason, Reason::Taken);
    // A live login keeps its number.
    let mut world = World::new(&toml);
    let plan = world.plan(&request);
    world.open(&plan);
    assert_eq!(world.plan(&request).uid, plan.uid);
    assert_eq!(world.plan(&login("alice", "dev")).uid, plan.uid);
    assert_eq!(
        world
            .refusal(&with(login("alice", "dev"), "TELEPORT_UID", "20002"))
            .reason,
        Reason::Taken
    );
}

#[test]
fn ten_thousand_allocations_never_meet_an_occupied_number() {
    let mut state = 0x9E37_79B9_7F4A_7C15;
    // Crowded: 30,000 numbers, of which others hold about a third.
    let (first, last) = (70_000, 99_999);
    let toml = ranged("70000-99999");
    let (mut here, mut there) = (World::new(&toml), World::new(&toml));
    let mut occupied = BTreeSet::new();
    for _ in 0..4_000 {
        let id = first + (random(&mut state) % u64::from(last - first + 1)) as u32;
        occupied.insert(id);
        match random(&mut state) % 9 {
            0..=2 => here.users.push(found_user(id)),
            3..=5 => here.groups.push(found_group(id)),
            6 => drop(here.host.busy_ids.insert(id)),
            7 => drop(here.host.sudoers_ids.insert(id)),
            _ => drop(here.host.homes.insert(format!("home{id}"), id)),
        }
    }
    for _ in 0..20 {
        let start = first + (random(&mut state) % 29_000) as u32;
        here.host.subids.push(start..=start + 200);
        occupied.extend(start..=start + 200);
    }
    (there.users, there.groups, there.host) =
        (here.users.clone(), here.groups.clone(), here.host.clone());
    let (mut this, mut that) = (Node::of(&here), Node::of(&there));
    let mut owner = std::collections::HashMap::new();
    for count in 0..10_000 {
        // Some come again, as on a node; some are repaired.
        let name = match random(&mut state) % 10 {
            0 => format!("U{}", random(&mut state) % 2_000),
            _ => format!("u{}", random(&mut state) % 12_000),
        };
        let request = login(&name, "dev");
        let (plan, same) = (this.plan(&here, &request), that.plan(&there, &request));
        let (Some(plan), Some(same)) = (plan, same) else {
            continue;
        };
        assert_eq!(plan, same, "two nodes differ over {name}, login {count}");
        let id = plan.uid.get();
        assert!(
            (first..=last).contains(&id) && !occupied.contains(&id),
            "{name} got {id}"
        );
        let given = owner.entry(id).or_insert_with(|| name.clone());
        assert_eq!(*given, name, "{id} went to two names");
        here.open(&plan);
        there.open(&same);
        if random(&mut state).is_multiple_of(3) {
            here.close_all();
            there.close_all();
        }
    }
    assert!(
        owner.len() > 5_000,
        "only {} names got a number",
        owner.len()
    );
}

fn found_user(id: u32) -> FoundUser {
    FoundUser {
        name: format!("other{id}"),
        uid: id,
        gid: id,
        source: "ldap".to_owned(),
    }
}

fn found_group(id: u32) -> FoundGroup {
    FoundGroup {
        name: format!("others{id}"),
        gid: id,
        source: "ldap".to_owned(),
    }
}

/// What one node knows of others. Answers are kept, because the others do not change here and the
/// world searches its lists from end to end.
struct Node {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
    facts: Facts,
}

impl Node {
    fn of(world: &World) -> Node {
        Node {
            users: world.users.iter().map(|user| user.uid).collect(),
            groups: world.groups.iter().map(|group| group.gid).collect(),
            facts: Facts {
                host: world.host.clone(),
                ..Facts::default()
            },
        }
    }

    fn plan(&mut self, world: &World, request: &LoginRequest) -> Option<Plan> {
        loop {
            match decide(&world.config, request, &self.facts, &world.occupancy) {
                Decision::Ask(questions) => {
                    for question in questions {
                        let answer = match &question {
                            Question::UserId(id) => {
                                Answer::User(self.users.contains(id).then(|| found_user(*id)))
                            }
                            Question::GroupId(id) => {
                                Answer::Group(self.groups.contains(id).then(|| found_group(*id)))
                            }
                            Question::User(_) => Answer::User(None),
                            Question::Group(_) => Answer::Group(None),
                            Question::GroupsOf(_) => Answer::Groups(Vec::new()),
                        };
                        self.facts.answers.insert(question, answer);
                    }
                }
                Decision::Grant(plan) => return Some(*plan),
                Decision::Refuse(refusal) => {
                    assert_eq!(refusal.reason, Reason::Taken, "{refusal:?}");
                    return None;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_number_that_sudoers_names_is_nobodys_not_even_of_who_had_it() {
    let toml = format!("{PLAIN}groups = [\"builders\"]\n");
    let mut world = World::new(&toml);
    let plan = world.plan(&login("alice", "dev"));
    let gid = |plan: &Plan| {
        let found = plan
            .groups
            .iter()
            .find(|group| group.name.as_ref() == "builders");
        found.map(|group| group.gid)
    };
    let builders = gid(&plan).expect("granted");
    let named = |world: &World, id: u32| {
        let mut world = world.clone();
        world.host.sudoers_ids = [id].into();
        world
    };
    // Before anybody has it, and after somebody had it.
    for had in [false, true] {
        if had {
            world.open(&plan);
            world.close_all();
        }
        let other = named(&world, plan.uid.get()).plan(&login("alice", "dev"));
        assert_ne!(other.uid, plan.uid, "had {had}");
        let other = named(&world, builders).plan(&login("alice", "dev"));
        assert_eq!(other.uid, plan.uid, "had {had}");
        assert!(gid(&other).is_some_and(|gid| gid != builders), "had {had}");
    }
    // While somebody has it: nobody joins what has got rights that no role gives.
    world.open(&plan);
    let refusal = named(&world, plan.uid.get()).refusal(&login("alice", "dev"));
    assert_eq!(refusal.reason, Reason::Taken);
    let joined = named(&world, builders).plan(&login("bea", "dev"));
    assert_eq!(gid(&joined), None, "{joined:?}");
    assert!(joined.notes.concat().contains("builders"), "{joined:?}");
    // Nor by asking for it.
    let mut requested = World::new(&format!("uids.requested = \"20000-59999\"\n{PLAIN}"));
    requested.host.sudoers_ids = [20_001].into();
    let request = with(login("alice", "dev"), "TELEPORT_UID", "20001");
    assert_eq!(requested.refusal(&request).reason, Reason::Taken);
}

#[test]
fn the_home_of_a_number_that_sudoers_names_is_not_moved_into() {
    let mut world = World::new(&format!("home.mode = \"persistent\"\n{PLAIN}"));
    world.host.homes = [("alice".to_owned(), 0x7000_0009)].into();
    world.host.sudoers_ids = [0x7000_0009].into();
    assert_eq!(world.refusal(&login("alice", "dev")).reason, Reason::Taken);
}

#[test]
fn a_primary_group_that_no_file_lists_is_taken() {
    let plan = World::new(PLAIN).plan(&login("alice", "dev"));
    let mut world = World::new(&format!("uids.requested = \"20000-59999\"\n{PLAIN}"));
    world.host.primary_gids = [20_013, plan.uid.get()].into();
    for variable in ["TELEPORT_UID", "TELEPORT_GID"] {
        let request = with(login("alice", "dev"), variable, "20013");
        assert_eq!(world.refusal(&request).reason, Reason::Taken, "{variable}");
    }
    let other = world.plan(&login("alice", "dev"));
    assert_ne!(other.uid, plan.uid);
    // Not even of who had it before: somebody else is in that group by now.
    world.occupancy.uids.insert(plan.uid, "alice".into());
    assert_ne!(world.plan(&login("alice", "dev")).uid, plan.uid);
}

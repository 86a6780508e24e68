//! A node in a test: its configuration, its other users and groups, and who is on. It answers the
//! questions of a decision the way the lookup of the daemon does.

use std::collections::BTreeMap;

use userdb_service::policy::config::Config;
use userdb_service::policy::decide::{
    Answer, Decision, Facts, FoundGroup, FoundMembership, FoundUser, HostFacts, LoginPhase,
    LoginRequest, Occupancy, Occupant, Question, Refusal, decide,
};
use userdb_service::policy::plan::Plan;

/// Roles that make users and nothing else.
pub const PLAIN: &str = "[[role]]\nmatch = \"*\"\ncreate-user = true\n";

#[derive(Clone, Debug, Default)]
pub struct World {
    pub config: Config,
    pub users: Vec<FoundUser>,
    pub groups: Vec<FoundGroup>,
    /// Who is listed in which group: the name, the GID, and who says so.
    pub members: Vec<(String, u32, String)>,
    /// What cannot be asked, and what it then says.
    pub failing: Vec<Question>,
    pub host: HostFacts,
    pub occupancy: Occupancy,
}

impl World {
    pub fn new(toml: &str) -> World {
        let config =
            Config::parse(&[("config.toml", toml)]).unwrap_or_else(|error| panic!("{error}"));
        World {
            config,
            ..World::default()
        }
    }

    pub fn with_user(mut self, name: &str, uid: u32) -> World {
        self.users.push(FoundUser {
            name: name.to_owned(),
            uid,
            gid: uid,
            source: "files".to_owned(),
        });
        self
    }

    /// What a cache repeats of our own: a user and a group that we have published.
    pub fn with_echo(mut self, name: &str, uid: u32, gid: u32) -> World {
        let source = || "systemd".to_owned();
        self.users.push(FoundUser {
            name: name.to_owned(),
            uid,
            gid,
            source: source(),
        });
        self.groups.push(FoundGroup {
            name: name.to_owned(),
            gid,
            source: source(),
        });
        self
    }

    pub fn with_group(mut self, name: &str, gid: u32) -> World {
        self.groups.push(FoundGroup {
            name: name.to_owned(),
            gid,
            source: "files".to_owned(),
        });
        self
    }

    /// A group that lists `name` as a member.
    pub fn with_member(mut self, group: &str, gid: u32, name: &str) -> World {
        let source = "files".to_owned();
        self.members.push((name.to_owned(), gid, source));
        self.with_group(group, gid)
    }

    pub fn with_failing(mut self, question: Question) -> World {
        self.failing.push(question);
        self
    }

    pub fn answer(&self, question: &Question) -> Answer {
        if self.failing.contains(question) {
            return Answer::Failed {
                source: "ldap".to_owned(),
                why: "timed out".to_owned(),
            };
        }
        let user = |want: &dyn Fn(&FoundUser) -> bool| {
            Answer::User(self.users.iter().find(|user| want(user)).cloned())
        };
        let group = |want: &dyn Fn(&FoundGroup) -> bool| {
            Answer::Group(self.groups.iter().find(|group| want(group)).cloned())
        };
        match question {
            Question::User(name) => user(&|user| user.name == *name),
            Question::UserId(uid) => user(&|user| user.uid == *uid),
            Question::Group(name) => group(&|group| group.name == *name),
            Question::GroupId(gid) => group(&|group| group.gid == *gid),
            Question::GroupsOf(name) => {
                let listed = self.members.iter().filter(|(member, ..)| member == name);
                let found = |(_, gid, source): &(String, u32, String)| FoundMembership {
                    gid: *gid,
                    source: source.clone(),
                };
                Answer::Groups(listed.map(found).collect())
            }
        }
    }

    /// The decision and how many rounds of questions it took.
    pub fn decide_in_rounds(&self, request: &LoginRequest) -> (Decision, usize) {
        let mut facts = Facts {
            answers: BTreeMap::new(),
            host: self.host.clone(),
        };
        for round in 0..100 {
            match decide(&self.config, request, &facts, &self.occupancy) {
                Decision::Ask(questions) => {
                    assert!(!questions.is_empty(), "nothing to ask, yet not decided");
                    for question in questions {
                        let answer = self.answer(&question);
                        assert!(
                            facts.answers.insert(question, answer).is_none(),
                            "asked twice"
                        );
                    }
                }
                decision => return (decision, round),
            }
        }
        panic!("no decision after 100 rounds");
    }

    pub fn decide(&self, request: &LoginRequest) -> Decision {
        self.decide_in_rounds(request).0
    }

    #[track_caller]
    pub fn plan(&self, request: &LoginRequest) -> Plan {
        match self.decide(request) {
            Decision::Grant(plan) => *plan,
            other => panic!("expected a plan, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn refusal(&self, request: &LoginRequest) -> Refusal {
        match self.decide(request) {
            Decision::Refuse(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// A session with this plan is open from now on.
    pub fn open(&mut self, plan: &Plan) {
        self.occupancy
            .uids
            .insert(plan.uid, plan.given.as_str().into());
        if u32::from(plan.gid) != u32::from(plan.uid) {
            self.occupancy
                .gids
                .insert(plan.gid, plan.given.as_str().into());
        }
        for group in &plan.groups {
            if group.origin == userdb_service::policy::plan::GroupOrigin::Synthesized {
                let gid = group
                    .gid
                    .try_into()
                    .expect("a synthesized group has a usable GID");
                self.occupancy
                    .gids
                    .insert(gid, format!("group:{}", group.name).into());
                self.occupancy.groups.insert(group.name.clone(), gid);
            }
        }
        let occupant = self
            .occupancy
            .logins
            .entry(plan.login.clone())
            .or_insert_with(|| Occupant {
                uid: plan.uid,
                gid: plan.gid,
                given: plan.given.clone(),
                aliases: plan.aliases.clone(),
                teleport_users: BTreeMap::new(),
                sessions: 0,
                granted: Default::default(),
                phase: LoginPhase::Active,
                shared: self.config.logins.shared,
            });
        occupant.sessions += 1;
        let grants = occupant
            .teleport_users
            .entry(plan.teleport_user.clone())
            .or_default();
        *grants = grants.union(&plan.grants());
        occupant.granted.extend(plan.grants().groups);
    }

    /// All sessions of everybody have ended; numbers stay taken.
    pub fn close_all(&mut self) {
        self.occupancy.logins.clear();
        self.occupancy.groups.clear();
    }
}

/// A login by Teleport, as user `teleport-NAME@example.com`.
pub fn login(name: &str, roles: &str) -> LoginRequest {
    let environment = [
        ("TELEPORT_USERNAME", "someone@example.com"),
        ("TELEPORT_LOGIN", name),
        ("TELEPORT_ROLES", roles),
    ];
    LoginRequest {
        login: name.to_owned(),
        service: "teleport".to_owned(),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        undecodable: Vec::new(),
    }
}

/// The same with one variable set otherwise.
pub fn with(mut request: LoginRequest, name: &str, value: &str) -> LoginRequest {
    request
        .environment
        .insert(name.to_owned(), value.to_owned());
    request
}

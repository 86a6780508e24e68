//! What a host would show: published users, sudoers files, what is written down.
//!
//! It believes every effect, in the order in which it comes.

use super::*;

/// What a host would show.
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) now: Boottime,
    pub(super) published: BTreeMap<Login, Published>,
    pub(super) sudoers: BTreeSet<Login>,
    pub(super) written: BTreeMap<SessionId, Session>,
    /// A session that was written down cannot be read any more.
    pub(super) lacks_sessions: bool,
    pub(super) standings: BTreeMap<Login, Standing>,
    /// Nobody waits for these to be written down.
    pub(super) unwritten: BTreeSet<Login>,
    pub(super) used_uids: BTreeMap<Uid, String>,
    pub(super) group_ids: BTreeMap<Gid, String>,
    pub(super) watched: BTreeSet<SessionId>,
    pub(super) ending: BTreeSet<Login>,
    pub(super) awaited: BTreeSet<Login>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::new(terms(SharedLogins::Union)),
            now: Boottime::from_usec(1_000_000),
            published: BTreeMap::new(),
            sudoers: BTreeSet::new(),
            written: BTreeMap::new(),
            lacks_sessions: false,
            standings: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            used_uids: BTreeMap::new(),
            group_ids: BTreeMap::new(),
            watched: BTreeSet::new(),
            ending: BTreeSet::new(),
            awaited: BTreeSet::new(),
        }
    }

    pub(super) fn believe(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::RememberSession(id) => {
                    if let Some(session) = self.registry.session(id) {
                        self.written.insert(id, session.clone());
                    }
                }
                Effect::ForgetSession(id) => {
                    self.written.remove(&id);
                }
                Effect::RememberLogin(login) => {
                    self.write_down(login);
                }
                Effect::RememberLoginSoon(login) => {
                    self.unwritten.insert(login);
                }
                Effect::ForgetLogin(login) => {
                    self.standings.remove(&login);
                }
                Effect::Sudoers(login, specs) => {
                    if specs.is_empty() {
                        self.sudoers.remove(&login);
                    } else {
                        self.sudoers.insert(login);
                    }
                }
                // Here nothing takes time.
                Effect::AwaitSudoers(_) => {}
                Effect::Publish(login) => {
                    let published = self.registry.published(&login);
                    self.published
                        .extend(published.map(|published| (login, published)));
                }
                Effect::Withdraw(login) => {
                    self.published.remove(&login);
                }
                Effect::Lock(login) => {
                    if let Some(published) = self.published.get_mut(&login) {
                        published.plan.groups.clear();
                        published.sessions = 0;
                    }
                }
                Effect::AwaitProcesses(login, _) => {
                    self.awaited.insert(login);
                }
                Effect::Watch(id) => {
                    self.watched.insert(id);
                }
                Effect::Unwatch(id) => {
                    self.watched.remove(&id);
                }
                Effect::EndRemains(login, _) => {
                    self.ending.insert(login);
                }
                Effect::RememberUid(uid, given) => {
                    self.used_uids.insert(uid, given);
                }
                Effect::RememberGid(gid, name) => {
                    self.group_ids.insert(gid, name);
                }
            }
        }
    }

    fn write_down(&mut self, login: Login) {
        match self.registry.standing(&login) {
            Some(standing) => self.standings.insert(login, standing.clone()),
            None => self.standings.remove(&login),
        };
    }

    pub(super) fn write_down_the_rest(&mut self) {
        for login in std::mem::take(&mut self.unwritten) {
            self.write_down(login);
        }
    }

    pub(super) fn reserve(&mut self, plan: Plan, pid: i32) -> SessionId {
        let id = SessionId::random();
        let effects = self.registry.reserve(
            self.now,
            Arrival {
                id,
                plan,
                leader: leader(pid),
                service: "teleport".to_owned(),
                since_usec: 1,
            },
        );
        self.believe(effects);
        id
    }

    pub(super) fn open(&mut self, id: SessionId) {
        let effects = self.registry.open(id).expect("reserved");
        self.believe(effects);
    }

    pub(super) fn close(&mut self, id: SessionId) {
        let effects = self.registry.close(self.now, id);
        self.believe(effects);
    }

    pub(super) fn leader_gone(&mut self, id: SessionId) {
        let effects = self.registry.leader_gone(self.now, id);
        self.believe(effects);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.write_down_the_rest();
        self.now = self.now + time;
        let effects = self.registry.tick(self.now);
        self.believe(effects);
    }

    /// The last process of who has the login has ended.
    pub(super) fn processes_ended(&mut self, login: &Login) {
        let standing = self.registry.standing(login);
        if let Some(uid) = standing.map(|standing| standing.uid) {
            let effects = self.registry.processes_ended(login, uid);
            self.believe(effects);
        }
    }

    pub(super) fn end_remains(&mut self) {
        for login in std::mem::take(&mut self.ending) {
            let effects = self.registry.remains_ended(&login);
            self.believe(effects);
        }
    }

    pub(super) fn login(&self, name: &str) -> Option<&Published> {
        self.published
            .get(&Login::try_from(name).expect("a valid name"))
    }

    pub(super) fn has_sudo(&self, name: &str) -> bool {
        self.sudoers
            .contains(&Login::try_from(name).expect("a valid name"))
    }

    /// Logins that are reserved or open.
    pub(super) fn logins(&self) -> BTreeSet<Login> {
        let live = self.registry.list();
        live.iter().map(|session| session.login().clone()).collect()
    }

    /// The daemon is stopped and started again; leaders in `dead` have exited meanwhile.
    pub(super) fn restart(&mut self, dead: &BTreeSet<SessionId>) {
        self.write_down_the_rest();
        self.start_after_a_crash(dead);
    }

    /// The daemon is killed and started again.
    pub(super) fn start_after_a_crash(&mut self, dead: &BTreeSet<SessionId>) {
        self.unwritten.clear();
        self.registry = Registry::new(terms(SharedLogins::Union));
        self.watched.clear();
        let in_doubt = match self.lacks_sessions {
            true => self.published.keys().cloned().collect(),
            false => BTreeSet::new(),
        };
        let effects = self.registry.restore(
            self.now,
            self.standings.values().cloned().collect(),
            self.written.values().cloned().collect(),
            UsedIds {
                uids: self.used_uids.clone().into_iter().collect(),
                gids: self.group_ids.clone().into_iter().collect(),
            },
            &in_doubt,
            |session| !dead.contains(&session.id),
        );
        self.believe(effects);
        let mut live = self.logins();
        let lingering = self.registry.lingering();
        live.extend(lingering.map(|standing| standing.login.clone()));
        self.published.retain(|login, _| live.contains(login));
        let sudoers: BTreeSet<&Login> = self.registry.sudoers().collect();
        self.sudoers.retain(|login| sudoers.contains(login));
    }
}

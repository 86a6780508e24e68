//! Room in sudoers.d for one more file, and those who were granted one and wait for it.
//! How much there may be is for the policy to say; what is written, and that it goes again, is seen to elsewhere.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::sudo_rs;
use crate::control::daemon::Daemon;
use crate::policy::Login;
use crate::policy::room::{self, NoRoom, Room};

/// How often it is looked for room that no file of ours has left: others remove theirs, too, and the
/// configuration changes.
const LOOK: Duration = Duration::from_secs(5);
/// Files that go together make room together.
const TOGETHER: Duration = Duration::from_millis(50);

impl Daemon {
    /// May the login have a file, if it has none yet? What is in place may be changed at any time.
    pub(in crate::control) fn has_room_for(&self, login: &Login) -> Result<(), NoRoom> {
        // Whose the file is, is found out when it is written.
        if self.rights.borrow().in_place.contains(login) {
            return Ok(());
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let registry = self.registry.borrow();
        let (ours, of_user, teleport_user) = registry.sudoers_beside(login);
        let sudo_rs = sudo_rs::is_installed();
        // Told by their names: some of ours are not there yet, and others have not gone yet.
        let with_file = registry.sudoers().filter(|have| *have != login);
        let others = match sudo_rs {
            true => self.sudoers.read_by_sudo_beside(with_file),
            false => 0,
        };
        let room = Room {
            ours: count(ours),
            of_user: count(of_user),
            others: count(others),
            sudo_rs,
        };
        room::for_one_more(self.max_sudoers_files(), room, teleport_user)
    }

    /// The login goes without its file until there is room.
    pub(in crate::control) fn wait_for_room(&self, login: &Login) {
        // From here on it is not counted among those that have one.
        self.registry.borrow_mut().sudoers_not_written(login);
        self.rights.borrow_mut().waiting.insert(login.clone());
        self.room.notify_one();
    }

    /// Gives their files to those who wait, as room comes.
    pub(in crate::control) async fn give_room_as_it_comes(self: Rc<Self>) {
        loop {
            let somebody_waits = !self.rights.borrow().waiting.is_empty();
            match somebody_waits {
                true => drop(timeout(LOOK, self.room.notified()).await),
                false => self.room.notified().await,
            }
            if sudo_rs::is_installed() {
                self.sudoers.look_at_what_is_read();
            }
            sleep(TOGETHER).await;
            self.give_room();
        }
    }

    /// One look, at those first whose sessions came first.
    fn give_room(self: &Rc<Self>) {
        let waiting = std::mem::take(&mut self.rights.borrow_mut().waiting);
        let in_turn = self.registry.borrow().in_order_of_arrival(&waiting);
        self.rights.borrow_mut().waiting = in_turn.iter().cloned().collect();
        // Teleport users who have their share: their other logins need no look, however many they are.
        let mut sated: BTreeSet<String> = BTreeSet::new();
        for login in in_turn {
            if self
                .registry
                .borrow()
                .open_users(&login)
                .all(|user| sated.contains(user))
            {
                continue;
            }
            match self.has_room_for(&login) {
                Ok(()) => self.give_file(login),
                Err(NoRoom::Full(_)) => break,
                Err(NoRoom::Share(_)) => {
                    let registry = self.registry.borrow();
                    sated.extend(registry.open_users(&login).map(str::to_owned));
                }
            }
        }
    }

    fn give_file(self: &Rc<Self>, login: Login) {
        self.rights.borrow_mut().waiting.remove(&login);
        let Some(order) = self.registry.borrow_mut().sudoers_again(&login) else {
            return;
        };
        let carried = self.carry_out(vec![order]);
        spawn_local(async move {
            // What stands in the way now is told where it is met.
            if carried.finished().await.messages.is_empty() {
                info!(TELEPORT_LOGIN = %login, "{login} has its sudo rights now: there is room for its file");
            }
        });
    }
}

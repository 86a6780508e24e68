//! Logins with orders for sudoers.d that somebody still waits for. Another session of the same login that comes or goes
//! meanwhile gives no order of its own, since the file is to say the same; it waits for theirs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::rights::Ordered;
use crate::control::daemon::Daemon;
use crate::policy::Login;

/// The orders of a login that somebody waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    number: u32,
    /// Whether an older file may say something else.
    older: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct AwaitedOrders(Rc<RefCell<BTreeMap<Login, Orders>>>);

/// One of them, for as long as this is kept.
#[derive(Debug)]
pub(in crate::control) struct Awaited {
    login: Login,
    all: AwaitedOrders,
}

impl AwaitedOrders {
    pub(super) fn one_more(&self, login: Login, older: bool) -> Awaited {
        let mut all = self.0.borrow_mut();
        let orders = all.entry(login.clone()).or_default();
        orders.number += 1;
        orders.older |= older;
        let all = self.clone();
        Awaited { login, all }
    }

    /// `None`: nobody waits for an order of this login. Otherwise whether an older file may say something else.
    fn of(&self, login: &Login) -> Option<bool> {
        self.0.borrow().get(login).map(|orders| orders.older)
    }
}

impl Awaited {
    pub(super) fn login(&self) -> &Login {
        &self.login
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        if let Some(orders) = all.get_mut(&self.login) {
            orders.number -= 1;
            if orders.number == 0 {
                all.remove(&self.login);
            }
        }
    }
}

impl Daemon {
    /// Orders once more what was ordered for the login and is still waited for: orders are carried out in turn, and one that finds
    /// the file as it is to be takes no time. `None`: nobody waits for anything.
    pub(in crate::control) fn order_sudoers_again(&self, login: Login) -> Option<Ordered> {
        let older = self.rights.borrow().awaited.of(&login)?;
        let specs = self.registry.borrow().specs(&login)?.clone();
        Some(match specs.is_empty() {
            true => self.order_removal(login),
            false => self.order_grant(login, &specs, older, true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_orders_until_the_last_is_waited_for_no_more() {
        let all = AwaitedOrders::default();
        let dev = Login::try_from("dev").expect("valid");
        assert_eq!(all.of(&dev), None);
        let first = all.one_more(dev.clone(), true);
        let second = all.one_more(dev.clone(), false);
        assert_eq!(all.of(&dev), Some(true));
        drop(first);
        assert_eq!(all.of(&dev), Some(true));
        drop(second);
        assert_eq!(all.of(&dev), None);
    }
}

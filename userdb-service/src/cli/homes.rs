//! Where homes are to be made on this node, by its configuration.

use std::io;
use std::path::Path;

use super::node::Seen;
use super::sandbox::{View, view};
use crate::control::end::janitor::Janitor;
use crate::control::homes::{HomeError, Homes};
use crate::policy::Config;

/// The folder of persistent homes, if anybody can get one, taken up as the daemon does.
pub(super) fn look(config: &Config, root: bool) -> Seen<Option<String>> {
    let Some(base) = config.home_base() else {
        return Seen::Known(None);
    };
    match Homes::open(base, Janitor::default()) {
        // Here, outside of any sandbox.
        Ok(_) if view(Path::new("/"), base) == View::ReadOnly => Seen::Failed(format!(
            "no persistent home can be made: {} is mounted read-only; mount it for writing, or name another folder as home.base",
            base.display()
        )),
        Ok(_) => Seen::Known(Some(base.display().to_string())),
        Err(HomeError::Io { error, .. })
            if error.kind() == io::ErrorKind::PermissionDenied && !root =>
        {
            Seen::RootOnly
        }
        Err(error) => Seen::Failed(format!(
            "no persistent home can be made: {error}; make {} a folder of root's that nobody else can write to, or name another as home.base",
            base.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(&[("config.toml", text)]).expect("good")
    }

    #[test]
    fn a_base_that_is_missing_is_told_where_somebody_can_have_a_persistent_home() {
        let base = "[home]\nbase = \"/no/such/folder\"\n";
        let role = "[[role]]\nmatch = \"dev\"\nhome = \"persistent\"\n";
        assert_eq!(look(&config(base), true), Seen::Known(None));
        match look(&config(&format!("{base}{role}")), true) {
            Seen::Failed(why) => assert!(why.contains("/no/such/folder"), "{why}"),
            seen => panic!("{seen:?}"),
        }
    }
}

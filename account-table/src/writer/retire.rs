//! The end of a table for good: when the package is removed, not when its writer stops.
//! Processes that have it mapped live on; they must neither see who was in it nor miss a later one.

use std::fs;

use super::{WriteError, Writer, doing, header};

impl Writer {
    /// Withdraws every account, removes the file and sends its readers away: they know nobody, until another table lies under
    /// the path.
    pub fn retire(mut self) -> Result<(), WriteError> {
        self.retain(|_| false);
        self.state.map.store(header::RETIRED, 1);
        fs::remove_file(&self.path).map_err(doing("removing the account table"))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::{Scratch, spec};
    use crate::{Lookup, TableCell};

    #[test]
    fn readers_of_a_retired_table_know_nobody_and_find_the_next_one() {
        let scratch = Scratch::new();
        let mut writer = scratch.writer();
        writer.publish(&spec("alice", 1000, 1)).unwrap();
        let path = Box::leak(scratch.c_path().into_boxed_c_str());
        let cell = TableCell::new(path, scratch.trust);
        let found = cell.get().unwrap().user_by_name(b"alice");
        assert!(matches!(found, Lookup::Found(_)));
        let handle = scratch.table();

        writer.retire().unwrap();
        assert!(!scratch.path().exists());
        assert!(cell.get().is_none());
        assert!(matches!(handle.user_by_name(b"alice"), Lookup::Absent));

        let mut writer = scratch.writer();
        writer.publish(&spec("bob", 1001, 1)).unwrap();
        let table = cell.get().unwrap();
        assert!(matches!(table.user_by_name(b"bob"), Lookup::Found(_)));
        assert!(matches!(table.user_by_name(b"alice"), Lookup::Absent));
    }
}

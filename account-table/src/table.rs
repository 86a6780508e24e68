//! How a process comes to a table: its own handle on one file, or the process-wide mapping that follows the file being replaced.
//! Lookups themselves are in `reader`.

use core::ffi::CStr;
use core::mem::ManuallyDrop;
use core::ops::Deref;

use crate::atomic::{AtomicU64, Ordering};
use crate::layout::{Geometry, header};
use crate::memory::{Mapping, Shared, SharedCell, Unopened};

/// Where the table is published.
pub const DEFAULT_PATH: &CStr = c"/run/teleport-userdb/accounts";

/// Whose file is believed. In any case it must be a regular file that neither group nor others can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Root's.
    Root,
    /// This uid's.
    Owner(u32),
}

impl Trust {
    pub(crate) const fn uid(self) -> u32 {
        match self {
            Trust::Root => 0,
            Trust::Owner(uid) => uid,
        }
    }
}

/// A mapped, trust-checked table file. Its methods are lookups in shared memory; none takes a lock.
#[derive(Debug)]
pub struct Table {
    /// None only behind a [`TableRef`]: there may be a table, but it could not be mapped: for want of descriptors or memory, most likely.
    mapping: Mapping,
}

impl Table {
    /// Maps the table at `path`. `None` if there is none, or it is not to be trusted, or is no table of this version, or
    /// cannot be mapped.
    pub fn open(path: &CStr, trust: Trust) -> Option<Table> {
        let mapping = Mapping::open(path, trust.uid()).ok()?;
        Some(Table { mapping })
    }

    /// A table over memory that is no file's.
    #[cfg(all(test, loom))]
    pub(crate) fn over(mapping: Mapping) -> Table {
        Table { mapping }
    }

    #[inline]
    pub(crate) fn cells(&self) -> &[AtomicU64] {
        self.mapping.cells()
    }

    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.mapping.geometry()
    }

    #[inline]
    pub(crate) fn is_unreachable(&self) -> bool {
        self.mapping.is_none()
    }
}

/// The table a [`TableCell`] holds; to be used for one question and then let go. The mapping is the process' for good, so nothing
/// is to be done then, and no lookup spends time on finding that out.
#[derive(Debug)]
pub struct TableRef(ManuallyDrop<Table>);

impl TableRef {
    const UNREACHABLE: TableRef = TableRef(ManuallyDrop::new(Table {
        mapping: Mapping::none(),
    }));

    #[inline]
    fn of(shared: Shared) -> TableRef {
        TableRef(ManuallyDrop::new(Table {
            mapping: shared.mapping(),
        }))
    }
}

impl Deref for TableRef {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        &self.0
    }
}

/// A table kept mapped for as long as the process lives: opened when first asked for, and anew when the file is retired. No lock
/// and no allocation, async-signal-safe, and a fork at any moment leaves the child with a working one.
#[derive(Debug)]
pub struct TableCell {
    path: &'static CStr,
    trust: Trust,
    cell: SharedCell,
}

impl TableCell {
    /// A cell that will open `path`; nothing is opened yet.
    pub const fn new(path: &'static CStr, trust: Trust) -> TableCell {
        TableCell {
            path,
            trust,
            cell: SharedCell::new(),
        }
    }

    /// The table as it is now. `None` if there is none to be trusted; where this process cannot find out, as for want of
    /// descriptors or memory, a table that answers `Busy`.
    #[inline]
    pub fn get(&self) -> Option<TableRef> {
        let shared = self.cell.load();
        if let Some(shared) = shared {
            let table = TableRef::of(shared);
            if !table.is_retired() {
                return Some(table);
            }
        }
        self.open(shared)
    }

    /// Opens the file under the path. A file becomes retired before its successor takes the path, and nothing is published in
    /// between: if the path still leads to the retired one, that one is the truth.
    #[cold]
    fn open(&self, seen: Option<Shared>) -> Option<TableRef> {
        let fresh = match Mapping::open(self.path, self.trust.uid()) {
            Ok(mapping) => mapping,
            Err(Unopened::Absent) => return None,
            Err(Unopened::Busy) => return Some(TableRef::UNREACHABLE),
        };
        if let Some(seen) = seen.map(TableRef::of)
            && epoch_of(seen.cells()) == epoch_of(fresh.cells())
        {
            return Some(seen);
        }
        Some(TableRef::of(self.cell.replace(seen, fresh)))
    }
}

/// The random identity of a file.
fn epoch_of(cells: &[AtomicU64]) -> Option<u64> {
    cells
        .get(header::EPOCH)
        .map(|epoch| epoch.load(Ordering::Relaxed))
}

static PROCESS_TABLE: TableCell = TableCell::new(DEFAULT_PATH, Trust::Root);

/// The table of this host, mapped once for the whole process; see [`TableCell::get`].
#[inline]
pub fn process_table() -> Option<TableRef> {
    PROCESS_TABLE.get()
}

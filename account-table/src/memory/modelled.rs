//! A table in memory that no file backs, made of loom's atomics: what `make check-model` lets a writer and readers meet in.
//! Part of `memory`, whose unsafe code it shares; nothing of the protocol is here.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

use super::{FOR_GOOD, Mapping, WritableMapping};
use crate::atomic::AtomicU64;
use crate::layout::{Geometry, PAGE};

/// The memory itself. Must outlive every mapping made of it.
#[derive(Debug)]
pub(crate) struct Modelled {
    base: *mut AtomicU64,
    geometry: Geometry,
}

impl Modelled {
    /// Zeroed memory for a table.
    pub(crate) fn new(geometry: Geometry) -> Modelled {
        let layout = Modelled::layout(geometry);
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(layout) }.cast::<AtomicU64>();
        if base.is_null() {
            handle_alloc_error(layout);
        }
        for at in 0..geometry.total_words() {
            // SAFETY: inside the allocation, which is aligned to a page.
            unsafe { base.add(at).write(AtomicU64::new(0)) };
        }
        Modelled { base, geometry }
    }

    fn layout(geometry: Geometry) -> Layout {
        let size = geometry.total_words() * size_of::<AtomicU64>();
        Layout::from_size_align(size, PAGE).expect("a table is smaller than memory")
    }

    /// A mapping of it, as a reader has one. Never unmapped.
    pub(crate) fn mapping(&self) -> Mapping {
        Mapping {
            bits: self.base as usize | self.geometry.k() as usize | FOR_GOOD,
        }
    }

    /// A mapping of it, as the writer has one.
    pub(crate) fn writable(&self) -> WritableMapping {
        WritableMapping::modelled(self.mapping())
    }
}

impl Drop for Modelled {
    fn drop(&mut self) {
        for at in 0..self.geometry.total_words() {
            // SAFETY: written by `new`, dropped once; all threads have been joined.
            unsafe { self.base.add(at).drop_in_place() };
        }
        // SAFETY: allocated by `new` with the same layout.
        unsafe { dealloc(self.base.cast(), Modelled::layout(self.geometry)) };
    }
}

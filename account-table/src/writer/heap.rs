//! Which lines of the heap are free: a buddy allocator over runs of 1, 2, 4 … 64 lines. The writer's private book-keeping;
//! nothing of it is in the file, so it cannot be found damaged there.

use std::collections::BTreeSet;

use crate::layout::{Geometry, MAX_LINES, Place};

const ORDERS: u32 = MAX_LINES.trailing_zeros() + 1;

/// The free runs, by order; lowest addresses are given out first.
#[derive(Debug)]
pub(crate) struct Heap {
    free: [BTreeSet<u32>; ORDERS as usize],
}

fn order_of(lines: u32) -> u32 {
    lines.next_power_of_two().trailing_zeros()
}

impl Heap {
    /// A heap in which everything is free.
    pub(crate) fn new(geometry: Geometry) -> Heap {
        let mut heap = Heap {
            free: Default::default(),
        };
        heap.free[ORDERS as usize - 1] = (0..geometry.heap_lines() as u32)
            .step_by(MAX_LINES as usize)
            .collect();
        heap
    }

    pub(crate) fn shrink(&mut self) {
        for free in &mut self.free {
            *free = std::mem::take(free).into_iter().collect();
        }
    }

    /// A run of `lines` (1 to 64); what is rounded up to a power of two stays reserved with it. `None` if there is no room.
    pub(crate) fn take(&mut self, lines: u32) -> Option<Place> {
        let order = order_of(lines);
        let found = (order..ORDERS).find(|&order| !self.free[order as usize].is_empty())?;
        let line = self.free[found as usize].pop_first()?;
        for smaller in order..found {
            self.free[smaller as usize].insert(line + (1 << smaller));
        }
        Some(Place::new(line, lines))
    }

    /// Takes exactly this run, found in use in an adopted file. False if any of it is in use already or it lies askew.
    pub(crate) fn claim(&mut self, place: Place) -> bool {
        let order = order_of(place.lines());
        let line = place.line();
        if !line.is_multiple_of(1 << order) {
            return false;
        }
        let Some(found) = (order..ORDERS)
            .find(|&order| self.free[order as usize].contains(&(line & !((1 << order) - 1))))
        else {
            return false;
        };
        let mut start = line & !((1 << found) - 1);
        self.free[found as usize].remove(&start);
        for smaller in (order..found).rev() {
            let upper = start + (1 << smaller);
            if line >= upper {
                self.free[smaller as usize].insert(start);
                start = upper;
            } else {
                self.free[smaller as usize].insert(upper);
            }
        }
        true
    }

    /// Gives a run back, joining it with its free neighbours.
    pub(crate) fn give_back(&mut self, place: Place) {
        let mut line = place.line();
        let mut order = order_of(place.lines());
        while order + 1 < ORDERS && self.free[order as usize].remove(&(line ^ (1 << order))) {
            line &= !(1 << order);
            order += 1;
        }
        self.free[order as usize].insert(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap() -> Heap {
        Heap::new(Geometry::new(4).expect("4 is a geometry"))
    }

    #[test]
    fn runs_never_overlap_and_come_together_again() {
        let mut heap = heap();
        let mut taken = Vec::new();
        let mut used = BTreeSet::new();
        for lines in (1..=7).cycle() {
            let Some(place) = heap.take(lines) else { break };
            for line in place.line()..place.line() + place.lines().next_power_of_two() {
                assert!(used.insert(line), "line {line} given out twice");
            }
            taken.push(place);
        }
        assert!(taken.len() > 20);
        taken.into_iter().for_each(|place| heap.give_back(place));
        assert_eq!(heap.free, super::tests::heap().free);
    }

    #[test]
    fn claims_what_was_taken_and_refuses_to_claim_it_twice() {
        let mut original = heap();
        let places: Vec<Place> = [3, 1, 64, 2, 5]
            .into_iter()
            .filter_map(|lines| original.take(lines))
            .collect();
        let mut adopted = heap();
        assert!(places.iter().all(|&place| adopted.claim(place)));
        assert_eq!(adopted.free, original.free);
        assert!(places.iter().all(|&place| !adopted.claim(place)));
        assert!(!adopted.claim(Place::new(33, 2)), "lies askew");
    }

    #[test]
    fn gives_nothing_when_nothing_is_left() {
        let mut heap = heap();
        assert!(heap.take(64).is_some() && heap.take(64).is_some());
        assert_eq!(heap.take(1), None);
    }
}
